"""What the memory store holds: the counterpart of the other stores' tables and indexes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from operator import itemgetter

from wallet_actions.checkpoint import Checkpoint, ErrorRecord, HistoryEntry, Status, Wake
from wallet_actions.coins import ActionKey, Coin, CoinState, Fact
from wallet_actions.errors import UsageError
from wallet_actions.fleet import Worker
from wallet_actions_storage.memory.ordered import Ordered

Past = tuple[int, datetime, str, Status, str, int, ErrorRecord | None, tuple[str, ...]]
"""A history entry, as the arguments of `HistoryEntry`: most are never read, so they are not built."""

Lane = tuple[str, str]
"""A kind and a tenant."""


class Record:
    """One action's row. `written` is what the driver wrote last; the other attributes are the store's own columns."""

    __slots__ = (
        "cancel",
        "created_at",
        "history",
        "key",
        "lease_until",
        "owner",
        "row",
        "status",
        "tenant",
        "traceparent",
        "updated_at",
        "version",
        "written",
    )

    def __init__(self, checkpoint: Checkpoint, notes: tuple[str, ...]) -> None:
        self.key = checkpoint.key
        self.row = 0
        self.created_at = checkpoint.created_at
        self.traceparent = checkpoint.traceparent
        self.tenant = checkpoint.tenant
        self.owner = checkpoint.owner
        self.lease_until = checkpoint.lease_until
        self.cancel = checkpoint.cancel
        self.version = checkpoint.version
        self.status = checkpoint.status
        self.updated_at = checkpoint.updated_at
        self.written = checkpoint
        self.history: list[Past] = []
        self.note("start", notes)

    def note(self, event: str, notes: tuple[str, ...]) -> None:
        """Add the present state to the history."""
        written = self.written
        self.history.append(
            (self.version, self.updated_at, event, self.status, written.phase, written.attempts, written.error, notes)
        )

    def checkpoint(self) -> Checkpoint:
        """The row as the port tells it."""
        written = self.written
        return Checkpoint(
            self.key.kind,
            self.key.id,
            self.version,
            written.schema_version,
            written.state,
            written.phase,
            self.status,
            self.created_at,
            self.updated_at,
            written.wake_at,
            written.attempts,
            written.faults,
            written.error,
            self.cancel,
            self.owner,
            self.lease_until,
            self.traceparent,
            written.result,
            self.row,
            self.tenant,
        )

    def wake(self) -> Wake:
        """The row as the lists of what is to be driven tell it."""
        return Wake(self.key, self.written.wake_at or self.updated_at, self.updated_at, self.row)

    def past(self, after: int, limit: int) -> list[HistoryEntry]:
        """The history, from behind a version on."""
        if not self.history:
            return []
        start = bisect_right(self.history, after, key=itemgetter(0))  # claims leave gaps between the versions
        return [HistoryEntry(*entry) for entry in self.history[start : start + limit]]

    def prune(self) -> None:
        """Forget the state and the history."""
        self.written = replace(self.written, state=None)
        self.history = []


@dataclass(slots=True)
class FactRow:
    """A fact, who wrote it, and its cursor."""

    cursor: int
    owner: ActionKey
    fact: Fact


class Tables:
    """Everything that the stores over one memory share. Its methods keep the indexes in step with the rows.

    Args:
        is_shared: whether workers claim what they drive.

    Attributes:
        lanes: what nobody owns, by when it is or was due and its row.
        owned: by owner and row.
        spent: by kind, see `Limit.spent`.
        listeners: by the store that listens.
    """

    def __init__(self, *, is_shared: bool = False) -> None:
        self.is_shared = is_shared
        self.lanes: dict[Lane, Ordered[tuple[datetime, int]]] = {}
        self.owned: dict[str, dict[int, Record]] = {}
        self.workers: dict[str, Worker] = {}
        self.spent: dict[str, datetime] = {}
        self.listeners: dict[int, list[Callable[[], None]]] = {}
        self.records: dict[tuple[str, str], Record] = {}
        self.rows: list[Record] = []
        self.coins: dict[str, Coin] = {}
        self.coin_ids: Ordered[str] = Ordered()
        self.coins_of: dict[ActionKey, dict[str, None]] = {}
        self.facts: dict[tuple[str, str], FactRow] = {}
        self.fact_rows: list[FactRow] = []
        self.counters: dict[str, int] = {}
        self.paused_kinds: set[str] = set()
        self.last_write_at: datetime | None = None
        self.waking: Ordered[tuple[datetime, int]] = Ordered()
        self.idle: Ordered[int] = Ordered()
        self.running: Ordered[int] = Ordered()
        self.ended: Ordered[tuple[datetime, int]] = Ordered()

    def insert(self, record: Record) -> None:
        """Append a new action."""
        self.rows.append(record)
        record.row = len(self.rows)
        self.records[record.key] = record
        self.index(record)
        self.stamp(record.updated_at)

    def index(self, record: Record) -> None:
        """Enter an action where the lists look for it."""
        wake_at = record.written.wake_at
        if record.status is Status.RUNNING:
            self.running.add(record.row)
        elif record.status is Status.PARKED:
            if wake_at is None:
                self.idle.add(record.row)
            else:
                self.waking.add((wake_at, record.row))
        elif record.status.is_terminal:
            self.ended.add((record.updated_at, record.row))
        if self.is_shared:
            self._index_shared(record)

    def unindex(self, record: Record) -> None:
        """Take an action that has not ended out of the lists, before it changes."""
        wake_at = record.written.wake_at
        if record.status is Status.RUNNING:
            self.running.remove(record.row)
        elif record.status is Status.PARKED:
            if wake_at is None:
                self.idle.remove(record.row)
            else:
                self.waking.remove((wake_at, record.row))
        if self.is_shared:
            self._unindex_shared(record)

    def wake_others(self, source: int) -> None:
        """Tell the other stores that something is due at once."""
        for listener, callbacks in self.listeners.items():
            if listener != source:
                for on_wake in tuple(callbacks):
                    on_wake()

    def _index_shared(self, record: Record) -> None:
        if record.owner is not None:
            self.owned.setdefault(record.owner, {})[record.row] = record
        elif (due := _due_at(record)) is not None:
            self.lanes.setdefault((record.key.kind, record.tenant), Ordered()).add((due, record.row))

    def _unindex_shared(self, record: Record) -> None:
        if record.owner is not None:
            held = self.owned[record.owner]
            del held[record.row]
            if not held:
                del self.owned[record.owner]
        elif (due := _due_at(record)) is not None:
            lane = self.lanes[record.key.kind, record.tenant]
            lane.remove((due, record.row))
            if lane.is_empty:
                del self.lanes[record.key.kind, record.tenant]

    def stamp(self, at: datetime) -> None:
        """Note the time of a write."""
        if self.last_write_at is None or at > self.last_write_at:
            self.last_write_at = at

    def put_coin(self, coin: Coin) -> None:
        """Write a coin's row, new or known."""
        old = self.coins.get(coin.id)
        if old is None:
            self.coin_ids.add(coin.id)
        elif old.holder is not None and old.holder != coin.holder:
            held = self.coins_of[old.holder]
            del held[coin.id]
            if not held:
                del self.coins_of[old.holder]
        if coin.holder is not None:
            self.coins_of.setdefault(coin.holder, {})[coin.id] = None
        self.coins[coin.id] = coin

    def put_fact(self, owner: ActionKey, fact: Fact) -> None:
        """Write a fact's row; one that is known keeps its cursor."""
        row = self.facts.get((fact.kind, fact.key))
        if row is not None:
            row.fact = fact
            return
        row = FactRow(len(self.fact_rows) + 1, owner, fact)
        self.fact_rows.append(row)
        self.facts[fact.kind, fact.key] = row

    def is_orphan(self, coin: Coin) -> bool:
        """Whether a coin is reserved for an action that has ended or does not exist (L-C10)."""
        if coin.state is not CoinState.RESERVED:
            return False
        holder = self.records.get(coin.holder) if coin.holder is not None else None
        return holder is None or holder.status.is_terminal


def _due_at(record: Record) -> datetime | None:
    if record.status is Status.RUNNING:
        return record.created_at
    return record.written.wake_at if record.status is Status.PARKED else None


def with_holder(coin: Coin, state: CoinState, holder: ActionKey | None) -> Coin:
    """The same coin in another state; quicker than `dataclasses.replace`."""
    return Coin(coin.id, coin.account, coin.unit, coin.amount, coin.payload, state, holder)


def check_times(checkpoint: Checkpoint) -> None:
    """Refuse a time without a zone, which could not be put in order with the others."""
    wake_at = checkpoint.wake_at
    if checkpoint.updated_at.tzinfo is None or (wake_at is not None and wake_at.tzinfo is None):
        raise UsageError("times are UTC and carry their zone")
