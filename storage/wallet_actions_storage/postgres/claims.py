# ruff: noqa: S608 - what is put together are constants and a schema's name that was checked; values are parameters
"""The program by which a worker takes what is due, so that each kind and tenant gets its turn.

It walks along the lanes of `finding`, from the one that had its turn last, and passes over rows that another claim has
locked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.fleet import LONGEST_LEASE, Claim, Limit
from wallet_actions_storage.postgres.failures import LostError
from wallet_actions_storage.postgres.finding import MOST_LANES, TAKE_DUE, TAKE_HEADS, TAKE_LONGEST
from wallet_actions_storage.postgres.program import Note, Program, Row, Told
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
_CLAIMED = f"SELECT {ACTION_COLUMNS} FROM {{schema}}.wa_actions WHERE owner = $1 AND lease_until = $2"
_PAUSED = "SELECT kind FROM {schema}.wa_paused_kinds"
_LIMITED = "SELECT kind, since FROM {schema}.wa_spent WHERE kind = ANY($1::text[]) ORDER BY kind FOR UPDATE"
_BEGIN_LIMIT = "INSERT INTO {schema}.wa_spent (kind) SELECT unnest($1::text[]) ORDER BY 1 ON CONFLICT (kind) DO NOTHING"
_HELD = (
    "SELECT kind, count(*) FROM {schema}.wa_actions WHERE owner IS NOT NULL AND kind = ANY($1::text[]) GROUP BY kind"
)
_SPEND = "UPDATE {schema}.wa_spent SET since = $2 WHERE kind = $1"
_COLUMNS = ACTION_COLUMNS.split(", ")
_ROW, _KIND, _TENANT, _TURN = *map(_COLUMNS.index, ("row", "kind", "tenant")), len(_COLUMNS)
_DUE, _HEADS = _TURN + 2, 2
_BY_NAME = frozenset({Status.RUNNING, Status.PARKED, Status.STUCK, Status.QUARANTINED})


class Lane(NamedTuple):
    """What takes turns."""

    kind: str
    tenant: str


class Rest(NamedTuple):
    """What is left to a claim that had room to the end.

    Attributes:
        lanes: those that may have more.
        latest: until when what runs is due.
    """

    lanes: Sequence[Lane]
    latest: int


class Taken(NamedTuple):
    """What a claim came to.

    Attributes:
        after: the lane that has had its turn last.
        is_quiet: whether there are more lanes than are walked, and there was room for all that was due.
        rest: what may still be taken by `claim_rest`; None where all was looked at.
    """

    rows: list[Checkpoint]
    after: Lane
    is_quiet: bool = False
    rest: Rest | None = None


class Gate(NamedTuple):
    """What lets a statement be a transaction by itself: the writer's token, checked and set; see `writer`."""

    writer: str
    token: int
    next_token: int


def claim(claim: Claim, after: Lane, sql: Sql) -> Program[Taken]:
    """Take what is due; see `SharedStore.claim`.

    Args:
        after: the lane that had its turn last.
    """
    search = _Search(claim, after, sql)
    rest = yield from search.run()
    if rest is not None:
        yield from search.take_turns(rest)
    yield from search.spend()
    return search.answer(None)


def claim_at_once(claim: Claim, last: Taken, sql: Sql, gate: Gate) -> Program[Taken]:
    """The same for what is due where there are no limits: one statement, which is a transaction by itself.

    Args:
        last: what the claim before it came to.

    Raises:
        LostError: the token is another one; nothing was taken.
    """
    search = _Search(claim, last.after, sql)
    rest = yield from search.take_due(gate, has_turns=not last.is_quiet)
    return search.answer(rest)


def claim_rest(claim: Claim, taken: Taken, rest: Rest, sql: Sql) -> Program[Taken]:
    """What `claim_at_once` left."""
    search = _Search(replace(claim, limit=claim.limit - len(taken.rows)), taken.after, sql)
    yield from search.take_turns(rest)
    return search.answer(None)


def claimed(claim: Claim, after: Lane, sql: Sql) -> Program[Taken]:
    """What was taken by a claim that was committed, and not heard of."""
    rows = yield (_CLAIMED.format(schema=sql.schema), (claim.owner, to_micros(claim.at + claim.lease)))
    return Taken(list(map(to_action, rows)), after)


