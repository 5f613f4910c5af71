"""Cancelling, pausing, stopping and quarantining while an action is driven."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from tests.actions import (
    SECOND,
    Chore,
    Job,
    Open,
    Rig,
    coin,
    doing,
    done,
    failed,
    finished,
    idle,
    key_of,
    parked,
    raising,
    sent,
    settle,
)
from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.coins import CoinState
from wallet_actions.errors import (
    CheckpointDecodeError,
    NotFinishedError,
    RejectedError,
    TransientError,
)
from wallet_actions.events import EventKind
from wallet_actions.outcome import DriveMode, Outcome
from wallet_actions.transition import Changes
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

DONE = DriveMode.UNTIL_DONE


# Cancelling


async def test_a_refused_request_is_noted_and_the_action_goes_on(rig: Rig) -> None:
    """L-D11."""
    key = await rig.start("a")
    assert await rig.operator.request_cancel(key)
    assert (await rig.row(key)).cancel is CancelState.REQUESTED

    assert (await rig.executor.drive(key)).outcome is Outcome.DONE
    assert await rig.story(key) == ["start", "cancel_refused", "done"]
    assert (await rig.row(key)).cancel is CancelState.NONE


async def test_an_accepted_request_ends_as_cancelled_and_frees_the_coins(rig: Rig) -> None:
    await rig.fund(coin("c"))
    key = await rig.start("a", Changes(reserve=["c"]))
    rig.desk.then(idle, on_cancel=[failed])
    await rig.executor.drive(key)
    await rig.operator.request_cancel(key)

    async with rig.other() as after_restart:
        result = await after_restart.executor.drive(key)

    assert (result.outcome, result.status) == (Outcome.FAILED, Status.CANCELLED)
    assert (await rig.coin("c")).state is CoinState.SPENDABLE
    assert await rig.story(key) == ["start", "park", "cancel"]


async def test_a_roll_back_is_a_checkpointed_state_of_its_own(rig: Rig) -> None:
    """L-D10: on_cancel moves to a phase, a crash comes, and the end is still a cancellation."""
    key = await rig.start("a")
    rig.desk.then(raising(TransientError("busy")), on_cancel=[sent])
    await rig.operator.request_cancel(key)
    assert (await rig.executor.drive(key)).outcome is Outcome.PARKED
    assert (await rig.row(key)).cancel is CancelState.ACCEPTED

    async with rig.other(failed) as after_restart:
        result = await after_restart.executor.drive(key)

    assert (result.status, rig.desk.count("on_cancel")) == (Status.CANCELLED, 1)


async def test_a_request_during_a_step_is_answered_next(rig: Rig) -> None:
    key = key_of("a")

    async def cancel() -> None:
        await rig.operator.request_cancel(key)

    for name, answer in (("a", sent), ("b", parked(timedelta(hours=1))), ("c", raising(TransientError("busy")))):
        key = await rig.start(name)
        rig.desk.then(doing(cancel, answer), on_cancel=[failed])
        assert (await rig.executor.drive(key)).status is Status.CANCELLED


async def test_a_request_that_comes_too_late_changes_nothing(rig: Rig) -> None:
    """L-S9."""
    key = key_of("a")

    async def cancel() -> None:
        assert await rig.operator.request_cancel(key)

    rig.desk.then(doing(cancel, done), on_cancel=[failed])
    await rig.start("a")

    assert (await rig.executor.drive(key)).status is Status.DONE
    assert not await rig.operator.request_cancel(key)
    assert await rig.status(key) is Status.DONE


async def test_a_request_wakes_who_sleeps(rig: Rig) -> None:
    rig.desk.then(parked(timedelta(hours=1)), on_cancel=[failed])
    key = await rig.start("a")
    sleeper = asyncio.create_task(rig.executor.drive(key, DONE))
    await settle()

    await rig.operator.request_cancel(key)

    assert (await sleeper).status is Status.CANCELLED


async def test_an_answer_that_fails_is_asked_for_again_on_the_back_off(rig: Rig) -> None:
    """L-D8: not hot; and advance does not run meanwhile."""
    key = await rig.start("a")
    rig.desk.then(done, on_cancel=[raising(TransientError("busy"))])
    await rig.operator.request_cancel(key)

    for attempt in (1, 2, 3):
        result = await rig.executor.drive(key)
        assert (result.outcome, result.wake_at) == (Outcome.PARKED, rig.clock.now() + attempt**2 * SECOND)
        assert rig.desk.calls == ["on_cancel"] * attempt
    rig.desk.then(done, on_cancel=[failed])
    assert (await rig.executor.drive(key)).status is Status.CANCELLED


async def test_on_retry_does_not_answer_for_on_cancel(rig: Rig) -> None:
    key = await rig.start("a")
    rig.desk.then(done, on_cancel=[raising(TransientError("busy")), failed], on_retry=[sent])
    await rig.operator.request_cancel(key)

    assert (await rig.executor.drive(key)).status is Status.PARKED
    assert (await rig.executor.drive(key)).status is Status.CANCELLED
    assert rig.desk.calls == ["on_cancel", "on_retry", "on_cancel"]


async def test_a_peer_that_will_not_call_it_back_does_not_free_the_coins(rig: Rig) -> None:
    """G5, L-C5: the payment is on its way."""
    await rig.fund(coin("c"))
    key = await rig.start("a", Changes(reserve=["c"]))
    rig.desk.then(idle, on_cancel=[raising(RejectedError("it is on its way"))])
    await rig.operator.request_cancel(key)

    assert (await rig.executor.drive(key)).outcome is Outcome.PARKED
    assert (await rig.coin("c")).holder == key
    assert await rig.story(key) == ["start", "cancel_refused", "park"]


# Pausing


async def test_a_paused_action_is_not_driven(rig: Rig) -> None:
    key = await rig.start("a")
    await rig.operator.pause(key)

    assert (await rig.executor.drive(key)).outcome is Outcome.PAUSED
    await rig.operator.resume(key)
    assert (await rig.executor.drive(key)).outcome is Outcome.DONE


async def test_pausing_while_it_is_driven_stops_the_driver(rig: Rig) -> None:
    """G2: the write that pauses takes the version away."""
    key = key_of("a")

    async def pause() -> None:
        await rig.operator.pause(key)

    rig.desk.then(doing(pause, done))
    await rig.start("a")

    assert (await rig.executor.drive(key)).outcome is Outcome.SUPERSEDED
    assert await rig.status(key) is Status.PAUSED


async def test_a_paused_kind_is_not_driven_and_the_others_are(rig: Rig) -> None:
    key = await rig.start("a")
    other = (await rig.executor.start(Chore(name="a", phase=Open()))).key
    await rig.operator.pause_kind("job")

    assert (await rig.executor.drive(key)).outcome is Outcome.PAUSED
    assert (await rig.executor.drive(other)).outcome is Outcome.DONE
    assert await rig.executor.is_kind_paused("job")


async def test_what_another_process_pauses_and_resumes_is_seen_within_a_second(rig: Rig) -> None:
    key = await rig.start("a")
    rig.desk.then(idle)
    assert (await rig.executor.drive(key)).outcome is Outcome.PARKED
    for pause, outcome in (
        (rig.operator.pause_kind, Outcome.PAUSED),
        (rig.operator.resume_kind, Outcome.PARKED),
    ):
        await pause("job")
        await rig.clock.advance(SECOND)
        assert (await rig.executor.drive(key)).outcome is outcome


async def test_pausing_a_kind_stops_between_two_steps(rig: Rig) -> None:
    async def pause() -> None:
        await rig.operator.pause_kind("job")
        rig.executor.forget_pauses()

    rig.desk.then(doing(pause, sent), done)
    key = await rig.start("a")

    result = await rig.executor.drive(key)

    assert (result.outcome, result.status) == (Outcome.PAUSED, Status.RUNNING)
    assert (await rig.row(key)).phase == "sent"


# Stopping


async def test_stopping_fences_the_driver_and_frees_the_coins(rig: Rig) -> None:
    key = key_of("a")

    async def stop() -> None:
        await rig.operator.stop(key)

    await rig.fund(coin("c"))
    await rig.start("a", Changes(reserve=["c"]))
    rig.desk.then(doing(stop, finished(spend=["c"])))

    assert (await rig.executor.drive(key)).outcome is Outcome.SUPERSEDED
    assert (await rig.coin("c")).state is CoinState.SPENDABLE
    result = await rig.executor.drive(key)
    assert (result.outcome, result.status, result.action) == (Outcome.FAILED, Status.CANCELLED, None)


# Quarantine


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "lost"},
        {"schema_version": 9},
        {"state": "{"},
        {"state": None},
        {"id": "b"},
    ],
)
async def test_what_cannot_be_understood_is_kept_and_shown(rig: Rig, changed: dict[str, Any]) -> None:
    """G9, L-D12, L-U2."""
    await rig.fund(coin("c"))
    template = await rig.row(await rig.start("template"))
    row: Checkpoint = replace(template, **{"id": "a", **changed})
    if "state" not in changed and "id" not in changed:
        row = replace(row, state=cast("str", template.state).replace("template", "a"))
    await rig.insert(row)
    rig.events.clear()

    for _ in range(2):
        result = await rig.executor.drive(row.key)
        assert (result.outcome, result.status) == (Outcome.QUARANTINED, Status.QUARANTINED)
        assert isinstance(result.error, CheckpointDecodeError)

    kept = await rig.row(row.key)
    assert (kept.state, kept.schema_version, kept.version) == (row.state, row.schema_version, 1)
    assert await rig.story(row.key) == ["start", "quarantine"]
    assert [event.kind for event in rig.events] == [EventKind.QUARANTINED]
    with pytest.raises(NotFinishedError, match="quarantined"):
        await rig.executor.result(type("Any", (Job,), {"kind": row.kind}), row.id)


async def test_a_quarantined_action_that_can_be_read_again_goes_on(rig: Rig) -> None:
    key = await rig.start("a")
    async with rig.other(kinds=[Chore]) as old_code:
        assert (await old_code.executor.drive(key)).outcome is Outcome.QUARANTINED

    assert (await rig.executor.drive(key)).outcome is Outcome.DONE


async def test_who_loses_the_race_to_quarantine_leaves_it(rig: Rig) -> None:
    key = await rig.start("a")
    async with rig.other(kinds=[Chore]) as old_code:

        class Overtaken(MemoryStore):
            async def load(self, key: Any) -> Checkpoint | None:
                found = await super().load(key)
                await rig.executor.drive(key)
                return found

        overtaken = Overtaken()
        overtaken._tables = rig.store._tables  # type: ignore[attr-defined]
        async with overtaken:
            old_code.executor.store = overtaken
            assert (await old_code.executor.drive(key)).outcome is Outcome.SUPERSEDED

    assert await rig.status(key) is Status.DONE
