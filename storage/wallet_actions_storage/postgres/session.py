"""A connection: how it is opened, and how transactions and programs run on it.

Nothing here keeps state in the server's session, so that a pooler between us may give each transaction another one.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg

from wallet_actions.errors import StatementError
from wallet_actions.store import Statement
from wallet_actions_storage.postgres.actions import count_ends
from wallet_actions_storage.postgres.failures import (
    LostError,
    is_locked_out,
    is_lost,
    is_retried,
    state_of,
    statement_error,
)
from wallet_actions_storage.postgres.program import Note, Program, Query, Row, Told
from wallet_actions_storage.postgres.settings import Settings
from wallet_actions_storage.postgres.sql import Sql

T = TypeVar("T")

_CACHED_STATEMENTS = 100
_STATEMENT_LIFETIME_S = 60
"""A plan that was made while a table was small is not kept for long."""

LOCKS_S = 3.0
"""How long a row that somebody else holds is waited for: a deadlock is found within one second."""
BRIEF_S = 0.1
"""The same where others have waited for it already."""

_FIRST_WORD = re.compile(r"(?:\s|;|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*([a-z]*)", re.IGNORECASE | re.DOTALL)
_CONTROL = frozenset(
    [
        "abort",
        "begin",
        "close",
        "commit",
        "discard",
        "end",
        "listen",
        "notify",
        "prepare",
        "reset",
        "rollback",
        "set",
        "start",
        "unlisten",
    ]
)
_SAVEPOINTS = frozenset({"savepoint", "release"})


@dataclass(slots=True)
class Outcome:
    """What the notes of units add up to.

    Attributes:
        at: the latest time of an action's write, in microseconds; None where there was none.
        wakes: whether something is due at once that others may drive.
        has_written: whether anything was changed on the way.
        ended: how many ended and are still to be counted, by kind and status.
    """

    at: int | None = None
    wakes: bool = False
    has_written: bool = False
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, note: Note | Outcome) -> None:
        """Take in what is noted."""
        if note.at is not None:
            self.at = note.at if self.at is None else max(self.at, note.at)
        self.wakes = self.wakes or note.wakes
        self.has_written = self.has_written or note.has_written
        if isinstance(note, Outcome):
            self.ended.update(note.ended)
        elif note.ended is not None:
            self.ended[note.ended] += 1


class Session:
    """An open connection. Used by one task at a time; one that was interrupted has to be dropped.

    Attributes:
        is_direct: whether a single statement is a transaction as we want it: read committed, durable, prepared.
    """

    def __init__(self, connection: asyncpg.Connection, patience_s: float, *, is_direct: bool) -> None:
        self.connection = connection
        self.is_direct = is_direct
        self._patience_s = patience_s
        milliseconds = max(1, int(patience_s * 1000))
        self._begin = (
            "BEGIN ISOLATION LEVEL READ COMMITTED;"
            # Who stops in the middle, and is not even disconnected, does not hold up the others for ever.
            f" SET LOCAL idle_in_transaction_session_timeout = {milliseconds};"
            " SELECT set_config('synchronous_commit', 'on', true)"
            " WHERE current_setting('synchronous_commit') = 'off'"
        )

    @property
    def is_open(self) -> bool:
        """Whether it can be used, as far as is known."""
        return not self.connection.is_closed()

    async def fetch(self, sql: str, *values: Any, timeout_s: float | None = None) -> Sequence[Row]:
        """Run a query.

        Raises:
            LostError: the connection is of no use any more.
            asyncpg.PostgresError: the server refuses.
        """
        try:
            found = await self.connection.fetch(sql, *values, timeout=timeout_s or self._patience_s)
        except BaseException as error:
            self._judge(error)
            raise
        rows: Sequence[Row] = found  # type: ignore[assignment]  # a record is a sequence, though it does not say so
        return rows

    async def execute(self, script: str) -> str:
        """Run statements without parameters, in one go.

        Returns:
            The status of the last one.
        """
        try:
            return await self.connection.execute(script, timeout=self._patience_s)
        except BaseException as error:
            self._judge(error)
            raise

    async def begin(self, first: str = "", *, locks_s: float = LOCKS_S) -> str:
        """Begin a transaction, with a first statement.

        Args:
            locks_s: how long to wait for a row that somebody else holds, at most.
        """
        # Less than a call is waited for, or the connection would be given up for it.
        milliseconds = max(1, int(min(locks_s, self._patience_s / 2) * 1000))
        script = f"{self._begin}; SET LOCAL lock_timeout = {milliseconds}"
        return await self.execute(f"{script}; {first}" if first else script)

    async def roll_back(self) -> None:
        """Roll back, if there is anything; a connection where that does not work is dropped."""
        if self.is_open and self.connection.is_in_transaction():
            try:
                await self.execute("ROLLBACK")
            except (LostError, asyncpg.PostgresError):
                self.drop()

    def drop(self) -> None:
        """Cut the connection, without a word to the server."""
        self.connection.terminate()

    async def close(self) -> None:
        """Close the connection, with a word to the server if that is quick."""
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self.connection.close(timeout=1.0)

    async def read(self, sql: str, *values: Any, timeout_s: float) -> Sequence[Row]:
        """Run a query that only reads, in a transaction of its own."""
        if self.is_direct:
            return await self.fetch(sql, *values, timeout_s=timeout_s)
        await self.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")
        try:
            return await self.fetch(sql, *values, timeout_s=timeout_s)
        finally:
            await self.roll_back()

    async def run(self, program: Program[T], outcome: Outcome) -> T:
        """Run a program to its end, in the transaction that is open.

        Raises:
            Whatever the program raises. StatementError: a statement of the app failed.
        """
        try:
            step = next(program)
            while True:
                reply: Sequence[Row] = ()
                if isinstance(step, Note):
                    outcome.add(step)
                elif isinstance(step, Statement):
                    outcome.has_written = True
                    reply, _ = await self.run_statement(step.sql, step.parameters)
                else:
                    is_write = not isinstance(step, Told) and not step[0].startswith("SELECT")
                    outcome.has_written = outcome.has_written or is_write
                    reply = await self._query(step)
                step = program.send(reply)
        except StopIteration as end:
            answer: T = end.value
            return answer

    async def run_guarded(self, program: Program[T], outcome: Outcome) -> T:
        """Run a program so that nothing of it is left where it raises.

        Raises:
            As `run`.
        """
        await self.execute("SAVEPOINT wa_unit")
        try:
            answer = await self.run(program, outcome)
        except LostError:
            raise
        except Exception:
            await self.execute("ROLLBACK TO SAVEPOINT wa_unit; RELEASE SAVEPOINT wa_unit")
            raise
        await self.execute("RELEASE SAVEPOINT wa_unit")
        return answer

    async def run_statement(
        self, sql: str, parameters: Sequence[Any], *, may_save: bool = False
    ) -> tuple[Sequence[Row], str]:
        """Run a statement of the app: no transaction control, nothing that stays in the session.

        Args:
            may_save: whether it may be a savepoint's.

        Returns:
            All its rows, and its status.

        Raises:
            StatementError: it failed, and with it the transaction, back to the last savepoint.
            asyncpg.PostgresError: others were in its way, and the unit may be tried again.
            LostError: the connection is gone.
        """
        first = _FIRST_WORD.match(sql)
        word = first[1].lower() if first else ""
        if word in _CONTROL or (word in _SAVEPOINTS and not may_save):
            raise StatementError(f"a statement of the app failed: {word.upper()} is not the app's to say here")
        failure: Exception
        try:
            prepared = await self.connection.prepare(sql, timeout=self._patience_s)
            found = await prepared.fetch(*parameters, timeout=self._patience_s)
        except Exception as error:  # noqa: BLE001 - codecs of the app's own values may raise anything
            if is_lost(error) and (not isinstance(error, asyncpg.InterfaceError) or not self.is_open):
                self.drop()
                failure = LostError(state_of(error) or type(error).__name__)
            elif not may_save and (is_retried(error) or is_locked_out(error)):
                failure = error  # others are in its way: no fault of the statement's
            else:
                failure = statement_error(error)
        except BaseException:
            self.drop()
            raise
        else:
            rows: Sequence[Row] = found  # type: ignore[assignment]
            return rows, prepared.get_statusmsg() or ""
        # Outside of the handler: the driver's error may carry a value of the app, and would be our error's context.
        raise failure

    async def count(self, outcome: Outcome, sql: Sql, slot: int) -> None:
        """Count what ended in the transaction, at its end: whoever has the slot waits for these rows from then on."""
        if outcome.ended:
            await self._query(count_ends(outcome.ended, sql, slot))

    async def _query(self, query: Query) -> Sequence[Row]:
        return await self.fetch(query[0], *query[1])

    def _judge(self, error: BaseException) -> None:
        """Drop a connection that cannot be used after this, and tell so."""
        if not isinstance(error, Exception):
            self.drop()
        elif is_lost(error):
            self.drop()
            if not isinstance(error, LostError):
                raise LostError(state_of(error) or type(error).__name__) from None


async def connect(settings: Settings, timeout_s: float) -> Session:
    """Open a connection to a server that can be written to.

    Raises:
        LostError: there is none now; another try may find one.
        asyncpg.PostgresError: the server refuses for good.
    """
    connection = await connect_to(settings.dsn, settings, timeout_s)
    session = Session(connection, settings.patience_s, is_direct=False)
    try:
        (row,) = await session.read(
            "SELECT current_setting('synchronous_commit') <> 'off',"
            " current_setting('default_transaction_isolation') = 'read committed', pg_is_in_recovery()",
            timeout_s=timeout_s,
        )
        if row[2]:
            raise LostError("a standby")
    except BaseException:
        session.drop()
        raise
    session.is_direct = settings.is_prepared and row[0] and row[1]
    return session


async def connect_to(dsn: str, settings: Settings, timeout_s: float) -> asyncpg.Connection:
    """Open a bare connection; see `connect`."""
    failure: Exception
    try:
        connection: asyncpg.Connection = await asyncpg.connect(
            dsn,
            timeout=timeout_s,
            statement_cache_size=_CACHED_STATEMENTS if settings.is_prepared else 0,
            max_cached_statement_lifetime=_STATEMENT_LIFETIME_S,
        )
    except asyncpg.PostgresError as error:
        if not is_lost(error):
            raise
        failure = LostError(state_of(error))
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncpg.InterfaceError, ValueError) as error:
        failure = LostError(type(error).__name__)
    else:
        return connection
    raise failure
