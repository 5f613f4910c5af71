"""How the port's records stand in the tables: as SQLite's do, but for the order of an action's columns."""

from __future__ import annotations

from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord, checkpoint_of
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
