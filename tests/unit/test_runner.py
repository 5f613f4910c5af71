"""The sync loop."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.actions import (
    NEVER,
    SECOND,
    Chore,
    Desk,
    Job,
    Open,
    Rig,
    done,
    failed,
    idle,
    key_of,
    parked,
    raising,
    running,
    settle,
    waiting,
)
from wallet_actions.agenda import HEAP_SLACK, NEAREST
from wallet_actions.checkpoint import Status
from wallet_actions.errors import InvariantError, TransientError
from wallet_actions.outcome import DriveMode, Outcome
from wallet_actions.runner import Runner
from wallet_actions.transition import Changes
from wallet_actions_storage.memory.tables import Record

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


# Driving what is due


async def test_a_new_action_is_driven_at_once(rig: Rig) -> None:
    async with running(rig):
        key = await rig.start("a")
        await settle()
        assert await rig.status(key) is Status.DONE


async def test_children_are_driven_too(rig: Rig) -> None:
    desk = rig.desk
    desk.then(lambda job: replace(done(job), changes=Changes(start=[Job(name="b", phase=Open())])), done)
    async with running(rig):
        await rig.start("a")
        await settle()
        assert await rig.status(key_of("b")) is Status.DONE


async def test_what_is_parked_is_driven_when_it_is_due_and_not_before(rig: Rig) -> None:
    rig.desk.then(parked(5 * SECOND), parked(HOUR), done)
    async with running(rig):
        key = await rig.start("a")
        await settle()
        await rig.clock.advance(4.9 * SECOND)
        assert rig.desk.count() == 1
        await rig.clock.advance(0.1 * SECOND)
        assert rig.desk.count() == 2
        await rig.clock.advance(HOUR)
        assert await rig.status(key) is Status.DONE


async def test_failures_back_off(rig: Rig) -> None:
    """G8: nothing loops hot."""
    rig.desk.then(raising(TransientError("busy")))
    async with running(rig):
        await rig.start("a")
        await settle()
        for attempt in range(1, 6):
            assert rig.desk.count() == attempt
            await rig.clock.advance(attempt**2 * SECOND)


async def test_what_was_parked_before_the_start_is_armed(rig: Rig) -> None:
    rig.desk.then(parked(HOUR), done)
    key = await rig.start("a")
    await rig.executor.drive(key)
    async with running(rig) as runner:
        assert runner.parked == 1
        await rig.clock.advance(HOUR)
        assert await rig.status(key) is Status.DONE
        assert runner.parked == 0


async def test_a_step_of_the_wall_clock_moves_no_wake_time(rig: Rig) -> None:
    """L-B5."""
    rig.desk.then(parked(HOUR), done)
    async with running(rig):
        key = await rig.start("a")
        await settle()
        rig.clock.set_wall(rig.clock.now() + 30 * HOUR)
        await rig.clock.advance(HOUR - SECOND)
        assert rig.desk.count() == 1
        await rig.clock.advance(SECOND)
        assert await rig.status(key) is Status.DONE


async def test_what_is_parked_without_a_time_is_driven_at_the_next_sync(rig: Rig) -> None:
    rig.desk.then(idle, done)
    async with running(rig, sync=5 * SECOND):
        key = await rig.start("a")
        await rig.clock.advance(4 * SECOND)
        assert await rig.status(key) is Status.PARKED
        await rig.clock.advance(SECOND)
        assert await rig.status(key) is Status.DONE


async def test_a_time_that_does_not_hold_any_more_wakes_nobody(rig: Rig) -> None:
    rig.desk.then(parked(HOUR), lambda job: replace(idle(job), error=TransientError("busy")))
    async with running(rig) as runner:
        key = await rig.start("a")
        await settle()
        runner.notify(key)
        await settle()
        assert rig.desk.count() == 2
        assert runner.parked == 0
        await rig.clock.advance(2 * HOUR)
        assert rig.desk.count() == 2


# Many


class Crowd(Desk):
    """Counts how many jobs are being driven at once."""

    def __init__(self) -> None:
        super().__init__(self.work)
        self.go = asyncio.Event()
        self.now = 0
        self.most = 0

    async def work(self, job: Job) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        await self.go.wait()
        self.now -= 1
        return done(job)


@pytest.mark.parametrize("is_left_behind", [False, True])
async def test_no_more_are_driven_at_once_than_allowed(is_left_behind: bool) -> None:
    """Also while the recovery drives what the last run left, beside what is new."""
    crowd = Crowd()
    async with Rig(desk=crowd) as rig:
        if is_left_behind:
            for number in range(20):
                await rig.start(f"old{number}")
        async with Runner(rig.executor, concurrency=4, poll=None, drain=timedelta(0)) as runner:
            await settle()
            for number in range(20):
                await rig.start(f"new{number}")
            await settle()
            assert crowd.now == 4
            crowd.go.set()
            await runner.recovered()
            await settle(1000)
            assert (await rig.store.count_actions())["job", Status.DONE] == (40 if is_left_behind else 20)
    assert crowd.most == 4


async def test_at_least_one_is_driven() -> None:
    async with Rig() as rig:
        with pytest.raises(ValueError, match="at least one"):
            Runner(rig.executor, concurrency=0)


async def test_100_000_parked_actions_cost_no_task_each(rig: Rig) -> None:
    template = await rig.row(await rig.start("template"))
    await rig.operator.stop(template.key)
    wake_at = rig.clock.now() + HOUR
    for number in range(100_000):
        row = replace(template, id=f"a{number}", status=Status.PARKED, wake_at=wake_at + number * SECOND)
        rig.store._tables.insert(Record(row, ()))  # type: ignore[attr-defined]
    before = len(asyncio.all_tasks())
    async with Runner(rig.executor, poll=None, sync=NEVER) as runner:
        await runner.recovered()
        await settle(1000)
        assert runner.parked == NEAREST
        await settle()
        assert len(asyncio.all_tasks()) < before + 12
        assert runner._agenda.heap_size == NEAREST


async def test_waking_one_action_over_and_over_does_not_fill_the_heap(rig: Rig) -> None:
    rig.desk.then(parked(HOUR))
    async with running(rig) as runner:
        key = await rig.start("a")
        for _ in range(500):
            runner.notify(key)
            await settle(20)
            await rig.clock.advance(0.01 * SECOND, rounds=5)
        assert rig.desk.count() > 400
        assert runner.parked == 1
        assert runner._agenda.heap_size <= HEAP_SLACK + 2


# Notifications


async def test_a_notification_drives_what_is_not_due(rig: Rig) -> None:
    for name, park in (("a", parked(HOUR)), ("b", idle)):
        rig.desk.then(park, done)
        async with running(rig) as runner:
            key = await rig.start(name)
            await settle()
            assert await rig.status(key) is Status.PARKED
            runner.notify(key)
            await settle()
            assert await rig.status(key) is Status.DONE


async def test_a_notification_during_a_step_leads_to_one_more(rig: Rig) -> None:
    """Never lost, never doubled."""
    go, begun = asyncio.Event(), asyncio.Event()
    rig.desk.then(waiting(go, parked(HOUR), begun), parked(HOUR))
    async with running(rig) as runner:
        key = await rig.start("a")
        await begun.wait()
        for _ in range(5):
            runner.notify(key)
        go.set()
        await settle()
        assert rig.desk.count() == 2


async def test_a_notification_before_the_action_is_known_is_no_error(rig: Rig) -> None:
    async with running(rig) as runner:
        runner.notify(key_of("nobody"))
        await settle()
        await rig.start("a")
        await settle()
        assert await rig.status(key_of("a")) is Status.DONE


async def test_who_drives_until_done_keeps_no_place_while_it_sleeps(rig: Rig) -> None:
    """A notification of a sleeper's action does not block the loop, not even with one place."""
    rig.desk.then(parked(HOUR))
    async with running(rig, concurrency=1) as runner:
        key = await rig.start("a")
        await settle()
        sleeper = asyncio.create_task(rig.executor.drive(key, DriveMode.UNTIL_DONE))
        await settle()
        runner.notify(key)
        await settle()
        rig.desk.then(done)
        other = await rig.start("b")
        await settle()
        assert await rig.status(other) is Status.DONE
        runner.notify(key)
        assert (await sleeper).outcome is Outcome.DONE


