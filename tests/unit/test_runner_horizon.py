"""The sync loop where more is parked than is kept in memory."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.actions import NEVER, SECOND, Desk, Rig, done, key_of, parked, settle
from wallet_actions.agenda import Agenda
from wallet_actions.checkpoint import Status, Wake
from wallet_actions.errors import StoreUnavailableError
from wallet_actions.runner import Runner
from wallet_actions_storage.memory import MemoryStore
from wallet_actions_storage.memory.tables import Record

pytestmark = pytest.mark.anyio

FEW = 4


@asynccontextmanager
async def running_with_few(rig: Rig, **options: Any) -> AsyncIterator[Runner]:
    """A runner that keeps few wake times, over its recovery, without a poll."""
    runner = Runner(rig.executor, **{"poll": None, "sync": NEVER, "drain": timedelta(0), **options})
    runner._agenda = Agenda(FEW)
    async with runner:
        rig.operator._on_change = runner.notify
        rig.operator._on_kind_change = runner.notify_kind
        await runner.recovered()
        await settle()
        yield runner


async def park(rig: Rig, *delays_s: float) -> None:
    """Rows of jobs called a0, a1, …, parked for that long."""
    template = await rig.row(await rig.start("template"))
    await rig.operator.stop(template.key)
    for number, delay_s in enumerate(delays_s):
        wake_at = rig.clock.now() + delay_s * SECOND
        state = (template.state or "").replace(template.id, f"a{number}")
        row = replace(template, id=f"a{number}", state=state, status=Status.PARKED, wake_at=wake_at)
        rig.store._tables.insert(Record(row, ()))  # type: ignore[attr-defined]


async def ended(rig: Rig) -> int:
    return (await rig.store.count_actions()).get(("job", Status.DONE), 0)


async def test_each_is_driven_when_it_is_due_and_few_are_kept(rig: Rig) -> None:
    """Never lost, never late, never early, whatever is read on from the store."""
    await park(rig, *(float(number) for number in range(60, 160)))
    async with running_with_few(rig) as runner:
        for second in range(1, 160):
            await rig.clock.advance(SECOND)
            assert await ended(rig) == max(0, second - 59)
            assert runner.parked <= 2 * FEW + 1


async def test_many_that_are_due_in_one_moment_are_all_driven(rig: Rig) -> None:
    await park(rig, *([60.0] * 50))
    async with running_with_few(rig, concurrency=2) as runner:
        assert runner.parked <= 500
        await rig.clock.advance(59 * SECOND)
        assert await ended(rig) == 0
        await rig.clock.advance(SECOND, rounds=2000)
        for _ in range(20):
            await rig.clock.advance(SECOND)
        assert await ended(rig) == 50


async def test_what_parks_here_beyond_the_horizon_is_driven_in_time(rig: Rig) -> None:
    await park(rig, *(float(number) for number in range(10, 30)))
    async with running_with_few(rig) as runner:
        for name, delay in (("near", 5 * SECOND), ("far", 50 * SECOND)):
            rig.desk.then(parked(delay), done)
            await rig.start(name)
            await settle()
            assert (key_of(name) in runner._agenda) == (name == "near")
        await rig.clock.advance(5 * SECOND)
        assert await rig.status(key_of("near")) is Status.DONE
        for _ in range(44):
            await rig.clock.advance(SECOND)
        assert await ended(rig) == 21
        assert await rig.status(key_of("far")) is Status.PARKED
        await rig.clock.advance(SECOND)
        assert await rig.status(key_of("far")) is Status.DONE


async def test_many_that_park_here_are_let_go_and_read_again(rig: Rig) -> None:
    rig.desk.then(parked(60 * SECOND))
    async with running_with_few(rig) as runner:
        for number in range(5 * FEW):
            await rig.start(f"a{number}")
            await rig.clock.advance(SECOND)
        assert runner.parked <= 2 * FEW
        rig.desk.then(done)
        for _ in range(60):
            await rig.clock.advance(SECOND)
        assert await ended(rig) == 5 * FEW


class Interrupted(MemoryStore):
    """Calls back in the middle of a reading of wake times, once it has passed over what is near."""

    def __init__(self) -> None:
        super().__init__()
        self.between: Any = None
        self.readings = 0

    async def wakes(self, *, until: datetime | None, after: Wake | None = None, limit: int = 100) -> Sequence[Wake]:
        self.readings += after is None
        page = await super().wakes(until=until, after=after, limit=min(limit, 2))
        if self.between is not None and after is not None:
            work, self.between = self.between, None
            await work()
        return page


async def test_what_parks_while_the_store_is_read_is_not_passed_over() -> None:
    """It came to stand before the place where was read, behind the horizon that was."""
    store = Interrupted()
    async with Rig(store=store, desk=Desk(parked(20 * SECOND), done)) as rig:
        await park(rig, *(float(number) for number in range(30, 60)))
        rig.desk.then(parked(2 * SECOND), done)

        async def meanwhile() -> None:
            await rig.executor.drive(await rig.start("new"))

        store.between = meanwhile
        async with running_with_few(rig):
            assert store.between is None
            assert await rig.status(key_of("new")) is Status.PARKED
            await rig.clock.advance(2 * SECOND)
            assert await rig.status(key_of("new")) is Status.DONE


async def test_a_store_that_is_away_when_it_is_to_be_read_is_read_later(caplog: pytest.LogCaptureFixture) -> None:
    """L-D13."""
    store = Interrupted()
    async with Rig(done, store=store) as rig:
        await park(rig, *(float(number) for number in range(10, 30)))
        async with running_with_few(rig):

            async def away() -> None:
                store.between = away
                raise StoreUnavailableError("busy")

            store.between = away
            with caplog.at_level(logging.WARNING):
                for _ in range(60):
                    await rig.clock.advance(SECOND)
            assert await ended(rig) < 20
            assert {record.message for record in caplog.records} == {"wake times could not be read"}
            store.between = None
            for _ in range(30):
                await rig.clock.advance(SECOND)
            assert await ended(rig) == 20


async def test_what_is_due_but_cannot_be_driven_is_not_read_over_and_over(rig: Rig) -> None:
    """G8."""
    store = Interrupted()
    async with Rig(done, store=store) as rig:
        await park(rig, *([5.0] * 50))
        async with running_with_few(rig):

            async def broken(*args: Any, **options: Any) -> Any:
                raise ValueError

            rig.executor.drive = broken  # type: ignore[method-assign]
            for _ in range(5):
                await rig.clock.advance(SECOND)
            before = store.readings
            for _ in range(10):
                await rig.clock.advance(SECOND)
            assert 0 < store.readings - before <= 11


async def test_a_step_of_the_wall_clock_delays_nothing_beyond_the_horizon(rig: Rig) -> None:
    """L-B5: nobody waits longer than it was parked for."""
    await park(rig, *(float(number) for number in range(10, 30)))
    async with running_with_few(rig):
        rig.clock.set_wall(rig.clock.now() + timedelta(hours=30))
        for second in range(1, 30):
            await rig.clock.advance(SECOND)
            assert await ended(rig) >= max(0, second - 9)


async def test_a_kind_that_is_resumed_is_driven_on_both_sides_of_the_horizon(rig: Rig) -> None:
    await park(rig, *(float(number) for number in range(10, 30)))
    async with running_with_few(rig):
        await rig.operator.pause_kind("job")
        await rig.clock.advance(15 * SECOND)
        assert await ended(rig) == 0
        await rig.operator.resume_kind("job")
        await settle()
        for second in range(16, 31):
            await rig.clock.advance(SECOND)
            assert await ended(rig) >= min(20, second - 9)
        assert await ended(rig) == 20
