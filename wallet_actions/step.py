"""One step of an action: ask it what is next, and make something of whatever it raises.

Nothing is written here. The table of what an error means (L-D6, L-D7, L-D12):

    raised                     then
    RejectedError              on_rejection decides; only the action's author may call a refusal a proof
    RejectedError in on_cancel the peer will not call it back: the request is refused, the action goes on
    TransientError             attempts + 1, on_retry decides; if that raises in its turn, the rows below and the
                               back-off do
    ReservationError           the same: a coin was taken between looking and writing
    ConfigurationError         parked long, the operator is told
    InvariantError             stuck
    StoreUnavailableError      the same: some store failed inside the step; if it is ours, the write fails too, and the
                               driver comes back
    what `classify` calls      treated as such, but never as a rejection: a status code alone proves nothing
      transient or configuration
    anything else              a fault: retried on the back-off within the fault budget, then stuck
    CancelledError             goes through; nothing is written, and the step runs again. Where nobody cancelled the
                               task, a call was cut off beneath it: transient
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import Any, TypeVar

from wallet_actions.action import Action, field_names
from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord
from wallet_actions.classification import classify
from wallet_actions.clock import Clock
from wallet_actions.codec import is_same
from wallet_actions.drafts import maker
from wallet_actions.errors import (
    ConfigurationError,
    InvariantError,
    RejectedError,
    ReservationError,
    StoreUnavailableError,
    TransientError,
    WalletActionError,
)
from wallet_actions.retry import RetryPolicy
from wallet_actions.transition import NO_CHANGES, Changes, Done, Failed, Failure, Next, Park

MAX_MESSAGE_LENGTH = 500
ANSWERS = (Next, Park, Done, Failed)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stuck:
    """The step cannot go on; coins stay held until a person or the next start-up takes it up."""

    error: Exception = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The action refused to be cancelled."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be written after a step.

    Attributes:
        answer: the transition, or what stands for it.
        is_failure: whether the attempt counts as failed.
        is_fault: whether nobody had classified the error.
        needs_operator: whether only a person can mend it.
        is_cancel_answer: whether it is what `on_cancel` answered.
    """

    answer: Next[Any] | Park[Any] | Done[Any] | Failed | Stuck | Refused
    is_failure: bool = False
    is_fault: bool = False
    needs_operator: bool = False
    is_cancel_answer: bool = False


decision_of = maker(Decision)


async def decide(
    action: Action[Any, Any, Any], wallet: Any, checkpoint: Checkpoint, policy: RetryPolicy, clock: Clock
) -> Decision:
    """Run one step of an action, in the state of its checkpoint."""
    try:
        if checkpoint.cancel is CancelState.REQUESTED:
            return await _asked_to_cancel(action, wallet)
        try:
            answer = await action.advance(wallet)
        except asyncio.CancelledError:
            if _is_ours():
                raise
            raise _cut_off() from None
        if type(answer) is Next and answer.changes is NO_CHANGES and type(answer.action) is type(action):
            # What is most frequent, and needs the fewest checks.
            following = answer.action
            check_successor(action, following)
            if not is_same(following.phase, action.phase):
                return decision_of(answer, False, False, False, False)
        return _checked(answer, action)
    except RejectedError as error:
        rejection = error
    except Exception as error:  # noqa: BLE001 whatever an author's code raises is isolated here (L-D12)
        return await after_error(error, action, wallet, checkpoint, policy, clock.now())
    try:
        return _checked(await _uncut(action.on_rejection(wallet, rejection)), action)
    except Exception as error:  # noqa: BLE001 as above
        return await after_error(error, action, wallet, checkpoint, policy, clock.now())


async def after_error(
    error: Exception,
    action: Action[Any, Any, Any],
    wallet: Any,
    checkpoint: Checkpoint,
    policy: RetryPolicy,
    now: datetime,
) -> Decision:
    """What is to be written after a step, or the store's check of what it wanted written, raised."""
    try:
        known = _known(error, now)
        if not isinstance(known, TransientError | ReservationError | StoreUnavailableError):
            return _unasked(error, action, checkpoint, policy, now)
        failure = Failure(known, checkpoint.attempts + 1, _delay(known, checkpoint, policy))
        try:
            answer = _checked(await _uncut(action.on_retry(wallet, failure)), action).answer
        except Exception as second:  # noqa: BLE001 as in decide
            return _unasked(second, action, checkpoint, policy, now)
        if isinstance(answer, Next):
            # It goes on from there, but not at once: two phases that fail in turn would make a hot loop (G8).
            wait = min(failure.delay, policy.delay(failure.attempts))
            answer = Park(answer.action, wake_after=wait, error=known, changes=answer.changes)
        elif isinstance(answer, Park) and answer.error is None:
            answer = replace(answer, error=known)  # what caused it is told in any case (L-D3)
        return Decision(answer, is_failure=not isinstance(answer, Done))
    except Exception as unexpected:  # noqa: BLE001 a wait strategy is other people's code too
        return Decision(Stuck(unexpected), is_failure=True, is_fault=True)


