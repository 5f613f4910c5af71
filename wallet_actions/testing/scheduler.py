"""Who goes next, in virtual time: the heart of a simulation.

Everything that a process does to its store and its peers waits for its turn here. A turn is given when nobody can run,
so between two turns exactly one task moves, and what it does is decided by the choices alone: the same choices give
the same run, to the last byte of its trace. Time passes when everybody waits for it, or when that is what was chosen.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

import anyio

from wallet_actions.testing.clock import DEFAULT_START, FakeClock
from wallet_actions.testing.fates import FINE, Fate

MOST_TURNS = 3000
TICK_S = 1e-8
MOST_BUSY_TURNS = 20_000


class EndlessError(RuntimeError):
    """A task runs for ever, or waits for ever."""


class Point(StrEnum):
    """What is chosen."""

    WHO = "who"
    FATE = "fate"
    PROCESSES = "processes"
    DRIVING = "driving"


class Source(Protocol):
    """Makes the choices of a run."""

    def draw(self, point: Point, options: Sequence[Any], about: Waiting | None = None) -> int:
        """Choose.

        Args:
            options: two at least. The first is always the dullest: who went last goes on, nothing goes wrong. For WHO
                they are `Waiting`, and None for letting time pass; for FATE they are `Fate`.
            about: for FATE, whose it is.
        Returns:
            The place of what is chosen, from 0.
        """
        ...


@dataclass(slots=True, eq=False)
class Waiting:
    """Somebody who wants to do something.

    Attributes:
        process, life: who, from 1.
        place: how many turns that process has had.
        what: what it wants to do.
        touches: `read` or `write` for the store, `peer`, or `life` for a start.
        fates: what may become of it; the first is that it goes well.
    """

    process: int
    life: int
    place: int
    what: str
    touches: str
    fates: Callable[[], Sequence[Fate]]
    task: asyncio.Task[Any] | None
    answer: asyncio.Future[Turn]


@dataclass(slots=True)
class Turn:
    """One line of a run's trace.

    Attributes:
        at_s: virtual seconds since the beginning.
        process, life: whose turn it was; 0 where time passed.
        touches: as in `Waiting`; `time` where it passed.
        is_answered: whether what was done was also heard of; a refused write, a crash or a lost answer is not.
    """

    at_s: float
    process: int
    life: int
    what: str
    touches: str = "time"
    fate: Fate = FINE
    is_answered: bool = False

    def __str__(self) -> str:
        return f"{self.at_s:.3f} {self.process}.{self.life} {self.what} {self.fate} {self.is_answered}"


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual, and which asks what to do when nobody can run.

    Args:
        on_quiet: told how many seconds it is to the next timer, None where there is none; has to make somebody able to
            run, or to let time pass.
    """

    def __init__(self, on_quiet: Callable[[float | None], None]) -> None:
        self._virtual_s = 0.0
        self._busy_turns = 0
        self._on_quiet = on_quiet
        super().__init__(_VirtualSelector(self._turn))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_s

    def pass_time(self, delay_s: float) -> None:
        """Let time pass."""
        self._virtual_s += delay_s

    def _turn(self, timeout: float | None) -> None:
        # To compute takes time too. Without it a timer that is due but for the last bit of a float would be set anew,
        # and found due, for ever.
        self._virtual_s += TICK_S
        self._busy_turns += 1
        if timeout is None or timeout > 0:
            self._busy_turns = 0
            self._on_quiet(timeout)
        elif self._busy_turns > MOST_BUSY_TURNS:
            raise EndlessError("a task runs for ever, and waits neither for the store nor for a peer nor for time")


class _VirtualSelector(selectors.SelectSelector):
    """Never waits for the outer world: there is none."""

    def __init__(self, on_turn: Callable[[float | None], None]) -> None:
        super().__init__()
        self._on_turn = on_turn

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._on_turn(timeout)
        return []


skew: ContextVar[Sequence[timedelta]] = ContextVar("skew", default=(timedelta(0),))
"""How far the clock of the machine that a task runs on is ahead; one item, shared by all tasks of the machine."""


