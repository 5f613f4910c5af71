# ruff: noqa: S608 - what is put together are constants and a schema's name that was checked; values are parameters
"""Everything that is read of actions. Each page is found by key."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Sequence
from datetime import datetime
from typing import Any, Protocol

from wallet_actions.checkpoint import Checkpoint, HistoryEntry, Status, Wake
from wallet_actions.coins import ActionKey
from wallet_actions_storage.postgres.program import Row
from wallet_actions_storage.postgres.rows import (
    ACTION_COLUMNS,
    HISTORY_COLUMNS,
    from_micros,
    to_action,
    to_entry,
    to_micros,
    to_status,
    to_wake,
)


class Read(Protocol):
    """Runs a query on a reading connection. `{schema}` stands for the schema's name."""

    def __call__(self, sql: str, *values: Any) -> Awaitable[Sequence[Row]]:
        """See above."""
        ...


_LOAD = f"SELECT {ACTION_COLUMNS} FROM {{schema}}.wa_actions WHERE kind = $1 AND id = $2"
_LIST = f"SELECT {ACTION_COLUMNS} FROM {{schema}}.wa_actions WHERE row > $1"
_NOT_PAUSED = "kind NOT IN (SELECT kind FROM {schema}.wa_paused_kinds)"
_PARKED = f"FROM {{schema}}.wa_actions WHERE status = 'parked' AND ended_at IS NULL AND {_NOT_PAUSED}"
_WAKES = (
    f"SELECT kind, id, wake_at, updated_at, row {_PARKED} AND (wake_at, row) > ($1, $2) AND wake_at <= $3"
    " ORDER BY wake_at, row LIMIT $4"
)
_IDLE = f"SELECT kind, id, updated_at, updated_at, row {_PARKED} AND wake_at IS NULL AND row > $1 ORDER BY row LIMIT $2"
_RUNNING = (
    "SELECT kind, id, updated_at, updated_at, row FROM {schema}.wa_actions"
    f" WHERE status = 'running' AND status <> 'parked' AND ended_at IS NULL AND {_NOT_PAUSED}"
    " AND row > $1 AND updated_at < $2 ORDER BY row LIMIT $3"
)
_COUNTS = (
    "SELECT kind, status, count(*) FROM {schema}.wa_actions WHERE status = 'parked' AND ended_at IS NULL"
    " GROUP BY kind, status"
    " UNION ALL SELECT kind, status, count(*) FROM {schema}.wa_actions WHERE status <> 'parked' AND ended_at IS NULL"
    " GROUP BY kind, status"
    " UNION ALL SELECT kind, status, sum(count)::bigint FROM {schema}.wa_ended GROUP BY kind, status"
)
_HISTORY = (
    f"SELECT {HISTORY_COLUMNS} FROM {{schema}}.wa_history WHERE kind = $1 AND id = $2 AND version > $3"
    " ORDER BY version LIMIT $4"
)
_ALWAYS = 2**63 - 1
_NEVER = -(2**63)


async def load(read: Read, key: ActionKey) -> Checkpoint | None:
    """See `Store.load`."""
    rows = await read(_LOAD, *key)
    return to_action(rows[0]) if rows else None


async def list_actions(
    read: Read, statuses: Collection[Status] | None, kinds: Collection[str] | None, after: int, limit: int
) -> list[Checkpoint]:
    """See `Store.list_actions`."""
    if (statuses is not None and not statuses) or (kinds is not None and not kinds):
        return []
    sql, values = _LIST, [after, max(0, limit)]
    if statuses is not None:
        values.append([status.value for status in statuses])  # type: ignore[arg-type]
        sql += f" AND status = ANY(${len(values)}::text[])"
        if not any(status.is_terminal or status is Status.PARKED for status in statuses):
            # Few among many: those that have ended and those that are parked need not be passed over.
            sql += " AND status <> 'parked' AND ended_at IS NULL"
    if kinds is not None:
        values.append(list(kinds))  # type: ignore[arg-type]
        sql += f" AND kind = ANY(${len(values)}::text[])"
    return [to_action(row) for row in await read(f"{sql} ORDER BY row LIMIT $2", *values)]


async def count_actions(read: Read) -> dict[tuple[str, Status], int]:
    """See `Store.count_actions`."""
    counts: dict[tuple[str, Status], int] = {}
    for kind, text, count in await read(_COUNTS):
        group = (kind, to_status(text))
        counts[group] = counts.get(group, 0) + count
    return counts


async def wakes(read: Read, until: datetime | None, after: Wake | None, limit: int) -> list[Wake]:
    """See `Store.wakes`."""
    latest = _ALWAYS if until is None else to_micros(until)
    wake_at, row = (_NEVER, 0) if after is None else (to_micros(after.wake_at), after.row)
    return [to_wake(found) for found in await read(_WAKES, wake_at, row, latest, max(0, limit))]


async def idle(read: Read, after: int, limit: int) -> list[Wake]:
    """See `Store.idle`."""
    return [to_wake(row) for row in await read(_IDLE, after, max(0, limit))]


async def running(read: Read, before: datetime, after: int, limit: int) -> list[Wake]:
    """See `Store.running`."""
    return [to_wake(row) for row in await read(_RUNNING, after, to_micros(before), max(0, limit))]


async def last_write_at(read: Read) -> datetime | None:
    """See `Store.last_write_at`."""
    ((at,),) = await read("SELECT max(at) FROM {schema}.wa_writers")
    return None if at is None else from_micros(at)


async def history(read: Read, key: ActionKey, after: int, limit: int) -> list[HistoryEntry]:
    """See `Store.history`."""
    return [to_entry(row) for row in await read(_HISTORY, *key, after, max(0, limit))]


async def paused_kinds(read: Read) -> frozenset[str]:
    """See `Store.paused_kinds`."""
    return frozenset(row[0] for row in await read("SELECT kind FROM {schema}.wa_paused_kinds"))


async def counters(read: Read) -> dict[str, int]:
    """See `Store.counters`."""
    return {row[0]: row[1] for row in await read("SELECT name, next FROM {schema}.wa_counters")}
