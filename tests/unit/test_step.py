"""One step: what an action answers or raises, and what is to be written then (L-D6, L-D7, L-D12)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any, Self, cast

import httpx
import pytest
from pydantic import SecretStr
from tenacity.wait import wait_base

from tests.actions import (
    SECOND,
    SECRET,
    Chore,
    Desk,
    Job,
    Open,
    Receipt,
    Sent,
    coin,
    done,
    failed,
    idle,
    job,
    parked,
    raising,
    refused,
    sent,
)
from wallet_actions.action import Action
from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.errors import (
    ConfigurationError,
    InvariantError,
    RejectedError,
    ReservationError,
    StoreUnavailableError,
    TransientError,
    VersionConflictError,
)
from wallet_actions.retry import RetryPolicy
from wallet_actions.step import MAX_MESSAGE_LENGTH, Decision, Refused, Stuck, after_error, decide, record
from wallet_actions.testing.clock import FakeClock
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Transition

pytestmark = pytest.mark.anyio

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CLOCK = FakeClock(NOW)
POLICY = RetryPolicy()


def row(**fields: Any) -> Checkpoint:
    return replace(Checkpoint("job", "a", 3, 1, "{}", "open", Status.RUNNING, NOW, NOW), **fields)


CANCELLING = row(cancel=CancelState.REQUESTED)


async def decision_of(desk: Desk, checkpoint: Checkpoint | None = None, action: Any = None) -> Decision:
    return await decide(action or job(), desk, checkpoint or row(), POLICY, CLOCK)


def park_of(decision: Decision) -> Park[Any]:
    assert isinstance(decision.answer, Park)
    return decision.answer


def stuck_on(decision: Decision) -> Exception:
    assert isinstance(decision.answer, Stuck)
    return decision.answer.error


async def test_the_answer_of_a_step_is_taken_over() -> None:
    action = job()
    answers: list[Any] = [
        Next(action.at(Sent())),
        Next(action, Changes(add=[coin("c")])),
        Park(action),
        Park(action.at(Sent()), wake_after=SECOND),
        Done(Receipt(amount=1)),
        Failed("no"),
    ]
    for answer in answers:
        decision = await decision_of(Desk(partial(lambda answer, job: answer, answer)), action=action)
        assert decision == Decision(answer)


async def test_parking_with_a_cause_counts_as_a_failure() -> None:
    cause = TransientError("later")

    assert (await decision_of(Desk(lambda job: Park(job, error=cause)))).is_failure


# Errors


async def test_a_rejection_is_for_the_author_to_judge() -> None:
    """L-D7."""
    error = RejectedError("no such invoice")
    desk = Desk(raising(error))

    assert await decision_of(desk) == Decision(Failed(error))

    desk = Desk(raising(error), on_rejection=[sent])
    assert (await decision_of(desk)).answer == Next(job().at(Sent()))
    assert desk.calls == ["advance", "on_rejection"]


async def test_a_transient_failure_parks_for_the_back_off() -> None:
    error = TransientError("busy")
    desk = Desk(raising(error))

    decision = await decision_of(desk, row(attempts=2, faults=1))

    assert park_of(decision) == Park(job(), wake_after=9 * SECOND, error=error)
    assert (decision.is_failure, decision.is_fault) == (True, False)
    assert (desk.failures[0].attempts, desk.failures[0].delay, desk.failures[0].error) == (3, 9 * SECOND, error)


@pytest.mark.parametrize(
    ("wanted", "delay"),
    [(timedelta(seconds=7), timedelta(seconds=7)), (timedelta(days=9), timedelta(hours=1)), (-SECOND, 36 * SECOND)],
)
async def test_the_delay_that_the_peer_wants_wins_within_the_cap(wanted: timedelta, delay: timedelta) -> None:
    """L-P5."""
    desk = Desk(raising(TransientError("busy", retry_after=wanted)))

    assert park_of(await decision_of(desk, row(attempts=5))).wake_after == delay


async def test_the_author_may_answer_a_transient_failure_otherwise() -> None:
    """L-D7: a refusal that the peer will repeat for ever may end it."""
    error = TransientError("busy")

    gave_up = await decision_of(Desk(raising(error), on_retry=[failed]))
    went_on = await decision_of(Desk(raising(error), on_retry=[sent]))

    assert (gave_up.answer, gave_up.is_failure) == (Failed("given up"), True)
    # Never at once: between two phases that fail in turn that would be a hot loop (G8).
    assert park_of(went_on) == Park(job().at(Sent()), wake_after=SECOND, error=error)
    assert went_on.is_failure


async def test_an_author_who_parks_after_a_failure_without_its_cause_keeps_it_all_the_same() -> None:
    """L-D3, L-S10."""
    error = TransientError("busy")

    decision = await decision_of(Desk(raising(error), on_retry=[parked(3 * SECOND)]))

    assert park_of(decision) == Park(job(), wake_after=3 * SECOND, error=error)
    assert decision.is_failure


async def test_a_lost_coin_counts_as_a_transient_failure() -> None:
    error = ReservationError(["c"])

    decision = await after_error(error, job(), Desk(done), row(), POLICY, NOW)

    assert park_of(decision).error is error
    assert (decision.is_failure, decision.is_fault) == (True, False)


async def test_a_matter_of_configuration_parks_long_and_calls_the_operator() -> None:
    error = ConfigurationError("the key was revoked")
    desk = Desk(raising(error))

    decision = await decision_of(desk)

    assert park_of(decision) == Park(job(), wake_after=timedelta(hours=1), error=error)
    assert (decision.is_failure, decision.needs_operator) == (True, True)
    assert desk.calls == ["advance"]


async def test_a_bug_that_knows_itself_is_stuck_at_once() -> None:
    error = InvariantError("job a: the change does not add up", rule="sums")

    decision = await decision_of(Desk(raising(error)))

    assert decision == Decision(Stuck(error), is_failure=True)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        ZeroDivisionError(),
        RecursionError(),
        AssertionError(),
        ExceptionGroup("two", [KeyError("x"), ValueError("y")]),
        VersionConflictError("job", "b", 1),
        StopAsyncIteration(),
    ],
)
async def test_what_nobody_classified_is_retried_and_then_stuck(error: Exception) -> None:
    """L-D6: it is not "the peer said no"."""
    for faults in range(POLICY.fault_budget):
        decision = await decision_of(Desk(raising(error)), row(faults=faults, attempts=faults))
        assert park_of(decision).error is not None
        assert park_of(decision).wake_after == POLICY.delay(faults + 1)
        assert (decision.is_failure, decision.is_fault) == (True, True)

    assert isinstance((await decision_of(Desk(raising(error)), row(faults=POLICY.fault_budget))).answer, Stuck)


async def test_what_the_transport_raises_is_classified_but_never_a_rejection() -> None:
    """L-P4, L-D6: a status code alone proves nothing."""
    request = httpx.Request("POST", "http://mint/v1")
    lost = httpx.ReadTimeout("no answer", request=request)
    refusal = httpx.HTTPStatusError("400", request=request, response=httpx.Response(400, request=request))

    transient = await decision_of(Desk(raising(lost)))
    fault = await decision_of(Desk(raising(refusal)))

    assert isinstance(park_of(transient).error, TransientError)
    assert not transient.is_fault
    assert fault.is_fault
    assert isinstance(fault.answer, Park)


async def test_a_store_that_fails_inside_a_step_counts_as_a_transient_failure() -> None:
    """G8, L-S10: it may be a store of the app's own; the attempts are durable, and it is seen."""
    error = StoreUnavailableError("busy")
    for desk in (
        Desk(raising(error)),
        Desk(raising(RejectedError("no")), on_rejection=[raising(error)]),
        Desk(raising(TransientError("busy")), on_retry=[raising(error)]),
    ):
        decision = await decision_of(desk)
        assert park_of(decision) == Park(job(), wake_after=SECOND, error=error)
        assert (decision.is_failure, decision.is_fault) == (True, False)
    assert park_of(await decision_of(Desk(done, on_cancel=[raising(error)]), CANCELLING)).error is error


