"""The writing connection, as its own thread sees it: runs programs, and keeps the app's statements in their place."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from wallet_actions.store import Statement
from wallet_actions_storage.sqlite.failures import is_busy, is_fault_under_statement, statement_error
from wallet_actions_storage.sqlite.program import Program, Reply
from wallet_actions_storage.sqlite.rows import Row

T = TypeVar("T")

_PAUSE_S = 0.001

TABLE_PREFIX = "wa_"
"""How the names of our tables begin. The app reads them; it does not write them."""

_MARK = "/* app */ "
"""Before each statement of the app, so that none of ours is in the cache of prepared statements under the same text."""

_READ_PRAGMAS = frozenset(
    {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"}
)
_NEVER = frozenset({sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})
_CHANGES_FIRST = frozenset(
    {
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_VIEW,
    }
)
_CHANGES_SECOND = frozenset(
    {
        sqlite3.SQLITE_ALTER_TABLE,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_DROP_INDEX,
    }
)


class TransactionLostError(Exception):
    """A statement of the app made SQLite roll the whole transaction back.

    Attributes:
        error: what the app is to be told.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__("the transaction was rolled back under us")
        self.error = error


class Session:
    """Runs programs on a connection, all in its thread. The caller begins and ends the transaction.

    Attributes:
        execute: the cursor's, for what needs no program.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.cursor = connection.cursor()
        self.execute = self.cursor.execute
        self._reply = Reply()
        self._is_app = False
        self._may_save = False
        connection.set_authorizer(self._authorize)

    def run(self, program: Program[T]) -> T:
        """Run a program to its end.

        Raises:
            Whatever the program raises. sqlite3.Error: a query of ours failed. StatementError: one of the app did.
            TransactionLostError: see there.
        """
        cursor, reply, send = self.cursor, self._reply, program.send
        execute, fetchall = cursor.execute, cursor.fetchall
        try:
            step = next(program)
            while True:
                if isinstance(step, Statement):
                    reply.rows, reply.count = self.run_statement(step.sql, step.parameters)
                else:
                    execute(*step)
                    if cursor.description is None:
                        reply.count = cursor.rowcount
                    else:
                        reply.rows = fetchall()
                step = send(reply)
        except StopIteration as end:
            answer: T = end.value
            return answer

    def run_guarded(self, program: Program[T]) -> T:
        """Run a program so that nothing of it is left where it raises.

        Raises:
            As `run`.
        """
        self.cursor.execute("SAVEPOINT wa_unit")
        try:
            answer = self.run(program)
        except BaseException:
            if self.connection.in_transaction:
                self.cursor.execute("ROLLBACK TO wa_unit")
                self.cursor.execute("RELEASE wa_unit")
            raise
        self.cursor.execute("RELEASE wa_unit")
        return answer

    def run_statement(self, sql: str, parameters: Sequence[Any], *, may_save: bool = False) -> tuple[list[Row], int]:
        """Run a statement of the app: no transaction control, no other files, no writing to our tables.

        Args:
            may_save: whether it may be a savepoint's.

        Returns:
            All its rows, and how many it changed.

        Raises:
            StatementError: it failed. sqlite3.Error: the database did. TransactionLostError: see there.
        """
        failure: Exception
        cursor = self.connection.cursor()
        try:
            with self._as_app(may_save=may_save):
                cursor.execute(_MARK + sql, parameters)
                rows = [] if cursor.description is None else cursor.fetchall()
                return rows, cursor.rowcount
        except Exception as error:  # adapters of the app's own values may raise anything
            if is_fault_under_statement(error):
                raise
            failure = statement_error(error)
        finally:
            cursor.close()
        # Outside of the handler: the driver's error may carry a value of the app, and would be our error's context.
        if not self.connection.in_transaction:
            raise TransactionLostError(failure)
        raise failure

    def begin(self, patience_s: float = 0.0) -> None:
        """Begin a transaction that will write.

        Args:
            patience_s: how long to wait for another connection to end its own.
        """
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE_S)
            else:
                return

    def commit(self) -> None:
        """Commit; durable when this returns."""
        self.cursor.execute("COMMIT")

    def roll_back(self) -> None:
        """Roll back, unless SQLite has done so."""
        if self.connection.in_transaction:
            self.cursor.execute("ROLLBACK")

    @contextmanager
    def _as_app(self, *, may_save: bool) -> Iterator[None]:
        self._is_app, self._may_save = True, may_save
        try:
            yield
        finally:
            self._is_app = False

    def _authorize(self, action: int, first: str | None, second: str | None, *_: object) -> int:
        """Asked by SQLite while it prepares a statement."""
        if not self._is_app:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_PRAGMA:
            is_allowed = first is not None and first.lower() in _READ_PRAGMAS
        elif action == sqlite3.SQLITE_SAVEPOINT:
            is_allowed = self._may_save
        elif action in _CHANGES_FIRST:
            is_allowed = not _is_ours(first)
        elif action in _CHANGES_SECOND:
            is_allowed = not _is_ours(second)
        else:
            is_allowed = action not in _NEVER
        return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY


def _is_ours(table: str | None) -> bool:
    return table is not None and table.lower().startswith(TABLE_PREFIX)
