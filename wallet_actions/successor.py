"""The row that a decision leads to."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from wallet_actions.action import Action
from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.events import EventKind
from wallet_actions.registry import Kind
from wallet_actions.step import Decision, Refused, Stuck, record
from wallet_actions.transition import Done, Failed, Next, Park

SHORTEST_PARK = timedelta(milliseconds=10)
LONGEST_PARK = timedelta(days=36_500)


def successor(kind: Kind, checkpoint: Checkpoint, decision: Decision, now: datetime) -> tuple[Checkpoint, EventKind]:
    """The row that a decision leads to, and what that is called."""
    following = replace(
        checkpoint,
        version=checkpoint.version + 1,
        updated_at=now,
        wake_at=None,
        attempts=checkpoint.attempts + 1 if decision.is_failure else 0,
        faults=checkpoint.faults + 1 if decision.is_fault else 0,
        error=None,
    )
    match decision.answer:
        case Next(action=action):
            moved = _moved(kind, following, action)
            return replace(moved, status=Status.RUNNING), EventKind.STEPPED
        case Park(action=action, wake_after=wake_after, error=error):
            wake_at = None
            if wake_after is not None:
                wake_at = now + min(max(wake_after, SHORTEST_PARK), LONGEST_PARK)
            moved = _moved(kind, following, action)
            parked = replace(
                moved, status=Status.PARKED, wake_at=wake_at, error=record(error) if error is not None else None
            )
            return parked, EventKind.PARKED if error is None else EventKind.RETRIED
        case Done(result=result):
            return replace(
                following, status=Status.DONE, result=kind.result.encode(result, checkpoint.key)
            ), EventKind.DONE
        case Failed(error=error):
            is_cancelled = checkpoint.cancel is CancelState.ACCEPTED or decision.is_cancel_answer
            return (
                replace(
                    following,
                    status=Status.CANCELLED if is_cancelled else Status.FAILED,
                    error=record(error),
                ),
                EventKind.CANCELLED if is_cancelled else EventKind.FAILED,
            )
        case Stuck(error=error):
            return replace(following, status=Status.STUCK, error=record(error)), EventKind.STUCK
        case Refused():
            return replace(checkpoint, version=following.version, updated_at=now), EventKind.CANCEL_REFUSED


def _moved(kind: Kind, following: Checkpoint, action: Action[Any, Any, Any]) -> Checkpoint:
    # Only here does the state take this code's shape; a row whose state stays keeps its schema version too (L-U1).
    return replace(following, state=kind.encode(action), phase=action.phase.tag, schema_version=kind.schema_version)


def answered_cancel(checkpoint: Checkpoint, decision: Decision) -> CancelState | None:
    """What becomes of a request to cancel: refused, accepted, or not answered yet (it failed on the way)."""
    if checkpoint.cancel is not CancelState.REQUESTED:
        return None
    if isinstance(decision.answer, Refused):
        return CancelState.NONE
    return CancelState.ACCEPTED if decision.is_cancel_answer and not decision.is_failure else None
