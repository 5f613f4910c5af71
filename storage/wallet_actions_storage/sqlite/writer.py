"""The task that writes: takes all that waits into one transaction, and answers each caller after COMMIT.

The task is nobody's caller, so a caller that is cancelled never interrupts a transaction (L-B1). While one batch is
being flushed to the disk the next gathers by itself; nothing ever waits for company.

Callers that are answered together come back together, and then the disk would wait for the processor and the processor
for the disk, in turn. So where nothing has gathered meanwhile a large batch is answered in two halves: the first half
comes back, its batch is begun, and the second takes its steps during that flush.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from wallet_actions.errors import StoreUnavailableError, UsageError
from wallet_actions_storage.sqlite.batch import BatchWriter, Unit
from wallet_actions_storage.sqlite.embedding import Transaction, open_transactions
from wallet_actions_storage.sqlite.guard import CommitLock
from wallet_actions_storage.sqlite.program import Program
from wallet_actions_storage.sqlite.session import Session
from wallet_actions_storage.sqlite.thread import ConnectionThread

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
        self._batches = BatchWriter(session, lock, name, patience_s)
        self._name = name
        self._waiting: deque[Unit | Transaction] = deque()
        self._at_work: Sequence[Unit | Transaction] = ()
        self._loop = asyncio.get_running_loop()
        self._bell: asyncio.Future[None] | None = None
        self._is_closing = False
        self._is_dead = False
        self._task = self._loop.create_task(self._run(), name=f"writer of {name}")

    async def submit(self, start: Callable[[], Program[T]], *, is_plain: bool = False, at: int = 0) -> T:
        """Write a unit, with whatever else waits.

        Args:
            start, is_plain, at: see `Unit`.

        Raises:
            UsageError: the caller is inside a transaction of this store's, and would wait for itself.
            StoreUnavailableError: the store is closed, or the database failed.
        """
        self._refuse_inside_transaction()
        answer: asyncio.Future[T] = self._loop.create_future()
        self._put(Unit(start, answer, is_plain=is_plain, at=at))
        return await answer

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Lend the connection to the app for a block; see `Store.transaction`."""
        self._refuse_inside_transaction()
        transaction = Transaction(self, self._thread, self._session, self._lock, self._name)
        self._put(transaction)
        async with transaction.block():
            yield transaction

    async def close(self) -> None:
        """Write what waits, then end the task."""
        self._is_closing = True
        self._ring()
        await asyncio.wait([self._task])

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
                    await transaction.serve()
                else:
                    await self._write_batch()
                self._at_work = ()
        except Exception:  # noqa: BLE001 - told to everyone who waits, and to the log
            _LOG.exception("the writer of a SQLite store ended")
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
        await self._thread.run(lambda _: self._batches.write(batch))
        first = len(batch) if self._waiting or len(batch) < _WORTH_HALVING else len(batch) // 2
        try:
            for unit in batch[:first]:
                unit.resolve()
            if first < len(batch):
                await asyncio.sleep(0)
        finally:
            for unit in batch[first:]:
                unit.resolve()

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
