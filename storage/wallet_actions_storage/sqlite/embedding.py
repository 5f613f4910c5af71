"""A transaction of the embedding app on the store's own writing connection."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import anyio

from wallet_actions.errors import StatementError, StoreError, UsageError, WalletActionError
from wallet_actions_storage.sqlite.failures import is_fault, statement_error, unavailable, unit_error
from wallet_actions_storage.sqlite.guard import CommitLock
from wallet_actions_storage.sqlite.program import Program
from wallet_actions_storage.sqlite.rows import Row
from wallet_actions_storage.sqlite.session import Session, TransactionLostError
from wallet_actions_storage.sqlite.thread import ConnectionThread

T = TypeVar("T")


class Rows:
    """What a statement of the app answered, read to its end.

    Attributes:
        rowcount: how many rows it changed; -1 where it changed none by its nature.
    """

    def __init__(self, rows: list[Row], rowcount: int) -> None:
        self._rows = rows
        self._next = 0
        self.rowcount = rowcount

    async def fetchone(self) -> Row | None:
        """The next row."""
        rows = self._rows[self._next : self._next + 1]
        self._next += len(rows)
        return rows[0] if rows else None

    async def fetchall(self) -> list[Row]:
        """All further rows."""
        rows, self._next = self._rows[self._next :], len(self._rows)
        return rows


class Transaction:
    """A transaction of the app on the store's writing connection; what `SQLiteStore.transaction` yields.

    The writer serves it between two batches: it begins the transaction, waits for the app's word, and ends it itself,
    so that a task that is cancelled leaves nothing open.

    Attributes:
        owner: the writer that serves it.
        is_open: whether statements can be run.
    """

    def __init__(
        self,
        owner: object,
        thread: ConnectionThread,
        session: Session,
        lock: CommitLock,
        name: str,
        patience_s: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.owner = owner
        self.is_open = False
        self._thread = thread
        self._session = session
        self._lock = lock
        self._name = name
        self._patience_s = patience_s
        self._held = ExitStack()
        self._begun: asyncio.Future[None] = loop.create_future()
        self._word: asyncio.Future[bool] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Run a statement of the app's. It may use savepoints; begin and commit are the block's.

        Raises:
            StatementError: it failed; the transaction goes on, unless the statement itself ended it.
            StoreUnavailableError: the database failed.
            UsageError: the block has ended.
        """
        return Rows(*await self._run(lambda session: session.run_statement(sql, parameters, may_save=True)))

    async def run(self, program: Program[T]) -> T:
        """Run a program of ours; where it raises, nothing of it is left, and what the app wrote stands."""
        return await self._run(lambda session: session.run_guarded(program))

    async def serve(self) -> None:
        """Begin, wait for the app's word, and end; called by the writer alone."""
        if self._begun.done():
            return
        try:
            await self._thread.run(lambda _: self._begin())
            self.is_open = True
            if not self._begun.done():
                self._begun.set_result(None)
            is_commit = await self._word
            await self._thread.run(lambda _: self._end(is_commit=is_commit))
        except (StoreError, sqlite3.Error) as error:
            self.abandon(error if isinstance(error, StoreError) else unavailable(error, self._name))
        except asyncio.CancelledError:
            # The writer itself is being ended: nothing may stay open, whatever was handed to the thread.
            self.is_open = False
            await self._thread.run(lambda _: self._end(is_commit=False))
            raise
        if not self._ended.done():
            self._ended.set_result(None)

    def abandon(self, error: Exception) -> None:
        """Tell the app that there is no transaction any more."""
        self.is_open = False
        for future in (self._begun, self._ended):
            if not future.done():
                future.set_exception(error)
                future.exception()

    @asynccontextmanager
    async def block(self) -> AsyncIterator[Transaction]:
        """The app's block, once the transaction was put in the writer's queue."""
        try:
            await self._begun
        except asyncio.CancelledError:
            self._say(is_commit=False)
            raise
        open_transactions.set((*open_transactions.get(), self))
        try:
            yield self
        except BaseException:
            self._say(is_commit=False)
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._ended])
            raise
        finally:
            open_transactions.set(tuple(other for other in open_transactions.get() if other is not self))
        self._say(is_commit=True)
        with anyio.CancelScope(shield=True):
            await asyncio.shield(self._ended)

    def _say(self, *, is_commit: bool) -> None:
        self.is_open = False
        if not self._word.done():
            self._word.set_result(is_commit)

    def _begin(self) -> None:
        with ExitStack() as held:
            held.enter_context(self._lock)
            self._session.begin(self._patience_s)
            self._held = held.pop_all()

    def _end(self, *, is_commit: bool) -> None:
        failure: Exception | None = None
        with self._held:
            try:
                if is_commit:
                    self._require_transaction()
                    self._session.commit()
            except sqlite3.IntegrityError as error:
                failure = statement_error(error)
            finally:
                self._session.roll_back()
        if failure is not None:
            raise failure

    async def _run(self, work: Callable[[Session], T]) -> T:
        if not self.is_open:
            raise UsageError("the transaction has ended")
        failure: Exception
        try:
            return await self._thread.run(lambda _: self._guarded(work))
        except (WalletActionError, asyncio.CancelledError):
            raise
        except TransactionLostError as lost:
            failure = lost.error
        except sqlite3.Error as error:
            failure = unavailable(error, self._name) if is_fault(error) else unit_error(error)
        except (ValueError, OverflowError) as error:
            failure = unit_error(error)
        raise failure

    def _guarded(self, work: Callable[[Session], T]) -> T:
        self._require_transaction()
        return work(self._session)

    def _require_transaction(self) -> None:
        if not self._session.connection.in_transaction:
            raise StatementError("a statement of the app made the database roll the transaction back")


open_transactions: ContextVar[tuple[Transaction, ...]] = ContextVar("open_transactions", default=())
"""The blocks that the running task is in."""
