"""Writing in a transaction that the embedding app has open on a connection of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import anyio

from wallet_actions.errors import StatementError, UsageError, WalletActionError
from wallet_actions.store import Statement
from wallet_actions_storage.sqlite.failures import is_fault, statement_error, unavailable, unit_error
from wallet_actions_storage.sqlite.program import Program, Reply

T = TypeVar("T")


class _Unlogged(tuple[Any, ...]):
    """Parameters that do not tell what they hold: aiosqlite logs every call with its arguments."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "(…)"


async def run_in_app_transaction(connection: aiosqlite.Connection, program: Program[T], database: Path) -> T:
    """Run a program in the app's transaction, which the app commits.

    Where the program raises, nothing of it is left, and what the app wrote stands.

    Raises:
        UsageError: the connection has no open transaction, is to another file, or is set up so that it cannot be used.
        StoreUnavailableError: the database failed.
        Whatever the program raises.
    """
    _check_connection(connection)
    failure: Exception
    try:
        async with connection.cursor() as cursor:
            # The app may have its rows made into something else.
            cursor.row_factory = None
            await _check_file(cursor, database)
            return await _run_guarded(connection, cursor, program)
    except (WalletActionError, asyncio.CancelledError):
        raise
    except sqlite3.Error as error:
        failure = unavailable(error, str(database)) if is_fault(error) else unit_error(error)
    except (ValueError, OverflowError) as error:
        failure = unit_error(error)
    raise failure


async def _run_guarded(connection: aiosqlite.Connection, cursor: aiosqlite.Cursor, program: Program[T]) -> T:
    try:
        await _execute(cursor, "SAVEPOINT wa_unit")
        answer = await _run(connection, cursor, program)
    except BaseException:
        with anyio.CancelScope(shield=True):
            if connection.in_transaction:
                await _execute(cursor, "ROLLBACK TO wa_unit")
                await _execute(cursor, "RELEASE wa_unit")
        raise
    await _execute(cursor, "RELEASE wa_unit")
    return answer


async def _run(connection: aiosqlite.Connection, cursor: aiosqlite.Cursor, program: Program[T]) -> T:
    reply = Reply()
    try:
        step = next(program)
        while True:
            if isinstance(step, Statement):
                await _run_statement(connection, cursor, step)
            else:
                await _execute(cursor, *step)
                reply.count = cursor.rowcount
                reply.rows = [tuple(row) for row in await cursor.fetchall()] if cursor.description else ()
            step = program.send(reply)
    except StopIteration as end:
        answer: T = end.value
        return answer


async def _run_statement(connection: aiosqlite.Connection, cursor: aiosqlite.Cursor, statement: Statement) -> None:
    failure: Exception
    try:
        await _execute(cursor, statement.sql, statement.parameters)
        await cursor.fetchall()
        if connection.in_transaction:
            return
        failure = StatementError("a statement of the app ended its transaction")
    except Exception as error:  # noqa: BLE001 - adapters of the app's own values may raise anything
        failure = statement_error(error)
    raise failure


async def _execute(cursor: aiosqlite.Cursor, sql: str, parameters: Sequence[Any] = ()) -> None:
    await cursor.execute(sql, _Unlogged(parameters))


def _check_connection(connection: aiosqlite.Connection) -> None:
    try:
        is_begun, text_factory = connection.in_transaction, connection.text_factory
    except ValueError:
        raise UsageError("conn is closed") from None
    if not is_begun:
        raise UsageError("conn has no open transaction: begin one first")
    if text_factory is not str:
        raise UsageError("conn has a text_factory of its own, so that its texts cannot be read")


async def _check_file(cursor: aiosqlite.Cursor, database: Path) -> None:
    await _execute(cursor, "PRAGMA database_list")
    if not any(name == "main" and _is_same(file, database) for _, name, file in await cursor.fetchall()):
        raise UsageError("conn is not a connection to the store's own file")


def _is_same(file: str, database: Path) -> bool:
    try:
        return bool(file) and database.samefile(file)
    except OSError:
        return False