async def test_what_on_rejection_raises_is_treated_like_what_advance_raises() -> None:
    rejection = raising(RejectedError("no"))

    transient = await decision_of(Desk(rejection, on_rejection=[raising(TransientError("busy"))]))
    again = await decision_of(Desk(rejection, on_rejection=[rejection]))
    fault = await decision_of(Desk(rejection, on_rejection=[raising(KeyError())]))
    bug = await decision_of(Desk(rejection, on_rejection=[raising(InvariantError("oops"))]))

    assert park_of(transient).wake_after == SECOND
    assert not transient.is_fault
    assert (again.is_fault, isinstance(again.answer, Park)) == (True, True)
    assert fault.is_fault
    assert isinstance(bug.answer, Stuck)


async def test_a_peer_that_is_still_away_when_on_retry_asks_is_no_fault() -> None:
    """An outage, however long, does not use up the fault budget."""
    away = raising(TransientError("busy"))
    desk = Desk(away, on_retry=[away])
    checkpoint = row(attempts=100, faults=POLICY.fault_budget)

    decision = await decision_of(desk, checkpoint)

    assert park_of(decision).wake_after == timedelta(hours=1)
    assert (decision.is_failure, decision.is_fault) == (True, False)
    assert desk.calls == ["advance", "on_retry"]


