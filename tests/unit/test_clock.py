"""The machine's clock and the one that tests hold in their hand (L-B5, T5)."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.actions import SECOND, settle
from wallet_actions.clock import Clock, SystemClock, system_chance
from wallet_actions.errors import UsageError
from wallet_actions.testing.clock import DEFAULT_START, FakeClock

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


class Machine:
    """The two clocks of a machine, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_s = 1_900_000_000.0
        self.monotonic_s = 1000.0
        monkeypatch.setattr(time, "time", lambda: self.wall_s)
        monkeypatch.setattr(time, "monotonic", lambda: self.monotonic_s)

    def pass_time(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


def test_the_system_clock_tells_the_time_in_utc() -> None:
    clock = SystemClock()

    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert clock.now().tzinfo is UTC
    assert abs(clock.monotonic() - time.monotonic()) < 5


def test_the_system_clock_never_goes_back_within_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    clock = SystemClock()
    start = clock.now()
    machine.pass_time(10)
    assert clock.now() - start == timedelta(seconds=10)

    machine.wall_s -= 3600
    assert clock.now() - start == timedelta(seconds=10)
    machine.pass_time(5)
    assert clock.now() - start == timedelta(seconds=15)


def test_the_system_clock_follows_a_step_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    clock = SystemClock()
    start = clock.now()

    machine.wall_s += 3600

    assert clock.now() - start == HOUR


def test_chance_is_drawn_from_zero_to_one() -> None:
    drawn = {system_chance() for _ in range(100)}

    assert all(0 <= one < 1 for one in drawn)
    assert len(drawn) > 90


CLOCKS = pytest.mark.parametrize("clock", [SystemClock(), FakeClock()], ids=["system", "fake"])


@CLOCKS
@pytest.mark.parametrize("delay", [timedelta(0), -SECOND])
async def test_a_delay_that_is_not_positive_only_yields(clock: Clock, delay: timedelta) -> None:
    turns = asyncio.ensure_future(settle(1))

    await asyncio.wait_for(clock.sleep(delay), 5)
    assert not await asyncio.wait_for(clock.wait(asyncio.Event(), delay), 5)

    await turns


@CLOCKS
async def test_an_event_that_is_set_is_not_waited_for(clock: Clock) -> None:
    event = asyncio.Event()
    event.set()

    assert await clock.wait(event, None)
    assert await clock.wait(event, HOUR)
    assert await clock.wait(event, -HOUR)


@CLOCKS
@pytest.mark.parametrize("delay", [None, HOUR])
async def test_a_wait_ends_with_its_event(clock: Clock, delay: timedelta | None) -> None:
    event = asyncio.Event()
    waiter = asyncio.ensure_future(clock.wait(event, delay))
    await settle()
    assert not waiter.done()

    event.set()

    assert await waiter


@CLOCKS
async def test_a_wait_that_is_cancelled_leaves_nothing(clock: Clock) -> None:
    before = asyncio.all_tasks()
    waiter = asyncio.ensure_future(clock.wait(asyncio.Event(), HOUR))
    await settle()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter

    assert asyncio.all_tasks() == before


async def test_the_system_clock_waits() -> None:
    clock = SystemClock()
    start_s = clock.monotonic()

    await clock.sleep(timedelta(milliseconds=5))
    assert not await clock.wait(asyncio.Event(), timedelta(milliseconds=5))

    assert clock.monotonic() - start_s >= 0.01


# In the hand


async def test_a_fake_clock_stands_still_until_it_is_moved() -> None:
    clock = FakeClock()
    sleeper = asyncio.ensure_future(clock.sleep(HOUR))
    await settle()
    assert (clock.now(), clock.monotonic(), clock.sleepers) == (DEFAULT_START, 0.0, 1)

    await clock.advance(HOUR - SECOND)
    assert not sleeper.done()
    await clock.advance(SECOND)

    assert sleeper.done()
    assert (clock.now(), clock.monotonic(), clock.sleepers) == (DEFAULT_START + HOUR, 3600.0, 0)


async def test_who_is_due_first_runs_first_and_sees_its_time() -> None:
    clock = FakeClock()
    seen: list[tuple[str, timedelta]] = []

    async def sleep(name: str, delay: timedelta) -> None:
        await clock.sleep(delay)
        seen.append((name, clock.now() - DEFAULT_START))
        if name == "first":
            await sleep("again", SECOND)

    tasks = [asyncio.ensure_future(sleep("second", 3 * SECOND)), asyncio.ensure_future(sleep("first", SECOND))]
    await settle()
    await clock.advance(HOUR)
    await asyncio.gather(*tasks)

    assert seen == [("first", SECOND), ("again", 2 * SECOND), ("second", 3 * SECOND)]


async def test_who_is_about_to_wait_counts_from_before_the_move() -> None:
    clock = FakeClock()
    sleeper = asyncio.ensure_future(clock.sleep(HOUR))

    await clock.advance(HOUR)

    assert sleeper.done()


async def test_setting_the_wall_moves_nobody() -> None:
    clock = FakeClock()
    sleeper = asyncio.ensure_future(clock.sleep(HOUR))
    await settle()
    clock.set_wall(DEFAULT_START - timedelta(days=1))
    await clock.advance(HOUR)

    assert sleeper.done()
    assert clock.now() == DEFAULT_START - timedelta(days=1) + HOUR
    assert clock.monotonic() == 3600.0


async def test_a_fake_clock_that_goes_by_itself_skips_what_everybody_waits_for() -> None:
    clock = FakeClock(auto=True, patience=timedelta(milliseconds=1))

    await clock.sleep(HOUR)
    assert not await clock.wait(asyncio.Event(), HOUR)

    assert clock.now() == DEFAULT_START + 2 * HOUR


# With a seed


async def woken(clock: FakeClock, *delays: timedelta) -> list[tuple[int, timedelta]]:
    """Who wakes up when on the monotonic clock, in order, of several that begin to wait at once."""
    seen: list[tuple[int, timedelta]] = []

    async def sleep(number: int, delay: timedelta) -> None:
        await clock.sleep(delay)
        seen.append((number, timedelta(seconds=clock.monotonic())))

    tasks = [asyncio.ensure_future(sleep(number, delay)) for number, delay in enumerate(delays)]
    await clock.advance(24 * HOUR)
    await asyncio.gather(*tasks)
    return seen


async def test_a_seed_decides_who_goes_first_of_those_that_are_due_at_once() -> None:
    """T5: without one they go as they came; with one in any order, the same one each time; nobody goes too early."""
    delays = [HOUR] * 4 + [SECOND]

    exact = await woken(FakeClock(), *delays)
    orders = {tuple(await woken(FakeClock(seed=seed), *delays)) for seed in (1, 1, 2, 2, 3, 3)}

    assert exact == [(4, SECOND), *((number, HOUR) for number in range(4))]
    assert len(orders) == 3
    assert all(sorted(order) == sorted(exact) and order[0] == (4, SECOND) for order in orders)


async def test_a_seed_decides_when_it_begins() -> None:
    starts = [FakeClock(seed=seed).now() for seed in (1, 1, 2)]

    assert starts[0] == starts[1] != starts[2]
    assert all(DEFAULT_START <= start < DEFAULT_START + timedelta(days=3653) for start in starts)
    assert any(start.microsecond for start in starts)
    assert FakeClock(DEFAULT_START + HOUR, seed=1).now() == DEFAULT_START + HOUR


async def test_a_seed_decides_how_late_they_wake_up() -> None:
    """Late by as much as was allowed at most, and never early; the same each time."""
    delays = [HOUR] * 20

    late = await woken(FakeClock(seed=1, latency=10 * SECOND), *delays)

    assert late == await woken(FakeClock(seed=1, latency=10 * SECOND), *delays)
    assert late != await woken(FakeClock(seed=2, latency=10 * SECOND), *delays)
    assert all(HOUR <= at <= HOUR + 10 * SECOND for _, at in late)
    assert len({at for _, at in late}) == len(late)


@pytest.mark.parametrize("is_instant", [True, False])
async def test_a_seed_sets_the_wall_clock_back_and_ahead(is_instant: bool) -> None:
    """T5, L-B5: whoever sleeps an hour may find that it is earlier than before; the monotonic clock does not move."""

    async def steps(seed: int) -> list[timedelta]:
        clock = FakeClock(seed=seed, auto=is_instant, patience=timedelta(0), jump=2 * HOUR)
        found = []
        for number in range(1, 21):
            before = clock.now()
            sleeper = asyncio.ensure_future(clock.sleep(HOUR))
            if not is_instant:
                await clock.advance(HOUR)
            await sleeper
            found.append(clock.now() - before)
            assert clock.monotonic() == 3600.0 * number
        return found

    found = await steps(1)

    assert found == await steps(1) != await steps(2)
    assert min(found) < timedelta(0) < HOUR < max(found)
    assert all(-HOUR <= step <= 3 * HOUR for step in found)


async def test_who_has_left_does_not_set_the_wall_clock() -> None:
    clock = FakeClock(DEFAULT_START, seed=1, jump=HOUR)
    waiter = asyncio.ensure_future(clock.wait(asyncio.Event(), HOUR))
    await settle()
    waiter.cancel()
    await asyncio.wait([waiter])

    await clock.advance(2 * HOUR)

    assert clock.now() == DEFAULT_START + 2 * HOUR


@pytest.mark.parametrize("options", [{"latency": SECOND}, {"jump": SECOND}], ids=str)
def test_chance_needs_a_seed(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"FakeClock\(seed=7"):
        FakeClock(**options)
