"""What several workers share beside claims: leases, and who is at work."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from wallet_actions.coins import ActionKey
from wallet_actions.fleet import LONGEST_LEASE, REMEMBERED, Worker
from wallet_actions_storage.postgres.program import Note, Program
from wallet_actions_storage.postgres.reads import Read
from wallet_actions_storage.postgres.rows import from_micros, to_micros
from wallet_actions_storage.postgres.sql import Sql

_PROLONG = (
    "UPDATE {schema}.wa_actions SET lease_until ="
    " CASE WHEN lease_until > $2 AND lease_until <= $3 THEN lease_until ELSE $2 END WHERE owner = $1 RETURNING kind, id"
)
_SEEN = (
    "INSERT INTO {schema}.wa_workers (owner, name, started_at, seen_at) VALUES ($1, $2, $3, $4)"
    " ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at"
)
_LONG_GONE = "SELECT owner FROM {schema}.wa_workers WHERE seen_at < $1 LIMIT 1"
_FORGET = (
    "DELETE FROM {schema}.wa_workers AS w WHERE w.seen_at < $1"
    " AND NOT EXISTS (SELECT 1 FROM {schema}.wa_actions AS a WHERE a.owner = w.owner)"
)
_LET_GO = "UPDATE {schema}.wa_actions SET owner = NULL, lease_until = NULL WHERE owner = $1 RETURNING 1"
_LET_SOME_GO = (
    "UPDATE {schema}.wa_actions AS a SET owner = NULL, lease_until = NULL"
    " FROM unnest($2::text[], $3::text[]) AS given (kind, id)"
    " WHERE a.owner = $1 AND a.kind = given.kind AND a.id = given.id RETURNING 1"
)
_GONE = "DELETE FROM {schema}.wa_workers WHERE owner = $1"
_WORKERS = "SELECT owner, name, started_at, seen_at FROM {schema}.wa_workers ORDER BY started_at, owner"
_DRIVES = (
    "SELECT owner, kind, id, lease_until FROM {schema}.wa_actions WHERE owner IS NOT NULL AND lease_until IS NOT NULL"
    " ORDER BY owner, kind, id"
)


def renew(worker: Worker, at: datetime, lease: timedelta, sql: Sql) -> Program[frozenset[ActionKey]]:
    """Prolong leases; see `SharedStore.renew`."""
    times = (to_micros(at + lease), to_micros(at + LONGEST_LEASE))
    owned = yield (_PROLONG.format(schema=sql.schema), (worker.owner, *times))
    seen = (worker.owner, worker.name, to_micros(worker.started_at), to_micros(at))
    yield (_SEEN.format(schema=sql.schema), seen)
    before = to_micros(at - REMEMBERED)
    if (yield (_LONG_GONE.format(schema=sql.schema), (before,))):
        yield (_FORGET.format(schema=sql.schema), (before,))
    return frozenset(ActionKey(row[0], row[1]) for row in owned)


def let_go(owner: str, keys: Collection[ActionKey] | None, sql: Sql) -> Program[int]:
    """Give back; see `SharedStore.let_go`."""
    if keys is None:
        given = yield (_LET_GO.format(schema=sql.schema), (owner,))
        yield (_GONE.format(schema=sql.schema), (owner,))
    else:
        chosen = list(dict.fromkeys(keys))
        columns = ([key.kind for key in chosen], [key.id for key in chosen])
        given = yield (_LET_SOME_GO.format(schema=sql.schema), (owner, *columns))
    yield Note(wakes=bool(given))
    return len(given)


async def workers(read: Read, at: datetime) -> list[Worker]:
    """Who is at work; see `SharedStore.workers`."""
    drives: dict[str, list[tuple[ActionKey, datetime]]] = {}
    for owner, kind, action_id, until in await read(_DRIVES):
        drives.setdefault(owner, []).append((ActionKey(kind, action_id), from_micros(until)))
    told = []
    for owner, name, started_at, seen_at in await read(_WORKERS):
        held = tuple(drives.get(owner, ()))
        worker = Worker(owner, name, from_micros(started_at), from_micros(seen_at), held)
        if worker.seen_at >= at - REMEMBERED or any(at < until <= at + LONGEST_LEASE for _, until in held):
            told.append(worker)
    return told


async def now(read: Read) -> datetime:
    """The server's clock."""
    ((moment,),) = await read("SELECT clock_timestamp()")
    told: datetime = moment
    return told
