"""The row that a decision leads to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from wallet_actions.action import Action
from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord, Status, checkpoint_of
from wallet_actions.events import EventKind
from wallet_actions.registry import Kind, StateWriter
from wallet_actions.step import Decision, Refused, Stuck, record
from wallet_actions.transition import Done, Failed, Next, Park

SHORTEST_PARK = timedelta(milliseconds=10)
LONGEST_PARK = timedelta(days=36_500)


def successor(
    kind: Kind, checkpoint: Checkpoint, decision: Decision, now: datetime, writer: StateWriter | None = None
) -> tuple[Checkpoint, EventKind]:
    """The row that a decision leads to, and what that is called.

    Args:
        writer: the one that wrote the action's states before, in this drive.
    """
    encode = kind.encode if writer is None else writer.encode
    answer = decision.answer
    if isinstance(answer, Next):  # the most frequent, and a pattern takes longer to match
        row = _row(kind, checkpoint, decision, now, Status.RUNNING, answer.action, encode=encode)
        return row, EventKind.STEPPED
    match answer:
        case Park(action=action, wake_after=wake_after, error=error):
            wake_at = None
            if wake_after is not None:
                wake_at = now + min(max(wake_after, SHORTEST_PARK), LONGEST_PARK)
            reason = record(error) if error is not None else None
            parked = _row(
                kind, checkpoint, decision, now, Status.PARKED, action, encode=encode, wake_at=wake_at, error=reason
            )
            return parked, EventKind.PARKED if error is None else EventKind.RETRIED
        case Done(result=result):
            text = kind.result.encode(result, checkpoint.key)
            return _row(kind, checkpoint, decision, now, Status.DONE, result=text), EventKind.DONE
        case Failed(error=error):
            is_cancelled = checkpoint.cancel is CancelState.ACCEPTED or decision.is_cancel_answer
            status = Status.CANCELLED if is_cancelled else Status.FAILED
            ended = _row(kind, checkpoint, decision, now, status, error=record(error))
            return ended, EventKind.CANCELLED if is_cancelled else EventKind.FAILED
        case Stuck(error=error):
            return _row(kind, checkpoint, decision, now, Status.STUCK, error=record(error)), EventKind.STUCK
        case Refused():
            kept = replace(checkpoint, version=checkpoint.version + 1, updated_at=now)
            return kept, EventKind.CANCEL_REFUSED


def _row(
    kind: Kind,
    checkpoint: Checkpoint,
    decision: Decision,
    now: datetime,
    status: Status,
    action: Action[Any, Any, Any] | None = None,
    *,
    encode: Callable[[Action[Any, Any, Any]], str] | None = None,
    wake_at: datetime | None = None,
    error: ErrorRecord | None = None,
    result: str | None = None,
) -> Checkpoint:
    """The next row, made in one go: this runs for every transition, and `replace` costs several times as much."""
    if action is None or encode is None:
        # Only with an action does the state take this code's shape; a row whose state stays keeps its schema version.
        schema_version, state, phase = checkpoint.schema_version, checkpoint.state, checkpoint.phase
    else:
        schema_version, state, phase = kind.schema_version, encode(action), action.phase.tag
    return checkpoint_of(
        checkpoint.kind,
        checkpoint.id,
        checkpoint.version + 1,
        schema_version,
        state,
        phase,
        status,
        checkpoint.created_at,
        now,
        wake_at,
        checkpoint.attempts + 1 if decision.is_failure else 0,
        checkpoint.faults + 1 if decision.is_fault else 0,
        error,
        checkpoint.cancel,
        checkpoint.owner,
        checkpoint.lease_until,
        checkpoint.traceparent,
        result if result is not None else checkpoint.result,
        checkpoint.row,
        checkpoint.tenant,
    )


def answered_cancel(checkpoint: Checkpoint, decision: Decision) -> CancelState | None:
    """What becomes of a request to cancel: refused, accepted, or not answered yet (it failed on the way)."""
    if checkpoint.cancel is not CancelState.REQUESTED:
        return None
    if isinstance(decision.answer, Refused):
        return CancelState.NONE
    return CancelState.ACCEPTED if decision.is_cancel_answer and not decision.is_failure else None
