"""The task that writes: takes all that waits into one transaction, and answers each caller after COMMIT.

The task is nobody's caller, so a caller that is cancelled never interrupts a transaction (L-B1). While one batch is
being flushed to the server's disk the next gathers by itself; nothing ever waits for company.

A connection that is lost takes the outcome of its batch with it. So each writer has a row in `wa_writers` with the
token of its newest batch, which each batch checks and sets: on the next connection the writer sets a token of its own
first, which tells it whether the batch was committed, and keeps the batch out if it is still on its way. Nothing is
guessed, and nothing is written twice.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from wallet_actions.errors import StoreError, StoreUnavailableError, UsageError
from wallet_actions_storage.postgres.batch import ApartError, Attempt, Unit, in_order
from wallet_actions_storage.postgres.blockers import end_blockers
from wallet_actions_storage.postgres.embedding import Transaction, open_transactions
from wallet_actions_storage.postgres.failures import (
    LostError,
    is_locked_out,
    is_not_kept,
    is_unit_fault,
    unavailable,
    unit_error,
)
from wallet_actions_storage.postgres.session import BRIEF_S, LOCKS_S, Session, connect
from wallet_actions_storage.postgres.settings import Settings
from wallet_actions_storage.postgres.sql import Sql

_LOG = logging.getLogger(__name__)
_LARGEST_BATCH = 512
_WORTH_HALVING = 16
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_SLOTS = 16

_SHUT_OUT = (
    "WITH former AS (SELECT token FROM {schema}.wa_writers WHERE writer = $1 FOR UPDATE),"
    " present AS (UPDATE {schema}.wa_writers AS w SET token = $2, seen = now() FROM former WHERE w.writer = $1)"
    " SELECT token FROM former"
)
_SIGN_IN = "INSERT INTO {schema}.wa_writers (writer, token, at, seen) VALUES ($1, $2, NULL, now())"
_FORGET = (
    "WITH gone AS (DELETE FROM {schema}.wa_writers WHERE writer IN ("
    "SELECT writer FROM {schema}.wa_writers WHERE writer <> '' AND seen < now() - interval '7 days'"
    " FOR UPDATE SKIP LOCKED) RETURNING at)"
    " INSERT INTO {schema}.wa_writers AS w (writer, token, at, seen)"
    " SELECT '', 0, max(at), now() FROM gone HAVING count(*) > 0"
    " ON CONFLICT (writer) DO UPDATE SET at = greatest(w.at, excluded.at), seen = now()"
)
"""Of writers that died long ago only the latest time is kept. One that is alive, and was silent, signs in anew."""
_SIGN_OUT = (
    "WITH gone AS (DELETE FROM {schema}.wa_writers WHERE writer = $1 RETURNING at)"
    " INSERT INTO {schema}.wa_writers AS w (writer, token, at, seen) SELECT '', 0, at, now() FROM gone"
    " ON CONFLICT (writer) DO UPDATE SET at = greatest(w.at, excluded.at), seen = now()"
)


class Writer:
    """Owns the writing connection of a store that is open.

    Args:
        session: the first connection.
        on_wake: called after a commit that made something due at once for others.
    """

    def __init__(self, session: Session, settings: Settings, sql: Sql, on_wake: Callable[[], None]) -> None:
        self._settings = settings
        self._name = settings.name
        self._sql = sql
        self._on_wake = on_wake
        self._writer = secrets.token_hex(8)
        self._slot = secrets.randbelow(_SLOTS)
        self._token = secrets.randbits(61)
        self._known = self._token
        self._session: Session | None = session
        self._is_signed_in = False
        self._waiting: deque[Unit | Transaction] = deque()
        self._at_work: Sequence[Unit | Transaction] = ()
        self._loop = asyncio.get_running_loop()
        self._bell: asyncio.Future[None] | None = None
        self._is_closing = False
        self._is_dead = False
        self._task = self._loop.create_task(self._run(), name=f"writer of {self._name}")

    async def submit(self, unit: Unit) -> Any:
        """Write a unit, with whatever else waits.

        Raises:
            UsageError: the caller is inside a transaction of this store's, and would wait for itself.
            StoreUnavailableError: the store is closed, or the database failed.
        """
        self._refuse_inside_transaction()
        self._put(unit)
        return await unit.answer

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Lend the connection to the app for a block; see `Store.transaction`."""
        self._refuse_inside_transaction()
        transaction = Transaction(self, self._sql, self._writer, self._slot, self._name)
        self._put(transaction)
        async with transaction.block():
            yield transaction

    async def close(self) -> None:
        """Write what waits, then end the task and the connection."""
        self._is_closing = True
        self._ring()
        await asyncio.wait([self._task])
        session, self._session = self._session, None
        if session is None or not session.is_open:
            return
        with suppress(LostError, asyncpg.PostgresError):
            if self._is_signed_in:
                await session.begin()
                await session.fetch(_SIGN_OUT.format(schema=self._sql.schema), self._writer)
                await session.execute("COMMIT")
        await session.close()

    def _refuse_inside_transaction(self) -> None:
        for transaction in open_transactions.get():
            if transaction.owner is self and transaction.is_open:
                raise UsageError("inside a transaction each write needs its conn: without it, it would wait for itself")

    def _put(self, item: Unit | Transaction) -> None:
        if self._is_dead or self._is_closing:
            raise StoreUnavailableError(f"the database {self._name} is not open")
        self._waiting.append(item)
        self._ring()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    async def _run(self) -> None:
        try:
            while self._waiting or not self._is_closing:
                if not self._waiting:
                    self._bell = self._loop.create_future()
                    await self._bell
                elif isinstance(self._waiting[0], Transaction):
                    transaction = self._waiting[0]
                    self._waiting.popleft()
                    self._at_work = (transaction,)
                    await self._serve(transaction)
                else:
                    await self._write_batch()
                self._at_work = ()
        except Exception:  # noqa: BLE001 - told to everyone who waits, and to the log
            _LOG.exception("the writer of a PostgreSQL store ended")
        finally:
            self._is_dead = True
            self._abandon()

    async def _write_batch(self) -> None:
        batch: list[Unit] = []
        waiting = self._waiting
        while waiting and len(batch) < _LARGEST_BATCH:
            unit = waiting[0]
            if isinstance(unit, Transaction):
                break
            waiting.popleft()
            # Whoever was cancelled before the transaction began is not waiting any more.
            if not unit.answer.done():
                batch.append(unit)
        self._at_work = batch
        if batch:
            await self._write(batch, self._loop.time() + self._settings.patience_s)
        first = len(batch) if self._waiting or len(batch) < _WORTH_HALVING else len(batch) // 2
        try:
            for unit in batch[:first]:
                unit.resolve()
            if first < len(batch):
                await asyncio.sleep(0)
        finally:
            for unit in batch[first:]:
                unit.resolve()

    async def _write(self, units: Sequence[Unit], deadline: float, *, locks_s: float = LOCKS_S) -> None:
        """Commit a batch: afterwards each unit has its result or its error."""
        failure: Exception
        try:
            await self._commit(units, deadline, locks_s)
        except ApartError as refused:
            if len(units) == 1:
                units[0].error = refused.error
                return
            for unit in units:
                await self._write([unit], deadline, locks_s=locks_s)
            return
        except (StoreError, asyncpg.PostgresError, ValueError, OverflowError) as error:
            failure = error
        else:
            return
        if is_locked_out(failure):
            await self._end_blockers(self._session)
        if is_locked_out(failure) and len(units) > 1:
            # Whoever wants what somebody else holds does not take the others with it: renewals, first of all.
            for unit in reversed(in_order(units)):
                await self._write([unit], deadline, locks_s=BRIEF_S)
            return
        for unit in units:
            is_its_own = len(units) == 1 and (isinstance(failure, ValueError) or is_unit_fault(failure))
            unit.error = unit_error(failure) if is_its_own else unavailable(failure, self._name)

    async def _commit(self, units: Sequence[Unit], deadline: float, locks_s: float) -> None:
        attempt: Attempt | None = None
        while True:
            session = await self._connected(deadline, attempt)
            try:
                if attempt is not None and attempt.is_committed:
                    await attempt.read_back(session)
                else:
                    token = self._next_token()
                    attempt = Attempt(units, self._sql, self._writer, self._slot, token, self._known, locks_s=locks_s)
                    await attempt.run(session, deadline)
                    self._known = attempt.known
            except LostError as lost:
                self._drop()
                is_hopeless = is_not_kept(lost) and (attempt is None or not attempt.is_committed)
                if is_hopeless or self._loop.time() >= deadline:
                    raise unavailable(lost, self._name) from None
                continue
            if attempt.outcome.wakes:
                self._on_wake()
            return

    async def _serve(self, transaction: Transaction) -> None:
        """Lend the connection to the app."""
        if not transaction.is_wanted:
            return
        deadline = self._loop.time() + self._settings.patience_s
        token: int | None = None
        try:
            while True:
                session = await self._connected(deadline)
                token = self._next_token()
                try:
                    is_committed = await transaction.serve(session, token, self._known)
                except LostError:
                    self._drop()
                    if transaction.is_wanted:
                        continue  # nothing of the app's had been run
                    is_committed = await self._was_committed(token, deadline)
                    if not is_committed:
                        raise StoreUnavailableError(
                            f"the database {self._name} went away under a transaction; nothing of it stands"
                        ) from None
                break
        except (StoreError, asyncpg.PostgresError) as error:
            transaction.abandon(error if isinstance(error, StoreError) else unavailable(error, self._name))
            return
        if is_committed:
            self._known = token if self._session is session else self._known
            if transaction.outcome.wakes:
                self._on_wake()
        transaction.finish()

    async def _was_committed(self, token: int, deadline: float) -> bool:
        probe = Attempt((), self._sql, self._writer, self._slot, token, self._known)
        probe.is_started = True
        await self._connected(deadline, probe)
        return probe.is_committed

    async def _connected(self, deadline: float, attempt: Attempt | None = None) -> Session:
        """The connection, a new one if needed, on which no batch but ours can write any more.

        Args:
            attempt: whose outcome is not known; told where it was committed.

        Raises:
            StoreUnavailableError: none is to be had in time.
            asyncpg.PostgresError: the server refuses for good.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            session = self._session
            try:
                if session is None or not session.is_open:
                    self._is_signed_in = False
                    left = max(0.1, deadline - self._loop.time())
                    session = self._session = await connect(self._settings, left)
                if not self._is_signed_in:
                    await self._sign_in(session, attempt)
            except LostError as lost:
                self._drop()
                if self._loop.time() + pause_s >= deadline:
                    raise unavailable(lost, self._name) from None
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                return session

    async def _sign_in(self, session: Session, attempt: Attempt | None) -> None:
        """Take the writer's row over from whatever an earlier connection may still be doing."""
        token = self._next_token()
        await session.begin()
        try:
            rows = await session.fetch(_SHUT_OUT.format(schema=self._sql.schema), self._writer, token)
            if rows and attempt is not None and attempt.is_started and rows[0][0] == attempt.token:
                attempt.is_committed = True
            if not rows:
                await session.fetch(_SIGN_IN.format(schema=self._sql.schema), self._writer, token)
                await session.fetch(_FORGET.format(schema=self._sql.schema))
            await session.execute("COMMIT")
        except asyncpg.PostgresError as error:
            if not is_locked_out(error):
                raise
            await session.roll_back()
            await self._end_blockers(session)
            raise LostError("an earlier connection is still at it") from None
        finally:
            await session.roll_back()
        self._known = token
        self._is_signed_in = True

    async def _end_blockers(self, session: Session | None) -> None:
        if session is not None and session.is_open:
            settings = self._settings
            ended = await end_blockers(session, settings.schema, settings.patience_s / 2)
            if ended:
                _LOG.warning("connections to %s that hung in the middle of a message were ended: %d", self._name, ended)

    def _next_token(self) -> int:
        self._token += 1
        return self._token

    def _drop(self) -> None:
        session, self._session = self._session, None
        self._is_signed_in = False
        if session is not None:
            session.drop()

    def _abandon(self) -> None:
        """Tell those who wait that nobody writes any more."""
        left = [*self._at_work, *self._waiting]
        self._waiting.clear()
        for item in left:
            error = StoreUnavailableError(f"the database {self._name} is not written to any more; open it again")
            if isinstance(item, Transaction):
                item.abandon(error)
            elif not item.answer.done():
                item.answer.set_exception(error)