async def test_what_else_on_retry_raises_is_told_apart() -> None:
    away = raising(TransientError("busy"))

    configuration = await decision_of(Desk(away, on_retry=[raising(ConfigurationError("no key"))]))
    bug = await decision_of(Desk(away, on_retry=[raising(InvariantError("oops"))]))
    fault = await decision_of(Desk(away, on_retry=[raising(KeyError())]))
    refusal = await decision_of(Desk(away, on_retry=[raising(RejectedError("no"))]))

    assert configuration.needs_operator
    assert isinstance(bug.answer, Stuck)
    assert (fault.is_fault, isinstance(fault.answer, Park)) == (True, True)
    assert (refusal.is_fault, isinstance(refusal.answer, Park)) == (True, True)


class BrokenWait(wait_base):
    def __call__(self, retry_state: Any) -> float:
        return cast("float", retry_state.outcome.exception().delay)


@pytest.mark.parametrize("error", [TransientError("busy"), KeyError("x")])
async def test_a_wait_strategy_that_raises_is_stuck_and_raises_nothing(error: Exception) -> None:
    """L-D12."""
    decision = await decide(job(), Desk(raising(error)), row(), RetryPolicy(wait=BrokenWait()), CLOCK)

    assert isinstance(decision.answer, Stuck)
    assert decision.is_fault


# Cancellation of the task


async def test_the_cancellation_of_the_task_goes_through() -> None:
    begun = asyncio.Event()

    async def forever(job: Job) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(decision_of(Desk(forever)))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_nobody_asked_for_is_a_lost_answer() -> None:
    """L-D12: a client library whose connection is closed beneath a call raises CancelledError in whoever waits."""

    async def cut_off(job: Job) -> None:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(inner.cancel)
        await inner

    decision = await decision_of(Desk(cut_off))
    cancelling = await decision_of(Desk(done, on_cancel=[cut_off]), CANCELLING)
    retrying = await decision_of(Desk(raising(TransientError("busy")), on_retry=[cut_off]))
    rejecting = await decision_of(Desk(raising(RejectedError("no")), on_rejection=[cut_off]))

    for told in (decision, cancelling, retrying, rejecting):
        assert isinstance(park_of(told).error, TransientError)
        assert not told.is_fault


# Wrong answers


class Sum(Action[Desk, Open | Sent], kind="sum"):
    parts: tuple[int, ...]

    @property
    def id(self) -> str:
        return "sum"

    @cached_property
    def total(self) -> int:
        return sum(self.parts)

    async def advance(self, wallet: Desk) -> Transition[Self]:
        assert self.total == 3
        return Next(self.at(Sent()))


async def test_what_an_action_works_out_and_keeps_is_no_parameter() -> None:
    action = Sum(parts=(1, 2), phase=Open())

    decision = await decide(action, Desk(done), row(), POLICY, CLOCK)

    assert decision == Decision(Next(action.at(Sent())))


