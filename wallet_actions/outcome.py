"""What callers are told of a start or a drive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic

from typing_extensions import TypeVar

from wallet_actions.action import Action
from wallet_actions.checkpoint import Status
from wallet_actions.coins import ActionKey

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
    result: ResultT | None = None
    error: Exception | None = None
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
    result: ResultT | None = None
