"""What a person may do to actions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.actions import (
    SECOND,
    Rig,
    coin,
    done,
    failed,
    idle,
    job,
    key_of,
    parked,
    raising,
    settle,
)
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey, CoinState
from wallet_actions.errors import InvariantError, TransientError, UnknownActionError, UsageError, VersionConflictError
from wallet_actions.events import EventKind
from wallet_actions.operator import Operator
from wallet_actions.outcome import DriveMode, Outcome
from wallet_actions.store import Saved, Write
from wallet_actions.transition import Changes
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


async def test_an_action_that_nobody_started_is_told(rig: Rig) -> None:
    key = key_of("nobody")
    operator = rig.operator
    work: list[Callable[[ActionKey], Awaitable[Any]]] = [
        operator.show,
        operator.history,
        operator.request_cancel,
        operator.stop,
        operator.pause,
        operator.resume,
        operator.retry,
    ]
    for change in work:
        with pytest.raises(UnknownActionError, match="no action job nobody"):
            await change(key)


async def test_an_action_that_has_ended_is_left_alone(rig: Rig) -> None:
    """L-S9."""
    key = await rig.start("a")
    await rig.executor.drive(key)
    work: list[Callable[[ActionKey], Awaitable[Any]]] = [
        rig.operator.stop,
        rig.operator.pause,
        rig.operator.resume,
        rig.operator.retry,
    ]
    for change in work:
        with pytest.raises(UsageError, match="has already ended: done"):
            await change(key)
    assert not await rig.operator.request_cancel(key)

    assert await rig.story(key) == ["start", "done"]


async def test_actions_are_listed_in_pages(rig: Rig) -> None:
    for number in range(5):
        await rig.start(f"a{number}")
    await rig.executor.drive(key_of("a2"))

    first = await rig.operator.list_actions(limit=3)
    rest = await rig.operator.list_actions(after=first[-1].row, limit=3)

    assert [row.id for row in [*first, *rest]] == ["a0", "a1", "a2", "a3", "a4"]
    assert [row.id for row in await rig.operator.list_actions(statuses=[Status.DONE])] == ["a2"]
    assert await rig.operator.list_actions(kinds=["chore"]) == []


async def test_a_long_past_is_told_whole(rig: Rig) -> None:
    key = await rig.start("a")
    rig.desk.then(parked(SECOND))
    for _ in range(1200):
        await rig.executor.drive(key)

    assert [entry.version for entry in await rig.operator.history(key)] == list(range(1201))


# Stop


async def test_stopping_frees_the_coins_removes_the_state_and_keeps_the_id(rig: Rig) -> None:
    """G6."""
    await rig.fund(coin("c"))
    key = await rig.start("a", Changes(reserve=["c"]))
    rig.desk.then(raising(InvariantError("oops")))
    await rig.executor.drive(key)

    stopped = await rig.operator.stop(key, "the mint is gone")

    row = await rig.row(key)
    assert (row.status, row.state, row.version) == (Status.CANCELLED, None, 2)
    assert (stopped.status, stopped.version) == (row.status, row.version)
    assert row.error is not None
    assert row.error.message == "the mint is gone"
    assert (await rig.coin("c")).state is CoinState.SPENDABLE
    assert await rig.story(key) == ["start", "stuck", "stop"]
    assert not (await rig.executor.start(job("a"))).is_new


# Pause and resume


async def test_a_paused_action_goes_on_when_it_was_due(rig: Rig) -> None:
    """G8."""
    key = await rig.start("a")
    rig.desk.then(raising(TransientError("busy")))
    for _ in range(3):
        await rig.executor.drive(key)
    before = await rig.row(key)

    await rig.operator.pause(key)
    assert await rig.store.wakes(until=None) == []
    resumed = await rig.operator.resume(key)

    after = await rig.row(key)
    assert (resumed.status, after.status) == (Status.PARKED, Status.PARKED)
    assert (after.wake_at, after.attempts, after.error) == (before.wake_at, 3, before.error)


async def test_what_was_not_parked_goes_on_at_once(rig: Rig) -> None:
    for name, answer in (("running", None), ("idle", idle), ("stuck", raising(InvariantError("oops")))):
        key = await rig.start(name)
        if answer is not None:
            rig.desk.then(answer)
            await rig.executor.drive(key)
        await rig.operator.pause(key)
        resumed = await rig.operator.resume(key)
        assert (resumed.status, resumed.wake_at) == (Status.PARKED, rig.clock.now())
        assert [wake.key for wake in await rig.store.wakes(until=rig.clock.now())][-1] == key


async def test_what_is_to_be_cancelled_does_not_sleep_on_after_the_pause(rig: Rig) -> None:
    """The request pulled no wake time, since the action was not parked then."""
    key = await rig.start("a")
    rig.desk.then(parked(HOUR), on_cancel=[failed])
    await rig.executor.drive(key)
    await rig.operator.pause(key)
    await rig.operator.request_cancel(key)
    assert await rig.status(key) is Status.PAUSED

    await rig.operator.resume(key)

    assert (await rig.executor.drive(key, only_if_due=True)).status is Status.CANCELLED


async def test_only_what_is_paused_is_resumed(rig: Rig) -> None:
    key = await rig.start("a")
    with pytest.raises(UsageError, match="job a is running, not paused"):
        await rig.operator.resume(key)


async def test_pausing_twice_is_as_good_as_once(rig: Rig) -> None:
    key = await rig.start("a")
    await rig.operator.pause(key)
    await rig.operator.pause(key)
    await rig.operator.resume(key)

    assert (await rig.executor.drive(key)).outcome is Outcome.DONE


async def test_kinds_are_paused_and_resumed_durably_and_told(rig: Rig) -> None:
    told: list[str] = []
    operator = Operator(rig.store, on_kind_change=told.append)

    await operator.pause_kind("job")
    assert await rig.store.paused_kinds() == {"job"}
    await operator.resume_kind("job")

    assert await rig.store.paused_kinds() == frozenset()
    assert told == ["job", "job"]


# Retry


async def test_retrying_forgives_the_failures(rig: Rig) -> None:
    key = await rig.start("a")
    rig.desk.then(raising(KeyError()))
    for _ in range(6):
        await rig.executor.drive(key)
    assert await rig.status(key) is Status.STUCK

    row = await rig.operator.retry(key)

    assert (row.status, row.attempts, row.faults, row.wake_at) == (Status.PARKED, 0, 0, rig.clock.now())
    rig.desk.then(done)
    assert (await rig.executor.drive(key, only_if_due=True)).outcome is Outcome.DONE


async def test_retrying_what_is_parked_makes_it_due(rig: Rig) -> None:
    key = await rig.start("a")
    rig.desk.then(parked(HOUR), done)
    await rig.executor.drive(key)
    await rig.operator.retry(key)

    assert (await rig.executor.drive(key, only_if_due=True)).outcome is Outcome.DONE


async def test_what_is_paused_or_quarantined_is_not_retried(rig: Rig) -> None:
    key = await rig.start("a")
    await rig.operator.pause(key)
    with pytest.raises(UsageError, match="only a stuck or parked action"):
        await rig.operator.retry(key)
    await rig.insert(replace(await rig.row(key), id="b", status=Status.QUARANTINED, version=0))
    with pytest.raises(UsageError, match="only a stuck or parked action"):
        await rig.operator.retry(key_of("b"))


# Cancel


async def test_a_request_makes_a_parked_action_due_and_leaves_its_version(rig: Rig) -> None:
    """L-D11, L-S5."""
    for name, answer in (("a", parked(HOUR)), ("b", idle)):
        key = await rig.start(name)
        rig.desk.then(answer)
        await rig.executor.drive(key)
        version = (await rig.row(key)).version

        assert await rig.operator.request_cancel(key)
        assert await rig.operator.request_cancel(key)

        row = await rig.row(key)
        assert (row.version, row.wake_at) == (version, rig.clock.now())


async def test_a_request_reaches_a_stuck_action(rig: Rig) -> None:
    key = await rig.start("a")
    rig.desk.then(raising(InvariantError("oops")), on_cancel=[failed])
    await rig.executor.drive(key)
    await rig.operator.request_cancel(key)

    assert (await rig.executor.drive(key)).status is Status.CANCELLED


# Prune


async def test_only_what_ended_long_ago_is_forgotten(rig: Rig) -> None:
    for name in ("old", "young"):
        await rig.fund(coin(name))
        await rig.executor.drive(await rig.start(f"{name}-1"))
        await rig.start(f"{name}-2")
        rig.clock.set_wall(rig.clock.now() + HOUR)

    await rig.operator.prune(HOUR + SECOND)

    assert (await rig.row(key_of("old-1"))).state is None
    assert await rig.store.history(key_of("old-1")) == []
    for name in ("old-2", "young-1", "young-2"):
        assert (await rig.row(key_of(name))).state is not None


async def test_a_lot_is_forgotten_in_batches(rig: Rig) -> None:
    """L-B6."""
    for number in range(1201):
        await rig.executor.drive(await rig.start(f"a{number}"))
    rig.clock.set_wall(rig.clock.now() + HOUR)

    assert await rig.operator.prune(timedelta(0)) == 1201
    assert await rig.operator.prune(timedelta(0)) == 0


async def test_an_age_that_makes_no_sense_is_refused(rig: Rig) -> None:
    for age in (-SECOND, timedelta.max):
        with pytest.raises(UsageError, match="age"):
            await rig.operator.prune(age)


# Racing with drivers


async def test_whoever_changes_something_is_told_of(rig: Rig) -> None:
    told: list[ActionKey] = []
    operator = Operator(rig.store, clock=rig.clock, on_change=told.append)
    key = await rig.start("a")
    await operator.pause(key)
    await operator.resume(key)
    await operator.retry(key)
    await operator.request_cancel(key)
    await operator.stop(key)

    assert told == [key] * 5


async def test_who_drives_is_not_told_of_what_is_resumed_for_later(rig: Rig) -> None:
    """G8."""
    told: list[ActionKey] = []
    operator = Operator(rig.store, clock=rig.clock, on_change=told.append)
    key = await rig.start("a")
    rig.desk.then(parked(HOUR))
    await rig.executor.drive(key)
    await operator.pause(key)
    told.clear()

    await operator.resume(key)
    assert told == []
    rig.clock.set_wall(rig.clock.now() + HOUR)
    await operator.pause(key)
    await operator.resume(key)
    assert told == [key, key]


async def test_observers_are_told_what_the_history_tells(rig: Rig) -> None:
    operator = Operator(rig.store, clock=rig.clock, tell=rig.executor.tell)
    key = await rig.start("a")
    rig.events.clear()
    for change in (operator.pause, operator.resume, operator.retry, operator.request_cancel, operator.stop):
        rig.clock.set_wall(rig.clock.now() + SECOND)
        await change(key)

    told = [(event.kind.value, event.version, event.at) for event in rig.events if event.key == key]
    written = [(entry.event, entry.version, entry.at) for entry in (await rig.history(key))[1:]]
    assert [one for one in told if one[0] != "cancel_request"] == written
    assert [one[0] for one in told] == ["pause", "resume", "retry_now", "cancel_request", "stop"]


async def test_a_request_is_told_with_when_it_is_due(rig: Rig) -> None:
    """L-D11."""
    operator = Operator(rig.store, clock=rig.clock, tell=rig.executor.tell)
    key = await rig.start("a")
    rig.desk.then(parked(HOUR))
    await rig.executor.drive(key)
    rig.clock.set_wall(rig.clock.now() + SECOND)
    await operator.request_cancel(key)

    row, event = await rig.row(key), rig.events[-1]
    assert (event.kind, event.at, event.version) == (EventKind.CANCEL_REQUESTED, rig.clock.now(), row.version)
    assert event.wake_at == row.wake_at == rig.clock.now()
    await rig.executor.drive(key_of("a"))
    told = len(rig.events)
    await operator.stop(key)
    assert not await operator.request_cancel(key)
    assert len(rig.events) == told + 1


async def test_an_operator_who_loses_a_race_looks_again_and_decides_anew(rig: Rig) -> None:
    key = await rig.start("a")

    class Raced(MemoryStore):
        races = 3

        async def save(self, write: Write) -> Saved:
            if self.races:
                self.races -= 1
                await rig.executor.drive(key)
            return await super().save(write)

    raced = Raced()
    raced._tables = rig.store._tables  # type: ignore[attr-defined]
    rig.desk.then(parked(SECOND))
    async with raced:
        row = await Operator(raced, clock=rig.clock).pause(key)

    assert (row.status, row.version) == (Status.PAUSED, 4)
    assert await rig.story(key) == ["start", "park", "park", "park", "pause"]


async def test_an_action_that_never_stands_still_is_told(rig: Rig) -> None:
    key = await rig.start("a")

    class Lost(MemoryStore):
        async def save(self, write: Write) -> Saved:
            raise VersionConflictError(*key, write.expected_version)

    lost = Lost()
    lost._tables = rig.store._tables  # type: ignore[attr-defined]
    async with lost:
        with pytest.raises(UsageError, match="moving too fast"):
            await Operator(lost).pause(key)


async def test_an_operator_needs_no_code_of_the_kinds(rig: Rig) -> None:
    template = await rig.row(await rig.start("a"))
    foreign: Checkpoint = replace(template, kind="foreign", id="b", schema_version=99, state="not even JSON")
    await rig.insert(foreign)
    operator = Operator(rig.store)

    await operator.pause(foreign.key)
    await operator.resume(foreign.key)
    await operator.retry(foreign.key)
    assert (await operator.show(foreign.key)).state == "not even JSON"
    await operator.stop(foreign.key)

    assert await rig.status(foreign.key) is Status.CANCELLED


async def test_a_driver_asleep_hears_of_a_pause(rig: Rig) -> None:
    key = await rig.start("a")
    rig.desk.then(parked(HOUR))
    sleeper = asyncio.create_task(rig.executor.drive(key, DriveMode.UNTIL_DONE))
    await settle()

    await rig.operator.pause(key)

    assert (await sleeper).outcome is Outcome.PAUSED
