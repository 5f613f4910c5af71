"""The row that a decision leads to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.actions import SECOND, SECRET, Job, Receipt, Sent, job
from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord, Status
from wallet_actions.errors import InvariantError, TransientError
from wallet_actions.events import EventKind
from wallet_actions.registry import Kind
from wallet_actions.step import Decision, Refused, Stuck
from wallet_actions.successor import LONGEST_PARK, SHORTEST_PARK, answered_cancel, successor
from wallet_actions.transition import Done, Failed, Next, Park

BEFORE = datetime(2030, 1, 1, tzinfo=UTC)
NOW = BEFORE + timedelta(minutes=1)
KIND = Kind(Job)
WORN = Checkpoint(
    "job",
    "a",
    7,
    1,
    KIND.encode(job()),
    "open",
    Status.PARKED,
    BEFORE,
    BEFORE,
    wake_at=BEFORE,
    attempts=3,
    faults=2,
    error=ErrorRecord("TransientError", "busy"),
)


def following(answer: Any, checkpoint: Checkpoint = WORN, **flags: bool) -> tuple[Checkpoint, EventKind]:
    return successor(KIND, checkpoint, Decision(answer, **flags), NOW)


def test_every_write_takes_the_next_version() -> None:
    for answer in (Next(job()), Park(job()), Done(Receipt(amount=1)), Failed("no"), Stuck(KeyError()), Refused()):
        after, _ = following(answer)
        assert (after.version, after.updated_at, after.created_at) == (8, NOW, BEFORE)


def test_going_on_forgets_the_failures() -> None:
    after, event = following(Next(job().at(Sent())))

    assert (after.status, after.phase, event) == (Status.RUNNING, "sent", EventKind.STEPPED)
    assert (after.attempts, after.faults, after.error, after.wake_at) == (0, 0, None, None)
    assert after.state == KIND.encode(job().at(Sent()))


def test_waiting_forgets_the_failures() -> None:
    after, event = following(Park(job(), wake_after=5 * SECOND))

    assert (after.status, after.wake_at, event) == (Status.PARKED, NOW + 5 * SECOND, EventKind.PARKED)
    assert (after.attempts, after.faults, after.error) == (0, 0, None)


def test_a_failure_is_counted_and_kept() -> None:
    """L-S10."""
    after, event = following(Park(job(), wake_after=SECOND, error=TransientError("busy again")), is_failure=True)

    assert event is EventKind.RETRIED
    assert (after.attempts, after.faults) == (4, 0)
    assert after.error == ErrorRecord("TransientError", "busy again")


def test_faults_are_counted_in_a_row() -> None:
    after, _ = following(Park(job(), error=KeyError("x")), is_failure=True, is_fault=True)

    assert (after.attempts, after.faults) == (4, 3)


def test_a_park_without_a_time_has_none() -> None:
    assert following(Park(job()))[0].wake_at is None


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (timedelta(0), SHORTEST_PARK),
        (-SECOND, SHORTEST_PARK),
        (timedelta.min, SHORTEST_PARK),
        (timedelta.max, LONGEST_PARK),
        (timedelta(days=365), timedelta(days=365)),
    ],
)
def test_a_park_is_never_hot_and_never_beyond_the_calendar(wanted: timedelta, kept: timedelta) -> None:
    """L-D8."""
    assert following(Park(job(), wake_after=wanted))[0].wake_at == NOW + kept


def test_the_end_carries_result_or_reason() -> None:
    succeeded, event = following(Done(Receipt(amount=3)))
    assert (succeeded.status, event, succeeded.result) == (Status.DONE, EventKind.DONE, '{"amount":3,"token":""}')
    assert (succeeded.error, succeeded.wake_at) == (None, None)

    gave_up, event = following(Failed("given up"))
    assert (gave_up.status, event, gave_up.result) == (Status.FAILED, EventKind.FAILED, None)
    assert gave_up.error == ErrorRecord("Failed", "given up")


def test_stuck_keeps_the_state_and_says_why() -> None:
    after, event = following(Stuck(InvariantError("job a: oops")), is_failure=True)

    assert (after.status, event, after.state, after.wake_at) == (Status.STUCK, EventKind.STUCK, WORN.state, None)
    assert after.error == ErrorRecord("InvariantError", "job a: oops")


def test_no_foreign_text_is_kept() -> None:
    for answer in (Park(job(), error=ValueError(SECRET)), Failed(ValueError(SECRET)), Stuck(ValueError(SECRET))):
        assert SECRET not in repr(following(answer)[0])


def test_a_state_that_stays_as_it_is_keeps_its_schema_version() -> None:
    """L-U1: a row of older code that gets stuck or ends under newer code is still of the older shape."""

    class Later(Job, schema_version=2):
        upgrades = {1: lambda fields: fields}  # noqa: RUF012

    later = Kind(Later)
    action = later.decode(WORN)
    ends: list[Any] = [Stuck(KeyError()), Failed("no"), Done(Receipt(amount=1)), Refused()]
    for answer in ends:
        after, _ = successor(later, WORN, Decision(answer), NOW)
        assert (after.schema_version, after.state) == (1, WORN.state)
    goings_on: list[Any] = [Next(action), Park(action)]
    for answer in goings_on:
        assert successor(later, WORN, Decision(answer), NOW)[0].schema_version == 2


# Cancelling

ASKED = replace(WORN, cancel=CancelState.REQUESTED)
ACCEPTED = replace(WORN, cancel=CancelState.ACCEPTED)


def test_refusing_changes_nothing_else() -> None:
    after, event = following(Refused(), ASKED)

    assert event is EventKind.CANCEL_REFUSED
    assert replace(after, version=7, updated_at=BEFORE) == ASKED
    assert answered_cancel(ASKED, Decision(Refused())) is CancelState.NONE


def test_an_end_that_on_cancel_led_to_is_a_cancellation() -> None:
    assert following(Failed("no"), ASKED, is_cancel_answer=True)[0].status is Status.CANCELLED
    assert following(Failed("no"), ACCEPTED) == (
        replace(following(Failed("no"), WORN)[0], status=Status.CANCELLED, cancel=CancelState.ACCEPTED),
        EventKind.CANCELLED,
    )
    assert following(Done(Receipt(amount=1)), ACCEPTED)[0].status is Status.DONE


def test_an_end_that_only_came_after_the_request_is_a_failure() -> None:
    """`on_cancel` raised, and `on_retry` gave up."""
    assert following(Failed("no"), ASKED, is_failure=True)[0].status is Status.FAILED


def test_a_request_is_answered_only_by_on_cancel() -> None:
    """L-D11: on_cancel could not reach the peer; it is asked again."""
    for decision in (
        Decision(Park(job(), error=TransientError("busy")), is_failure=True),
        Decision(Next(job().at(Sent()))),
        Decision(Stuck(KeyError()), is_failure=True),
    ):
        assert answered_cancel(ASKED, decision) is None
    for answer in (Next(job().at(Sent())), Park(job()), Failed("no")):
        assert answered_cancel(ASKED, Decision(answer, is_cancel_answer=True)) is CancelState.ACCEPTED


def test_without_a_request_there_is_nothing_to_answer() -> None:
    assert answered_cancel(WORN, Decision(Next(job()))) is None
    assert answered_cancel(ACCEPTED, Decision(Next(job()))) is None
