"""What callers are told of a start or a drive."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic

from typing_extensions import TypeVar

from wallet_actions.action import Action
from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.errors import ActionFailedError
from wallet_actions.registry import Kind
from wallet_actions.step import Decision, Refused, Stuck
from wallet_actions.transition import Done, Failed, Next, Park

ResultT = TypeVar("ResultT", default=Any)


class DriveMode(StrEnum):
    """How far to drive."""

    UNTIL_PARK = "until_park"
    UNTIL_DONE = "until_done"


class Outcome(StrEnum):
    """How a drive ended."""

    DONE = "done"
    FAILED = "failed"
    PARKED = "parked"
    BUSY = "busy"
    SUPERSEDED = "superseded"
    STUCK = "stuck"
    PAUSED = "paused"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class DriveResult(Generic[ResultT]):
    """What became of an action when it was driven.

    Attributes:
        status: as it is stored now; None where it was not looked at (BUSY, SUPERSEDED).
        action: in its last phase; None where it was not decoded or has been pruned.
        result: of a DONE action.
        error: what it parked, failed or got stuck with (L-D3).
        wake_at: when a PARKED one is due; None if only a notification or the next sync will drive it (L-D2).
    """

    outcome: Outcome
    key: ActionKey
    status: Status | None = None
    action: Action[Any, Any, ResultT] | None = None
    result: ResultT | None = field(default=None, repr=False)
    error: Exception | None = field(default=None, repr=False)
    wake_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Started(Generic[ResultT]):
    """What `start` found or made.

    Attributes:
        is_new: False where the action existed; then nothing was written.
        result: of an action that had already succeeded (L-D5).
    """

    key: ActionKey
    status: Status
    is_new: bool
    result: ResultT | None = field(default=None, repr=False)


def ending(
    kind: Kind, action: Action[Any, Any, Any], checkpoint: Checkpoint, following: Checkpoint, decision: Decision
) -> DriveResult[Any] | None:
    """What to tell the caller after a step was committed; None where there is another step to take now.

    Args:
        checkpoint, following: the row before and after.
    """
    if isinstance(decision.answer, (Next, Refused)):
        return None
    key, status = following.key, following.status
    match decision.answer:
        case Done():
            # As it reads back: the same to whoever drove it and to whoever asks in a year.
            return DriveResult(Outcome.DONE, key, status, action, result=kind.result.decode(following.result))
        case Failed():
            ended = ActionFailedError(*key, status, following.error)
            return DriveResult(Outcome.FAILED, key, status, action, error=ended)
        case Stuck(error=error):
            return DriveResult(Outcome.STUCK, key, status, action, error=error)
        case Park(action=parked, error=error):
            if following.cancel is CancelState.REQUESTED and checkpoint.cancel is not CancelState.REQUESTED:
                return None  # asked while this step ran
            return DriveResult(Outcome.PARKED, key, status, parked, error=error, wake_at=following.wake_at)
