"""The SQLite store: what an app holds, and where each call goes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Self, TypeVar

import aiosqlite

from wallet_actions.checkpoint import Checkpoint, HistoryEntry, Status, Wake
from wallet_actions.coins import ActionKey, Balance, Coin, CoinState, Fact
from wallet_actions.errors import StoreUnavailableError, UsageError
from wallet_actions.fleet import Claim, Worker, check_lease
from wallet_actions.store import Created, Diagnosis, NewAction, Saved, Write
from wallet_actions_storage.sqlite import actions, commands, ledger, reads, sharing
from wallet_actions_storage.sqlite.app_connection import run_in_app_transaction
from wallet_actions_storage.sqlite.database import Database
from wallet_actions_storage.sqlite.diagnose import diagnose
from wallet_actions_storage.sqlite.embedding import Transaction
from wallet_actions_storage.sqlite.lanes import Lane
from wallet_actions_storage.sqlite.program import Program
from wallet_actions_storage.sqlite.settings import Durability, Settings, check_settings, parse_url
from wallet_actions_storage.sqlite.writer import Writer

T = TypeVar("T")


class SQLiteStore:
    """Keeps everything in one file; see `wallet_actions.store.Store` for the contract.

    Several stores, also of several processes, may share a file. Beside it stand SQLite's own files (`-wal`, `-shm`) and
    those of the locks (`.lock`, `.commit-lock`); all are made for their owner alone, mode 0600.

    The app's own tables may live in the same file. They are written by `Delta.statements`, inside `transaction()`, or
    over a connection of the app's own, whose commits however are not kept apart from ours; see ADR 0002.

    Args:
        path: the file; made if it is missing. Its folder must exist.
        exclusive: refuse a second store on the file, in this process or another. Needs file locks (not on Windows).
        durability: `full` flushes each commit to the disk. `normal` does not: a crash of the machine, not of the
            process, may then lose the last commits, but never a part of one.
        history: whether a history is written. What was written before is kept and told.
        busy_timeout: how long to wait for other processes before `StoreUnavailableError`.
        read_only: write nothing at all, not even a newer schema; writes raise `UsageError`. Other stores may have the
            file open, exclusively too.
        shared: whether the engines on this file are workers of one fleet, which claim what they drive. The same in all
            processes that drive.

    Raises:
        UsageError: the path is not a file's, or an option is not known.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        exclusive: bool = False,
        durability: Durability = "full",
        history: bool = True,
        busy_timeout: timedelta = timedelta(seconds=5),
        read_only: bool = False,
        shared: bool = False,
    ) -> None:
        self._settings = check_settings(
            Settings(
                Path(path).absolute(), exclusive, durability, history, busy_timeout.total_seconds(), read_only, shared
            )
        )
        self._database: Database | None = None
        self._after = Lane("", "")

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Make a store for `sqlite:///relative.db` or `sqlite:////absolute.db`.

        The options of the class may follow, as in `?exclusive=true&history=false&busy_timeout=2.5`.

        Raises:
            UsageError: the URL names no file, or an option is not known.
        """
        path, options = parse_url(url)
        return cls(path, **options)

    async def __aenter__(self) -> Self:
        """Open it. See `Store`."""
        if self._database is not None:
            raise UsageError("this store is open already; make another one")
        self._database = await Database.open(self._settings)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close it. See `Store`."""
        database, self._database = self._database, None
        if database is not None:
            await database.close()

    # Actions

    async def create(self, new: NewAction, *, conn: object | None = None) -> Created:
        """See `Store`. `conn` is what `transaction()` yields, or a connection of aiosqlite with a transaction begun."""
        writer = self._writer()
        if conn is None:
            return await writer.start(new, self._settings.has_history)
        start = partial(actions.create, new, self._settings.has_history)
        if isinstance(conn, aiosqlite.Connection):
            return await run_in_app_transaction(conn, start(), self._settings.path)
        if not isinstance(conn, Transaction) or conn.owner is not writer:
            raise UsageError("conn is what transaction() of this store yields, or a connection of aiosqlite")
        return await conn.run(start())

    async def save(self, write: Write) -> Saved:
        """See `Store`."""
        writer = self._writer()
        if write.checkpoint.status.is_terminal:
            raise UsageError("the last checkpoint of an action is written by finish")
        return await writer.write(write, self._settings.has_history)

    async def finish(self, write: Write) -> Saved:
        """See `Store`."""
        writer = self._writer()
        if not write.checkpoint.status.is_terminal:
            raise UsageError("an action finishes with a terminal status")
        return await writer.write(write, self._settings.has_history)

    async def request_cancel(self, key: ActionKey, at: datetime) -> bool:
        """See `Store`. `updated_at` stays: it tells of the driver."""
        return await self._submit(partial(actions.request_cancel, key, at))

    async def load(self, key: ActionKey) -> Checkpoint | None:
        """See `Store`."""
        return await self._opened().load(key)

    async def list_actions(
        self,
        *,
        statuses: Collection[Status] | None = None,
        kinds: Collection[str] | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> Sequence[Checkpoint]:
        """See `Store`."""
        return await self._read(lambda connection: reads.list_actions(connection, statuses, kinds, after, limit))

    async def count_actions(self) -> dict[tuple[str, Status], int]:
        """See `Store`. Passes over those that have not ended, in an index."""
        return await self._read(reads.count_actions)

    async def wakes(self, *, until: datetime | None, after: Wake | None = None, limit: int = 100) -> Sequence[Wake]:
        """See `Store`."""
        return await self._read(lambda connection: reads.wakes(connection, until, after, limit))

    async def idle(self, *, after: int = 0, limit: int = 100) -> Sequence[Wake]:
        """See `Store`."""
        return await self._read(lambda connection: reads.idle(connection, after, limit))

    async def running(self, *, before: datetime, after: int = 0, limit: int = 100) -> Sequence[Wake]:
        """See `Store`."""
        return await self._read(lambda connection: reads.running(connection, before, after, limit))

    async def last_write_at(self) -> datetime | None:
        """See `Store`."""
        return await self._read(reads.last_write_at)

    async def history(self, key: ActionKey, *, after: int = -1, limit: int = 1000) -> Sequence[HistoryEntry]:
        """See `Store`."""
        return await self._read(lambda connection: reads.history(connection, key, after, limit))

    async def prune(self, before: datetime, *, limit: int = 500) -> int:
        """See `Store`. Those that ended first go first."""
        return await self._submit(partial(commands.prune, before, limit))

    # Kinds

    async def set_kind_paused(self, kind: str, is_paused: bool) -> None:
        """See `Store`."""
        await self._submit(partial(commands.set_kind_paused, kind, is_paused))

    async def paused_kinds(self) -> frozenset[str]:
        """See `Store`."""
        return await self._read(reads.paused_kinds)

    # Ledger

    async def coins(
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
        return await self._read(lambda connection: ledger.coins(connection, account, unit, state, holder, after, limit))

    async def coins_by_id(self, ids: Collection[str]) -> Sequence[Coin]:
        """See `Store`."""
        return await self._read(lambda connection: ledger.coins_by_id(connection, ids))

    async def balances(self, account: str | None = None) -> Sequence[Balance]:
        """See `Store`."""
        return await self._read(lambda connection: ledger.balances(connection, account))

    async def orphans(self, *, limit: int = 1000) -> Sequence[Coin]:
        """See `Store`."""
        return await self._read(lambda connection: ledger.orphans(connection, limit))

    async def release_orphans(self, ids: Collection[str]) -> int:
        """See `Store`."""
        return await self._submit(partial(commands.release_orphans, ids))

    async def facts(
        self, *, kind: str | None = None, key: str | None = None, after: int = 0, limit: int = 1000
    ) -> Sequence[tuple[int, Fact]]:
        """See `Store`."""
        return await self._read(lambda connection: ledger.facts(connection, kind, key, after, limit))

    async def allocate(self, counter: str, count: int = 1) -> int:
        """See `Store`."""
        writer = self._writer()
        if count < 1:
            raise UsageError("allocate at least one value")
        return await writer.submit(partial(commands.allocate, counter, count))

    async def counters(self) -> dict[str, int]:
        """See `Store`."""
        return await self._read(reads.counters)

    # With others, see `wallet_actions.fleet.SharedStore`

    @property
    def is_shared(self) -> bool:
        """See `SharedStore`."""
        return self._settings.is_shared

    async def now(self) -> datetime:
        """The clock of the machine, as SQLite tells it: all processes on a file are on one machine."""
        return await self._read(sharing.now)

    async def claim(self, claim: Claim) -> Sequence[Checkpoint]:
        """See `SharedStore`. What finds nothing takes no lock either."""
        writer, after = self._writer(), self._after
        is_open = claim.keys is not None or await self._read(
            lambda connection: sharing.is_anything_due(connection, claim, after)
        )
        if not is_open:
            return []
        taken, self._after = await writer.submit(partial(sharing.claim, claim, after))
        return taken

    async def renew(self, worker: Worker, *, at: datetime, lease: timedelta) -> frozenset[ActionKey]:
        """See `SharedStore`."""
        check_lease(lease)
        return await self._submit(partial(sharing.renew, worker, at, lease))

    async def let_go(self, owner: str, keys: Collection[ActionKey] | None = None) -> int:
        """See `SharedStore`."""
        return await self._submit(partial(sharing.let_go, owner, keys))

    async def workers(self, *, at: datetime) -> Sequence[Worker]:
        """See `SharedStore`."""
        return await self._read(lambda connection: sharing.workers(connection, at))

    def listen(self, on_wake: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """See `SharedStore`. SQLite tells nobody of a commit: polls find everything."""
        self._opened()
        return nullcontext()

    # The embedding app and the operator

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """See `Store`. Statements may not begin or end transactions, write to our tables, or open other files."""
        return self._writer().transaction()

    async def diagnose(self) -> Sequence[Diagnosis]:
        """See `Store`."""
        settings = self._settings
        return await self._read(lambda connection: diagnose(connection, settings))

    async def _submit(self, start: Callable[[], Program[T]]) -> T:
        return await self._writer().submit(start)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await self._opened().read(work)

    def _opened(self) -> Database:
        if self._database is None:
            raise StoreUnavailableError(f"the database {self._settings.name} is not open")
        return self._database

    def _writer(self) -> Writer:
        writer = self._opened().writer
        if writer is None:
            raise UsageError(f"the database {self._settings.name} was opened to be read only")
        return writer