# Other processes


async def test_what_another_process_parked_is_found_by_the_poll(rig: Rig) -> None:
    async with running(rig, poll=5 * SECOND), rig.other(parked(7 * SECOND)) as other:
        key = await other.start("a")
        await other.executor.drive(key)
        await rig.clock.advance(9 * SECOND)
        assert await rig.status(key) is Status.PARKED
        await rig.clock.advance(SECOND)
        assert await rig.status(key) is Status.DONE


async def test_what_a_dead_process_left_running_is_found_by_the_poll(rig: Rig) -> None:
    async with running(rig, poll=5 * SECOND, stalled=60 * SECOND), rig.other() as other:
        key = await other.start("a")
        await rig.clock.advance(59 * SECOND)
        assert await rig.status(key) is Status.RUNNING
        await rig.clock.advance(10 * SECOND)
        assert await rig.status(key) is Status.DONE


async def test_a_request_to_cancel_by_another_process_is_answered_soon(rig: Rig) -> None:
    rig.desk.then(parked(HOUR), on_cancel=[failed])
    async with running(rig, poll=5 * SECOND), rig.other() as other:
        key = await rig.start("a")
        await settle()
        await other.operator.request_cancel(key)
        await rig.clock.advance(5 * SECOND)
        assert await rig.status(key) is Status.CANCELLED


