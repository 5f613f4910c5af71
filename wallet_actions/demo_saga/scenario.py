"""The course of the demo: a kill at every write and every request of a saga, one that is done and one rolled back.

Each course is run once in peace, to count its writes and requests. Then a process is killed at each: before the write,
after it, and when the cloud has answered but the process has not heard. Each process first recovers what the one before
it left behind. In the end the cloud's own books say what is there, and the sagas' what should be.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from wallet_actions.demo_saga.child import Order
from wallet_actions.saga.digitalocean.sandbox import Cloud, CloudServer
from wallet_actions.testing.demos.child import KillPoint
from wallet_actions.testing.demos.parent import ChildError, Run, course_of, run_child
from wallet_actions.testing.faults import Record
from wallet_actions.testing.proxy import FaultProxy, Kill, Rule

Way = Literal["done", "rolled back"]


@dataclass(frozen=True, slots=True)
class Point:
    """Where one process shall die.

    Attributes:
        write: of its saga; or
        request: of its saga, from 1: the cloud has answered, the process has not heard.
        label: for people.
    """

    course: Way
    label: str
    write: KillPoint | None = None
    request: int | None = None


@dataclass(slots=True)
class Row:
    """One kill, and what the process after it wrote to recover."""

    point: Point
    was_killed: bool
    recovery: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What the demo found.

    Attributes:
        sagas: how many ended how.
        unfinished: those that have not ended.
        leaked: snapshots that are there and should not be, or the other way round, and those that were made twice.
    """

    rows: list[Row] = field(default_factory=list)
    sagas: dict[str, int] = field(default_factory=dict)
    unfinished: int = 0
    leaked: int = 0

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(row.was_killed for row in self.rows)

    @property
    def missed(self) -> list[str]:
        """Points at which no process died."""
        return [f"{row.point.course}, {row.point.label}" for row in self.rows if not row.was_killed]


class Demo:
    """Runs the scenario.

    Args:
        on_plan: told how many points there are.
        on_row: told of each once its recovery is over.
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
            ChildError: a process failed or hung.
        """
        async with self._servers():
            points = [*await self._points("done"), *await self._points("rolled back")]
            self._on_plan(len(points))
            last: Row | None = None
            for number, point in enumerate(points):
                last = await self._kill(point, f"backup-{number}", last)
            final = await self._child(None, "done")
            if last is not None:
                self._told(last, final)
            self._sum_up(final)
        return self.report

    @asynccontextmanager
    async def _servers(self) -> AsyncIterator[None]:
        self._cloud = Cloud(
            droplets=frozenset({1}), work=timedelta(milliseconds=100), lag=timedelta(milliseconds=50), page=200
        )
        with TemporaryDirectory(prefix="wallet_actions_demo_") as folder:
            self._store = f"sqlite:///{Path(folder) / 'sagas.db'}"
            async with CloudServer(self._cloud) as server, FaultProxy(server.url) as proxy:
                self._proxy = proxy
                yield

    async def _points(self, course: Way) -> Iterator[Point]:
        before = 0

        def on_recovered(pid: int) -> None:
            nonlocal before
            before = len(self._proxy.records)

        run = await self._child(f"peace-{course}", course, on_recovered=on_recovered)
        return _points_of(course, run, self._proxy.records[before:])

    async def _kill(self, point: Point, saga: str, last: Row | None) -> Row:
        def on_recovered(pid: int) -> None:
            if point.request is not None:
                self._proxy.use(Rule(Kill(pid, at="answered"), nth=point.request))

        run = await self._child(saga, point.course, kill=point.write, on_recovered=on_recovered)
        self._proxy.use()
        if last is not None:
            self._told(last, run)
        row = Row(point, run.was_killed)
        self.report.rows.append(row)
        return row

    def _told(self, row: Row, run: Run) -> None:
        row.recovery = course_of(run.recovery)
        self._on_row(row)

    async def _child(
        self,
        saga: str | None,
        course: Way,
        *,
        kill: KillPoint | None = None,
        on_recovered: Callable[[int], object] = lambda pid: None,
    ) -> Run:
        order = Order(store=self._store, cloud=self._proxy.url, saga=saga, course=course, kill=kill)
        return await run_child(order, on_recovered=on_recovered)

    def _sum_up(self, run: Run) -> None:
        finished = run.finished
        if finished is None:
            raise ChildError("the last process said nothing of its sagas")
        report = self.report
        report.sagas, report.unfinished = finished["sagas"], finished["unfinished"]
        there, wanted = self._cloud.there, set(finished["snapshots"])
        report.leaked = sum(abs(there[name] - (name in wanted)) for name in there.keys() | wanted)
        report.leaked += sum(count - 1 for count in self._cloud.made.values())


def _points_of(course: Way, run: Run, requests: Sequence[Record]) -> Iterator[Point]:
    for where, write in run.write_points:
        yield Point(course, where, write=write)
    for number, record in enumerate(requests, start=1):
        path = record.path.partition("?")[0]
        yield Point(course, f"answer to {record.method} {path} lost", request=number)
