"""The sync loop where things go wrong, and its end."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from tests.actions import (
    NEVER,
    SECOND,
    SECRET,
    Desk,
    Job,
    Rig,
    done,
    idle,
    key_of,
    parked,
    raising,
    running,
    settle,
    waiting,
)
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.errors import InvariantError, StoreUnavailableError
from wallet_actions.events import Event
from wallet_actions.outcome import DriveResult
from wallet_actions.runner import Runner
from wallet_actions.slots import Slots
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


# Faults


class Away(MemoryStore):
    """A store that is away for a time."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name.startswith("_") or not callable(method) or name == "peer":
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.is_away:
                raise StoreUnavailableError("busy")
            return await method(*args, **kwargs)

        return call


async def test_a_notification_survives_a_store_that_is_away(rig: Rig) -> None:
    """Never lost: the action is not due for an hour, and the drive that was asked for could not load it."""
    store = Away()
    store._tables = rig.store._tables  # type: ignore[attr-defined]
    async with Rig(store=store, clock=rig.clock, desk=Desk(parked(HOUR), done)) as away, running(away) as runner:
        key = await away.start("a")
        await settle()
        store.is_away = True
        runner.notify(key)
        await settle()
        await rig.clock.advance(SECOND)
        store.is_away = False
        await rig.clock.advance(10 * SECOND)
        assert await rig.status(key) is Status.DONE
        assert away.desk.count() == 2


async def test_a_store_that_comes_back_finds_everything_going_on(rig: Rig) -> None:
    store = Away()
    async with Rig(parked(5 * SECOND), done, store=store) as away, running(away):
        key = await away.start("a")
        await settle()
        store.is_away = True
        await away.clock.advance(60 * SECOND)
        store.is_away = False
        await away.clock.advance(10 * SECOND)
        assert await away.status(key) is Status.DONE


async def test_a_recovery_that_could_not_read_the_store_starts_again(rig: Rig) -> None:
    """L-D13: nothing waits for the next start of the process."""
    rig.desk.then(parked(HOUR), idle, raising(InvariantError("oops")))
    keys = [await rig.start(name) for name in "abc"]
    for key in keys:
        await rig.executor.drive(key)
    await rig.start("d")
    store = Away()
    store._tables = rig.store._tables  # type: ignore[attr-defined]
    async with Rig(store=store, clock=rig.clock) as process:
        store.is_away = True
        async with Runner(process.executor, poll=None, sync=NEVER, drain=timedelta(0)) as runner:
            for _ in range(20):
                await process.clock.advance(SECOND)
            assert runner.is_recovered
            with pytest.raises(StoreUnavailableError):
                await runner.recovered()
            store.is_away = False
            await process.clock.advance(60 * SECOND)
            assert (await runner.recovered()).completed == 3
            await process.clock.advance(HOUR)
            assert {row.status for row in await rig.operator.list_actions()} == {Status.DONE}


async def test_what_a_recovery_deferred_is_found_by_the_sync(rig: Rig) -> None:
    key = await rig.start("a")

    class NoLoad(MemoryStore):
        is_away = True

        async def load(self, key: ActionKey) -> Checkpoint | None:
            if self.is_away:
                raise StoreUnavailableError("busy")
            return await super().load(key)

    store = NoLoad()
    store._tables = rig.store._tables  # type: ignore[attr-defined]
    process = Rig(store=store, clock=rig.clock)
    async with process, Runner(process.executor, poll=None, sync=300 * SECOND, drain=timedelta(0)) as runner:
        await process.clock.advance(60 * SECOND)
        assert runner.is_recovered
        assert (await runner.recovered()).deferred == 1
        store.is_away = False
        await process.clock.advance(HOUR)
        assert await rig.status(key) is Status.DONE


@pytest.mark.parametrize("when", ["at the start", "later"])
async def test_one_bad_action_ends_the_loop_for_nobody(rig: Rig, caplog: pytest.LogCaptureFixture, when: str) -> None:
    """L-D12: whatever leaves the driver."""
    drive = rig.executor.drive

    async def broken(key: ActionKey, *args: Any, **options: Any) -> DriveResult[Any]:
        if key.id == "bad":
            raise ValueError(SECRET)
        return await drive(key, *args, **options)

    rig.executor.drive = broken  # type: ignore[method-assign]
    if when == "at the start":
        await rig.start("bad")
    with caplog.at_level(logging.DEBUG):
        async with running(rig):
            await rig.start("bad")
            await settle()
            key = await rig.start("good")
            await settle()
            assert await rig.status(key) is Status.DONE
    assert SECRET not in repr([record.__dict__ for record in caplog.records])
    assert "ValueError" in {record.__dict__.get("error_type") for record in caplog.records}


async def test_a_call_that_is_cut_off_beneath_a_step_ends_the_loop_for_nobody(rig: Rig) -> None:
    """L-D12: a client library that cancels whoever waits when its connection is closed."""

    async def cut_off(job: Job) -> None:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(inner.cancel)
        await inner

    rig.desk.then(cut_off, done)
    async with running(rig):
        bad = await rig.start("bad")
        await settle()
        good = await rig.start("good")
        await settle()
        assert await rig.status(good) is Status.DONE
        await rig.clock.advance(SECOND)
        assert await rig.status(bad) is Status.DONE


async def test_a_sync_that_fails_is_tried_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.desk.then(idle, done)
    fails = [ValueError(SECRET), StoreUnavailableError("busy")]

    async def read(**options: Any) -> Any:
        if fails:
            raise fails.pop()
        return await type(rig.store).idle(rig.store, **options)

    with caplog.at_level(logging.WARNING):
        async with running(rig, sync=5 * SECOND):
            key = await rig.start("a")
            await settle()
            rig.store.idle = read  # type: ignore[method-assign]
            await rig.clock.advance(15 * SECOND)
            assert await rig.status(key) is Status.DONE
    assert {record.message for record in caplog.records} == {"a sync failed; it will be tried again"}
    assert SECRET not in repr([record.__dict__ for record in caplog.records])


