"""A clock that tests hold in their hand (T5)."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

DEFAULT_START = datetime(2030, 1, 1, tzinfo=UTC)


class FakeClock:
    """Virtual time: it stands still until somebody moves it, or until everybody waits.

    Args:
        start: the wall clock at the beginning, UTC.
        auto: step on its own to the next wake time once nothing has asked the clock for `patience` of real time.
        patience: how long that is; longer than a call to a store or a peer takes. With 0 every wait ends at once, at
            the time it waited for: right where one task at a time waits.
    """

    def __init__(
        self,
        start: datetime = DEFAULT_START,
        *,
        auto: bool = False,
        patience: timedelta = timedelta(milliseconds=20),
    ) -> None:
        self._wall = start
        self._monotonic_s = 0.0
        self._waiters: list[tuple[float, int, asyncio.Event]] = []
        self._tickets = itertools.count()
        self._auto = auto
        self._patience_s = patience.total_seconds()
        self._jump: asyncio.TimerHandle | None = None

    def now(self) -> datetime:
        """The wall clock, as it was set."""
        self._touch()
        return self._wall

    def monotonic(self) -> float:
        """Seconds since the clock was made; follows `advance`, not `set_wall`."""
        self._touch()
        return self._monotonic_s

    @property
    def sleepers(self) -> int:
        """How many waits with a time are under way."""
        return sum(not event.is_set() for _, _, event in self._waiters)

    async def sleep(self, delay: timedelta) -> None:
        """Wait until the clock has been moved on by that much; a delay that is not positive only yields."""
        if delay <= timedelta(0):
            await asyncio.sleep(0)
            return
        await self._until(self._timer(delay))

    async def wait(self, event: asyncio.Event, delay: timedelta | None) -> bool:
        """Wait for an event, at most until the clock has been moved on by that much."""
        if event.is_set():
            return True
        if delay is None:
            await event.wait()
            return True
        if delay <= timedelta(0):
            await asyncio.sleep(0)
            return event.is_set()
        timer = self._timer(delay)
        happened = asyncio.ensure_future(event.wait())
        elapsed = asyncio.ensure_future(self._until(timer))
        try:
            await asyncio.wait({happened, elapsed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            happened.cancel()
            elapsed.cancel()
            timer.set()
            await asyncio.gather(happened, elapsed, return_exceptions=True)
        return event.is_set()

    async def advance(self, delay: timedelta, *, rounds: int = 50) -> None:
        """Let everybody come to rest, move both clocks on, wake whoever is due in between in order, and let them run.

        Args:
            rounds: how many turns of the event loop to grant before, and after each wake-up.
        """
        await _settle(rounds)  # else who is just about to wait would count from the new time
        target_s = self._monotonic_s + delay.total_seconds()
        while self._waiters and self._waiters[0][0] <= target_s:
            due_s, _, event = heapq.heappop(self._waiters)
            self._move_to(max(due_s, self._monotonic_s))
            event.set()
            await _settle(rounds)
        self._move_to(target_s)
        await _settle(rounds)

    def set_wall(self, wall: datetime) -> None:
        """Set the wall clock, back too; the monotonic clock and whoever waits do not notice."""
        self._wall = wall

    def _timer(self, delay: timedelta) -> asyncio.Event:
        event = asyncio.Event()
        due_s = self._monotonic_s + max(0.0, delay.total_seconds())
        if self._auto and not self._patience_s:
            self._move_to(due_s)
            event.set()
            return event
        heapq.heappush(self._waiters, (due_s, next(self._tickets), event))
        self._touch()
        return event

    async def _until(self, timer: asyncio.Event) -> None:
        try:
            await timer.wait()
        finally:
            timer.set()

    def _move_to(self, monotonic_s: float) -> None:
        self._wall += timedelta(seconds=monotonic_s - self._monotonic_s)
        self._monotonic_s = monotonic_s

    def _touch(self) -> None:
        if not self._auto or not self._patience_s:
            return
        if self._jump is not None:
            self._jump.cancel()
        self._jump = asyncio.get_running_loop().call_later(self._patience_s, self._step)

    def _step(self) -> None:
        self._jump = None
        while self._waiters and self._waiters[0][2].is_set():
            heapq.heappop(self._waiters)
        if self._waiters:
            due_s, _, event = heapq.heappop(self._waiters)
            self._move_to(max(due_s, self._monotonic_s))
            event.set()
            self._touch()


async def _settle(rounds: int) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)


def _instant() -> FakeClock:
    return FakeClock(auto=True, patience=timedelta(0))


clocks: ContextVar[Callable[[], FakeClock]] = ContextVar("clocks", default=_instant)
"""How a world gets its clock: one whose waits end at once, unless a simulation has time of its own."""


def new_clock() -> FakeClock:
    """The clock of a new world."""
    return clocks.get()()
