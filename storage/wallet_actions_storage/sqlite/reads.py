# ruff: noqa: S608 - what is put together are constants of this package; values are always parameters
"""Everything that is read, as functions on the reading connection. Each page is found by key."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from wallet_actions.checkpoint import Checkpoint, HistoryEntry, Status, Wake
from wallet_actions.coins import ActionKey
from wallet_actions_storage.sqlite.actions import LATEST
from wallet_actions_storage.sqlite.rows import (
    ACTION_COLUMNS,
    HISTORY_COLUMNS,
    from_micros,
    to_action,
    to_entry,
    to_micros,
    to_status,
    to_wake,
)

_LOAD = f"SELECT {ACTION_COLUMNS} FROM wa_actions WHERE kind = ? AND id = ?"
MANY = 64
"""How many actions one statement loads."""
_WANTED = f"(VALUES {', '.join(['(?, ?)'] * MANY)}) AS wanted CROSS JOIN wa_actions"
_LOAD_MANY = f"SELECT {ACTION_COLUMNS} FROM {_WANTED} ON kind = wanted.column1 AND id = wanted.column2"
_NOT_PAUSED = "kind NOT IN (SELECT kind FROM wa_paused_kinds)"
_WAKE_COLUMNS = "kind, id, wake_at, updated_at, row"
_SILENT_COLUMNS = "kind, id, updated_at, updated_at, row"
_PARKED = f"FROM wa_actions WHERE status = 'parked' AND ended_at IS NULL AND {_NOT_PAUSED}"
_RUNS = f"FROM wa_actions WHERE status = 'running' AND ended_at IS NULL AND {_NOT_PAUSED}"
# In two parts, each in the order of the index: with one comparison of (wake_at, row) every page would begin by passing
# over all that are due at the moment where the last one ended.
_WAKES = (
    f"SELECT {_WAKE_COLUMNS} {_PARKED} AND wake_at = ?1 AND row > ?2 AND wake_at <= ?3"
    f" UNION ALL SELECT {_WAKE_COLUMNS} {_PARKED} AND wake_at > ?1 AND wake_at <= ?3"
    " ORDER BY wake_at, row LIMIT ?4"
)
_IDLE = f"SELECT {_SILENT_COLUMNS} {_PARKED} AND wake_at IS NULL AND row > ? ORDER BY row LIMIT ?"
# In two parts for the same reason: those without a wake time, which are most, stand in the order of their rows.
_RUNNING = (
    f"SELECT {_SILENT_COLUMNS} {_RUNS} AND wake_at IS NULL AND row > ?1 AND updated_at < ?2"
    f" UNION ALL SELECT {_SILENT_COLUMNS} {_RUNS} AND wake_at IS NOT NULL AND row > ?1 AND updated_at < ?2"
    " ORDER BY row LIMIT ?3"
)
_COUNTS = (
    "SELECT kind, status, count(*) FROM wa_actions INDEXED BY wa_actions_open WHERE ended_at IS NULL"
    " GROUP BY status, kind"
    " UNION ALL SELECT kind, status, count FROM wa_ended"
)
_HISTORY = (
    "WITH RECURSIVE past AS ("
    " SELECT * FROM wa_history WHERE row = (SELECT last_history FROM wa_actions WHERE kind = ? AND id = ?)"
    " UNION ALL"
    " SELECT wa_history.* FROM past JOIN wa_history ON wa_history.row = past.previous WHERE past.version > ?)"
    f" SELECT {HISTORY_COLUMNS} FROM past WHERE version > ? ORDER BY version LIMIT ?"
)
_ALWAYS = 2**63 - 1
_NEVER = -(2**63)


def load(connection: sqlite3.Connection, key: ActionKey) -> Checkpoint | None:
    """See `Store.load`."""
    row = connection.execute(_LOAD, key).fetchone()
    return None if row is None else to_action(row)


def load_many(connection: sqlite3.Connection, keys: Sequence[ActionKey]) -> dict[ActionKey, Checkpoint]:
    """Load some actions, at most `MANY`, by a statement for all of them: most of a small one's cost is its call."""
    missing = MANY - len(keys)
    parameters = [value for key in keys for value in key] + [None] * (2 * missing)
    rows = connection.execute(_LOAD_MANY, parameters).fetchall()
    return {ActionKey(row[1], row[2]): to_action(row) for row in rows}