async def _asked_to_cancel(action: Action[Any, Any, Any], wallet: Any) -> Decision:
    try:
        answer = await _uncut(action.on_cancel(wallet))
    except RejectedError:
        # The peer will not call it back: that is no proof that it has failed, rather the contrary (L-C5).
        answer = None
    if answer is None:
        return Decision(Refused())
    return replace(_checked(answer, action), is_cancel_answer=True)


async def _uncut(call: Awaitable[T]) -> T:
    """Wait for an author's code; a cancellation that was not meant for this task is a lost answer like any other.

    A client whose connection is closed beneath a call cancels whoever waits for it. Taken for our own cancellation, it
    would take down what drives all the other actions (L-D12).
    """
    try:
        return await call
    except asyncio.CancelledError:
        if _is_ours():
            raise
        raise _cut_off() from None


def _is_ours() -> bool:
    """Whether a cancellation was meant for this task."""
    task = asyncio.current_task()
    return task is None or bool(task.cancelling())


def _cut_off() -> TransientError:
    return TransientError("a call was cut off before its answer came")


def _unasked(
    error: Exception, action: Action[Any, Any, Any], checkpoint: Checkpoint, policy: RetryPolicy, now: datetime
) -> Decision:
    """What an error leads to where the action's author has no say, or had it."""
    known = _known(error, now)
    match known:
        case InvariantError():
            return Decision(Stuck(known), is_failure=True)
        case ConfigurationError():
            return Decision(
                Park(action, wake_after=policy.configuration_wait, error=known), is_failure=True, needs_operator=True
            )
        case TransientError() | ReservationError() | StoreUnavailableError():
            return Decision(Park(action, wake_after=_delay(known, checkpoint, policy), error=known), is_failure=True)
    if checkpoint.faults >= policy.fault_budget:
        return Decision(Stuck(error), is_failure=True, is_fault=True)
    wait = policy.delay(checkpoint.attempts + 1)
    return Decision(Park(action, wake_after=wait, error=error), is_failure=True, is_fault=True)


def _known(error: Exception, now: datetime) -> Exception | None:
    return error if isinstance(error, WalletActionError) else classify(error, now=now)


def _delay(error: WalletActionError, checkpoint: Checkpoint, policy: RetryPolicy) -> timedelta:
    retry_after = error.retry_after if isinstance(error, TransientError) else None
    return policy.delay(checkpoint.attempts + 1, retry_after)


def _checked(answer: object, action: Action[Any, Any, Any]) -> Decision:
    if isinstance(answer, ANSWERS) and not isinstance(answer.changes, Changes):
        raise broken(action, f"changes are a Changes, not {type(answer.changes).__name__}")
    match answer:
        case Next(action=following):
            check_successor(action, following)
            if following.phase == action.phase and not _writes_something(answer):
                raise broken(action, "a step that goes on changes something; park to wait")
            return Decision(answer)
        case Park(action=following, wake_after=wake_after, error=error):
            check_successor(action, following)
            if not isinstance(wake_after, timedelta | None) or not isinstance(error, Exception | None):
                raise broken(action, "a park has a timedelta and an exception, or None")
            return Decision(answer, is_failure=error is not None)
        case Failed(error=error):
            if not isinstance(error, Exception | str):
                raise broken(action, f"a failure has an exception or a sentence, not {type(error).__name__}")
            return Decision(answer)
        case Done():
            return Decision(answer)
        case _:
            raise broken(action, f"a step answers Next, Park, Done or Failed, not {type(answer).__name__}")


def _writes_something(answer: Next[Any]) -> bool:
    changes = answer.changes
    return any((changes.add, changes.release, changes.reserve, changes.spend, changes.counters, changes.facts)) or bool(
        changes.statements or changes.start
    )


def check_successor(action: Action[Any, Any, Any], following: object) -> None:
    """Check that what a step leads to is the same action, in whatever phase.

    Raises:
        InvariantError: another class or id, or parameters that changed.
    """
    if following is action:
        return
    if type(following) is not type(action):
        raise broken(action, f"a step leads to the same action, not to {type(following).__name__}")
    if following.id != action.id:
        raise broken(action, "an action keeps its id")
    old, new = action.__dict__, following.__dict__
    for name in field_names(type(action)):
        # Most often it is the very same object.
        if new[name] is not old[name] and name != "phase" and new[name] != old[name]:
            raise broken(action, "an action's parameters never change; move by at(phase)")


def broken(action: Action[Any, Any, Any], rule: str) -> InvariantError:
    """The error of an action that broke a rule: it names both."""
    return InvariantError(f"{action.kind} {action.id}: {rule}", rule=rule)


def record(error: Exception | str) -> ErrorRecord:
    """An error as it is kept: in full where its author knew that it would be read, else only what and where.

    A foreign exception's text may quote a secret (a validation error shows its input), so it is not kept.
    """
    if isinstance(error, str):
        return ErrorRecord("Failed", error[:MAX_MESSAGE_LENGTH])
    name = type(error).__name__
    if isinstance(error, WalletActionError):
        return ErrorRecord(name, str(error)[:MAX_MESSAGE_LENGTH])
    place = ""
    traceback = error.__traceback__
    while traceback is not None:
        place = f" at {PurePath(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return ErrorRecord(name, f"an unexpected {name}{place}")
