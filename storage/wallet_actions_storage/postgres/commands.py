# ruff: noqa: S608 - what is put together are constants and a schema's name that was checked; values are parameters
"""The programs that are not about one action's next step: pruning, pauses, counters, orphans."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.errors import UsageError
from wallet_actions_storage.postgres.program import Note, Program, Row
from wallet_actions_storage.postgres.rows import to_micros
from wallet_actions_storage.postgres.sql import Sql

_PRUNABLE = (
    "SELECT kind, id FROM {schema}.wa_actions WHERE prunable_at IS NOT NULL AND prunable_at < $1"
    " ORDER BY prunable_at LIMIT $2 FOR UPDATE SKIP LOCKED"
)
_GIVEN = "unnest($1::text[], $2::text[]) AS given (kind, id)"
_FORGET = (
    (f"DELETE FROM {{schema}}.wa_history AS h USING {_GIVEN} WHERE h.kind = given.kind AND h.id = given.id"),
    (
        f"UPDATE {{schema}}.wa_coins AS c SET payload = '' FROM {_GIVEN}"
        " WHERE c.holder_id = given.id AND c.holder_kind = given.kind AND c.state = 'spent' AND c.payload <> ''"
    ),
    (
        f"UPDATE {{schema}}.wa_actions AS a SET state = NULL, prunable_at = NULL FROM {_GIVEN}"
        " WHERE a.kind = given.kind AND a.id = given.id"
    ),
)
_RELEASE_ORPHANS = (
    "UPDATE {schema}.wa_coins AS c SET state = 'spendable', holder_kind = NULL, holder_id = NULL"
    " WHERE c.id = ANY($1::text[]) AND c.state = 'reserved' AND NOT EXISTS ("
    " SELECT 1 FROM {schema}.wa_actions AS a"
    " WHERE a.kind = c.holder_kind AND a.id = c.holder_id AND a.ended_at IS NULL) RETURNING c.id"
)
_PAUSE = "INSERT INTO {schema}.wa_paused_kinds (kind) VALUES ($1) ON CONFLICT (kind) DO NOTHING"
_RESUME = "DELETE FROM {schema}.wa_paused_kinds WHERE kind = $1"
_TAKE = (
    "INSERT INTO {schema}.wa_counters AS c (name, next) VALUES ($1, $2::bigint)"
    " ON CONFLICT (name) DO UPDATE SET next = c.next + $2 WHERE c.next <= $3 RETURNING next"
)


def prune(before: datetime, limit: int, sql: Sql) -> Program[int]:
    """Forget the details of those that ended first."""
    rows = yield (_PRUNABLE.format(schema=sql.schema), (to_micros(before), max(0, limit)))
    if rows:
        keys = ([row[0] for row in rows], [row[1] for row in rows])
        for query in _FORGET:
            yield (query.format(schema=sql.schema), keys)
    return len(rows)


def release_orphans(ids: Collection[str], sql: Sql) -> Program[int]:
    """Free these coins where they are reserved for an action that has ended or does not exist."""
    return len((yield (_RELEASE_ORPHANS.format(schema=sql.schema), (list(ids),))))


def set_kind_paused(kind: str, is_paused: bool, sql: Sql) -> Program[None]:
    """Pause or resume a kind."""
    yield ((_PAUSE if is_paused else _RESUME).format(schema=sql.schema), (kind,))
    if not is_paused:
        yield Note(wakes=True)


def allocate(counter: str, count: int, sql: Sql) -> Program[int]:
    """Take values of a counter.

    Raises:
        UsageError: so many are not left; nothing was written.
    """
    rows: Sequence[Row] = ()
    if count <= MAX_AMOUNT:
        rows = yield (_TAKE.format(schema=sql.schema), (counter, count, MAX_AMOUNT - count))
    if not rows:
        raise UsageError(f"counter {counter} does not have {count} values left")
    first: int = rows[0][0] - count
    return first
