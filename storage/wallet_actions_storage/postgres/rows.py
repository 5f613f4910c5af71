"""How the port's records stand in the tables: as SQLite's do."""

from __future__ import annotations

from wallet_actions_storage.sqlite.rows import (
    ACTION_COLUMNS,
    COIN_COLUMNS,
    HISTORY_COLUMNS,
    from_micros,
    to_action,
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
