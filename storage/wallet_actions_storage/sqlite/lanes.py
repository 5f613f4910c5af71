# ruff: noqa: S608 - what is put together are constants of this package; values are always parameters
"""Finding what is due for a claim, so that each kind and tenant gets its turn.

What nobody owns stands in lanes, one for each kind and tenant, in an index that is made when a file is first opened to
be shared. A claim walks along the lanes, from the one that had its turn last: one seek for each, however much is in it.
Where there are more lanes than it walks at once, half of what it takes is what has been due longest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from wallet_actions_storage.sqlite.actions import LATEST
from wallet_actions_storage.sqlite.program import Program
from wallet_actions_storage.sqlite.rows import Row

MOST_LANES = 64

_DUE = "CASE status WHEN 'running' THEN created_at ELSE wake_at END"
_FREE = "owner IS NULL AND ended_at IS NULL AND (status = 'running' OR (status = 'parked' AND wake_at IS NOT NULL))"
INDEX = f"CREATE INDEX IF NOT EXISTS wa_actions_lanes ON wa_actions (kind, tenant, {_DUE}, row) WHERE {_FREE}"
"""For shared files. What is owned is not in it, so the writes of whoever drives touch none of it."""

_LANE = f"SELECT row FROM wa_actions INDEXED BY wa_actions_lanes WHERE {_FREE} AND kind = ?1 AND tenant"
_NEXT = f"ORDER BY tenant, {_DUE}, row LIMIT 1"
_LANES = (
    "WITH RECURSIVE lane (first) AS ("
    f" SELECT ({_LANE} >= ?2 {_NEXT})"
    f" UNION ALL SELECT ({_LANE} > last.tenant {_NEXT}) FROM lane JOIN wa_actions AS last ON last.row = first"
    " LIMIT ?3)"
    f" SELECT tenant, {_DUE} FROM lane JOIN wa_actions ON wa_actions.row = first"
)
_HEADS = (
    f"SELECT row, kind, schema_version FROM wa_actions INDEXED BY wa_actions_lanes WHERE {_FREE}"
    f" AND kind = ? AND tenant = ? AND {_DUE} <= ? AND (status = 'running' OR wake_at <= ?) AND schema_version <= ?"
    f" ORDER BY {_DUE}, row LIMIT ? OFFSET ?"
)
_LAPSED = (
    "SELECT row, kind, schema_version FROM wa_actions INDEXED BY wa_actions_owned"
    " WHERE owner IS NOT NULL AND owner <> ?3 AND (lease_until <= ?1 OR lease_until > ?2)"
    " AND (status = 'running' OR (status = 'parked' AND wake_at <= ?1)) ORDER BY row"
)
_LONGEST_DUE = (
    "SELECT row, kind, schema_version FROM wa_actions INDEXED BY wa_actions_open"
    " WHERE status = 'parked' AND ended_at IS NULL AND wake_at <= ?1 AND owner IS NULL ORDER BY wake_at, row LIMIT ?2"
)
_LONGEST_RUNNING = (
    "SELECT row, kind, schema_version FROM wa_actions INDEXED BY wa_actions_open"
    " WHERE status = 'running' AND ended_at IS NULL AND wake_at IS NULL AND owner IS NULL ORDER BY row LIMIT ?"
)
_LATEST = f"SELECT max(?, coalesce(({LATEST}), 0))"


class Lane(NamedTuple):
    """What takes turns."""

    kind: str
    tenant: str


class Times(NamedTuple):
    """A moment, in microseconds.

    Attributes:
        at: now.
        longest: the latest end of a lease that somebody may have been given by now.
    """

    at: int
    longest: int


class Search:
    """The search of one claim.

    Args:
        owner: who claims; what it owns already is not looked for.
        schemas: the kinds to take, each with the newest schema version to take.
        admit: whether one of a kind may still be taken, and whether it is somebody's whose lease has lapsed; called
            once for each that is, in order.
        after: the lane that had its turn last.

    Attributes:
        taken: the rows that were found.
        after: the lane that has had its turn last.
    """

    def __init__(
        self,
        owner: str,
        times: Times,
        limit: int,
        schemas: Mapping[str, int],
        admit: Callable[[str, bool], bool],
        after: Lane,
    ) -> None:
        self._owner = owner
        self._times = times
        self._limit = limit
        self._schemas = schemas
        self._admit = admit
        self.after = after
        self.taken: list[int] = []

    def run(self) -> Program[None]:
        """Find what is due."""
        self._take((yield (_LAPSED, (*self._times, self._owner))).rows, self._limit, is_late=True)
        if self._room:
            lanes, is_cut = yield from self._walk()
            longest: list[Row] = []
            if is_cut:
                longest += (yield (_LONGEST_DUE, (self._times.at, self._limit))).rows
                longest += (yield (_LONGEST_RUNNING, (self._limit,))).rows
                self._take(longest, len(self.taken) + (self._room + 1) // 2)
            yield from self._take_turns(lanes, is_cut=is_cut)
            self._take(longest, self._limit)

    @property
    def _room(self) -> int:
        return self._limit - len(self.taken)

    def _take(self, rows: Sequence[Row], most: int, *, is_late: bool = False) -> int:
        count = 0
        for row, kind, schema_version in rows:
            if len(self.taken) >= most:
                break
            if schema_version > self._schemas.get(kind, -1) or row in self.taken or not self._admit(kind, is_late):
                continue
            self.taken.append(row)
            count += 1
        return count

    def _walk(self) -> Program[tuple[list[tuple[Lane, int]], bool]]:
        """The lanes with something due, from behind the one that was last; and whether there are more lanes."""
        latest = (yield (_LATEST, (self._times.at,))).rows[0][0]
        lanes: list[tuple[Lane, int]] = []
        walked = 0
        for kind, low, high in self._stretches():
            rows = (yield (_LANES, (kind, low, MOST_LANES - walked + 1))).rows
            for tenant, due in rows:
                if high is not None and tenant > high:
                    break
                if walked == MOST_LANES:
                    return lanes, True
                walked += 1
                # What was started by a clock that was set back since is due all the same (L-B5).
                if due <= latest:
                    lanes.append((Lane(kind, tenant), latest))
                self.after = Lane(kind, tenant)
        return lanes, False

    def _stretches(self) -> Iterator[tuple[str, str, str | None]]:
        """Once round all lanes: a kind, from which tenant, up to which one."""
        after = self.after
        kinds = sorted(self._schemas)
        if after.kind in self._schemas:
            yield after.kind, f"{after.tenant}\0", None  # the next text in order
        for kind in (*(kind for kind in kinds if kind > after.kind), *(kind for kind in kinds if kind < after.kind)):
            yield kind, "", None
        if after.kind in self._schemas:
            yield after.kind, "", after.tenant

    def _take_turns(self, lanes: Sequence[tuple[Lane, int]], *, is_cut: bool) -> Program[None]:
        turns = lanes[: self._room] if len(lanes) > self._room else lanes
        share = max(1, self._room // max(1, len(turns)))
        full = []
        for lane, latest in turns:
            if (yield from self._take_heads(lane, latest, share, 0)) == share:
                full.append((lane, latest))
            if len(lanes) > len(turns):
                self.after = lane
        if len(lanes) == len(turns) and not is_cut and lanes:
            self.after = lanes[0][0]  # what is left over goes to another one the next time
        for lane, latest in full:
            if not self._room:
                return
            yield from self._take_heads(lane, latest, self._room, share)

    def _take_heads(self, lane: Lane, latest: int, count: int, offset: int) -> Program[int]:
        schema_version = self._schemas[lane.kind]
        rows = (yield (_HEADS, (*lane, latest, self._times.at, schema_version, count, offset))).rows
        return self._take(rows, self._limit)
