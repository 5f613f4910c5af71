"""The demo's course of events: one wallet, one real mint, and a kill at every point of issuing and paying.

Each operation is run once in peace, to count its writes and requests. Then it is run again for each of them, and killed
there: before the write, after it, and when the mint has answered the request but the wallet has not heard. The next
process recovers. After a lost answer it is killed too: before its first write, the next one after its first, the next
after its second, until one lives through it. In the end the mint's own books say whether anything is missing.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from mnemonic import Mnemonic
from pydantic import SecretStr

from wallet_actions.demo.child import Order
from wallet_actions.testing.demos.child import KillPoint
from wallet_actions.testing.demos.parent import Line, Run, course_of, kill_recoveries, run_child
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions.testing.proxy import FaultProxy, Kill, Record, Rule

Operation = Literal["issue", "melt"]
ISSUE_SAT, MELT_SAT = 64, 10


@dataclass(frozen=True, slots=True)
class Point:
    """Where one process shall die.

    Attributes:
        write: of the operation, from 1; or
        request: of the operation, from 1: the mint has answered, the wallet has not heard.
        label: for people.
    """

    operation: Operation
    label: str
    write: KillPoint | None = None
    request: int | None = None


@dataclass(slots=True)
class Row:
    """One kill and what came of it.

    Attributes:
        kills: how many processes died: more than one where the recovery was killed too.
        before, after: what the wallet owned before the operation and after the recovery, in sat.
        recovery: what the processes after it wrote: the phases that were reached, and how it ended.
    """

    point: Point
    kills: int = 0
    before: int = 0
    after: int = 0
    recovery: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What the demo found.

    Attributes:
        operations: how many ended how, by the wallet's own history.
        taken_in, paid_out, fees: in sat, by the same.
        owned: what the wallet has at the end, spendable and reserved.
        outstanding: what the mint says is unspent at the end.
        unfinished: actions that have not ended.
    """

    rows: list[Row] = field(default_factory=list)
    operations: dict[str, int] = field(default_factory=dict)
    taken_in: int = 0
    paid_out: int = 0
    fees: int = 0
    owned: int = 0
    reserved: int = 0
    outstanding: int = 0
    unfinished: int = 0

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(row.kills for row in self.rows)

    @property
    def missed(self) -> list[str]:
        """Points at which no process died."""
        return [f"{row.point.operation}, {row.point.label}" for row in self.rows if not row.kills]

    @property
    def lost(self) -> int:
        """By how much, in sat, the wallet disagrees with the mint or its own history, or what it holds for nothing."""
        missing = abs(self.outstanding - self.owned)
        unexplained = abs(self.taken_in - self.paid_out - self.fees - self.owned)
        return max(missing, unexplained, self.reserved)


class Demo:
    """Runs the scenario.

    Args:
        is_thorough: kill the recovery at each of its writes after every kill, not only after lost answers.
        config: how the mint is to be.
        on_plan: told how many points there are.
        on_row: told of each once its recovery is over.
    """

    def __init__(
        self,
        *,
        is_thorough: bool = False,
        config: MintConfig | None = None,
        on_plan: Callable[[int], None] = lambda count: None,
        on_row: Callable[[Row], None] = lambda row: None,
    ) -> None:
        self._is_thorough = is_thorough
        self._config = config or MintConfig()
        self._on_plan = on_plan
        self._on_row = on_row
        self.report = Report()
        self._mnemonic = SecretStr(Mnemonic("english").to_mnemonic(secrets.token_bytes(16)))

    async def run(self) -> Report:
        """Run it all.

        Raises:
            ChildError: a wallet process failed or hung.
            MintError: the mint cannot be installed or started.
        """
        async with self._servers() as (mint, proxy, folder):
            self._mint, self._proxy = mint, proxy
            self._store = f"sqlite:///{folder / 'wallet.db'}"
            points = list(await self._points("issue")) + list(await self._points("melt"))
            self._on_plan(len(points))
            for point in points:
                await self._kill(point)
            last = await self._child(None)
            await self._sum_up(last.finished or {})
        return self.report

    @asynccontextmanager
    async def _servers(self) -> AsyncIterator[tuple[NutshellMint, FaultProxy, Path]]:
        with TemporaryDirectory(prefix="wallet_actions_demo_") as folder:
            async with NutshellMint(self._config) as mint, FaultProxy(mint.url) as proxy:
                yield mint, proxy, Path(folder)

    async def _points(self, operation: Operation) -> Iterator[Point]:
        requests: list[Record] = []

        def on_recovered(pid: int) -> None:
            requests[:] = self._proxy.records

        run = await self._child(operation, on_recovered=on_recovered)
        done = self._proxy.records[len(requests) :]
        return _points_of(operation, run, done)

    async def _kill(self, point: Point) -> None:
        row = Row(point)

        def on_recovered(pid: int) -> None:
            if point.request is not None:
                self._proxy.use(Rule(Kill(pid, at="answered"), nth=point.request))

        run = await self._child(point.operation, kill=point.write, on_recovered=on_recovered)
        self._proxy.use()
        row.kills += run.was_killed
        row.before = _owned(run.recovered or {})
        if self._is_thorough or point.request is not None:
            killed = await kill_recoveries(lambda at: self._child(None, kill=at))
            row.kills += sum(run.was_killed for run in killed)
            row.recovery += [event for run in killed for event in course_of(run.lines)]
        rescue = await self._child(None)
        row.recovery += course_of(rescue.lines)
        row.after = _owned(rescue.recovered or {})
        self.report.rows.append(row)
        self._on_row(row)

    async def _child(
        self,
        operation: Operation | None,
        *,
        kill: KillPoint | None = None,
        on_recovered: Callable[[int], object] = lambda pid: None,
    ) -> Run:
        request = await self._mint.invoice(MELT_SAT) if operation == "melt" else ""
        order = Order(
            store=self._store,
            mint=self._proxy.url,
            mnemonic=self._mnemonic,
            operation=operation,
            amount=ISSUE_SAT,
            request=request,
            kill=kill,
        )
        return await run_child(order, on_recovered=on_recovered)

    async def _sum_up(self, last: Line) -> None:
        report = self.report
        report.owned = _owned(last)
        report.reserved = last.get("reserved", 0)
        report.unfinished = last.get("unfinished", 0)
        report.operations = last.get("operations", {})
        report.taken_in, report.paid_out, report.fees = (last.get(name, 0) for name in ("taken_in", "paid_out", "fees"))
        report.outstanding = await self._mint.outstanding()


def _owned(line: Line) -> int:
    return int(line.get("spendable", 0)) + int(line.get("reserved", 0))


def _points_of(operation: Operation, run: Run, requests: Sequence[Record]) -> Iterator[Point]:
    for where, write in run.write_points:
        yield Point(operation, where, write=write)
    for number, record in enumerate(requests, start=1):
        path = "/".join(part for part in record.path.split("/") if len(part) < 30)
        yield Point(operation, f"answer to {record.method} {path} lost", request=number)
