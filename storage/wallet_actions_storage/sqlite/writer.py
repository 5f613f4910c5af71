"""The writer: takes all that waits into one transaction, and answers each caller after COMMIT.

It works in the connection's thread, on its own: whatever was put down by the time a batch has been committed is the
next one. So a caller that is cancelled never interrupts a transaction (L-B1), nothing ever waits for company, and
between two batches nobody waits for the event loop.

The processor and the disk shall not wait for each other in turns. Statements let go of the interpreter lock, each of
them, and a busy event loop then keeps it: they run best while it has nothing to do, and it works best during a flush.
Hence two rules. Where the next batch waits already, those of the one before are answered when its statements have been
executed, just before its flush. And where nothing waits, a large batch is answered in two halves, one turn of the loop
apart, so that there are two batches from then on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from wallet_actions.errors import StoreUnavailableError, UsageError
from wallet_actions.store import Created, NewAction, Saved, Write
from wallet_actions_storage.sqlite.actions import StartUnit, WriteUnit
from wallet_actions_storage.sqlite.batch import BatchWriter
from wallet_actions_storage.sqlite.embedding import Transaction, open_transactions
from wallet_actions_storage.sqlite.guard import CommitLock
from wallet_actions_storage.sqlite.program import Program
from wallet_actions_storage.sqlite.session import Session
from wallet_actions_storage.sqlite.thread import ConnectionThread
from wallet_actions_storage.sqlite.unit import ProgramUnit, Unit

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_LARGEST_BATCH = 512
_WORTH_HALVING = 16


class Writer:
    """Owns the writing connection of a store that is open.

    Args:
        name: the file, for messages.
    """

    def __init__(
        self, thread: ConnectionThread, session: Session, lock: CommitLock, name: str, patience_s: float
    ) -> None:
        self._thread = thread
        self._session = session
        self._lock = lock
        self._batches = BatchWriter(session, lock, name, patience_s, self._answer_written)
        self._name = name
        self._patience_s = patience_s
        self._waiting: deque[Unit | Transaction] = deque()
        self._taken: list[Unit] = []
        self._written: list[Unit] = []
        # Whether the thread is at work, or an app has the connection: it then looks by itself for what waits.
        self._is_at_work = False
        self._is_lent = False
        self._served: Transaction | None = None
        self._loop = asyncio.get_running_loop()
        self._bell = asyncio.Event()
        self._is_closing = False
        self._is_dead = False
        self._task = self._loop.create_task(self._run(), name=f"writer of {name}")

    async def submit(self, start: Callable[[], Program[T]], *, is_plain: bool = False) -> T:
        """Write a unit, with whatever else waits.

        Args:
            start, is_plain: see `ProgramUnit`.

        Raises:
            UsageError: the caller is inside a transaction of this store's, and would wait for itself.
            StoreUnavailableError: the store is closed, or the database failed.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        self._put_from_outside(ProgramUnit(answer, start, is_plain=is_plain))
        return await answer

    def write(self, write: Write, has_history: bool) -> asyncio.Future[Saved]:
        """Write an action's next checkpoint, with whatever else waits.

        Returns:
            Where to wait for the answer.

        Raises:
            As `submit`, and as `WriteUnit`; the future too, as `WriteUnit.start` says.
        """
        answer: asyncio.Future[Saved] = self._loop.create_future()
        self._put_from_outside(WriteUnit(answer, write, has_history))
        return answer

    def start(self, new: NewAction, has_history: bool) -> asyncio.Future[Created]:
        """Start an action, unless it exists, with whatever else waits.

        Returns:
            Where to wait for the answer.

        Raises:
            As `submit`, and as `StartUnit`; the future too, as `actions.create` says.
        """
        answer: asyncio.Future[Created] = self._loop.create_future()
        self._put_from_outside(StartUnit(answer, new, has_history))
        return answer

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Lend the connection to the app for a block; see `Store.transaction`."""
        self._refuse_inside_transaction()
        transaction = Transaction(self, self._thread, self._session, self._lock, self._name, self._patience_s)
        self._put(transaction)
        async with transaction.block():
            yield transaction

    async def close(self) -> None:
        """Write what waits, then end the task."""
        self._is_closing = True
        self._bell.set()
        await asyncio.wait([self._task])

    def _refuse_inside_transaction(self) -> None:
        for transaction in open_transactions.get():
            if transaction.owner is self and transaction.is_open:
                raise UsageError("inside a transaction each write needs its conn: without it, it would wait for itself")

    def _put_from_outside(self, unit: Unit) -> None:
        if open_transactions.get():
            self._refuse_inside_transaction()
        self._put(unit)

    def _put(self, item: Unit | Transaction) -> None:
        if self._is_dead or self._is_closing:
            raise StoreUnavailableError(f"the database {self._name} is not open")
        self._waiting.append(item)
        if not self._is_at_work:
            self._is_at_work = True
            self._thread.post(self._write)

    # In the thread

    def _write(self) -> None:
        """Write until nothing waits any more, or an app's transaction is next."""
        try:
            while not self._is_lent:
                self._taken = self._next_batch()
                if self._taken:
                    self._batches.write(self._taken)
                    self._written += self._taken
                    if self._waiting:
                        continue
                self._answer_written()
                if self._waiting and isinstance(self._waiting[0], Transaction):
                    self._is_lent = True
                    self._thread.tell(self._bell.set)
                    return
                # In this order, and then looking again: what is put down meanwhile is not left lying.
                self._is_at_work = False
                if not self._waiting or self._is_at_work:
                    break
                self._is_at_work = True
            if self._is_closing:
                self._thread.tell(self._bell.set)
        except BaseException:  # noqa: BLE001 - told to everyone who waits, and to the log
            _LOG.exception("the writer of a SQLite store ended")
            self._thread.tell(self._end)

    def _next_batch(self) -> list[Unit]:
        batch: list[Unit] = []
        waiting = self._waiting
        with suppress(IndexError):  # a writer that has ended clears the queue
            while len(batch) < _LARGEST_BATCH:
                unit = waiting[0]
                if isinstance(unit, Transaction):
                    break
                waiting.popleft()
                # Whoever was cancelled before the transaction began is not waiting any more.
                if not unit.answer.done():
                    batch.append(unit)
        return batch

    def _answer_written(self) -> None:
        units, self._written = self._written, []
        if units:
            self._thread.tell(self._answer, units)

    # In the event loop

    def _answer(self, units: Sequence[Unit]) -> None:
        first = len(units) if self._waiting or len(units) < _WORTH_HALVING else len(units) // 2
        for unit in units[:first]:
            unit.resolve()
        if first < len(units):
            # Behind those that were woken just now.
            self._loop.call_soon(_resolve, units[first:])

    async def _run(self) -> None:
        """Serve the app's transactions, until the writer is closed."""
        try:
            while not self._is_closing or self._is_at_work:
                self._bell.clear()
                await self._bell.wait()
                transaction = self._waiting[0] if self._is_lent else None
                if isinstance(transaction, Transaction):
                    self._waiting.popleft()
                    self._served = transaction
                    await transaction.serve()
                    self._served = None
                    self._is_lent = False
                    self._thread.post(self._write)
        finally:
            self._is_dead = True
            self._abandon()

    def _end(self) -> None:
        """What the thread had taken is not written any more either."""
        self._waiting.extendleft((*self._written, *self._taken))
        self._task.cancel()

    def _abandon(self) -> None:
        """Tell those who wait that nobody writes any more."""
        left = [*self._waiting] if self._served is None else [self._served, *self._waiting]
        self._waiting.clear()
        for item in left:
            error = StoreUnavailableError(f"the database {self._name} is not written to any more; open it again")
            if isinstance(item, Transaction):
                item.abandon(error)
            elif not item.answer.done():
                item.answer.set_exception(error)


def _resolve(units: Sequence[Unit]) -> None:
    for unit in units:
        unit.resolve()
