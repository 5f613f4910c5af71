"""How the port's records stand in the tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord, HistoryEntry, Status, Wake, checkpoint_of
from wallet_actions.clock import EPOCH
from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.errors import UsageError

Row: TypeAlias = Sequence[Any]
"""A row as the driver hands it out."""

ACTION_COLUMNS = (
    "row, kind, id, version, schema_version, state, phase, status, created_at, updated_at, wake_at, attempts, faults,"
    " error_type, error_message, cancel, owner, lease_until, traceparent, result, tenant"
)
HISTORY_COLUMNS = "version, at, event, status, phase, attempts, error_type, error_message, notes"
COIN_COLUMNS = "id, account, unit, amount, payload, state, holder_kind, holder_id"

_MICROSECOND = timedelta(microseconds=1)
_STATUSES = {status.value: status for status in Status}
_CANCEL_STATES = {state.value: state for state in CancelState}
_COIN_STATES = {state.value: state for state in CoinState}


def to_micros(moment: datetime) -> int:
    """A time as it is stored: microseconds since 1970, UTC.

    Raises:
        UsageError: the time carries no zone.
    """
    try:
        return (moment - EPOCH) // _MICROSECOND
    except TypeError:
        raise UsageError("times are UTC and carry their zone") from None


def to_micros_or_none(moment: datetime | None) -> int | None:
    """A time that may be missing, as it is stored."""
    return None if moment is None else to_micros(moment)


def from_micros(micros: int) -> datetime:
    """A stored time."""
    return EPOCH + timedelta(0, 0, micros)


def to_notes(notes: Sequence[str]) -> str | None:
    """Notes as they are stored."""
    return json.dumps(notes, ensure_ascii=False, separators=(",", ":")) if notes else None


def to_status(text: str) -> Status:
    """A stored status; one that this code does not know is kept and shown as quarantined (G9)."""
    return _STATUSES.get(text, Status.QUARANTINED)


def to_action(row: Row) -> Checkpoint:
    """A row of `ACTION_COLUMNS`."""
    wake_at, error_type, lease_until = row[10], row[13], row[17]
    return checkpoint_of(
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        row[6],
        to_status(row[7]),
        from_micros(row[8]),
        from_micros(row[9]),
        None if wake_at is None else from_micros(wake_at),
        row[11],
        row[12],
        None if error_type is None else ErrorRecord(error_type, row[14]),
        _CANCEL_STATES.get(row[15], CancelState.NONE),
        row[16],
        None if lease_until is None else from_micros(lease_until),
        row[18],
        row[19],
        row[0],
        row[20],
    )


def to_entry(row: Row) -> HistoryEntry:
    """A row of `HISTORY_COLUMNS`."""
    error_type, notes = row[6], row[8]
    return HistoryEntry(
        version=row[0],
        at=from_micros(row[1]),
        event=row[2],
        status=to_status(row[3]),
        phase=row[4],
        attempts=row[5],
        error=None if error_type is None else ErrorRecord(error_type, row[7]),
        notes=() if notes is None else tuple(json.loads(notes)),
    )


def to_wake(row: Row) -> Wake:
    """A row of kind, id, wake time, parking time and row."""
    return Wake(ActionKey(row[0], row[1]), from_micros(row[2]), from_micros(row[3]), row[4])


def to_coin(row: Row) -> Coin:
    """A row of `COIN_COLUMNS`."""
    holder_id = row[7]
    holder = None if holder_id is None else ActionKey(row[6], holder_id)
    return Coin(row[0], row[1], row[2], row[3], row[4], _COIN_STATES[row[5]], holder)