class SimulatedClock(FakeClock):
    """The loop's virtual time, seen by each process with the skew of its own machine."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._offset = timedelta(0)

    def now(self) -> datetime:
        """The wall clock of the machine that asks."""
        return DEFAULT_START + timedelta(seconds=self._loop.time()) + self._offset + skew.get()[0]

    def monotonic(self) -> float:
        """Virtual seconds since the beginning."""
        return self._loop.time()

    async def sleep(self, delay: timedelta) -> None:
        """Wait in virtual time."""
        await asyncio.sleep(max(0.0, delay.total_seconds()))

    async def wait(self, event: asyncio.Event, delay: timedelta | None) -> bool:
        """Wait in virtual time."""
        with anyio.move_on_after(None if delay is None else max(0.0, delay.total_seconds())):
            await event.wait()
        return event.is_set()

    async def advance(self, delay: timedelta, *, rounds: int = 50) -> None:
        """Wait: time belongs to the schedule here."""
        await self.sleep(delay)

    def set_wall(self, wall: datetime) -> None:
        """Set the wall clock of all machines."""
        self._offset += wall - self.now()


class Scheduler:
    """Gives out the turns of one run.

    Args:
        source: makes the choices.
        most_turns: after so many the run is stopped: it should have ended long ago.

    Attributes:
        choices: those made so far, in order.
        turns: the trace.
        switches: how often somebody had to wait who could have gone on.
        time_passed: set whenever time has passed.
        stopped: done with a sentence when the run cannot go on, or does not end.
    """

    def __init__(self, source: Source, *, most_turns: int = MOST_TURNS) -> None:
        self.loop = VirtualLoop(self._quiet)
        self.stopped: asyncio.Future[str] = self.loop.create_future()
        self.choices: list[int] = []
        self.turns: list[Turn] = []
        self.switches = 0
        self.time_passed = asyncio.Event()
        self.is_on = False
        self._source = source
        self._most_turns = most_turns
        self._waiting: list[Waiting] = []
        self._places: dict[int, int] = {}
        self._last: Waiting | None = None

    def draw(self, point: Point, options: Sequence[Any], about: Waiting | None = None) -> int:
        """Make a choice, unless there is none."""
        if len(options) < 2:
            return 0
        choice = self._source.draw(point, options, about)
        self.choices.append(choice)
        return choice

    async def turn(
        self, process: int, life: int, what: str, touches: str, fates: Callable[[], Sequence[Fate]] = lambda: (FINE,)
    ) -> Turn:
        """Wait for one's turn.

        Returns:
            It, with the fate of what is done in it.
        """
        place, task = self._places.get(process, 0), asyncio.current_task()
        waiting = Waiting(process, life, place, what, touches, fates, task, self.loop.create_future())
        self._waiting.append(waiting)
        try:
            return await waiting.answer
        finally:
            if waiting in self._waiting:  # it was cancelled
                self._waiting.remove(waiting)

    def _quiet(self, timeout: float | None) -> None:
        if not self.is_on or self.stopped.done():
            if timeout is None:
                raise EndlessError("a task waits for ever for something that is neither the store nor a peer nor time")
            self.loop.pass_time(timeout)
            return
        options: list[Waiting | None] = [*self._in_order()]
        if timeout is not None:
            options.append(None)
        if not options:
            self.stopped.set_result("everybody waits, and nothing is going to happen any more")
        elif len(self.turns) >= self._most_turns:
            self.stopped.set_result(f"it has not ended after {self._most_turns} turns")
        else:
            chosen = options[self.draw(Point.WHO, options)]
            if chosen is None:
                self._pass(timeout or 0.0)
            else:
                self._give(chosen)

    def _in_order(self) -> list[Waiting]:
        task, process = (None, 0) if self._last is None else (self._last.task, self._last.process)
        return sorted(self._waiting, key=lambda one: (one.task is not task, one.process != process, one.process))

    def _pass(self, delay_s: float) -> None:
        self.turns.append(Turn(self.loop.time(), 0, 0, f"{delay_s:.3f} s pass"))
        self.loop.pass_time(delay_s)
        self.time_passed.set()

    def _give(self, chosen: Waiting) -> None:
        last = self._last
        if last is not None and last.process != chosen.process and any(one.task is last.task for one in self._waiting):
            self.switches += 1
        self._waiting.remove(chosen)
        self._last = chosen
        self._places[chosen.process] = chosen.place + 1
        fates = chosen.fates()
        fate = fates[self.draw(Point.FATE, fates, chosen)]
        turn = Turn(self.loop.time(), chosen.process, chosen.life, chosen.what, chosen.touches, fate)
        self.turns.append(turn)
        chosen.answer.set_result(turn)
