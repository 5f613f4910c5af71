# ruff: noqa: S608 - what is put together are constants of this package; values are always parameters
"""What several workers on one file share: the programs of `wallet_actions.fleet.SharedStore`."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta

from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.fleet import LONGEST_LEASE, REMEMBERED, Claim, Limit, Worker
from wallet_actions_storage.sqlite.lanes import Lane, Search, Times
from wallet_actions_storage.sqlite.program import Program, Reply
from wallet_actions_storage.sqlite.rows import ACTION_COLUMNS, Row, from_micros, to_action, to_micros

_PAUSED = "SELECT kind FROM wa_paused_kinds"
_HELD = "SELECT kind, count(*) FROM wa_actions INDEXED BY wa_actions_owned WHERE owner IS NOT NULL GROUP BY kind"
_SPENT = "SELECT kind, since FROM wa_spent"
_SPEND = "INSERT INTO wa_spent (kind, since) VALUES (?, ?) ON CONFLICT (kind) DO UPDATE SET since = excluded.since"
_NAMED = "SELECT row, status, schema_version, owner, lease_until FROM wa_actions WHERE kind = ? AND id = ?"
_PROLONG = (
    "UPDATE wa_actions SET lease_until ="
    " CASE WHEN lease_until > ?2 AND lease_until <= ?3 THEN lease_until ELSE ?2 END WHERE owner = ?1"
)
_OWNED = "SELECT kind, id FROM wa_actions WHERE owner = ?"
_SEEN = (
    "INSERT INTO wa_workers (owner, name, started_at, seen_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at"
)
_FORGET = (
    "DELETE FROM wa_workers WHERE seen_at < ?"
    " AND NOT EXISTS (SELECT 1 FROM wa_actions WHERE wa_actions.owner = wa_workers.owner)"
)
_LET_GO = "UPDATE wa_actions SET owner = NULL, lease_until = NULL WHERE owner = ?"
_LET_ONE_GO = f"{_LET_GO} AND kind = ? AND id = ?"
_GONE = "DELETE FROM wa_workers WHERE owner = ?"
_WORKERS = "SELECT owner, name, started_at, seen_at FROM wa_workers ORDER BY started_at, owner"
_DRIVES = "SELECT owner, kind, id, lease_until FROM wa_actions WHERE owner IS NOT NULL ORDER BY owner, kind, id"
_NOW = "SELECT CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"
_BY_NAME = frozenset({Status.RUNNING, Status.PARKED, Status.STUCK, Status.QUARANTINED})
_MOST_AT_ONCE = 256


def claim(claim: Claim, after: Lane) -> Program[tuple[list[Checkpoint], Lane]]:
    """Take what is due; see `SharedStore.claim`.

    Args:
        after: the lane that had its turn last.

    Returns:
        What was taken, and the lane that has had its turn last.
    """
    rooms = yield from _Rooms.of(claim)
    if claim.keys is not None:
        rows = yield from _named(claim, rooms)
    else:
        search = Search(claim.owner, _times(claim.at), claim.limit, rooms.schemas, rooms.admit, after)
        yield from search.run()
        rows, after = search.taken, search.after
    until = to_micros(claim.at + claim.lease)
    taken: list[Checkpoint] = []
    for first in range(0, len(rows), _MOST_AT_ONCE):
        part = rows[first : first + _MOST_AT_ONCE]
        # Few different lengths, or they would drive the other statements out of the connection's cache.
        length = 1 << (len(part) - 1).bit_length()
        marks, padded = ", ".join("?" * length), (*part, *[-1] * (length - len(part)))
        yield (
            f"UPDATE wa_actions SET owner = ?, lease_until = ?, version = version + 1 WHERE row IN ({marks})",
            (claim.owner, until, *padded),
        )
        reply = yield (f"SELECT {ACTION_COLUMNS} FROM wa_actions WHERE row IN ({marks})", padded)
        taken += map(to_action, reply.rows)
    yield from rooms.spend()
    return taken, after


def is_anything_due(connection: sqlite3.Connection, claim: Claim, after: Lane) -> bool:
    """Whether a claim of what is due would find something, limits aside; on the reading connection."""

    def look() -> Program[bool]:
        rooms = yield from _Rooms.of(claim)
        times, most = _times(claim.at), min(1, claim.limit)
        search = Search(claim.owner, times, most, rooms.schemas, lambda kind, is_late: True, after)
        yield from search.run()
        return bool(search.taken)

    return _run(connection, look())


def renew(worker: Worker, at: datetime, lease: timedelta) -> Program[frozenset[ActionKey]]:
    """Prolong leases; see `SharedStore.renew`."""
    yield (_PROLONG, (worker.owner, to_micros(at + lease), to_micros(at + LONGEST_LEASE)))
    owned = (yield (_OWNED, (worker.owner,))).rows
    yield (_SEEN, (worker.owner, worker.name, to_micros(worker.started_at), to_micros(at)))
    yield (_FORGET, (to_micros(at - REMEMBERED),))
    return frozenset(ActionKey(*row) for row in owned)


def let_go(owner: str, keys: Collection[ActionKey] | None) -> Program[int]:
    """Give back; see `SharedStore.let_go`."""
    if keys is None:
        count = (yield (_LET_GO, (owner,))).count
        yield (_GONE, (owner,))
        return count
    count = 0
    for key in dict.fromkeys(keys):
        count += (yield (_LET_ONE_GO, (owner, *key))).count
    return count


def workers(connection: sqlite3.Connection, at: datetime) -> list[Worker]:
    """Who is at work; see `SharedStore.workers`."""
    drives: dict[str, list[tuple[ActionKey, datetime]]] = {}
    for owner, *key, until in connection.execute(_DRIVES).fetchall():
        drives.setdefault(owner, []).append((ActionKey(*key), from_micros(until)))
    told = []
    for owner, name, started_at, seen_at in connection.execute(_WORKERS).fetchall():
        held = tuple(drives.get(owner, ()))
        worker = Worker(owner, name, from_micros(started_at), from_micros(seen_at), held)
        if worker.seen_at >= at - REMEMBERED or any(at < until <= at + LONGEST_LEASE for _, until in held):
            told.append(worker)
    return told


def now(connection: sqlite3.Connection) -> datetime:
    """The machine's clock as SQLite tells it, to the millisecond."""
    return from_micros(1000 * connection.execute(_NOW).fetchone()[0])


