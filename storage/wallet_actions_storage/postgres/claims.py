# ruff: noqa: S608 - what is put together are constants and a schema's name that was checked; values are parameters
"""The program by which a worker takes what is due, so that each kind and tenant gets its turn.

What nobody owns stands in lanes, one for each kind and tenant, in an index. A claim walks along the lanes, from the one
that had its turn last: one seek for each, however much is in it. Where there are more lanes than it walks at once, half
of what it takes is what has been due longest. Rows that another claim has locked are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.fleet import LONGEST_LEASE, Claim, Limit
from wallet_actions_storage.postgres.program import Program, Row
from wallet_actions_storage.postgres.rows import ACTION_COLUMNS, from_micros, to_action, to_micros
from wallet_actions_storage.postgres.sql import Sql

MOST_LANES = 64

_DUE = "(CASE a.status WHEN 'running' THEN a.created_at ELSE a.wake_at END)"
_FREE = (
    "a.owner IS NULL AND a.ended_at IS NULL"
    " AND (a.status = 'running' OR (a.status = 'parked' AND a.wake_at IS NOT NULL))"
)
_KNOWN = "JOIN unnest($1::text[], $2::bigint[]) AS known (kind, newest) ON a.kind = known.kind"
_LANE = f"SELECT a.tenant, {_DUE} AS due FROM {{schema}}.wa_actions AS a WHERE {_FREE} AND a.kind = stretch.kind"
_NEXT = f"ORDER BY a.kind, a.tenant, {_DUE}, a.row LIMIT 1"
_LANES = (
    "SELECT stretch.place, lanes.tenant, lanes.due"
    " FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS stretch (kind, low, place) CROSS JOIN LATERAL ("
    f" WITH RECURSIVE lane AS (({_LANE} AND a.tenant >= stretch.low {_NEXT}) UNION ALL"
    f" SELECT further.* FROM lane CROSS JOIN LATERAL ({_LANE} AND a.tenant > lane.tenant {_NEXT}) AS further)"
    " SELECT tenant, due FROM lane LIMIT $3::bigint) AS lanes LIMIT $3::bigint"
)
_HEADS = (
    "SELECT lane.place, head.kind, head.id"
    " FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) WITH ORDINALITY"
    " AS lane (kind, tenant, newest, count, place) CROSS JOIN LATERAL ("
    f"SELECT a.kind, a.id FROM {{schema}}.wa_actions AS a WHERE {_FREE} AND a.kind = lane.kind"
    f" AND a.tenant = lane.tenant AND {_DUE} <= $5 AND (a.status = 'running' OR a.wake_at <= $6)"
    f" AND a.schema_version <= lane.newest ORDER BY {_DUE}, a.row LIMIT lane.count FOR UPDATE SKIP LOCKED) AS head"
)
_CHOSEN = f"SELECT a.kind, a.id FROM {{schema}}.wa_actions AS a {_KNOWN} WHERE a.schema_version <= known.newest AND"
_LAPSED = (
    f"{_CHOSEN} a.owner IS NOT NULL AND a.owner <> $5"
    " AND (a.lease_until <= $3 OR a.lease_until > $4 OR a.lease_until IS NULL)"
    " AND (a.status = 'running' OR (a.status = 'parked' AND a.wake_at <= $3))"
    " ORDER BY a.row LIMIT $6 FOR UPDATE OF a SKIP LOCKED"
)
_LONGEST_DUE = (
    f"{_CHOSEN} a.status = 'parked' AND a.ended_at IS NULL AND a.wake_at <= $3 AND a.owner IS NULL"
    " ORDER BY a.wake_at, a.row LIMIT $4 FOR UPDATE OF a SKIP LOCKED"
)
_LONGEST_RUNNING = (
    f"{_CHOSEN} a.status = 'running' AND a.status <> 'parked' AND a.ended_at IS NULL AND a.owner IS NULL"
    " ORDER BY a.row LIMIT $3 FOR UPDATE OF a SKIP LOCKED"
)
_NAMED = (
    "SELECT a.kind, a.id, a.status, a.schema_version, a.owner, a.lease_until FROM {schema}.wa_actions AS a"
    " JOIN unnest($1::text[], $2::text[]) AS given (kind, id) ON a.kind = given.kind AND a.id = given.id"
    " ORDER BY a.kind, a.id FOR UPDATE OF a"
)
_TAKE = (
    "UPDATE {schema}.wa_actions AS a SET owner = $3, lease_until = $4, version = a.version + 1"
    " FROM unnest($1::text[], $2::text[]) AS given (key_kind, key_id)"
    f" WHERE a.kind = given.key_kind AND a.id = given.key_id RETURNING {ACTION_COLUMNS}"
)
_STATE = "SELECT ARRAY(SELECT kind FROM {schema}.wa_paused_kinds), (SELECT max(at) FROM {schema}.wa_writers)"
_LIMITED = "SELECT kind, since FROM {schema}.wa_spent WHERE kind = ANY($1::text[]) ORDER BY kind FOR UPDATE"
_BEGIN_LIMIT = "INSERT INTO {schema}.wa_spent (kind) SELECT unnest($1::text[]) ORDER BY 1 ON CONFLICT (kind) DO NOTHING"
_HELD = (
    "SELECT kind, count(*) FROM {schema}.wa_actions WHERE owner IS NOT NULL AND lease_until > $1 AND lease_until <= $2"
    " AND kind = ANY($3::text[]) GROUP BY kind"
)
_SPEND = "UPDATE {schema}.wa_spent SET since = $2 WHERE kind = $1"
_BY_NAME = frozenset({Status.RUNNING, Status.PARKED, Status.STUCK, Status.QUARANTINED})


class Lane(NamedTuple):
    """What takes turns."""

    kind: str
    tenant: str


Taken = tuple[list[Checkpoint], Lane]


def claim(claim: Claim, after: Lane, sql: Sql) -> Program[Taken]:
    """Take what is due; see `SharedStore.claim`.

    Args:
        after: the lane that had its turn last.

    Returns:
        What was taken, and the lane that has had its turn last.
    """
    search = _Search(claim, after, sql)
    yield from search.run()
    keys = list(search.taken)
    if not keys:
        return [], search.after
    until = to_micros(claim.at + claim.lease)
    rows = yield (_TAKE.format(schema=sql.schema), (*_arrays(keys), claim.owner, until))
    yield from search.spend()
    return [to_action(row) for row in rows], search.after


class _Search:
    """The search of one claim.

    Attributes:
        taken: the keys that were found; their rows are locked.
        after: the lane that has had its turn last.
    """

    def __init__(self, claim: Claim, after: Lane, sql: Sql) -> None:
        self.taken: dict[ActionKey, None] = {}
        self.after = after
        self._claim = claim
        self._schema = sql.schema
        self._at, self._longest = to_micros(claim.at), to_micros(claim.at + LONGEST_LEASE)
        self._latest = self._at
        self._known: dict[str, int] = {}
        self._rooms: dict[str, int] = {}
        self._since: dict[str, datetime] = {}
        self._counts: Counter[str] = Counter()

    def run(self) -> Program[None]:
        """Find what is due, or what was asked for by name."""
        claim = self._claim
        ((paused, latest),) = yield (_STATE.format(schema=self._schema), ())
        self._latest = max(self._at, latest or self._at)  # started by a clock that was set back since (L-B5)
        self._known = {kind: newest for kind, newest in claim.schemas.items() if kind not in paused}
        limits = {kind: limit for kind, limit in claim.limits.items() if kind in self._known}
        if limits:
            yield from self._lock_limits(limits)
        if claim.keys is not None:
            yield from self._find_named(limits)
            return
        if limits:
            yield from self._measure(limits, Counter())
        if self._known and claim.limit > 0:
            yield from self._find_due()

    def spend(self) -> Program[None]:
        """Note what was taken."""
        for kind, count in self._counts.items():
            limit = self._claim.limits.get(kind)
            since = None if limit is None else limit.spent(count, self._since.get(kind), self._claim.at)
            if since is not None:
                yield (_SPEND.format(schema=self._schema), (kind, to_micros(since)))

    @property
    def _room(self) -> int:
        return self._claim.limit - len(self.taken)

    def _lock_limits(self, limits: dict[str, Limit]) -> Program[None]:
        """Let nobody else claim of these kinds meanwhile."""
        kinds = sorted(limits)
        rows = yield (_LIMITED.format(schema=self._schema), (kinds,))
        if len(rows) < len(kinds):
            yield (_BEGIN_LIMIT.format(schema=self._schema), (kinds,))
            rows = yield (_LIMITED.format(schema=self._schema), (kinds,))
        self._since = {kind: from_micros(since) for kind, since in rows if since is not None}

    def _measure(self, limits: dict[str, Limit], own: Counter[str]) -> Program[None]:
        """Work out how many of each kind may be taken.

        Args:
            own: how many of what was asked for by name the worker holds already.
        """
        rows = yield (_HELD.format(schema=self._schema), (self._at, self._longest, list(limits)))
        held = {row[0]: row[1] for row in rows}
        for kind, limit in limits.items():
            room = limit.room(held.get(kind, 0) - own[kind], self._since.get(kind), self._claim.at)
            if room is not None:
                self._rooms[kind] = room
            if room == 0:
                del self._known[kind]

    def _left(self, kind: str) -> int:
        """How many more of a kind may be taken."""
        return min(self._room, self._rooms.get(kind, self._room + self._counts[kind]) - self._counts[kind])

    def _take(self, kind: str, id: str) -> bool:
        key = ActionKey(kind, id)
        if key in self.taken or self._left(kind) <= 0:
            return False
        self.taken[key] = None
        self._counts[kind] += 1
        return True

    def _find_named(self, limits: dict[str, Limit]) -> Program[None]:
        keys = list(dict.fromkeys(self._claim.keys or ()))
        if not keys:
            return
        rows = {ActionKey(row[0], row[1]): row for row in (yield (_NAMED.format(schema=self._schema), _arrays(keys)))}
        if limits:
            mine = (key.kind for key, row in rows.items() if row[4] == self._claim.owner and self._is_live(row[5]))
            yield from self._measure(limits, Counter(mine))
        for key in keys:
            row = rows.get(key)
            if row is not None and self._is_free(row) and row[3] <= self._known.get(key.kind, -1):
                self._take(*key)

    def _is_free(self, row: Row) -> bool:
        _, _, status, _, owner, until = row
        return status in _BY_NAME and (owner is None or owner == self._claim.owner or not self._is_live(until))

    def _is_live(self, until: int | None) -> bool:
        return until is not None and self._at < until <= self._longest

    def _find_due(self) -> Program[None]:
        yield from self._find(_LAPSED, self._claim.limit, self._at, self._longest, self._claim.owner)
        if not self._room:
            return
        lanes, is_cut = yield from self._walk()
        if is_cut:
            half = len(self.taken) + (self._room + 1) // 2
            yield from self._find(_LONGEST_DUE, half, self._at)
            yield from self._find(_LONGEST_RUNNING, half)
        yield from self._take_turns(lanes, is_cut=is_cut)

    def _find(self, query: str, most: int, *values: int | str) -> Program[None]:
        if not self._known:
            return
        known = (list(self._known), list(self._known.values()))
        rows = yield (query.format(schema=self._schema), (*known, *values, self._claim.limit))
        for row in rows:
            if len(self.taken) < most:
                self._take(row[0], row[1])

    def _walk(self) -> Program[tuple[list[Lane], bool]]:
        """The lanes with something due, from behind the one that was last; and whether there are more lanes."""
        stretches = list(self._stretches())
        if not stretches:
            return [], False
        columns = ([kind for kind, _, _ in stretches], [low for _, low, _ in stretches])
        rows = yield (_LANES.format(schema=self._schema), (*columns, MOST_LANES + 1))
        lanes: list[Lane] = []
        walked = 0
        for place, tenant, due in sorted(rows, key=lambda row: (row[0], row[1].encode())):
            kind, _, high = stretches[place - 1]
            if high is not None and tenant.encode() > high.encode():
                continue
            if walked == MOST_LANES:
                return lanes, True
            walked += 1
            self.after = Lane(kind, tenant)
            if due <= self._latest:
                lanes.append(self.after)
        return lanes, False

    def _stretches(self) -> Iterator[tuple[str, str, str | None]]:
        """Once round all lanes: a kind, from which tenant, up to which one."""
        after, kinds = self.after, sorted(self._known)
        if after.kind in self._known:
            yield after.kind, f"{after.tenant}\x01", None  # the next text in order, U+0000 being none
        for kind in (*(kind for kind in kinds if kind > after.kind), *(kind for kind in kinds if kind < after.kind)):
            yield kind, "", None
        if after.kind in self._known:
            yield after.kind, "", after.tenant

    def _take_turns(self, lanes: Sequence[Lane], *, is_cut: bool) -> Program[None]:
        turns = list(lanes[: max(0, self._room)])
        if turns and len(lanes) > len(turns):
            self.after = turns[-1]
        elif turns and not is_cut:
            self.after = turns[0]  # what is left over goes to another one the next time
        seen = Counter[Lane]()
        while turns and self._room > 0:
            share = max(1, self._room // len(turns))
            asked = self._shares(turns, seen, share)
            if not asked:
                return
            columns = (
                [lane.kind for lane in asked],
                [lane.tenant for lane in asked],
                [self._known[lane.kind] for lane in asked],
                list(asked.values()),
            )
            rows = yield (_HEADS.format(schema=self._schema), (*columns, self._latest, self._at))
            order = list(asked)
            found = Counter[Lane]()
            for place, kind, action_id in rows:
                lane = order[place - 1]
                found[lane] += 1
                self._take(kind, action_id)
            seen.update(found - seen)
            turns = [lane for lane in order if found[lane] == asked[lane]]

    def _shares(self, turns: Sequence[Lane], seen: Counter[Lane], share: int) -> dict[Lane, int]:
        """How many to ask for of each lane: those that were seen before, which are still there, and its share."""
        asked: dict[Lane, int] = {}
        planned: Counter[str] = Counter()
        total = 0
        for lane in turns:
            count = min(share, self._left(lane.kind) - planned[lane.kind], self._room - total)
            if count > 0:
                asked[lane] = seen[lane] + count
                planned[lane.kind] += count
                total += count
        return asked


def _arrays(keys: Sequence[ActionKey]) -> tuple[list[str], list[str]]:
    return [key.kind for key in keys], [key.id for key in keys]
