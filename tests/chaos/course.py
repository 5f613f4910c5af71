"""One course on one database: a plan is carried out against four workers, and all that came of it is held together."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from anyio.abc import TaskGroup

from tests.chaos import history
from tests.chaos.bank import Bank
from tests.chaos.databases import Database, PostgresBehindProxies, SQLiteFiles
from tests.chaos.desk import key_of
from tests.chaos.judge import judge
from tests.chaos.mint import MintCourse
from tests.chaos.plan import CallOff, Fault, Plan, Start, draw
from tests.crash_matrix.judge import Finding, Harm
from tests.crash_matrix.lives import Life, Line, Zygote
from tests.crash_matrix.payee import Payee
from wallet_actions.checkpoint import Status
from wallet_actions.store import open_store
from wallet_actions.testing.nutshell import NutshellMint

WORKER, WALLET = "tests.chaos.worker", "tests.soak.wallet"
AHEAD_S = 3600.0
LOST_NOTICES = 0.2
SLOWEST = timedelta(minutes=30)
LOOK_S, TELL_S = 0.5, 0.25
UNFINISHED = [status for status in Status if not status.is_terminal]


@dataclass(slots=True)
class Settings:
    """What is to be run; see `__main__`.

    Attributes:
        seconds: over which the actions are spread.
        patience_s: how long all may take to end once nothing goes wrong any more.
        plant: a bug for the workers, see `planted`.
        keep: a folder to leave the workers' histories in.
    """

    database: str
    seed: int
    actions: int
    mint_actions: int
    seconds: float
    lease_s: float = 2.0
    patience_s: float = 60.0
    workers: int = 4
    plant: str = ""
    keep: Path | None = None


@dataclass(slots=True)
class Report:
    """What came of it.

    Attributes:
        actions: how many there are in the store, the operations at the mint included.
        kills, zombies: how many workers were killed, and went on after their leases had lapsed.
        faults: of the database, by name.
        statuses: of the actions, by kind and status.
        facts: figures for people.
        events: what went wrong, and when, in seconds from the beginning.
    """

    database: str
    actions: int = 0
    kills: int = 0
    zombies: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(slots=True)
class _Side:
    """One of the workers, through all its lives."""

    number: int
    zygote: Zygote
    life: Life = field(default_factory=Life)
    is_open: bool = False
    stopped_s: float | None = None
    asked: dict[int, Start] = field(default_factory=dict)


class Chaos:
    """One course.

    Args:
        mint: a mint that runs; None where no operation there is wanted.
        on_progress: told how many actions were begun, and the report so far.
    """

    def __init__(
        self,
        settings: Settings,
        mint: NutshellMint | None = None,
        on_progress: Callable[[int, Report], None] = lambda begun, report: None,
    ) -> None:
        self.settings = settings
        self.report = Report(settings.database)
        self.plan: Plan = draw(
            settings.seed,
            settings.database,
            actions=settings.actions,
            seconds=settings.seconds,
            workers=settings.workers,
            lease_s=settings.lease_s,
        )
        self._mint = mint
        self._on_progress = on_progress
        self._chance = random.Random(f"{settings.seed}:course")
        self._sides: list[_Side] = []
        self._kinds = {event.task["name"]: event.task["kind"] for event in self.plan.events if isinstance(event, Start)}
        self._started: set[int] = set()
        self._lives = 0
        self._is_over = False
        self._faults_running = 0
        self._course: MintCourse | None = None
        self._ahead = self._chance.randrange(self.settings.workers)

    @property
    def asked_for(self) -> int:
        """How many actions are asked for; batches start more of them."""
        return sum(isinstance(event, Start) for event in self.plan.events)

    async def run(self) -> Report:
        """Run it all.

        Raises:
            LifeError, MintError, PostgresMissingError: it could not be run.
        """
        self._begun_s = time.monotonic()
        async with AsyncExitStack() as stack:
            self._folder = Path(stack.enter_context(TemporaryDirectory(prefix="chaos-")))
            (self._folder / "history").mkdir()
            self._database: Database = await stack.enter_async_context(
                SQLiteFiles(self._folder)
                if self.settings.database == "sqlite"
                else PostgresBehindProxies(self.settings.workers)
            )
            for name in ("bank", "mint"):
                await stack.enter_async_context(open_store(self._database.url(name)))  # the tables are made calmly
            self._bank = await stack.enter_async_context(Bank(self.settings.seed, self._settled))
            zygotes = [await stack.enter_async_context(Zygote(WORKER)) for _ in range(self.settings.workers)]
            self._sides = [_Side(number, zygote) for number, zygote in enumerate(zygotes)]
            payee = None if self._mint is None else await stack.enter_async_context(Payee(self._mint.url))
            unfinished = await self._play(payee)
            await self._judge(unfinished)
        self.report.faults = self._database.counts
        self.report.seconds = time.monotonic() - self._begun_s
        return self.report

    async def _play(self, payee: Payee | None) -> list[str]:
        """Let it all happen; what has not ended at the end."""
        async with anyio.create_task_group() as self._tasks:
            if self._mint is not None and payee is not None:
                self._course = self._made_course(self._mint, payee, self._tasks)
                self._tasks.start_soon(self._course.weather)
            async with anyio.create_task_group() as lives:
                for side in self._sides:
                    lives.start_soon(self._drive, side)
                await self._carry_out()
                unfinished = await self._await_end()
                self._is_over = True
                for side in self._sides:
                    await self._tell(side, {})
            self._tasks.cancel_scope.cancel()
        return unfinished

    # Workers

    async def _drive(self, side: _Side) -> None:
        while not self._is_over:
            side.life, side.is_open, side.stopped_s = Life(), False, None
            await side.zygote.live(
                f"{WORKER}:work",
                self._order(side),
                life=side.life,
                on_line=partial(self._heed, side),
                deadline=SLOWEST,
            )
            side.is_open = False
            self.report.kills += side.life.was_killed
            self._note(f"worker {side.number} has ended")
            if (crashed := side.life.last("crashed")) is not None:
                self._find(Harm.STUCK, f"a worker failed: {' | '.join(crashed['lines'])}")
                if len(self.report.findings) > self.settings.workers:
                    return
            if self._course is not None:
                self._course.gone(side.number)
            asked, side.asked = side.asked, {}
            for start in asked.values():
                self._tasks.start_soon(self._begin, start)

    def _order(self, side: _Side) -> dict[str, Any]:
        self._lives += 1
        life = f"{side.number}.{self._lives}"
        order: dict[str, Any] = {
            "life": life,
            "store": self._database.url("bank", side.number),
            "bank": self._bank.port,
            "history": str(self._folder / "history" / life),
            "lease_s": self.settings.lease_s,
            "ahead_s": AHEAD_S if side.number == self._ahead else 0.0,
            "plant": self.settings.plant,
        }
        if self._course is not None:
            order |= {"mint_store": self._database.url("mint", side.number), **self._course.order}
        return order

    async def _heed(self, side: _Side, life: Life, line: Line) -> None:
        match line:
            case {"what": "open"}:
                side.is_open = True
                if self._course is not None:
                    await self._course.opened(side.number, life)
            case {"what": "started", "number": number}:
                side.asked.pop(number, None)
                self._started.add(number)
                self._on_progress(len(self._started), self.report)
            case {"what": "sorry", "number": number}:
                start = side.asked.pop(number, None)
                if start is not None:
                    self._tasks.start_soon(self._begin_again, start)
            case {"what": "mint", "line": said} if self._course is not None:
                await self._course.heed(side.number, said)

    async def _tell(self, side: _Side, line: Line) -> None:
        await side.zygote.tell(line)

    # What is asked for

    async def _carry_out(self) -> None:
        begun_s = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for event in self.plan.events:
                await anyio.sleep(max(0.0, begun_s + event.at_s - time.monotonic()))
                match event:
                    case Start():
                        for number in event.sides:
                            await self._begin(event, number)
                    case CallOff():
                        await self._say(event.side, {"do": "cancel", "key": key_of(event.task)})
                    case Fault():
                        tasks.start_soon(self._strike, event)
        self._wake_all()

    async def _begin(self, start: Start, number: int | None = None) -> None:
        side = await self._open_side(number)
        if start.number not in self._started:
            side.asked[start.number] = start
            await self._tell(side, {"do": "start", "number": start.number, "task": start.task})

    async def _begin_again(self, start: Start) -> None:
        await anyio.sleep(TELL_S)
        await self._begin(start)

    async def _say(self, number: int, line: Line) -> None:
        side = self._sides[number]
        if side.is_open:
            await self._tell(side, line)

    async def _open_side(self, number: int | None) -> _Side:
        """The worker that is meant, or another one that can be told something."""
        if number is not None and self._sides[number].is_open:
            return self._sides[number]
        while True:
            able = [side for side in self._sides if side.is_open and side.stopped_s is None]
            if able:
                return self._chance.choice(able)
            await anyio.sleep(TELL_S)

    def _settled(self, about: str) -> None:
        """The bank knows now what became of a payment: somebody is told, mostly."""
        kind = self._kinds.get(about, "payment")
        if self._chance.random() >= LOST_NOTICES and not self._is_over:
            side = self._chance.randrange(self.settings.workers)
            self._tasks.start_soon(self._say, side, {"do": "notify", "key": (kind, about)})

    # What goes wrong

    async def _strike(self, fault: Fault) -> None:
        side = self._up(fault.side)
        match fault.name:
            case "kill":
                self._note(f"worker {side.number} is killed")
                side.life.kill()
            case "stop":
                await self._stop(side, fault)
            case _:
                self._note(f"{fault.name}, worker {fault.side}, {fault.seconds:.1f} s")
                await self._database.strike(fault)

    def _up(self, number: int) -> _Side:
        """A worker that goes, the one that is meant or the next: who is stopped is to wake up as a zombie."""
        sides = [*self._sides[number:], *self._sides[:number]]
        return next((side for side in sides if side.stopped_s is None and side.life.pid), sides[0])

    async def _stop(self, side: _Side, fault: Fault) -> None:
        life = side.life
        if side.stopped_s is not None or not _signal(life, signal.SIGSTOP):
            return
        self._note(f"worker {side.number} is stopped")
        side.stopped_s = time.monotonic()
        try:
            await anyio.sleep(fault.seconds)
        finally:
            if fault.dies:
                life.kill()
            if side.life is life and not life.is_over:
                lasted_s = time.monotonic() - side.stopped_s
                side.stopped_s = None
                if _signal(life, signal.SIGCONT) and not fault.dies and lasted_s > self.settings.lease_s:
                    self.report.zombies += 1
                self._note(f"worker {side.number} goes on after {lasted_s:.1f} s")

    def _wake_all(self) -> None:
        for side in self._sides:
            if not side.life.is_over:
                _signal(side.life, signal.SIGCONT)

    # The end

    async def _await_end(self) -> list[str]:
        """Wait until all has ended.

        Returns:
            What has not, in words.
        """
        wanted = {event.number for event in self.plan.events if isinstance(event, Start)}
        deadline_s = time.monotonic() + self.settings.patience_s
        async with open_store(self._database.url("bank")) as store:
            while True:
                rows = await store.list_actions(statuses=UNFINISHED, limit=500)
                is_begun = self._started >= wanted and (self._course is None or self._course.has_begun_all)
                if is_begun and not rows:
                    return []
                if time.monotonic() > deadline_s:
                    late = [f"{row.key} is {row.status.value} in {row.phase}" for row in rows]
                    late += [f"action {number} was never begun" for number in sorted(wanted - self._started)]
                    if self._course is not None and not self._course.has_begun_all:
                        late.append("the operations at the mint do not begin")
                    return late
                await anyio.sleep(LOOK_S)

    async def _judge(self, unfinished: list[str]) -> None:
        report = self.report
        for text in unfinished:
            self._find(Harm.STUCK, text)
        told = await asyncio.to_thread(history.read, self._folder / "history")
        if self.settings.keep is not None:
            kept = self.settings.keep / self.settings.database
            await asyncio.to_thread(shutil.copytree, self._folder / "history", kept, dirs_exist_ok=True)
        async with open_store(self._database.url("bank")) as store:
            verdict = await judge(store, self._bank, told, has_all_ended=not unfinished)
        report.findings += verdict.findings
        report.facts |= verdict.facts
        report.statuses = verdict.statuses
        report.actions = verdict.statuses.total()
        if self._course is not None:
            await self._course.finish(self._sides[0].zygote)
            report.findings += self._course.findings
            report.statuses.update({f"mint: {name}": count for name, count in self._course.report.operations.items()})
            report.actions += self._course.report.operations.total()

    def _note(self, text: str) -> None:
        self.report.events.append(f"{time.monotonic() - self._begun_s:.2f}: {text}")

    def _find(self, harm: Harm, text: str) -> None:
        self.report.findings.append(Finding(harm, text))

    def _made_course(self, mint: NutshellMint, payee: Payee, tasks: TaskGroup) -> MintCourse:
        return MintCourse(
            seed=self.settings.seed,
            count=self.settings.mint_actions,
            mint=mint,
            payee=payee,
            store=self._database.url("mint"),
            seconds=self.settings.seconds,
            tells=[partial(self._tell, side) for side in self._sides],
            tasks=tasks,
        )


def _signal(life: Life, number: signal.Signals) -> bool:
    if not life.pid or life.is_over:
        return False
    with suppress(ProcessLookupError):
        os.kill(life.pid, number)
        return True
    return False
