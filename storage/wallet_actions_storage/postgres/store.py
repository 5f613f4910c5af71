"""The PostgreSQL store: what an app holds, and where each call goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Self, TypeVar

import asyncpg

from wallet_actions.checkpoint import Checkpoint, HistoryEntry, Status, Wake
from wallet_actions.coins import ActionKey, Balance, Coin, CoinState, Fact
from wallet_actions.errors import StoreUnavailableError, UsageError
from wallet_actions.fleet import Claim, Worker, check_lease
from wallet_actions.store import Created, Diagnosis, NewAction, Saved, Write
from wallet_actions_storage.postgres import actions, claims, commands, ledger, reads, sharing
from wallet_actions_storage.postgres.batch import Alone, Start, Unit, is_plain_start
from wallet_actions_storage.postgres.database import Database
from wallet_actions_storage.postgres.diagnose import diagnose
from wallet_actions_storage.postgres.embedding import Transaction, run_in_app_transaction
from wallet_actions_storage.postgres.program import Program
from wallet_actions_storage.postgres.settings import Settings, check_settings, parse_url
from wallet_actions_storage.postgres.sql import Sql

T = TypeVar("T")


class PostgresStore:
    """Keeps everything in one schema of a PostgreSQL database; see `wallet_actions.store.Store` for the contract.

    Any number of stores, of any number of processes, may share a schema. A store takes one connection to write, and up
    to `readers` to read, which are opened when they are needed. See docs/scale.md and ADR 0010.

    The app's own tables may be in the same database. They are written by `Delta.statements`, inside `transaction()`, or
    over a connection of the app's own; parameters are `$1`, `$2`, ….

    Args:
        dsn: `postgresql://user:password@host:port/database`, and what else asyncpg takes, as `?sslmode=verify-full`.
        schema: where the tables are; made if it is missing.
        history: whether a history is written. What was written before is kept and told.
        busy_timeout: how long to wait for the database, through restarts and fail-overs, before
            `StoreUnavailableError`; also, how long a transaction of the app may stand still.
        prepared_statements: whether statements are kept prepared. False behind a pooler that gives each transaction
            another connection and does not know them: PgBouncer before 1.21, or with `max_prepared_statements = 0`.
        readers: how many reads may be under way at once.
        listen: whether to listen for what others make due; or the URL of the server itself, where `dsn` is a pooler's.
        read_only: write nothing at all, not even a newer schema; writes raise `UsageError`.

    Raises:
        UsageError: an option has a value that cannot work.
    """

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "wallet_actions",
        history: bool = True,
        busy_timeout: timedelta = timedelta(seconds=10),
        prepared_statements: bool = True,
        readers: int = 2,
        listen: bool | str = True,
        read_only: bool = False,
    ) -> None:
        listen_dsn = listen if isinstance(listen, str) else dsn if listen else ""
        self._settings = check_settings(
            Settings(
                dsn,
                schema,
                history,
                busy_timeout.total_seconds(),
                prepared_statements,
                readers,
                listen_dsn,
                read_only,
            )
        )
        self._database: Database | None = None
        self._claimed = claims.Taken([], claims.Lane("", ""))

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Make a store for `postgresql://user:password@host:port/database`.

        The options of the class may follow, as in `?schema=wallet&history=false&busy_timeout=30`, and those of asyncpg.

        Raises:
            UsageError: an option is not known.
        """
        dsn, options = parse_url(url)
        return cls(dsn, **options)

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
        """See `Store`. `conn` is what `transaction()` yields, or a connection of asyncpg with a transaction begun."""
        database = self._writable()
        start = partial(actions.create, new)
        if conn is None:
            if is_plain_start(new):
                actions.start_values(new.checkpoint, new.notes)  # what cannot be written is refused here
            made: Created = await self._submit(new=new)
            return made
        if isinstance(conn, asyncpg.Connection):
            program = start(database.sql, 0)
            return await run_in_app_transaction(conn, program, self._settings.name, database.sql)
        if not isinstance(conn, Transaction) or conn.owner is not database.writer:
            raise UsageError("conn is what transaction() of this store yields, or a connection of asyncpg")
        created: Created = await conn.run(start)
        return created

    async def save(self, write: Write) -> Saved:
        """See `Store`."""
        self._writable()
        if write.checkpoint.status.is_terminal:
            raise UsageError("the last checkpoint of an action is written by finish")
        return await self._write(write)

    async def finish(self, write: Write) -> Saved:
        """See `Store`."""
        self._writable()
        if not write.checkpoint.status.is_terminal:
            raise UsageError("an action finishes with a terminal status")
        return await self._write(write)

    async def request_cancel(self, key: ActionKey, at: datetime) -> bool:
        """See `Store`. `updated_at` stays: it tells of the driver."""
        return await self._command(partial(actions.request_cancel, key, at))

    async def load(self, key: ActionKey) -> Checkpoint | None:
        """See `Store`."""
        return await reads.load(self._read(), key)

    async def list_actions(
        self,
        *,
        statuses: Collection[Status] | None = None,
        kinds: Collection[str] | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> Sequence[Checkpoint]:
        """See `Store`. One that is being started meanwhile may get a lower row than one that is there already."""
        return await reads.list_actions(self._read(), statuses, kinds, after, limit)

    async def count_actions(self) -> dict[tuple[str, Status], int]:
        """See `Store`. Passes over those that have not ended, in an index."""
        return await reads.count_actions(self._read())

    async def wakes(self, *, until: datetime | None, after: Wake | None = None, limit: int = 100) -> Sequence[Wake]:
        """See `Store`."""
        return await reads.wakes(self._read(), until, after, limit)

    async def idle(self, *, after: int = 0, limit: int = 100) -> Sequence[Wake]:
        """See `Store`."""
        return await reads.idle(self._read(), after, limit)

    async def running(self, *, before: datetime, after: int = 0, limit: int = 100) -> Sequence[Wake]:
        """See `Store`."""
        return await reads.running(self._read(), before, after, limit)

    async def last_write_at(self) -> datetime | None:
        """See `Store`."""
        return await reads.last_write_at(self._read())

    async def history(self, key: ActionKey, *, after: int = -1, limit: int = 1000) -> Sequence[HistoryEntry]:
        """See `Store`."""
        return await reads.history(self._read(), key, after, limit)

    async def prune(self, before: datetime, *, limit: int = 500) -> int:
        """See `Store`. Those that ended first go first; those that another store is pruning are passed over."""
        return await self._command(partial(commands.prune, before, limit))

    # Kinds

    async def set_kind_paused(self, kind: str, is_paused: bool) -> None:
        """See `Store`."""
        await self._command(partial(commands.set_kind_paused, kind, is_paused))

    async def paused_kinds(self) -> frozenset[str]:
        """See `Store`."""
        return await reads.paused_kinds(self._read())

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
        return await ledger.coins(self._read(), account, unit, state, holder, after, limit)

    async def coins_by_id(self, ids: Collection[str]) -> Sequence[Coin]:
        """See `Store`."""
        return await ledger.coins_by_id(self._read(), ids)

    async def balances(self, account: str | None = None) -> Sequence[Balance]:
        """See `Store`."""
        return await ledger.balances(self._read(), account)

    async def orphans(self, *, limit: int = 1000) -> Sequence[Coin]:
        """See `Store`."""
        return await ledger.orphans(self._read(), limit)

    async def release_orphans(self, ids: Collection[str]) -> int:
        """See `Store`."""
        return await self._command(partial(commands.release_orphans, ids))

    async def facts(
        self, *, kind: str | None = None, key: str | None = None, after: int = 0, limit: int = 1000
    ) -> Sequence[tuple[int, Fact]]:
        """See `Store`."""
        return await ledger.facts(self._read(), kind, key, after, limit)

    async def allocate(self, counter: str, count: int = 1) -> int:
        """See `Store`."""
        self._writable()
        if count < 1:
            raise UsageError("allocate at least one value")
        first: int = await self._submit(lambda sql, _: commands.allocate(counter, count, sql), counter=counter)
        return first

    async def counters(self) -> dict[str, int]:
        """See `Store`."""
        return await reads.counters(self._read())

    # With others, see `wallet_actions.fleet.SharedStore`

    @property
    def is_shared(self) -> bool:
        """See `SharedStore`."""
        return True

    async def now(self) -> datetime:
        """The server's clock."""
        return await sharing.now(self._read())

    async def claim(self, claim: Claim) -> Sequence[Checkpoint]:
        """See `SharedStore`. What others are just claiming is passed over."""
        last, alone = self._claimed, None
        if claims.is_at_once(claim):
            alone = Alone(partial(claims.claim_at_once, claim, last), partial(claims.claimed, claim, last.after))
        taken: claims.Taken = await self._submit(lambda sql, _: claims.claim(claim, last.after, sql), alone=alone)
        rows, rest, self._claimed = taken.rows, taken.rest, taken._replace(rows=[])
        if rest is not None:
            try:
                more = await self._command(partial(claims.claim_rest, claim, taken, rest))
            except StoreUnavailableError:
                return rows  # these are ours, whatever became of the others
            rows, self._claimed = [*rows, *more.rows], more._replace(rows=[])
        return rows

    async def renew(self, worker: Worker, *, at: datetime, lease: timedelta) -> frozenset[ActionKey]:
        """See `SharedStore`."""
        check_lease(lease)
        return await self._command(partial(sharing.renew, worker, at, lease))

    async def let_go(self, owner: str, keys: Collection[ActionKey] | None = None) -> int:
        """See `SharedStore`."""
        return await self._command(partial(sharing.let_go, owner, keys))

    async def workers(self, *, at: datetime) -> Sequence[Worker]:
        """See `SharedStore`."""
        return await sharing.workers(self._read(), at)

    def listen(self, on_wake: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """See `SharedStore`. Over a connection of its own, which is opened anew where it is lost."""
        return self._opened().messenger.listen(on_wake)

    # The embedding app and the operator

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """See `Store`. Statements may not begin or end transactions, or change the session."""
        return self._writable().open_transaction()

    async def diagnose(self) -> Sequence[Diagnosis]:
        """See `Store`."""
        return await diagnose(self._read(), self._settings, self._opened().newest)

    async def _write(self, write: Write) -> Saved:
        answer: asyncio.Future[Saved] = asyncio.get_running_loop().create_future()
        saved: Saved = await self._writable().submit(Unit(answer, given=actions.WriteValues(write)))
        return saved

    async def _command(self, command: Callable[[Sql], Program[T]]) -> T:
        """Run a program that needs neither token nor slot."""
        answer: T = await self._submit(lambda sql, _: command(sql))
        return answer

    async def _submit(self, start: Start | None = None, **parts: Any) -> Any:
        database = self._writable()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        return await database.submit(Unit(answer, start=start, **parts))

    def _read(self) -> Callable[..., Awaitable[Any]]:
        return self._opened().readers.read

    def _opened(self) -> Database:
        if self._database is None:
            raise StoreUnavailableError(f"the database {self._settings.name} is not open")
        return self._database

    def _writable(self) -> Database:
        database = self._opened()
        if database.writer is None:
            raise UsageError(f"the database {self._settings.name} was opened to be read only")
        return database
