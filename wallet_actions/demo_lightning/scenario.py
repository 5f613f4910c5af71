"""The demo's course of events: one wallet, one node, and a kill at every point of a payment.

A payment that goes through and one that fails are each made once in peace, to count their writes. Then they are made
again for each of them, and the wallet is killed there: before the write, after it, and when the node has heard a call
but the wallet has not heard the answer. Once, the sending itself arrives only when the wallet is dead. The next process
recovers; after a lost answer it is killed too: before its first write, the next one after its first, …. Where a failed
payment might still be started anew by a late copy, its coins are held until the invoice has expired: so a last process
comes a day later. In the end the node's own books say whether anything is missing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from wallet_actions.clock import SystemClock
from wallet_actions.demo_lightning.child import LaterClock, Order
from wallet_actions.lightning import payment_hash_of
from wallet_actions.lightning.sandbox import Fate, Mishap, SandboxNode, SandboxServer
from wallet_actions.testing.demos.child import KillPoint
from wallet_actions.testing.demos.parent import ChildError, Run, course_of, kill_recoveries, run_child

Ending = Literal["settle", "fail"]
BALANCE_MSAT, AMOUNT_MSAT = 10**9, 21_000
LATER = timedelta(days=1)
LOST = (
    ("the answer to TrackPaymentV2 lost", Mishap("TrackPaymentV2", "refused")),
    ("the answer to SendPaymentV2 lost", Mishap("SendPaymentV2", "lost")),
    ("all but the first message of SendPaymentV2 lost", Mishap("SendPaymentV2", "dropped")),
    ("SendPaymentV2 arrives when the wallet is dead", Mishap("SendPaymentV2", "late")),
)


@dataclass(frozen=True, slots=True)
class Point:
    """Where one process shall die: at a write of the payment, from 1, or at a mishap."""

    ending: Ending
    label: str
    write: KillPoint | None = None
    mishap: Mishap | None = None


@dataclass(slots=True)
class Row:
    """One kill and what came of it.

    Attributes:
        kills: how many processes died: more than one where the recovery was killed too.
        recovery: what the processes after it wrote: the phases that were reached, and how it ended.
    """

    point: Point
    kills: int = 0
    recovery: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What the demo found; amounts in msat.

    Attributes:
        owned, reserved: what the wallet has at the end, and what of it is held.
        balance: what the node's own books say that it has.
        paid_twice: payments that the node made more than once.
        unfinished: actions that have not ended.
    """

    rows: list[Row] = field(default_factory=list)
    owned: int = 0
    reserved: int = 0
    balance: int = 0
    paid_twice: int = 0
    unfinished: int = 0

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(row.kills for row in self.rows)

    @property
    def missed(self) -> list[str]:
        """Points at which no process died."""
        return [f"{row.point.ending}, {row.point.label}" for row in self.rows if not row.kills]

    @property
    def lost_sat(self) -> int:
        """By how much the wallet disagrees with the node, what it holds for nothing, or paid twice; rounded up."""
        lost = max(abs(self.balance - self.owned), self.reserved, self.paid_twice * AMOUNT_MSAT)
        return -(-lost // 1000)

    @property
    def is_ok(self) -> bool:
        """Whether nothing is lost, nothing is left unfinished, and every point was met."""
        return not (self.lost_sat or self.unfinished or self.missed)


class Demo:
    """Runs the scenario.

    Args:
        on_plan: told the number of points, as soon as it is known.
        on_row: told of each point once its recovery is over.
    """

    def __init__(
        self,
        *,
        on_plan: Callable[[int], None] = lambda count: None,
        on_row: Callable[[Row], None] = lambda row: None,
    ) -> None:
        self._on_plan = on_plan
        self._on_row = on_row
        self.report = Report()

    async def run(self) -> Report:
        """Run it all.

        Raises:
            ChildError: a wallet process failed or hung.
        """
        with TemporaryDirectory(prefix="wallet_actions_demo_") as folder:
            async with SandboxServer(SandboxNode(balance_msat=BALANCE_MSAT, clock=SystemClock())) as lnd:
                self._lnd, self._store = lnd, f"sqlite:///{Path(folder) / 'wallet.db'}"
                points = [*await self._points("settle"), *await self._points("fail")]
                self._on_plan(len(points))
                for point in points:
                    await self._kill(point)
                await lnd.land()
                lnd.node.clock = LaterClock(LATER)
                self._sum_up(await self._child(None, later_s=LATER.total_seconds()))
        return self.report

    async def _points(self, ending: Ending) -> list[Point]:
        run = await self._child(ending)
        return list(_points_of(ending, run))

    async def _kill(self, point: Point) -> None:
        row = Row(point)

        def arm(pid: int) -> None:
            if point.mishap is not None:
                mishap = point.mishap
                self._lnd.use(Mishap(mishap.method, mishap.kind, on_reached=lambda: os.kill(pid, signal.SIGKILL)))

        run = await self._child(point.ending, arm=arm, kill=point.write)
        row.kills += run.was_killed
        self._lnd.use()
        if point.mishap is not None:
            await self._lnd.land()
            killed = await kill_recoveries(lambda at: self._child(None, kill=at))
            row.kills += sum(run.was_killed for run in killed)
            row.recovery += [event for run in killed for event in course_of(run.lines)]
        row.recovery += course_of((await self._child(None)).lines)
        self.report.rows.append(row)
        self._on_row(row)

    async def _child(
        self, ending: Ending | None, *, arm: Callable[[int], None] = lambda pid: None, **details: Any
    ) -> Run:
        invoice = None
        if ending is not None:
            invoice = self._lnd.node.invoice(AMOUNT_MSAT)
            # Who starts a failed payment anew pays: that would be a loss, were its coins free by then.
            fates = (Fate.SETTLE,) if ending == "settle" else (Fate.FAIL, Fate.SETTLE)
            self._lnd.node.decide(payment_hash_of(invoice), *fates)
        address = self._lnd.address
        order = Order(
            store=self._store,
            target=address.target,
            certificate=address.certificate.decode(),
            macaroon=address.macaroon,
            allot_msat=BALANCE_MSAT,
            invoice=invoice,
            **details,
        )
        return await run_child(order, on_recovered=arm)

    def _sum_up(self, run: Run) -> None:
        last = run.finished
        if last is None:
            raise ChildError("the last process said nothing of its money")
        report, node = self.report, self._lnd.node
        report.owned, report.reserved = last["spendable"] + last["reserved"], last["reserved"]
        report.unfinished = last["unfinished"]
        report.balance = node.balance_msat
        report.paid_twice = sum(count - 1 for count in node.settled.values())


def _points_of(ending: Ending, run: Run) -> Iterator[Point]:
    for where, write in run.write_points:
        yield Point(ending, where, write=write)
    for label, mishap in LOST:
        yield Point(ending, label, mishap=mishap)
