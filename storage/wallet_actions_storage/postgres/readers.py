"""The connections that only read: a few, opened when they are needed, each used by one caller at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from wallet_actions.errors import StoreUnavailableError
from wallet_actions_storage.postgres.failures import LostError, is_not_kept, is_unit_fault, unavailable, unit_error
from wallet_actions_storage.postgres.program import Row
from wallet_actions_storage.postgres.session import Session, connect
from wallet_actions_storage.postgres.settings import Settings

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_LONG_READS = 6.0
"""A page is read in no time; counting all may take longer than a write is waited for."""


class Readers:
    """Reads for a store that is open."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._free: deque[Session] = deque()
        self._turns = asyncio.Semaphore(settings.readers)
        self._under_way: set[asyncio.Future[Sequence[Row]]] = set()
        self._is_closed = False

    async def read(self, sql: str, *values: Any) -> Sequence[Row]:
        """Run a query, on another connection where one is lost on the way.

        Raises:
            StoreUnavailableError: the store is closed, or the database cannot be reached in time, or failed.
        """
        script = sql.replace("{schema}", self._settings.schema)
        timeout_s = self._settings.patience_s * _LONG_READS
        return await self._run(script, values, timeout_s)

    async def execute(self, script: str) -> None:
        """Run a script without parameters or answer, such as a notification.

        Raises:
            StoreUnavailableError: as `read`.
        """
        await self._run(script, None, self._settings.patience_s)

    async def close(self) -> None:
        """Answer those who read, then close the connections."""
        self._is_closed = True
        if self._under_way:
            await asyncio.wait(self._under_way)
        while self._free:
            await self._free.popleft().close()

    async def _run(self, script: str, values: Sequence[Any] | None, timeout_s: float) -> Sequence[Row]:
        await self._turns.acquire()
        # A task of its own: the driver does not survive it well that a caller is cancelled in its midst.
        task = asyncio.ensure_future(self._patiently(script, values, timeout_s))
        self._under_way.add(task)
        task.add_done_callback(self._end)
        return await asyncio.shield(task)

    def _end(self, task: asyncio.Future[Sequence[Row]]) -> None:
        self._under_way.discard(task)
        self._turns.release()
        if not task.cancelled():
            task.exception()  # its caller may be gone

    async def _patiently(self, script: str, values: Sequence[Any] | None, timeout_s: float) -> Sequence[Row]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.patience_s
        pause_s = _FIRST_PAUSE_S
        failure: Exception
        while True:
            try:
                async with self._session(deadline) as session:
                    if values is None:
                        await session.execute(script)
                        return ()
                    return await session.read(script, *values, timeout_s=timeout_s)
            except LostError as lost:
                failure = self._unavailable(lost)
                if is_not_kept(lost):
                    break
            except asyncpg.PostgresError as error:
                failure = (unit_error if is_unit_fault(error) else self._unavailable)(error)
                break
            except (ValueError, OverflowError) as error:
                failure = unit_error(error)
                break
            if loop.time() + pause_s >= deadline:
                break
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        raise failure

    @asynccontextmanager
    async def _session(self, deadline: float) -> AsyncIterator[Session]:
        if self._is_closed:
            raise StoreUnavailableError(f"the database {self._settings.name} is not open")
        session = self._free.popleft() if self._free else None
        if session is None or not session.is_open:
            left = max(0.1, deadline - asyncio.get_running_loop().time())
            session = await connect(self._settings, left)
        try:
            yield session
        finally:
            await session.roll_back()  # a script that failed half-way
            if session.is_open:
                self._free.append(session)

    def _unavailable(self, error: BaseException) -> StoreUnavailableError:
        return unavailable(error, self._settings.name)
