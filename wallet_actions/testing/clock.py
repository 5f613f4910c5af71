"""A clock that tests hold in their hand (T5).

Without a seed it is exact. With one it is as clocks are, and as the seed says, each time: it begins at a moment that is
not midnight, and of several who are due at once any may go first; those who wait wake up late, and the wall clock is
set back and ahead, where that is asked for.

    clock = FakeClock(auto=True, seed=7, latency=timedelta(seconds=2), jump=timedelta(minutes=1))
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from random import Random

from wallet_actions.errors import UsageError

DEFAULT_START = datetime(2030, 1, 1, tzinfo=UTC)
TEN_YEARS = timedelta(days=3652)


class FakeClock:
    """Virtual time: it stands still until somebody moves it, or until everybody waits.

    Args:
        start: the wall clock at the beginning, UTC; by default `DEFAULT_START`, or with a seed a moment of the ten
            years after it, to the microsecond.
        auto: step on its own to the next wake time once nothing has asked the clock for `patience` of real time.
        patience: how long that is; longer than a call to a store or a peer takes. With 0 every wait ends at once, at
            the time it waited for: right where one task at a time waits.
        seed: what is left to chance is drawn from it: the start, who goes first of those that are due at once, and what
            follows. With None nothing is: they go in the order in which they came.
        latency: who waits wakes up late, by this much at most; never early.
        jump: whenever somebody wakes up, the wall clock is set back or ahead, by this much at most.

    Raises:
        UsageError: latency or jumps, and no seed to draw them from.
    """

    def __init__(
        self,
        start: datetime | None = None,
        *,
        auto: bool = False,
        patience: timedelta = timedelta(milliseconds=20),
        seed: int | None = None,
        latency: timedelta = timedelta(0),
        jump: timedelta = timedelta(0),
    ) -> None:
        if seed is None and (latency or jump):
            raise UsageError("a clock that is late or jumps draws that from a seed: FakeClock(seed=7, …)")
        self.seed = seed
        self._chance = None if seed is None else Random(seed)  # noqa: S311 it has to be repeatable, not secret
        self._latency, self._jump = latency, jump
        self._wall = start if start is not None else DEFAULT_START + self._drawn(timedelta(0), TEN_YEARS)
        self._monotonic_s = 0.0
        self._waiters: list[tuple[float, float, int, asyncio.Event]] = []
        self._tickets = itertools.count()
        self._auto = auto
        self._patience_s = patience.total_seconds()
        self._next_step: asyncio.TimerHandle | None = None

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
        return sum(not event.is_set() for *_, event in self._waiters)

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
            self._wake()
            await _settle(rounds)
        self._move_to(target_s)
        await _settle(rounds)

    def set_wall(self, wall: datetime) -> None:
        """Set the wall clock, back too; the monotonic clock and whoever waits do not notice."""
        self._wall = wall

    def _timer(self, delay: timedelta) -> asyncio.Event:
        event = asyncio.Event()
        due_s = self._monotonic_s + (delay + self._drawn(timedelta(0), self._latency)).total_seconds()
        rank = self._chance.random() if self._chance is not None else 0.0
        heapq.heappush(self._waiters, (due_s, rank, next(self._tickets), event))
        if self._auto and not self._patience_s:
            self._wake()
        else:
            self._touch()
        return event

    def _wake(self) -> None:
        """Move on to the next wake time, and wake whoever it is."""
        due_s, *_, event = heapq.heappop(self._waiters)
        self._move_to(max(due_s, self._monotonic_s))
        if not event.is_set():  # else it does not wait any more
            self._wall += self._drawn(-self._jump, self._jump)
            event.set()

    def _drawn(self, least: timedelta, most: timedelta) -> timedelta:
        """Somewhere between the two; nothing where nothing is left to chance."""
        if self._chance is None or least == most:
            return timedelta(0)
        return least + (most - least) * self._chance.random()

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
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # outside of one nobody waits
            return
        if self._next_step is not None:
            self._next_step.cancel()
        self._next_step = loop.call_later(self._patience_s, self._step)

    def _step(self) -> None:
        self._next_step = None
        while self._waiters and self._waiters[0][-1].is_set():
            heapq.heappop(self._waiters)
        if self._waiters:
            self._wake()
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
