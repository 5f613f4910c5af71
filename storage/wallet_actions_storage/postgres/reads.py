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
_PARKED = "status = 'parked' AND ended_at IS NULL"
_ACTIVE = "status <> 'parked' AND ended_at IS NULL"


def _page(query: str, order: str, limit: str) -> str:
    """A page: what nobody owns and what somebody owns are in indexes of their own.

    Args:
        query: with a condition at its end; `order` names columns that it selects.
    """
    halves = (f"({query} AND owner IS {owned} ORDER BY {order} LIMIT {limit})" for owned in ("NULL", "NOT NULL"))
    return f"SELECT * FROM ({' UNION ALL '.join(halves)}) AS found ORDER BY {order} LIMIT {limit}"


_WAKES = _page(
    f"SELECT kind, id, wake_at, updated_at, row FROM {{schema}}.wa_actions WHERE {_PARKED} AND {_NOT_PAUSED}"
    " AND (wake_at, row) > ($1, $2) AND wake_at <= $3",
    "wake_at, row",
    "$4",
)
_IDLE = _page(
    f"SELECT kind, id, updated_at AS at, updated_at, row FROM {{schema}}.wa_actions WHERE {_PARKED} AND {_NOT_PAUSED}"
    " AND wake_at IS NULL AND row > $1",
    "row",
    "$2",
)
_RUNNING = _page(
    "SELECT kind, id, updated_at AS at, updated_at, row FROM {schema}.wa_actions"
    f" WHERE status = 'running' AND {_ACTIVE} AND {_NOT_PAUSED} AND row > $1 AND updated_at < $2",
    "row",
    "$3",
)
_COUNT = "SELECT kind, status, count(*) FROM {schema}.wa_actions WHERE"
_COUNTS = (
    f"{_COUNT} {_PARKED} AND owner IS NULL GROUP BY kind, status"
    f" UNION ALL {_COUNT} {_ACTIVE} AND owner IS NULL GROUP BY kind, status"
    f" UNION ALL {_COUNT} ended_at IS NULL AND owner IS NOT NULL GROUP BY kind, status"
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
    is_few = False
    if statuses is not None:
        values.append([status.value for status in statuses])  # type: ignore[arg-type]
        sql += f" AND status = ANY(${len(values)}::text[])"
        # Few among many: those that have ended and those that are parked need not be passed over.
        is_few = not any(status.is_terminal or status is Status.PARKED for status in statuses)
    if kinds is not None:
        values.append(list(kinds))  # type: ignore[arg-type]
        sql += f" AND kind = ANY(${len(values)}::text[])"
    sql = _page(f"{sql} AND {_ACTIVE}" if is_few else sql, "row", "$2")
    return [to_action(row) for row in await read(sql, *values)]


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
