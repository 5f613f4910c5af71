"""What observers are told: one record for everything that happens to an action.

An observer is a plain function. It is called after the commit, in the task that wrote: keep it short. What it raises is
logged and changes nothing. An event holds no state, no coin and no exception, so it may be logged and counted as it is
(but ids belong in no metric label).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from wallet_actions.checkpoint import ErrorRecord, Status
from wallet_actions.coins import ActionKey

logger = logging.getLogger(__name__)


class EventKind(StrEnum):
    """What happened."""

    STARTED = "start"
    STEPPED = "next"
    PARKED = "park"
    RETRIED = "retry"
    NEEDS_OPERATOR = "needs_operator"
    STUCK = "stuck"
    CANCEL_REQUESTED = "cancel_request"
    CANCEL_REFUSED = "cancel_refused"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantine"
    DONE = "done"
    FAILED = "fail"
    CANCELLED = "cancel"
    STOPPED = "stop"
    PAUSED = "pause"
    RESUMED = "resume"
    RETRY_WANTED = "retry_now"
    REVIVED = "revive"
    RESCHEDULED = "clock"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to an action.

    Attributes:
        version, phase, status, attempts: as committed.
        wake_at: when it is due, if it is parked with a time.
        error: what caused it, where something did.
        at: when, UTC.
    """

    kind: EventKind
    key: ActionKey
    at: datetime
    version: int
    phase: str
    status: Status
    attempts: int = 0
    wake_at: datetime | None = None
    error: ErrorRecord | None = None


Observer = Callable[[Event], None]


def tell(observers: Iterable[Observer], event: Event) -> None:
    """Hand an event to each observer; one that raises is logged and does not disturb the others."""
    for observer in tuple(observers):  # one that takes itself away leaves no other out
        try:
            observer(event)
        except Exception as error:  # noqa: BLE001 an observer is other people's code, and nothing depends on it
            logger.warning(
                "an observer raised",
                extra={"action_kind": event.key.kind, "action_id": event.key.id, "error_type": type(error).__name__},
            )
