# ruff: noqa: S608 - what is put together are constants and names that were checked
"""A transaction of the embedding app: on the store's own writing connection, or on one of the app's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import anyio
import asyncpg

from wallet_actions.errors import StatementError, StoreError, UsageError, WalletActionError
from wallet_actions_storage.postgres.batch import Start, finishing
from wallet_actions_storage.postgres.failures import (
    LostError,
    is_unit_fault,
    statement_error,
    unavailable,
    unit_error,
)
from wallet_actions_storage.postgres.program import Program, Row
from wallet_actions_storage.postgres.session import Outcome, Session
from wallet_actions_storage.postgres.sql import Sql

T = TypeVar("T")


class Rows:
    """What a statement of the app answered, read to its end.

    Attributes:
        rowcount: how many rows it changed or answered; -1 where it did neither by its nature.
    """

    def __init__(self, rows: Sequence[Row], rowcount: int) -> None:
        self._rows = rows
        self._next = 0
        self.rowcount = rowcount

    async def fetchone(self) -> Row | None:
        """The next row."""
        rows = self._rows[self._next : self._next + 1]
        self._next += len(rows)
        return rows[0] if rows else None

    async def fetchall(self) -> Sequence[Row]:
        """All further rows."""
        rows, self._next = self._rows[self._next :], len(self._rows)
        return rows


class Transaction:
    """A transaction of the app on the store's writing connection; what `PostgresStore.transaction` yields.

    The writer serves it between two batches: it begins the transaction, waits for the app's word, and ends it itself,
    so that a task that is cancelled leaves nothing open.

    Attributes:
        owner: the writer that serves it.
        is_open: whether statements can be run.
        outcome: what has to be remembered, once it is committed.
    """

    def __init__(self, owner: object, sql: Sql, writer: str, slot: int, name: str) -> None:
        loop = asyncio.get_running_loop()
        self.owner = owner
        self.is_open = False
        self.outcome = Outcome()
        self._sql = sql
        self._writer = writer
        self._slot = slot
        self._name = name
        self._token = 0
        self._session: Session | None = None
        self._order = asyncio.Lock()
        self._begun: asyncio.Future[None] = loop.create_future()
        self._word: asyncio.Future[bool] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()

    @property
    def is_wanted(self) -> bool:
        """Whether the app still waits for it."""
        return not self._begun.done() and not self._word.done()

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Run a statement of the app's. It may use savepoints; begin and commit are the block's.

        Raises:
            StatementError: it failed; the transaction goes on.
            StoreUnavailableError: the database failed.
            UsageError: the block has ended.
        """

        async def work(session: Session) -> Rows:
            is_save = sql.lstrip().lower().startswith(("savepoint", "release", "rollback"))
            if not is_save:
                await session.execute("SAVEPOINT wa_statement")
            try:
                rows, status = await session.run_statement(sql, parameters, may_save=True)
            except StatementError:
                if not is_save:
                    await session.execute("ROLLBACK TO SAVEPOINT wa_statement; RELEASE SAVEPOINT wa_statement")
                raise
            if not is_save:
                await session.execute("RELEASE SAVEPOINT wa_statement")
            last = status.rpartition(" ")[2]
            return Rows(rows, int(last) if last.isdigit() else -1)

        return await self._run(work)

    async def run(self, start: Start) -> Any:
        """Run a program of ours; where it raises, nothing of it is left, and what the app wrote stands."""
        outcome = Outcome()
        answer = await self._run(lambda session: session.run_guarded(start(self._sql, self._token), outcome))
        self.outcome.add(outcome)
        return answer

    async def serve(self, session: Session, token: int, previous: int) -> bool:
        """Begin, wait for the app's word, and end; called by the writer alone.

        Returns:
            Whether it was committed.

        Raises:
            LostError: the connection is gone; whether it was committed is not known.
        """
        self._session, self._token = session, token
        status = await session.begin(
            f"SELECT 1 FROM {self._sql.schema}.wa_writers"
            f" WHERE writer = '{self._writer}' AND token = {previous} FOR UPDATE",
            locks_s=_APP_PATIENCE_S,
        )
        if status != "SELECT 1":
            raise LostError("shut out")
        self.is_open = True
        try:
            if not self._begun.done():
                self._begun.set_result(None)
            is_commit = await self._word
            self.is_open = False
            async with self._order:
                return await self._end(session, token) if is_commit else False
        finally:
            self.is_open = False
            await session.roll_back()

    def finish(self) -> None:
        """Tell the app that the transaction has ended as it wanted."""
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

    async def _end(self, session: Session, token: int) -> bool:
        refusal: StoreError | None = None
        try:
            await session.count(self.outcome, self._sql, self._slot)
            status = await session.execute(finishing(self._sql.schema, self._writer, token, self.outcome.at))
        except asyncpg.PostgresError as error:
            refusal = statement_error(error) if is_unit_fault(error) else unavailable(error, self._name)
        else:
            if status == "COMMIT":
                return True
            refusal = StatementError("a statement of the app made the database roll the transaction back")
        raise refusal

    def _say(self, *, is_commit: bool) -> None:
        self.is_open = False
        if not self._word.done():
            self._word.set_result(is_commit)

    async def _run(self, work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
        if not self.is_open or self._session is None:
            raise UsageError("the transaction has ended")
        # A task of its own, because the caller may be cancelled, and what runs on the connection may not.
        task = asyncio.ensure_future(self._ordered(self._session, work))
        failure: Exception
        try:
            return await asyncio.shield(task)
        except WalletActionError:
            raise
        except LostError as lost:
            failure = unavailable(lost, self._name)
        except asyncpg.PostgresError as error:
            failure = unit_error(error) if is_unit_fault(error) else unavailable(error, self._name)
        except (ValueError, OverflowError) as error:
            failure = unit_error(error)
        raise failure

    async def _ordered(self, session: Session, work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
        async with self._order:
            return await work(session)


async def run_in_app_transaction(connection: asyncpg.Connection, program: Program[T], name: str, sql: Sql) -> T:
    """Run a program in the app's transaction on a connection of its own, which the app commits.

    Where the program raises, nothing of it is left, and what the app wrote stands.

    Raises:
        UsageError: the connection has no open transaction, or is to a database without the store's tables.
        StoreUnavailableError: the database failed.
        Whatever the program raises.
    """
    if connection.is_closed() or not connection.is_in_transaction():
        raise UsageError("conn has no open transaction: begin one first")
    session = AppSession(connection)
    failure: Exception
    try:
        (row,) = await session.fetch("SELECT to_regclass($1) IS NOT NULL", f"{sql.schema}.wa_actions")
        if row[0]:
            outcome = Outcome()
            answer = await session.run_guarded(program, outcome)
            await session.count(outcome, sql, 0)
            return answer
        failure = UsageError("conn is not a connection to the store's own database")
    except WalletActionError:
        raise
    except LostError as lost:
        failure = unavailable(lost, name)
    except asyncpg.PostgresError as error:
        failure = unit_error(error) if is_unit_fault(error) else unavailable(error, name)
    except (ValueError, OverflowError) as error:
        failure = unit_error(error)
    raise failure


class AppSession(Session):
    """A connection of the app's, which is the app's to drop."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        super().__init__(connection, _APP_PATIENCE_S, is_direct=False)

    def drop(self) -> None:
        """Leave it to the app."""


_APP_PATIENCE_S = 60.0

open_transactions: ContextVar[tuple[Transaction, ...]] = ContextVar("open_postgres_transactions", default=())
"""The blocks that the running task is in."""
