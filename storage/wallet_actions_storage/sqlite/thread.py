"""A connection with a thread of its own, and one hop for however much work.

aiosqlite runs each call of its connection in the connection's thread; a hop there and back costs some 60 µs, more than
a whole transaction takes. So the work is put down beside the connection, and `commit()`, one hop, picks it up: the
connection is of our own class, which runs what was put down first. Nothing but the name of `commit` reaches aiosqlite,
which logs every call with its arguments; ours hold what must not be logged.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import Any, Self, TypeVar

import aiosqlite

from wallet_actions.errors import StoreUnavailableError
from wallet_actions_storage.sqlite.guard import CommitLock

T = TypeVar("T")

_CACHED_STATEMENTS = 256


class StagedConnection(sqlite3.Connection):
    """A connection whose `commit` runs the work that was put down, in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.staged: deque[Callable[[], None]] = deque()
        self.closing: AbstractContextManager[object] = nullcontext()

    def commit(self) -> None:
        """Run the next piece of work; without any, commit."""
        if self.staged:
            self.staged.popleft()()
        else:
            super().commit()

    def close(self) -> None:
        """Close, if possible under the lock that was set for it: the last to close writes to the file."""
        with ExitStack() as held:
            with suppress(StoreUnavailableError):
                held.enter_context(self.closing)
            super().close()


class ConnectionThread:
    """An open connection and its thread."""

    def __init__(self, connection: aiosqlite.Connection, raw: StagedConnection) -> None:
        self._connection = connection
        self._raw = raw

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
        answer: list[T] = []
        raw = self._raw

        def piece() -> None:
            answer.append(work(raw))

        raw.staged.append(piece)
        hop = self._connection.commit()
        try:
            await hop
        except ValueError:
            if piece in raw.staged:
                raw.staged.remove(piece)
            raise
        return answer[0]

    async def close(self) -> None:
        """Close the connection and end its thread, after what was handed over before."""
        await self._connection.close()
