"""What several workers over one memory share: claims, leases, and who is at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta

from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.errors import UsageError
from wallet_actions.fleet import LONGEST_LEASE, REMEMBERED, Claim, Limit, Worker
from wallet_actions_storage.memory.tables import Lane, Record, Tables

_BY_NAME = frozenset({Status.RUNNING, Status.PARKED, Status.STUCK, Status.QUARANTINED})


def claim(tables: Tables, claim: Claim, after: Lane) -> tuple[Sequence[Checkpoint], Lane]:
    """Take what is due; see `SharedStore.claim`.

    Args:
        after: the lane that had its turn last.

    Returns:
        What was taken, and the lane that had its turn last.
    """
    if claim.at.tzinfo is None:
        raise UsageError("times are UTC and carry their zone")
    rooms = _Rooms(tables, claim)
    taken: list[Record] = []
    for record in _named(tables, claim) if claim.keys is not None else _due(tables, claim, rooms, after):
        if len(taken) >= claim.limit:
            break
        if rooms.admit(record):
            taken.append(record)
            if record.owner is None:
                after = lane_of(record)
    for record in taken:
        own(tables, record, claim.owner, claim.at + claim.lease)
        record.version += 1
    rooms.close()
    return [record.checkpoint() for record in taken], after


def renew(tables: Tables, worker: Worker, at: datetime, lease: timedelta) -> frozenset[ActionKey]:
    """Prolong leases; see `SharedStore.renew`."""
    held = tables.owned.get(worker.owner, {})
    for record in held.values():
        until = at + lease
        is_right = record.lease_until is not None and record.lease_until <= at + LONGEST_LEASE
        record.lease_until = max(until, record.lease_until) if is_right and record.lease_until else until
    known = tables.workers.get(worker.owner)
    began = worker.started_at if known is None else known.started_at
    tables.workers[worker.owner] = Worker(worker.owner, worker.name, began, at)
    for owner, other in list(tables.workers.items()):
        if other.seen_at < at - REMEMBERED and not tables.owned.get(owner):
            del tables.workers[owner]
    return frozenset(record.key for record in held.values())


def let_go(tables: Tables, owner: str, keys: Collection[ActionKey] | None) -> int:
    """Give back; see `SharedStore.let_go`."""
    held = list(tables.owned.get(owner, {}).values())
    given = [record for record in held if keys is None or record.key in keys]
    for record in given:
        own(tables, record, None, None)
    if keys is None:
        tables.workers.pop(owner, None)
    return len(given)


def workers(tables: Tables, at: datetime) -> Sequence[Worker]:
    """Who is at work; see `SharedStore.workers`."""
    told = []
    for worker in sorted(tables.workers.values(), key=lambda worker: (worker.started_at, worker.owner)):
        held = sorted(
            (record.key, record.lease_until)
            for record in tables.owned.get(worker.owner, {}).values()
            if record.lease_until is not None
        )
        if worker.seen_at >= at - REMEMBERED or any(_is_live(until, at) for _, until in held):
            told.append(Worker(worker.owner, worker.name, worker.started_at, worker.seen_at, tuple(held)))
    return told


def own(tables: Tables, record: Record, owner: str | None, until: datetime | None) -> None:
    """Note who holds an action."""
    tables.unindex(record)
    record.owner, record.lease_until = owner, until
    tables.index(record)


def lane_of(record: Record) -> Lane:
    """The kind and the tenant that take turns."""
    return record.key.kind, record.tenant


class _Rooms:
    """What the kinds, the pauses and the limits let through."""

    def __init__(self, tables: Tables, claim: Claim) -> None:
        self._tables = tables
        self._claim = claim
        self._rooms: dict[str, int | None] = {}
        self._rates: dict[str, int | None] = {}
        self._counts: Counter[str] = Counter()
        self._added: Counter[str] = Counter()

    def is_open(self, kind: str, *, is_late: bool = False) -> bool:
        """Whether anything of a kind may be taken.

        Args:
            is_late: of what somebody owns whose lease has lapsed; it is counted as held already.
        """
        claim = self._claim
        if kind in self._tables.paused_kinds or kind not in claim.schemas:
            return False
        if kind in claim.limits and kind not in self._rooms:
            self._rooms[kind] = self._room(kind, claim.limits[kind])
            self._rates[kind] = claim.limits[kind].rate_room(self._tables.spent.get(kind), claim.at)
        room, rate = self._rooms.get(kind), self._rates.get(kind)
        has_rate = rate is None or self._counts[kind] < rate
        return has_rate and (is_late or room is None or self._added[kind] < room)

    def admit(self, record: Record) -> bool:
        """Whether one more may be taken; it is counted then."""
        kind, is_late = record.key.kind, record.owner not in (None, self._claim.owner)
        if not self.is_open(kind, is_late=is_late) or record.written.schema_version > self._claim.schemas[kind]:
            return False
        if kind in self._claim.limits:
            self._counts[kind] += 1
            self._added[kind] += not is_late
        return True

    def close(self) -> None:
        """Note what was spent."""
        for kind, count in self._counts.items():
            since = self._claim.limits[kind].spent(count, self._tables.spent.get(kind), self._claim.at)
            if since is not None:
                self._tables.spent[kind] = since

    def _room(self, kind: str, limit: Limit) -> int | None:
        named = set(self._claim.keys or ())  # whoever claims anew what it holds drives no more than before
        held = sum(
            record.key.kind == kind and not (record.owner == self._claim.owner and record.key in named)
            for rows in self._tables.owned.values()
            for record in rows.values()
        )
        return limit.room(held, self._tables.spent.get(kind), self._claim.at)


def _named(tables: Tables, claim: Claim) -> Iterator[Record]:
    for key in dict.fromkeys(claim.keys or ()):
        record = tables.records.get(key)
        if record is None or record.status not in _BY_NAME:
            continue
        if record.owner in (None, claim.owner) or not _is_live(record.lease_until, claim.at):
            yield record


def _due(tables: Tables, claim: Claim, rooms: _Rooms, after: Lane) -> Iterator[Record]:
    lapsed = [
        record
        for owner, rows in tables.owned.items()
        if owner != claim.owner
        for record in rows.values()
        if not _is_live(record.lease_until, claim.at) and _is_due(record, claim.at)
    ]
    yield from sorted(lapsed, key=lambda record: record.row)
    names = sorted(tables.lanes)
    turn = [*(lane for lane in names if lane > after), *(lane for lane in names if lane <= after)]
    # What was started by a clock that was set back since is due all the same (L-B5).
    latest = max(claim.at, tables.last_write_at or claim.at)
    queues = [(lane, _lane(tables, lane, claim.at, latest)) for lane in turn]
    while queues:
        left = []
        for lane, queue in queues:
            record = next(queue, None) if rooms.is_open(lane[0]) else None
            if record is not None:
                yield record
                left.append((lane, queue))
        queues = left


def _lane(tables: Tables, lane: Lane, at: datetime, latest: datetime) -> Iterator[Record]:
    for due, row in tables.lanes[lane].after(None):
        if due > latest:
            return
        record = tables.rows[row - 1]
        if _is_due(record, at):
            yield record


def _is_due(record: Record, at: datetime) -> bool:
    wake_at = record.written.wake_at
    return record.status is Status.RUNNING or (record.status is Status.PARKED and wake_at is not None and wake_at <= at)


def _is_live(until: datetime | None, at: datetime) -> bool:
    return until is not None and at < until <= at + LONGEST_LEASE