class _Rooms:
    """What pauses and limits let through.

    Attributes:
        schemas: the kinds that are open, each with the newest schema version to take.
    """

    def __init__(self, claim: Claim, schemas: dict[str, int]) -> None:
        self._claim = claim
        self.schemas = schemas
        self._since: dict[str, datetime] = {}
        self._rooms: dict[str, int] = {}
        self._rates: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._added: Counter[str] = Counter()

    @classmethod
    def of(cls, claim: Claim) -> Program[_Rooms]:
        """Read the pauses and, where there are limits, what is held and spent."""
        paused = {kind for (kind,) in (yield (_PAUSED, ())).rows}
        rooms = cls(claim, {kind: version for kind, version in claim.schemas.items() if kind not in paused})
        limits = {kind: limit for kind, limit in claim.limits.items() if kind in rooms.schemas}
        if limits:
            yield from rooms._measure(limits)
        return rooms

    def _measure(self, limits: dict[str, Limit]) -> Program[None]:
        counts = (yield (_HELD, ())).rows
        held: dict[str, int] = {row[0]: row[1] for row in counts}
        self._since = {kind: from_micros(since) for kind, since in (yield (_SPENT, ())).rows}
        for key in dict.fromkeys(self._claim.keys or ()):
            rows = (yield (_NAMED, key)).rows
            if rows and rows[0][3] == self._claim.owner:
                held[key.kind] -= 1  # who claims anew what it holds drives no more than before
        for kind, limit in limits.items():
            room = limit.room(held.get(kind, 0), self._since.get(kind), self._claim.at)
            if room is not None:
                self._rooms[kind] = room
            rate = limit.rate_room(self._since.get(kind), self._claim.at)
            if rate is not None:
                self._rates[kind] = rate
            if rate == 0:
                del self.schemas[kind]

    def admit(self, kind: str, is_late: bool) -> bool:
        """Whether one more of a kind may be taken; it is counted then.

        Args:
            is_late: it is somebody's whose lease has lapsed, and so counted as held already.
        """
        count, added = self._counts[kind], self._added[kind]
        if count >= self._rates.get(kind, count + 1) or (not is_late and added >= self._rooms.get(kind, added + 1)):
            return False
        self._counts[kind] = count + 1
        self._added[kind] = added + (not is_late)
        return True

    def admit_named(self, row: Row, kind: str) -> bool:
        """The same for one that was asked for by name."""
        _, status, schema_version, owner, until = row
        is_free = owner is None or owner == self._claim.owner or not self._is_live(until)
        is_late = owner not in (None, self._claim.owner)
        is_known = schema_version <= self.schemas.get(kind, -1)
        return status in _BY_NAME and is_free and is_known and self.admit(kind, is_late)

    def spend(self) -> Program[None]:
        """Note what was taken."""
        for kind, count in self._counts.items():
            limit = self._claim.limits.get(kind)
            since = None if limit is None else limit.spent(count, self._since.get(kind), self._claim.at)
            if since is not None:
                yield (_SPEND, (kind, to_micros(since)))

    def _is_live(self, until: int | None) -> bool:
        at, longest = _times(self._claim.at)
        return until is not None and at < until <= longest


def _named(claim: Claim, rooms: _Rooms) -> Program[list[int]]:
    taken: list[int] = []
    for key in dict.fromkeys(claim.keys or ()):
        rows = (yield (_NAMED, key)).rows
        if rows and len(taken) < claim.limit and rooms.admit_named(rows[0], key.kind):
            taken.append(rows[0][0])
    return taken


def _times(at: datetime) -> Times:
    return Times(to_micros(at), to_micros(at + LONGEST_LEASE))


def _run(connection: sqlite3.Connection, program: Program[bool]) -> bool:
    reply = Reply()
    try:
        step = next(program)
        while True:
            if isinstance(step, tuple):
                reply.rows = connection.execute(*step).fetchall()
            step = program.send(reply)
    except StopIteration as end:
        return bool(end.value)