async def test_a_driver_outside_that_gives_up_leaves_nothing_behind(rig: Rig) -> None:
    """The loop found the action busy; whoever was busy with it was cancelled."""
    begun = asyncio.Event()
    rig.desk.then(waiting(asyncio.Event(), done, begun), done)

    async def outside() -> None:
        await rig.executor.drive(await rig.start("a"))

    async with running(rig):
        driver = asyncio.create_task(outside())
        await begun.wait()
        await settle()
        driver.cancel()
        await settle()
        assert await rig.status(key_of("a")) is Status.RUNNING
        await rig.clock.advance(2 * SECOND)
        assert await rig.status(key_of("a")) is Status.DONE


# The operator


async def test_a_kind_that_is_resumed_is_driven_again(rig: Rig) -> None:
    """Nothing is lost where no poll looks for it: what ran, what was due, and what came meanwhile."""
    rig.desk.then(parked(10 * SECOND), parked(HOUR), parked(2 * HOUR), idle)
    async with running(rig):
        due, later, latest, waits = [await rig.start(name) for name in ("due", "later", "latest", "waits")]
        await settle()
        rig.desk.then(done)
        await rig.operator.pause_kind("job")
        new = await rig.start("new")
        chore = (await rig.executor.start(Chore(name="c", phase=Open()))).key
        await rig.clock.advance(HOUR)
        assert [await rig.status(key) for key in (due, later, latest, waits, new)] == [Status.PARKED] * 4 + [
            Status.RUNNING
        ]
        assert await rig.status(chore) is Status.DONE

        await rig.operator.resume_kind("job")
        await settle()

        assert [await rig.status(key) for key in (due, later, waits, new)] == [Status.DONE] * 4
        assert await rig.status(latest) is Status.PARKED
        await rig.clock.advance(HOUR)
        assert await rig.status(latest) is Status.DONE


async def test_pausing_a_kind_counts_at_once(rig: Rig) -> None:
    async with running(rig):
        await rig.executor.is_kind_paused("job")
        await rig.operator.pause_kind("job")
        key = await rig.start("a")
        await settle()
        assert await rig.status(key) is Status.RUNNING


async def test_one_action_that_is_resumed_retried_or_cancelled_is_driven_at_once(rig: Rig) -> None:
    rig.desk.then(raising(InvariantError("oops")))
    async with running(rig):
        a, b, c = [await rig.start(name) for name in "abc"]
        await settle()
        await rig.operator.pause(a)
        rig.desk.then(done, on_cancel=[failed])
        await rig.operator.resume(a)
        await rig.operator.retry(b)
        await rig.operator.request_cancel(c)
        await settle()
        assert [await rig.status(key) for key in (a, b, c)] == [Status.DONE, Status.DONE, Status.CANCELLED]


async def test_what_ended_long_ago_is_forgotten_at_the_sync(rig: Rig) -> None:
    async with running(rig, sync=HOUR, retention=90 * timedelta(minutes=1)):
        key = await rig.start("a")
        await settle()
        await rig.clock.advance(HOUR)
        assert (await rig.row(key)).state is not None
        await rig.clock.advance(HOUR)
        assert (await rig.row(key)).state is None


async def test_what_can_be_read_again_is_driven_at_the_sync(rig: Rig) -> None:
    async with running(rig, sync=HOUR), rig.other(kinds=[Chore]) as old_code:
        async with rig.other() as other:
            key = await other.start("a")
        await old_code.executor.drive(key)
        assert await rig.status(key) is Status.QUARANTINED
        await rig.clock.advance(HOUR)
        assert await rig.status(key) is Status.DONE