WRONG: dict[str, Callable[[Job], Any]] = {
    "nothing": lambda job: None,
    "the action": lambda job: job,
    "a class": lambda job: Done,
    "a phase": lambda job: Sent(),
    "no action": lambda job: Next(None),
    "another class": lambda job: Next(Chore(name="a", phase=Sent())),
    "another id": lambda job: Next(job.model_copy(update={"name": "b"})),
    "another id to park": lambda job: Park(job.model_copy(update={"name": "b"})),
    "other parameters": lambda job: Next(job.model_copy(update={"amount": 7, "phase": Sent()})),
    "other parameters to park": lambda job: Park(job.model_copy(update={"amount": 7})),
    "nothing new": lambda job: Next(job),
    "nothing new, equal": lambda job: Next(job.at(Open())),
    "only a note": lambda job: Next(job, Changes(notes=["tick"])),
    "a time that is none": lambda job: Park(job, wake_after=5),  # type: ignore[arg-type]
    "a cause that is none": lambda job: Park(job, error="busy"),  # type: ignore[arg-type]
    "a reason that is none": lambda job: Failed(None),  # type: ignore[arg-type]
    "a reason that is a number": lambda job: Failed(404),  # type: ignore[arg-type]
    "changes that are none": lambda job: Next(job, changes=None),  # type: ignore[arg-type]
    "changes that are a list": lambda job: Done(Receipt(amount=1), changes=[coin("c")]),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
async def test_an_answer_that_breaks_a_rule_is_stuck_with_action_and_rule_named(answer: Callable[[Job], Any]) -> None:
    desks = {
        "advance": (Desk(answer), row()),
        "on_rejection": (Desk(raising(RejectedError("no")), on_rejection=[answer]), row()),
        "on_retry": (Desk(raising(TransientError("busy")), on_retry=[answer]), row()),
        "on_cancel": (Desk(done, on_cancel=[answer]), CANCELLING),
    }
    if answer is WRONG["nothing"]:
        del desks["on_cancel"]  # there it means to refuse

    for method, (desk, checkpoint) in desks.items():
        error = stuck_on(await decision_of(desk, checkpoint))
        assert isinstance(error, InvariantError), method
        assert str(error).startswith("job a: ")
        assert error.rule


# Cancelling


async def test_a_request_to_cancel_goes_to_on_cancel_and_by_default_is_refused() -> None:
    desk = Desk(done)

    assert (await decision_of(desk, CANCELLING)).answer == Refused()
    assert desk.calls == []


async def test_what_on_cancel_answers_is_taken_over() -> None:
    for answer in (failed, sent, idle, done):
        decision = await decision_of(Desk(done, on_cancel=[answer]), CANCELLING)
        assert decision == Decision(answer(job()), is_cancel_answer=True)
    assert (await decision_of(Desk(done, on_cancel=[refused]), CANCELLING)).answer == Refused()


async def test_a_peer_that_refuses_to_cancel_refuses_just_that() -> None:
    """L-C5, L-C8: a payment that cannot be called back any more has not failed."""
    desk = Desk(done, on_cancel=[raising(RejectedError("it is on its way"))], on_rejection=[failed])

    decision = await decision_of(desk, CANCELLING)

    assert decision.answer == Refused()
    assert desk.calls == ["on_cancel"]


async def test_a_request_that_was_accepted_is_not_asked_again() -> None:
    desk = Desk(done, on_cancel=[failed])

    assert (await decision_of(desk, row(cancel=CancelState.ACCEPTED))).answer == done(job())


# What is kept of an error


async def test_an_error_of_ours_is_kept_with_its_message() -> None:
    assert record(RejectedError("no such invoice")) == record(RejectedError("no such invoice"))
    kept = record(RejectedError("no such invoice"))
    assert (kept.type, kept.message) == ("RejectedError", "no such invoice")
    assert (record("given up").type, record("given up").message) == ("Failed", "given up")


async def test_a_long_message_is_cut() -> None:
    assert len(record(RejectedError("x" * 10_000)).message) == MAX_MESSAGE_LENGTH
    assert len(record("x" * 10_000).message) == MAX_MESSAGE_LENGTH


async def test_of_a_foreign_error_only_what_and_where_is_kept() -> None:
    try:
        int(SECRET)
    except ValueError as error:
        kept = record(error)

    assert kept.type == "ValueError"
    assert "test_step.py:" in kept.message
    assert SECRET not in kept.message


async def test_no_decision_shows_a_secret() -> None:
    action = job().at(Sent(token=SecretStr(SECRET)))
    for desk in (
        Desk(raising(ValueError(SECRET))),
        Desk(lambda job: Done(Receipt(amount=1, token=SecretStr(SECRET)))),
        Desk(lambda job: SECRET),
    ):
        for faults in (0, POLICY.fault_budget):
            assert SECRET not in repr(await decision_of(desk, row(faults=faults), action))
    assert SECRET not in repr(Stuck(ValueError(SECRET)))