def is_at_once(claim: Claim) -> bool:
    """Whether `claim_at_once` is for it."""
    return claim.keys is None and not claim.limits and bool(claim.schemas) and claim.limit > 0


class _Seen(NamedTuple):
    """A lane that was walked.

    Attributes:
        place: of the stretch that it is in.
        due: when its first is due, in microseconds.
        asked, seen: how many of its first were asked for and were there; None where it was not its turn.
    """

    place: int
    lane: Lane
    due: int
    asked: int | None
    seen: int | None


class _Search:
    """The search of one claim.

    Attributes:
        taken: the rows of what was taken.
        after: the lane that has had its turn last.
        is_quiet: see `Taken`.
    """

    def __init__(self, claim: Claim, after: Lane, sql: Sql) -> None:
        self.taken: list[Row] = []
        self.is_quiet = False
        self.after = after
        self._claim = claim
        self._schema = sql.schema
        self._at, self._longest = to_micros(claim.at), to_micros(claim.at + LONGEST_LEASE)
        self._until = to_micros(claim.at + claim.lease)
        self._known = dict(claim.schemas)
        self._rooms: dict[str, int] = {}
        self._rates: dict[str, int] = {}
        self._since: dict[str, datetime] = {}
        self._counts: Counter[str] = Counter()
        self._added: Counter[str] = Counter()

    def run(self) -> Program[Rest | None]:
        """Take what is due, or what was asked for by name.

        Returns:
            What may still be taken.
        """
        claim = self._claim
        limits = {kind: limit for kind, limit in claim.limits.items() if kind in self._known}
        if limits or claim.keys is not None:
            for (kind,) in (yield (_PAUSED.format(schema=self._schema), ())):
                self._known.pop(kind, None)
                limits.pop(kind, None)
        if limits:
            yield from self._lock_limits(limits)
        if claim.keys is not None:
            yield from self._take_named(limits)
            return None
        if limits:
            yield from self._measure(limits, Counter())
        if not self._known or claim.limit <= 0:
            return None
        return (yield from self.take_due())

    def answer(self, rest: Rest | None) -> Taken:
        """What it came to."""
        return Taken(list(map(to_action, self.taken)), self.after, self.is_quiet, rest)

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

    def _count(self, kind: str, *, is_late: bool = False) -> None:
        self._counts[kind] += 1
        self._added[kind] += not is_late

    def _take_named(self, limits: dict[str, Limit]) -> Program[None]:
        keys = list(dict.fromkeys(self._claim.keys or ()))
        if not keys:
            return
        rows = {ActionKey(row[0], row[1]): row for row in (yield (_NAMED.format(schema=self._schema), _arrays(keys)))}
        if limits:
            mine = (key.kind for key, row in rows.items() if row[4] == self._claim.owner)
            yield from self._measure(limits, Counter(mine))
        chosen: list[ActionKey] = []
        for key in keys:
            row = rows.get(key)
            if row is None or not self._is_free(row) or row[3] > self._known.get(key.kind, -1):
                continue
            is_late = row[4] not in (None, self._claim.owner)
            if len(chosen) < self._claim.limit and self._left(key.kind, is_late=is_late) > 0:
                self._count(key.kind, is_late=is_late)
                chosen.append(key)
        if chosen:
            self.taken = list(
                (yield (_TAKE.format(schema=self._schema), (*_arrays(chosen), self._claim.owner, self._until)))
            )

    def _is_free(self, row: Row) -> bool:
        _, _, status, _, owner, until = row
        return status in _BY_NAME and (owner is None or owner == self._claim.owner or not self._is_live(until))

    def _is_live(self, until: int | None) -> bool:
        return until is not None and self._at < until <= self._longest

    def take_due(self, gate: Gate | None = None, *, has_turns: bool = True) -> Program[Rest | None]:
        """Take what is due.

        Args:
            gate: where it is to be a transaction by itself.
            has_turns: else just what has been due longest.

        Returns:
            What may still be taken.
        Raises:
            LostError: see `claim_at_once`.
        """
        stretches = list(self._stretches())
        columns = tuple(map(list, zip(*stretches, strict=True)))
        kinds = list(self._known)
        limits = [[counts.get(kind) for kind in kinds] for counts in (self._rates, self._rooms)]
        values = (
            *(kinds, list(self._known.values()), self._at, self._longest, self._claim.owner, self._claim.limit),
            *(*columns, self._until, *limits, *(gate or (None, None, None))),
        )
        query = TAKE_DUE if has_turns else TAKE_LONGEST
        lanes, latest, chosen, longest = list[_Seen](), self._at, 0, 0
        served, is_through = set[Lane](), False
        for row in (yield Told(query.format(schema=self._schema), values)):
            turn = row[_TURN]
            if row[_ROW] is not None:
                self._add(row, is_late=turn == 0)
                if turn == _HEADS:
                    served.add(Lane(row[_KIND], row[_TENANT]))
                is_through = is_through or turn > _HEADS
            elif row[_KIND] is None:
                chosen, longest = turn, row[_DUE]
            else:
                place, due, asked, seen, latest = row[_TURN + 1 :]
                lanes.append(_Seen(place, Lane(row[_KIND], row[_TENANT]), due, asked, seen))
        if chosen and not self.taken:
            raise LostError("shut out")
        if self.taken:
            yield Note(has_written=True)
        is_many = len(lanes) > MOST_LANES if has_turns else bool(self.taken)
        self.is_quiet = is_many and longest + self._counts.total() - self._added.total() <= self._claim.limit
        reached = None if self._room or is_through else served
        turns = self._note_turns(lanes, latest, reached)
        return Rest(turns, latest) if turns and self._room else None

    def _add(self, row: Row, *, is_late: bool = False) -> None:
        self.taken.append(row)
        self._count(row[_KIND], is_late=is_late)

    def _note_turns(self, lanes: list[_Seen], latest: int, reached: Collection[Lane] | None) -> list[Lane]:
        """Note which lane has had its turn last.

        Args:
            latest: until when what runs is due.
            reached: the lanes that were taken from before there was no room any more; None if there was to the end.

        Returns:
            The lanes that may have more.
        """
        lanes.sort(key=lambda lane: (lane.place, lane.lane.tenant.encode()))
        is_cut = len(lanes) > MOST_LANES
        del lanes[MOST_LANES:]
        turns = [lane for lane in lanes if lane.asked is not None]
        if reached is not None:
            while turns and turns[-1].lane not in reached:
                turns.pop()
            if not turns:
                return []
        if turns and len(turns) < sum(lane.due <= latest for lane in lanes):
            self.after = turns[-1].lane
        elif turns and not is_cut:
            self.after = turns[0].lane  # what is left over goes to another one the next time
        elif lanes:
            self.after = lanes[-1].lane
        return [lane.lane for lane in turns if lane.seen == lane.asked]

    def _stretches(self) -> Iterator[tuple[str, str, str | None]]:
        """Once round all lanes: a kind, from which tenant, up to which one."""
        after, kinds = self.after, sorted(self._known)
        if after.kind in self._known:
            yield after.kind, f"{after.tenant}\x01", None  # the next text in order, U+0000 being none
        for kind in (*(kind for kind in kinds if kind > after.kind), *(kind for kind in kinds if kind < after.kind)):
            yield kind, "", None
        if after.kind in self._known:
            yield after.kind, "", after.tenant

    def take_turns(self, rest: Rest) -> Program[None]:
        """Take more of these lanes, a share of each, again and again."""
        turns = rest.lanes
        while turns and self._room > 0:
            asked = self._shares(turns, max(1, self._room // len(turns)))
            if not asked:
                return
            columns = ([lane.kind for lane in asked], [lane.tenant for lane in asked])
            newest = [self._known[lane.kind] for lane in asked]
            values = (*columns, self._at, rest.latest, newest, list(asked.values()), self._claim.owner, self._until)
            found = Counter[Lane]()
            for row in (yield Told(TAKE_HEADS.format(schema=self._schema), values)):
                found[Lane(row[_KIND], row[_TENANT])] += 1
                self._add(row)
            if found:
                yield Note(has_written=True)
            turns = [lane for lane in asked if found[lane] == asked[lane]]

    def _shares(self, turns: Sequence[Lane], share: int) -> dict[Lane, int]:
        """How many to ask for of each lane: its share, as long as there is room."""
        asked: dict[Lane, int] = {}
        planned: Counter[str] = Counter()
        for lane in turns:
            count = min(share, self._left(lane.kind) - planned[lane.kind], self._room - planned.total())
            if count > 0:
                asked[lane] = count
                planned[lane.kind] += count
        return asked


def _arrays(keys: Sequence[ActionKey]) -> tuple[list[str], list[str]]:
    return [key.kind for key in keys], [key.id for key in keys]
