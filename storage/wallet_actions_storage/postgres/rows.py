"""How the port's records stand in the tables: as SQLite's do, but for the order of an action's columns."""

from __future__ import annotations

from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord
from wallet_actions_storage.postgres.program import Row
from wallet_actions_storage.sqlite.rows import (
    COIN_COLUMNS,
    HISTORY_COLUMNS,
    from_micros,
    to_coin,
    to_entry,
    to_micros,
    to_micros_or_none,
    to_notes,
    to_status,
    to_wake,
)

__all__ = [
    "ACTION_COLUMNS",
    "COIN_COLUMNS",
    "HISTORY_COLUMNS",
    "from_micros",
    "to_action",
    "to_coin",
    "to_entry",
    "to_micros",
    "to_micros_or_none",
    "to_notes",
    "to_status",
    "to_wake",
]

ACTION_COLUMNS = (
    "row, kind, id, version, schema_version, state, phase, status, created_at, updated_at, wake_at, attempts, faults,"
    " error_type, error_message, cancel, owner, lease_until, traceparent, result, tenant"
)

_CANCEL_STATES = {state.value: state for state in CancelState}


def to_action(row: Row) -> Checkpoint:
    """A row of `ACTION_COLUMNS`."""
    wake_at, error_type, lease_until = row[10], row[13], row[17]
    return Checkpoint(
        row=row[0],
        kind=row[1],
        id=row[2],
        version=row[3],
        schema_version=row[4],
        state=row[5],
        phase=row[6],
        status=to_status(row[7]),
        created_at=from_micros(row[8]),
        updated_at=from_micros(row[9]),
        wake_at=None if wake_at is None else from_micros(wake_at),
        attempts=row[11],
        faults=row[12],
        error=None if error_type is None else ErrorRecord(error_type, row[14]),
        cancel=_CANCEL_STATES.get(row[15], CancelState.NONE),
        owner=row[16],
        lease_until=None if lease_until is None else from_micros(lease_until),
        traceparent=row[18],
        result=row[19],
        tenant=row[20],
    )
