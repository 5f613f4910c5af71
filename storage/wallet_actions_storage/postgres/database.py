"""Opening and closing: the schema, the connection that writes, those that read."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

import anyio
import asyncpg

from wallet_actions.errors import UsageError
from wallet_actions_storage.postgres.batch import Unit
from wallet_actions_storage.postgres.embedding import Transaction
from wallet_actions_storage.postgres.failures import LostError, is_locked_out, is_not_kept, is_retried, unavailable
from wallet_actions_storage.postgres.listening import Messenger
from wallet_actions_storage.postgres.readers import Readers
from wallet_actions_storage.postgres.schema import load_migrations, migrate, read_version
from wallet_actions_storage.postgres.session import Session, connect
from wallet_actions_storage.postgres.settings import Settings
from wallet_actions_storage.postgres.sql import statements
from wallet_actions_storage.postgres.writer import Writer

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class Database:
    """A database that is open.

    Attributes:
        newest: the newest schema version that this code knows.
        writer: None where it was opened to be read only.
    """

    def __init__(self, settings: Settings, newest: int) -> None:
        self.settings = settings
        self.newest = newest
        self.sql = statements(settings.schema, settings.has_history)
        self.readers = Readers(settings)
        self.messenger = Messenger(settings, self.readers)
        self.writer: Writer | None = None

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Connect, check, migrate; where it raises, nothing stays open.

        Raises:
            SchemaError, StoreUnavailableError: see `Store.__aenter__`.
        """
        migrations = load_migrations()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + settings.patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            session: Session | None = None
            try:
                session = await connect(settings, max(0.1, deadline - loop.time()))
                if settings.is_read_only:
                    await read_version(session, settings.schema, len(migrations), is_read_only=True)
                else:
                    await migrate(session, settings.schema, migrations)
            except BaseException as error:
                if session is not None:
                    session.drop()
                if not isinstance(error, LostError | asyncpg.PostgresError):
                    raise
                failure: Exception | None = unavailable(error, settings.name)
                is_hopeful = isinstance(error, LostError) and not is_not_kept(error)
                if not (is_hopeful or is_retried(error) or is_locked_out(error)):
                    break
                if loop.time() + pause_s >= deadline:
                    break
            else:
                failure = None
                break
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if failure is not None or session is None:
            raise failure or UsageError("nothing was opened")
        database = cls(settings, len(migrations))
        if settings.is_read_only:
            await session.close()
        else:
            database.writer = Writer(session, settings, database.sql, database.messenger.tell)
        return database

    async def submit(self, unit: Unit) -> Any:
        """Write a unit."""
        if self.writer is None:
            raise UsageError(f"the database {self.settings.name} was opened to be read only")
        return await self.writer.submit(unit)

    def open_transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Lend the writing connection to the app."""
        if self.writer is None:
            raise UsageError(f"the database {self.settings.name} was opened to be read only")
        return self.writer.transaction()

    async def close(self) -> None:
        """Write what is queued, then close."""
        closing = asyncio.ensure_future(self._close())
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                await asyncio.wait([closing])
                raise

    async def _close(self) -> None:
        if self.writer is not None:
            await self.writer.close()
        await self.messenger.close()
        await self.readers.close()
