"""A connection with a thread of its own, and the lightest way there and back.

A call of aiosqlite's costs log records, a future and a task's turn on either side of its thread: some 60 µs, as much
as a whole transaction. So one call stays in the thread for as long as the database is open: the connection is of our
own class, whose `commit()` first works off a queue of ours. Whatever is put there is run in order, and wakes the event
loop by itself. Nothing but the name of `commit` reaches aiosqlite, which logs every call with its arguments; ours hold
what must not be logged.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from queue import SimpleQueue
from typing import Any, Self, TypeAlias, TypeVar

import aiosqlite

from wallet_actions.errors import StoreUnavailableError
from wallet_actions_storage.sqlite.guard import CommitLock

T = TypeVar("T")

Piece: TypeAlias = Callable[[], object]
"""Work for the thread. It raises nothing, and answers whoever waits by itself."""

_CACHED_STATEMENTS = 256


class StagedConnection(sqlite3.Connection):
    """A connection whose first `commit` works off a queue, until None comes out of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.staged: SimpleQueue[Piece | None] = SimpleQueue()
        self.is_staging = True
        self.closing: AbstractContextManager[object] = nullcontext()

    def commit(self) -> None:
        """Work off the queue; once that has ended, commit."""
        if not self.is_staging:
            super().commit()
            return
        self.is_staging = False
        while (piece := self.staged.get()) is not None:
            piece()
            del piece  # what it holds is not kept for as long as nothing else comes

    def close(self) -> None:
        """Close, if possible under the lock that was set for it: the last to close writes to the file."""
        with ExitStack() as held:
            with suppress(StoreUnavailableError):
                held.enter_context(self.closing)
            super().close()


class Mailbox:
    """What another thread asks of an event loop.

    `call_soon_threadsafe` wakes the loop over a socket that it reads until nothing is left: three calls of the system
    and an exception, a tenth of what a lone transaction costs beside its flush. Ours are two calls, on a pipe.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._letters: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_rung = False
        self._ends: tuple[int, int] | None = None
        with suppress(OSError):  # there is no room for it
            self._ends = os.pipe()
        try:
            if self._ends is not None:
                loop.add_reader(self._ends[0], self._open)
        except NotImplementedError:  # Windows
            self.close()

    def put(self, what: Callable[..., object], *args: Any) -> None:
        """Have something done in the loop; called in the other thread."""
        if self._ends is None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                self._loop.call_soon_threadsafe(what, *args)
            return
        # In this order, and the other way round below: what is put in is seen.
        self._letters.append((what, args))
        if not self._is_rung:
            self._is_rung = True
            os.write(self._ends[1], b"!")

    def close(self) -> None:
        """Let go of the pipe, once the other thread has ended; called in the loop."""
        ends, self._ends = self._ends, None
        if ends is not None:
            with suppress(NotImplementedError):
                self._loop.remove_reader(ends[0])
            for end in ends:
                os.close(end)
            self._read()

    def _open(self) -> None:
        if self._ends is not None:
            os.read(self._ends[0], 16)
            self._is_rung = False
            self._read()

    def _read(self) -> None:
        while self._letters:
            what, args = self._letters.popleft()
            try:
                what(*args)
            except Exception as error:  # noqa: BLE001 - told as the loop tells of its own callbacks
                self._loop.call_exception_handler({"message": "a database's answer failed", "exception": error})


class ConnectionThread:
    """An open connection and its thread, for the event loop that opened it.

    Attributes:
        raw: the connection itself; to be touched in its thread alone.
    """

    def __init__(self, connection: aiosqlite.Connection, raw: StagedConnection) -> None:
        self._connection = connection
        self.raw = raw
        self._staged = raw.staged
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        self._mailbox = Mailbox(self._loop)
        # Where the task is cancelled, as it is when a loop ends, the thread goes on: it works until it is closed.
        self._stay = self._loop.create_task(connection.commit(), name="the thread of a SQLite connection")

    @classmethod
    async def open(cls, uri: str, *, patience_s: float, closing: CommitLock | None = None) -> Self:
        """Open a database in a new thread.

        Args:
            uri: `file:…?mode=rw` or `mode=ro`; the file is never made here.
            patience_s: how long SQLite waits for another connection's lock.
            closing: held while the connection closes.

        Raises:
            sqlite3.Error: it cannot be opened.
        """
        made: list[StagedConnection] = []

        def make(*args: Any, **kwargs: Any) -> StagedConnection:
            raw = StagedConnection(*args, **kwargs)
            if closing is not None:
                raw.closing = closing
            made.append(raw)
            return raw

        connection = await aiosqlite.connect(
            uri,
            uri=True,
            factory=make,
            isolation_level=None,
            timeout=patience_s,
            cached_statements=_CACHED_STATEMENTS,
        )
        return cls(connection, made[0])

    async def run(self, work: Callable[[StagedConnection], T]) -> T:
        """Run a piece of work in the thread, after what was handed over before.

        Cancellation: the work is done all the same; only its answer is lost.

        Raises:
            Whatever the work raises. ValueError: the connection is closed.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        raw = self.raw

        def piece() -> None:
            try:
                result = work(raw)
            except BaseException as error:  # noqa: BLE001 - told to whoever waits, whatever it is
                self.tell(_refuse, answer, error)
            else:
                self.tell(_answer, answer, result)

        self.post(piece)
        return await answer

    def post(self, piece: Piece) -> None:
        """Hand work to the thread, and do not wait for it.

        Raises:
            ValueError: the connection is closed.
        """
        if not self._is_open:
            raise ValueError("the connection is closed")
        self._staged.put(piece)

    def tell(self, what: Callable[..., object], *args: Any) -> None:
        """Have something done in the event loop; called in the thread."""
        self._mailbox.put(what, *args)

    async def close(self) -> None:
        """Close the connection and end its thread, after what was handed over before."""
        if self._is_open:
            self._is_open = False
            self._staged.put(None)
        await self._connection.close()
        self._mailbox.close()  # not where that failed: a thread that goes on would write into whatever is opened next


def _answer(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _refuse(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
