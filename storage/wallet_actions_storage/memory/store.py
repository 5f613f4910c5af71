"""The memory store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any, Self

from wallet_actions.checkpoint import CancelState, Checkpoint, HistoryEntry, Status, Wake
from wallet_actions.coins import MAX_AMOUNT, ActionKey, Balance, Coin, CoinState, Fact
from wallet_actions.errors import UsageError, VersionConflictError
from wallet_actions.store import EMPTY_DELTA, Created, Diagnosis, NewAction, Saved, Write
from wallet_actions_storage.memory.answers import answered
from wallet_actions_storage.memory.shared import SharedMemory
from wallet_actions_storage.memory.tables import Tables, check_times, with_holder
from wallet_actions_storage.memory.unit import Unit


class MemoryStore(SharedMemory):
    """Keeps everything in memory; see `wallet_actions.store.Store` for the contract, which it keeps in full.

    What the object holds outlives `async with`: open it again and everything committed is there, as after a restart.
    `peer` gives a second store over the same memory, which is opened and closed by itself, as a second process would.

    Each call takes effect at once, then yields to the event loop, then answers. So a read may be stale by the time it
    is told, and a writer that is cancelled has committed without knowing it: what is hardest on the caller.

    "Durable" means here: as long as the object lives. There is no SQL. Listing by a filter that leaves out most rows
    costs what it passes over, and so do `balances`, `orphans` and `count_actions`.

    Args:
        shared: whether the engines on this memory and its peers are workers of one fleet, see `wallet_actions.fleet`.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self._tables = Tables(is_shared=shared)
        self._is_open = False

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Make an empty store for `memory://` or `memory://?shared=true`.

        Raises:
            UsageError: the URL says more than that; a memory has no name.
        """
        if url not in {"memory://", "memory://?shared=true"}:
            raise UsageError("the URL of a memory store is memory:// or memory://?shared=true, and nothing behind it")
        return cls(shared=url != "memory://")

    def peer(self) -> Self:
        """Make another store over the same memory, not open yet."""
        other = type(self).__new__(type(self))
        MemoryStore.__init__(other)
        other._tables = self._tables  # noqa: SLF001
        return other

    async def __aenter__(self) -> Self:
        """Open it. See `Store`."""
        self._is_open = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close it; what it holds is kept. See `Store`."""
        self._is_open = False

    # Actions

    @answered
    def create(self, new: NewAction, *, conn: object | None = None) -> Created:
        """See `Store`. It has no transactions to take part in, so `conn` raises `UsageError`."""
        tables = self._opened()
        if conn is not None:
            raise UsageError("the memory store has no transactions to write in")
        unit = Unit(tables)
        record = unit.create(new)
        if record is None:
            return Created(tables.records[new.checkpoint.key].checkpoint(), is_new=False)
        unit.commit()
        self._wake_others()
        return Created(record.checkpoint(), is_new=True)

    @answered
    def save(self, write: Write) -> Saved:
        """See `Store`."""
        if write.checkpoint.status.is_terminal:
            raise UsageError("the last checkpoint of an action is written by finish")
        return self._write(write)

    @answered
    def finish(self, write: Write) -> Saved:
        """See `Store`."""
        if not write.checkpoint.status.is_terminal:
            raise UsageError("an action finishes with a terminal status")
        return self._write(write)

    @answered
    def request_cancel(self, key: ActionKey, at: datetime) -> bool:
        """See `Store`."""
        tables = self._opened()
        record = tables.records.get(key)
        if record is None or record.status.is_terminal:
            return False
        if record.cancel is CancelState.ACCEPTED:
            return True
        record.cancel = CancelState.REQUESTED
        wake_at = record.written.wake_at
        if record.status is Status.PARKED and (wake_at is None or at < wake_at):
            tables.unindex(record)
            record.written = replace(record.written, wake_at=at)
            tables.index(record)
            self._wake_others()
        tables.stamp(at)
        return True

    @answered
    def load(self, key: ActionKey) -> Checkpoint | None:
        """See `Store`."""
        record = self._opened().records.get(key)
        return None if record is None else record.checkpoint()

    @answered
    def list_actions(
        self,
        *,
        statuses: Collection[Status] | None = None,
        kinds: Collection[str] | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> Sequence[Checkpoint]:
        """See `Store`."""
        found = (
            record.checkpoint()
            for record in islice(self._opened().rows, after, None)
            if (statuses is None or record.status in statuses) and (kinds is None or record.key.kind in kinds)
        )
        return list(islice(found, limit))

    @answered
    def count_actions(self) -> dict[tuple[str, Status], int]:
        """See `Store`."""
        counts: dict[tuple[str, Status], int] = {}
        for record in self._opened().rows:
            group = (record.key.kind, record.status)
            counts[group] = counts.get(group, 0) + 1
        return counts

    @answered
    def wakes(self, *, until: datetime | None, after: Wake | None = None, limit: int = 100) -> Sequence[Wake]:
        """See `Store`."""
        tables = self._opened()
        found: list[Wake] = []
        for wake_at, row in tables.waking.after(None if after is None else (after.wake_at, after.row)):
            if len(found) >= limit or (until is not None and wake_at > until):
                break
            record = tables.rows[row - 1]
            if record.key.kind not in tables.paused_kinds:
                found.append(record.wake())
        return found

    @answered
    def idle(self, *, after: int = 0, limit: int = 100) -> Sequence[Wake]:
        """See `Store`."""
        tables = self._opened()
        parked = (tables.rows[row - 1] for row in tables.idle.after(after))
        return [record.wake() for record in islice((r for r in parked if r.key.kind not in tables.paused_kinds), limit)]

    @answered
    def running(self, *, before: datetime, after: int = 0, limit: int = 100) -> Sequence[Wake]:
        """See `Store`."""
        tables = self._opened()
        found = (
            Wake(record.key, record.updated_at, record.updated_at, record.row)
            for record in (tables.rows[row - 1] for row in tables.running.after(after))
            if record.updated_at < before and record.key.kind not in tables.paused_kinds
        )
        return list(islice(found, limit))

    @answered
    def last_write_at(self) -> datetime | None:
        """See `Store`."""
        return self._opened().last_write_at

    @answered
    def history(self, key: ActionKey, *, after: int = -1, limit: int = 1000) -> Sequence[HistoryEntry]:
        """See `Store`."""
        record = self._opened().records.get(key)
        return [] if record is None else record.past(after, limit)

    @answered
    def prune(self, before: datetime, *, limit: int = 500) -> int:
        """See `Store`. Those that ended first go first."""
        tables = self._opened()
        old = [end for end in islice(tables.ended.after(None), limit) if end[0] < before]
        for end in old:
            record = tables.rows[end[1] - 1]
            record.prune()
            for coin_id in tables.coins_of.get(record.key, ()):
                coin = tables.coins[coin_id]
                if coin.state is CoinState.SPENT:
                    tables.coins[coin_id] = replace(coin, payload="")
            tables.ended.remove(end)
        return len(old)

    # Kinds

    @answered
    def set_kind_paused(self, kind: str, is_paused: bool) -> None:
        """See `Store`."""
        paused = self._opened().paused_kinds
        (paused.add if is_paused else paused.discard)(kind)

    @answered
    def paused_kinds(self) -> frozenset[str]:
        """See `Store`."""
        return frozenset(self._opened().paused_kinds)

    # Ledger

    @answered
    def coins(
        self,
        *,
        account: str | None = None,
        unit: str | None = None,
        state: CoinState | None = None,
        holder: ActionKey | None = None,
        after: str = "",
        limit: int = 1000,
    ) -> Sequence[Coin]:
        """See `Store`."""
        tables = self._opened()
        if holder is None:
            ids = tables.coin_ids.after(after)
        else:
            ids = iter(sorted(coin_id for coin_id in tables.coins_of.get(holder, ()) if coin_id > after))
        found = (
            coin
            for coin in map(tables.coins.__getitem__, ids)
            if (state is None or coin.state is state)
            and (account is None or coin.account == account)
            and (unit is None or coin.unit == unit)
        )
        return list(islice(found, limit))

    @answered
    def coins_by_id(self, ids: Collection[str]) -> Sequence[Coin]:
        """See `Store`."""
        coins = self._opened().coins
        return [coins[coin_id] for coin_id in sorted(set(ids)) if coin_id in coins]

    @answered
    def balances(self, account: str | None = None) -> Sequence[Balance]:
        """See `Store`."""
        sums: dict[tuple[str, str], list[int]] = {}
        for coin in self._opened().coins.values():
            if coin.state is not CoinState.SPENT and (account is None or coin.account == account):
                sums.setdefault((coin.account, coin.unit), [0, 0])[coin.state is CoinState.RESERVED] += coin.amount
        return [Balance(*group, *sums[group]) for group in sorted(sums)]

    @answered
    def orphans(self, *, limit: int = 1000) -> Sequence[Coin]:
        """See `Store`."""
        tables = self._opened()
        coins = map(tables.coins.__getitem__, tables.coin_ids.after(None))
        return list(islice(filter(tables.is_orphan, coins), limit))

    @answered
    def release_orphans(self, ids: Collection[str]) -> int:
        """See `Store`."""
        tables = self._opened()
        known = (tables.coins[coin_id] for coin_id in set(ids) if coin_id in tables.coins)
        freed = [coin for coin in known if tables.is_orphan(coin)]
        for coin in freed:
            tables.put_coin(with_holder(coin, CoinState.SPENDABLE, None))
        return len(freed)

    @answered
    def facts(
        self, *, kind: str | None = None, key: str | None = None, after: int = 0, limit: int = 1000
    ) -> Sequence[tuple[int, Fact]]:
        """See `Store`."""
        found = (
            (row.cursor, row.fact)
            for row in islice(self._opened().fact_rows, after, None)
            if (kind is None or row.fact.kind == kind) and (key is None or row.fact.key == key)
        )
        return list(islice(found, limit))

    @answered
    def allocate(self, counter: str, count: int = 1) -> int:
        """See `Store`."""
        counters = self._opened().counters
        if count < 1:
            raise UsageError("allocate at least one value")
        first = counters.get(counter, 0)
        if first > MAX_AMOUNT - count:
            raise UsageError(f"counter {counter} does not have {count} values left")
        counters[counter] = first + count
        return first

    @answered
    def counters(self) -> dict[str, int]:
        """See `Store`."""
        return dict(self._opened().counters)

    # The embedding app and the operator

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Raise `UsageError`: there is no SQL."""
        raise UsageError("the memory store has no SQL, and so no transactions of the app")

    @answered
    def diagnose(self) -> Sequence[Diagnosis]:
        """See `Store`."""
        count = len(self._opened().rows)
        return [Diagnosis(True, "memory", f"{count} actions in memory; they end with the process")]

    def _write(self, write: Write) -> Saved:
        tables = self._opened()
        checkpoint, expected = write.checkpoint, write.expected_version
        if checkpoint.version != expected + 1:
            raise UsageError("a checkpoint's version is the one before, plus one")
        check_times(checkpoint)
        status = checkpoint.status
        record = tables.records.get((checkpoint.kind, checkpoint.id))
        # Before the delta: a late driver's coins are no longer its own, and that is no fault of the action.
        if record is None or record.version != expected or record.status.is_terminal:
            raise VersionConflictError(checkpoint.kind, checkpoint.id, expected)
        if write.delta is not EMPTY_DELTA or status.is_terminal:
            unit = Unit(tables)
            unit.change(record.key, write.delta)
            if status.is_terminal:
                unit.release_all(record.key)
            unit.start(write.delta)
            unit.commit()
        is_moving = status is not Status.RUNNING or record.status is not Status.RUNNING
        if is_moving:
            tables.unindex(record)
        record.written = checkpoint
        record.version = checkpoint.version
        record.status = status
        if status is not Status.RUNNING:
            record.owner = record.lease_until = None
        if checkpoint.updated_at > record.updated_at:
            record.updated_at = checkpoint.updated_at
        if write.cancel is not None:
            record.cancel = write.cancel
        record.note(write.event, write.notes)
        if is_moving:
            tables.index(record)
        if tables.listeners and (write.delta.start or _is_due(checkpoint)):
            self._wake_others()
        tables.stamp(record.updated_at)
        return Saved(record.version, record.cancel is CancelState.REQUESTED)


def _is_due(checkpoint: Checkpoint) -> bool:
    wake_at = checkpoint.wake_at
    return checkpoint.status is Status.PARKED and wake_at is not None and wake_at <= checkpoint.updated_at