async def test_observers_that_raise_or_leave_keep_nothing_from_being_driven(rig: Rig) -> None:
    forgets: list[Any] = []

    def once(event: Event) -> None:
        forgets.pop()()
        raise ValueError(SECRET)

    forgets += [rig.executor.observe(once) for _ in range(2)]
    async with running(rig):
        key = await rig.start("a")
        await settle()
        assert await rig.status(key) is Status.DONE


# Leaving


async def test_leaving_lets_the_steps_under_way_finish(rig: Rig) -> None:
    """L-D16: stop taking, drain, then close."""
    go, begun = asyncio.Event(), asyncio.Event()
    rig.desk.then(waiting(go, done, begun), done)
    context = running(rig, concurrency=1, drain=HOUR)
    runner = await context.__aenter__()
    key = await rig.start("a")
    await begun.wait()
    queued = await rig.start("queued")
    leaving = asyncio.create_task(context.__aexit__(None, None, None))
    await settle()
    runner.notify(queued)
    late = await rig.start("late")
    await settle()
    assert not leaving.done()
    go.set()
    await leaving

    assert await rig.status(key) is Status.DONE
    assert [await rig.status(one) for one in (queued, late)] == [Status.RUNNING] * 2


async def test_leaving_cancels_what_does_not_finish_in_time(rig: Rig) -> None:
    begun = asyncio.Event()
    rig.desk.then(waiting(asyncio.Event(), done, begun))
    before = asyncio.all_tasks()
    context = running(rig, drain=10 * SECOND)
    await context.__aenter__()
    key = await rig.start("a")
    await begun.wait()
    leaving = asyncio.create_task(context.__aexit__(None, None, None))
    await rig.clock.advance(9 * SECOND)
    assert not leaving.done()
    await rig.clock.advance(SECOND)
    await leaving

    assert (await rig.row(key)).version == 0
    assert asyncio.all_tasks() <= before
    async with rig.other(done) as after_restart, running(after_restart):
        assert await rig.status(key) is Status.DONE


async def test_leaving_during_the_recovery_lets_its_steps_finish_and_begins_no_more(rig: Rig) -> None:
    go, begun = asyncio.Event(), asyncio.Event()
    keys = [await rig.start(f"a{number}") for number in range(3)]
    rig.desk.then(waiting(go, done, begun))
    runner = Runner(rig.executor, poll=None, concurrency=1)
    await runner.__aenter__()
    await begun.wait()
    leaving = asyncio.create_task(runner.__aexit__(None, None, None))
    await settle()
    assert not leaving.done()
    go.set()
    await leaving

    assert sorted([await rig.status(key) for key in keys]) == [Status.DONE, Status.RUNNING, Status.RUNNING]


async def test_a_body_that_raises_is_told_and_everything_is_left_in_order(rig: Rig) -> None:
    go, begun = asyncio.Event(), asyncio.Event()
    rig.desk.then(waiting(go, done, begun))
    key = key_of("a")

    async def body() -> None:
        async with running(rig, drain=HOUR):
            await rig.start("a")
            await begun.wait()
            raise LookupError("the app's own")

    task = asyncio.create_task(body())
    await begun.wait()
    await settle()
    go.set()
    with pytest.raises(LookupError, match="the app's own"):
        await task

    assert await rig.status(key) is Status.DONE
    assert len(rig.executor._observers) == 1


async def test_an_app_that_is_cancelled_leaves_no_task_behind(rig: Rig) -> None:
    begun = asyncio.Event()
    rig.desk.then(waiting(asyncio.Event(), done, begun))
    before = asyncio.all_tasks()

    async def body() -> None:
        async with running(rig, drain=HOUR):
            await rig.start("a")
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await begun.wait()
    task.cancel()
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert asyncio.all_tasks() == before


async def test_who_waits_for_the_recovery_is_not_left_waiting(rig: Rig) -> None:
    begun = asyncio.Event()
    await rig.start("a")
    rig.desk.then(waiting(asyncio.Event(), done, begun))
    runner = Runner(rig.executor, poll=None, drain=timedelta(0))
    await runner.__aenter__()
    waiter = asyncio.create_task(runner.recovered())
    await begun.wait()
    assert not runner.is_recovered
    await runner.__aexit__(None, None, None)

    with pytest.raises(StoreUnavailableError):
        await waiter


async def test_a_runner_may_be_entered_again(rig: Rig) -> None:
    runner = Runner(rig.executor, poll=None, drain=timedelta(0))
    for name in ("a", "b"):
        async with runner:
            key = await rig.start(name)
            await runner.recovered()
            await settle()
            assert await rig.status(key) is Status.DONE


# Places


async def test_places_are_given_in_turn_and_drained() -> None:
    slots, rig_clock = Slots(1), Rig().clock
    order: list[str] = []
    go = asyncio.Event()

    async def use(name: str) -> None:
        async with slots:
            order.append(name)
            await go.wait()

    tasks = [asyncio.create_task(use(name)) for name in "abc"]
    await settle()
    assert order == ["a"]
    draining = asyncio.create_task(slots.drain(rig_clock, HOUR))
    await settle()
    assert not draining.done()
    go.set()
    await draining

    assert order == ["a"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [False, True, True]


async def test_a_drain_with_nobody_inside_is_over_at_once() -> None:
    await Slots(2).drain(Rig().clock, HOUR)