def list_actions(
    connection: sqlite3.Connection,
    statuses: Collection[Status] | None,
    kinds: Collection[str] | None,
    after: int,
    limit: int,
) -> list[Checkpoint]:
    """See `Store.list_actions`."""
    if (statuses is not None and not statuses) or (kinds is not None and not kinds):
        return []
    source, terms = "wa_actions", ["row > ?"]
    values: list[Any] = [after]
    if statuses is not None:
        terms.append(f"status IN ({', '.join('?' * len(statuses))})")
        values += [status.value for status in statuses]
        if not any(status.is_terminal or status is Status.PARKED for status in statuses):
            # Few among many: those that have ended and those that are parked need not be passed over.
            source += " INDEXED BY wa_actions_open"
            terms.append("ended_at IS NULL")
    if kinds is not None:
        terms.append(f"+kind IN ({', '.join('?' * len(kinds))})")
        values += kinds
    # With the plus the index of kinds and ids is not taken, in which a whole kind would be sorted for each page.
    sql = f"SELECT {ACTION_COLUMNS} FROM {source} WHERE {' AND '.join(terms)} ORDER BY row LIMIT ?"
    return [to_action(row) for row in connection.execute(sql, (*values, max(0, limit))).fetchall()]


def count_actions(connection: sqlite3.Connection) -> dict[tuple[str, Status], int]:
    """See `Store.count_actions`."""
    counts: dict[tuple[str, Status], int] = {}
    for kind, text, count in connection.execute(_COUNTS).fetchall():
        group = (kind, to_status(text))
        counts[group] = counts.get(group, 0) + count
    return counts


def wakes(connection: sqlite3.Connection, until: datetime | None, after: Wake | None, limit: int) -> list[Wake]:
    """See `Store.wakes`."""
    latest = _ALWAYS if until is None else to_micros(until)
    wake_at, row = (_NEVER, 0) if after is None else (to_micros(after.wake_at), after.row)
    parameters = (wake_at, row, latest, max(0, limit))
    return [to_wake(found) for found in connection.execute(_WAKES, parameters).fetchall()]


def idle(connection: sqlite3.Connection, after: int, limit: int) -> list[Wake]:
    """See `Store.idle`."""
    return [to_wake(row) for row in connection.execute(_IDLE, (after, max(0, limit))).fetchall()]


def running(connection: sqlite3.Connection, before: datetime, after: int, limit: int) -> list[Wake]:
    """See `Store.running`."""
    parameters = (after, to_micros(before), max(0, limit))
    return [to_wake(row) for row in connection.execute(_RUNNING, parameters).fetchall()]


def last_write_at(connection: sqlite3.Connection) -> datetime | None:
    """See `Store.last_write_at`."""
    row = connection.execute(LATEST).fetchone()
    return None if row is None else from_micros(row[0])


def history(connection: sqlite3.Connection, key: ActionKey, after: int, limit: int) -> Sequence[HistoryEntry]:
    """See `Store.history`. Walks back from the newest entry to `after`."""
    rows = connection.execute(_HISTORY, (*key, after, after, max(0, limit))).fetchall()
    return [to_entry(row) for row in rows]


def paused_kinds(connection: sqlite3.Connection) -> frozenset[str]:
    """See `Store.paused_kinds`."""
    return frozenset(kind for (kind,) in connection.execute("SELECT kind FROM wa_paused_kinds").fetchall())


def counters(connection: sqlite3.Connection) -> dict[str, int]:
    """See `Store.counters`."""
    return dict(connection.execute("SELECT name, next FROM wa_counters").fetchall())
