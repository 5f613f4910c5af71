# ruff: noqa: S608 - what is put together are constants and a schema's name that was checked; values are parameters
"""The program by which a worker takes what is due, so that each kind and tenant gets its turn.

It walks along the lanes of `finding`, from the one that had its turn last. Where there are more lanes than it walks at
once, half of what it takes is what has been due longest. Rows that another claim has locked are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.fleet import LONGEST_LEASE, Claim, Limit
from wallet_actions_storage.postgres.finding import FIND, HEADS, MOST_LANES
from wallet_actions_storage.postgres.program import Program, Row
from wallet_actions_storage.postgres.rows import ACTION_COLUMNS, from_micros, to_action, to_micros
from wallet_actions_storage.postgres.sql import Sql

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
_PAUSED = "SELECT kind FROM {schema}.wa_paused_kinds"
_LIMITED = "SELECT kind, since FROM {schema}.wa_spent WHERE kind = ANY($1::text[]) ORDER BY kind FOR UPDATE"
_BEGIN_LIMIT = "INSERT INTO {schema}.wa_spent (kind) SELECT unnest($1::text[]) ORDER BY 1 ON CONFLICT (kind) DO NOTHING"
_HELD = (
    "SELECT kind, count(*) FROM {schema}.wa_actions WHERE owner IS NOT NULL AND kind = ANY($1::text[]) GROUP BY kind"
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
        self._rates: dict[str, int] = {}
        self._since: dict[str, datetime] = {}
        self._counts: Counter[str] = Counter()
        self._added: Counter[str] = Counter()

    def run(self) -> Program[None]:
        """Find what is due, or what was asked for by name."""
        claim = self._claim
        self._known = dict(claim.schemas)
        limits = {kind: limit for kind, limit in claim.limits.items() if kind in self._known}
        if limits or claim.keys is not None:
            for (kind,) in (yield (_PAUSED.format(schema=self._schema), ())):
                self._known.pop(kind, None)
                limits.pop(kind, None)
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
        rows = yield (_HELD.format(schema=self._schema), (list(limits),))
        held = {row[0]: row[1] for row in rows}
        for kind, limit in limits.items():
            room = limit.room(held.get(kind, 0) - own[kind], self._since.get(kind), self._claim.at)
            if room is not None:
                self._rooms[kind] = room
            rate = limit.rate_room(self._since.get(kind), self._claim.at)
            if rate is not None:
                self._rates[kind] = rate
            if rate == 0:
                del self._known[kind]

    def _left(self, kind: str, *, is_late: bool = False) -> int:
        """How many more of a kind may be taken.

        Args:
            is_late: of those that are somebody's whose lease has lapsed; they are counted as held already.
        """
        left = self._room
        if kind in self._rates:
            left = min(left, self._rates[kind] - self._counts[kind])
        if kind in self._rooms and not is_late:
            left = min(left, self._rooms[kind] - self._added[kind])
        return left

    def _take(self, kind: str, id: str, *, is_late: bool = False) -> bool:
        key = ActionKey(kind, id)
        if key in self.taken or self._left(kind, is_late=is_late) <= 0:
            return False
        self.taken[key] = None
        self._counts[kind] += 1
        self._added[kind] += not is_late
        return True

    def _find_named(self, limits: dict[str, Limit]) -> Program[None]:
        keys = list(dict.fromkeys(self._claim.keys or ()))
        if not keys:
            return
        rows = {ActionKey(row[0], row[1]): row for row in (yield (_NAMED.format(schema=self._schema), _arrays(keys)))}
        if limits:
            mine = (key.kind for key, row in rows.items() if row[4] == self._claim.owner)
            yield from self._measure(limits, Counter(mine))
        for key in keys:
            row = rows.get(key)
            if row is not None and self._is_free(row) and row[3] <= self._known.get(key.kind, -1):
                self._take(*key, is_late=row[4] not in (None, self._claim.owner))

    def _is_free(self, row: Row) -> bool:
        _, _, status, _, owner, until = row
        return status in _BY_NAME and (owner is None or owner == self._claim.owner or not self._is_live(until))

    def _is_live(self, until: int | None) -> bool:
        return until is not None and self._at < until <= self._longest

    def _find_due(self) -> Program[None]:
        stretches = list(self._stretches())
        columns = tuple(map(list, zip(*stretches, strict=True)))
        values = (*self._kinds, self._at, self._longest, self._claim.owner, self._claim.limit, *columns)
        found: dict[int, list[Row]] = {sort: [] for sort in range(5)}
        for row in (yield (FIND.format(schema=self._schema), values)):
            found[row[0]].append(row)
        late, walked, longest, heads, ((*_, latest),) = found.values()
        self._take_some(late, self._room, is_late=True)
        if not self._room:
            return
        self._latest = latest  # what was started by a clock that was set back since is due all the same (L-B5)
        is_cut = len(walked) > MOST_LANES
        walked.sort(key=_order)
        self.after = Lane(*walked[:MOST_LANES][-1][2:4]) if walked else self.after
        due = sum(row[5] <= latest for row in walked[:MOST_LANES])
        self._take_some(longest, (self._room + 1) // 2 if is_cut else 0)
        turns = self._take_heads(heads, due, is_cut=is_cut)
        self._take_some(longest, self._room)
        yield from self._take_turns(turns)

    def _take_some(self, rows: Sequence[Row], most: int, *, is_late: bool = False) -> None:
        for row in rows:
            if most > 0 and self._take(row[2], row[3], is_late=is_late):
                most -= 1

    def _take_heads(self, heads: list[Row], due: int, *, is_cut: bool) -> Counter[Lane]:
        """Take the first of each lane, as long as there is room.

        Args:
            due: how many lanes there are to be taken from.

        Returns:
            The lanes that may have more, each with how many were seen of it.
        """
        heads.sort(key=_order)
        seen, asked = Counter[Lane](), dict[Lane, int]()
        for _, _, kind, tenant, action_id, count in heads:
            if not self._room:
                break
            lane = Lane(kind, tenant)
            asked[lane] = count
            if action_id is not None:
                seen[lane] += 1
                self._take(kind, action_id)
        lanes = list(asked)
        if lanes and len(lanes) < due:
            self.after = lanes[-1]
        elif lanes and not is_cut:
            self.after = lanes[0]  # what is left over goes to another one the next time
        return Counter({lane: count for lane, count in seen.items() if count == asked[lane]})

    @property
    def _kinds(self) -> tuple[list[str], list[int]]:
        return list(self._known), list(self._known.values())

    def _stretches(self) -> Iterator[tuple[str, str, str | None]]:
        """Once round all lanes: a kind, from which tenant, up to which one."""
        after, kinds = self.after, sorted(self._known)
        if after.kind in self._known:
            yield after.kind, f"{after.tenant}\x01", None  # the next text in order, U+0000 being none
        for kind in (*(kind for kind in kinds if kind > after.kind), *(kind for kind in kinds if kind < after.kind)):
            yield kind, "", None
        if after.kind in self._known:
            yield after.kind, "", after.tenant

    def _take_turns(self, seen: Counter[Lane]) -> Program[None]:
        """Take more of these lanes, a share of each, again and again."""
        turns = list(seen)
        while turns and self._room > 0:
            asked = self._shares(turns, seen, max(1, self._room // len(turns)))
            if not asked:
                return
            columns = ([lane.kind for lane in asked], [lane.tenant for lane in asked])
            newest = [self._known[lane.kind] for lane in asked]
            values = (*columns, self._at, self._latest, newest, list(asked.values()))
            rows = yield (HEADS.format(schema=self._schema), values)
            order, found = list(asked), Counter[Lane]()
            for place, kind, action_id in rows:
                found[order[place - 1]] += 1
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


def _order(row: Row) -> tuple[int, bytes]:
    return row[1], row[3].encode()
