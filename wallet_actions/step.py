"""One step of an action: ask it what is next, and make something of whatever it raises.

Nothing is written here. The table of what an error means (L-D6, L-D7, L-D12):

    raised                     then
    RejectedError              on_rejection decides; only the action's author may call a refusal a proof
    TransientError             attempts + 1, on_retry decides
    ReservationError           the same: a coin was taken between looking and writing
    ConfigurationError         parked long, the operator is told
    InvariantError             stuck
    StoreUnavailableError      not the action's fault: goes through to the driver
    what `classify` calls      treated as such, but never as a rejection: a status code alone proves nothing
      transient or configuration
    anything else              a fault: retried on the back-off within the fault budget, then stuck
    CancelledError             goes through; nothing is written, and the step runs again
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

from wallet_actions.action import Action
from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord
from wallet_actions.classify import classify
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
from wallet_actions.transition import Done, Failed, Failure, Next, Park

MAX_MESSAGE_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Stuck:
    """The step cannot go on; coins stay held until a person or the next start-up takes it up."""

    error: Exception


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
    """

    answer: Next[Any] | Park[Any] | Done[Any] | Failed | Stuck | Refused
    is_failure: bool = False
    is_fault: bool = False
    needs_operator: bool = False


async def decide(
    action: Action[Any, Any, Any], wallet: Any, checkpoint: Checkpoint, policy: RetryPolicy, now: datetime
) -> Decision:
    """Run one step of an action, in the state of its checkpoint.

    Raises:
        StoreUnavailableError: the store failed inside the step.
    """
    try:
        if checkpoint.cancel is CancelState.REQUESTED:
            answer = await action.on_cancel(wallet)
            if answer is None:
                return Decision(Refused())
        else:
            answer = await action.advance(wallet)
        return _checked(answer, action)
    except RejectedError as error:
        rejection = error
    except Exception as error:  # noqa: BLE001 whatever an author's code raises is isolated here (L-D12)
        return await after_error(error, action, wallet, checkpoint, policy, now)
    try:
        return _checked(await action.on_rejection(wallet, rejection), action)
    except Exception as error:  # noqa: BLE001 as above
        return await after_error(error, action, wallet, checkpoint, policy, now)


async def after_error(
    error: Exception,
    action: Action[Any, Any, Any],
    wallet: Any,
    checkpoint: Checkpoint,
    policy: RetryPolicy,
    now: datetime,
) -> Decision:
    """What is to be written after a step, or the store's check of what it wanted written, raised.

    Raises:
        StoreUnavailableError: the error is the store's own.
    """
    known = error if isinstance(error, WalletActionError) else classify(error, now=now)
    attempts = checkpoint.attempts + 1
    match known:
        case StoreUnavailableError():
            raise known
        case InvariantError():
            return Decision(Stuck(known), is_failure=True)
        case ConfigurationError():
            return Decision(
                Park(action, wake_after=policy.configuration_wait, error=known), is_failure=True, needs_operator=True
            )
        case TransientError() | ReservationError():
            retry_after = known.retry_after if isinstance(known, TransientError) else None
            failure = Failure(known, attempts, policy.delay(attempts, retry_after))
            try:
                decision = _checked(await action.on_retry(wallet, failure), action)
            except Exception as second:  # noqa: BLE001 as in decide
                return _fault(second, action, checkpoint, policy)
            return Decision(decision.answer, is_failure=not isinstance(decision.answer, Next | Done))
        case _:
            return _fault(error, action, checkpoint, policy)


def _fault(error: Exception, action: Action[Any, Any, Any], checkpoint: Checkpoint, policy: RetryPolicy) -> Decision:
    if isinstance(error, InvariantError) or checkpoint.faults >= policy.fault_budget:
        return Decision(Stuck(error), is_failure=True, is_fault=True)
    wait = policy.delay(checkpoint.attempts + 1)
    return Decision(Park(action, wake_after=wait, error=error), is_failure=True, is_fault=True)


def _checked(answer: object, action: Action[Any, Any, Any]) -> Decision:
    match answer:
        case Next(action=following):
            check_successor(action, following)
            if following == action and not _writes_something(answer):
                raise broken(action, "a step that goes on changes something; park to wait")
            return Decision(answer)
        case Park(action=following, error=error):
            check_successor(action, following)
            return Decision(answer, is_failure=error is not None)
        case Done() | Failed():
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
    if type(following) is not type(action) or not isinstance(following, Action):
        raise broken(action, f"a step leads to the same action, not to {type(following).__name__}")
    if following.id != action.id:
        raise broken(action, "an action keeps its id")
    before, after = action.__dict__, following.__dict__
    if any(after[name] != value for name, value in before.items() if name != "phase"):
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
