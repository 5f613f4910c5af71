"""Opening and closing a database: its locks, its file, its two connections."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Self, TypeAlias, TypeVar

import anyio
from anyio.to_thread import run_sync

from wallet_actions.checkpoint import Checkpoint
from wallet_actions.coins import ActionKey
from wallet_actions.errors import SchemaError, StoreUnavailableError, WalletActionError
from wallet_actions_storage.sqlite import reads
from wallet_actions_storage.sqlite.failures import is_busy, unavailable
from wallet_actions_storage.sqlite.guard import CommitLock, ProcessGuard
from wallet_actions_storage.sqlite.lanes import INDEX
from wallet_actions_storage.sqlite.schema import (
    check_header,
    check_library,
    create_file,
    load_migrations,
    migrate,
    schema_version,
)
from wallet_actions_storage.sqlite.session import Session
from wallet_actions_storage.sqlite.settings import Settings
from wallet_actions_storage.sqlite.thread import ConnectionThread, StagedConnection
from wallet_actions_storage.sqlite.writer import Writer

T = TypeVar("T")

_CACHE_KIB = 16_000
_CHECKPOINT_PAGES = 1000  # runs within a commit, so that it is felt: rather often than long
_LARGEST_IDLE_WAL = 64 * 2**20
_PAUSE_S = 0.005
_WORTH_LOADING_TOGETHER = 4

Wanted: TypeAlias = tuple[ActionKey, asyncio.Future[Checkpoint | None]]
Loaded: TypeAlias = tuple[asyncio.Future[Checkpoint | None], Checkpoint | None, Exception | None]


class Database:
    """An open database.

    Attributes:
        writer: None where it was opened to be read only.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.writer: Writer | None = None
        self._reader: ConnectionThread | None = None
        self._wanted: deque[Wanted] = deque()
        self._is_asked_to_load = False
        self._held = AsyncExitStack()

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Lock, check, migrate and open; where it raises, nothing stays open.

        Raises:
            SchemaError, StoreInUseError, StoreUnavailableError: see `Store.__aenter__`.
        """
        opening = asyncio.ensure_future(cls._open(settings))
        with anyio.CancelScope(shield=True):
            try:
                database = await asyncio.shield(opening)
            except asyncio.CancelledError:
                # Threads are at work for it: what they open must not be left behind.
                with suppress(WalletActionError):
                    await (await opening).close()
                raise
        return database

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read, on the connection that only reads, all that was committed before.

        Raises:
            StoreUnavailableError: the store is closed, or the database failed.
        """
        failure: Exception
        if self._reader is None:
            raise StoreUnavailableError(f"the database {self.settings.name} is not open")
        try:
            return await self._reader.run(work)
        except (sqlite3.Error, ValueError) as error:
            failure = unavailable(error, self.settings.name)
        raise failure

    async def load(self, key: ActionKey) -> Checkpoint | None:
        """Read an action's row; those that are asked for together are read and answered together.

        Raises:
            As `read`.
        """
        if self._reader is None:
            raise StoreUnavailableError(f"the database {self.settings.name} is not open")
        answer: asyncio.Future[Checkpoint | None] = asyncio.get_running_loop().create_future()
        self._wanted.append((key, answer))
        if not self._is_asked_to_load:
            self._is_asked_to_load = True
            try:
                self._reader.post(self._load_wanted)
            except ValueError as error:
                self._is_asked_to_load = False
                self._wanted.clear()
                raise unavailable(error, self.settings.name) from None
        return await answer

    def _load_wanted(self) -> None:
        """Read the rows that are wanted by now; in the reader's thread."""
        # In this order: who puts down something from here on asks again.
        self._is_asked_to_load = False
        reader, wanted = self._reader, self._wanted
        left = len(wanted) if reader is not None else 0
        while left and reader is not None:
            # In equal parts: those who are answered together go on together, and share commits.
            size = -(-left // -(-left // reads.MANY))
            together = [wanted.popleft() for _ in range(size)]
            left -= size
            reader.tell(_answer_wanted, self._load_together(reader.raw, together))

    def _load_together(self, connection: sqlite3.Connection, wanted: Sequence[Wanted]) -> list[Loaded]:
        if len(wanted) >= _WORTH_LOADING_TOGETHER:
            with suppress(sqlite3.Error, ValueError):  # each is told of its own failure
                rows = reads.load_many(connection, [key for key, _ in wanted])
                return [(answer, rows.get(key), None) for key, answer in wanted]
        found: list[Loaded] = []
        for key, answer in wanted:
            try:
                found.append((answer, reads.load(connection, key), None))
            except Exception as error:  # noqa: BLE001 - told to whoever waits, whatever it is
                is_known = isinstance(error, sqlite3.Error | ValueError)
                found.append((answer, None, unavailable(error, self.settings.name) if is_known else error))
        return found

    async def close(self) -> None:
        """Write what is queued, then close.

        Raises:
            StoreUnavailableError: SQLite could not close the file.
        """
        closing = asyncio.ensure_future(self._held.aclose())
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                await asyncio.wait([closing])
                raise
            except sqlite3.Error as error:
                raise unavailable(error, self.settings.name) from error

    @classmethod
    async def _open(cls, settings: Settings) -> Self:
        database = cls(settings)
        try:
            async with database._held:
                await (database._open_to_read() if settings.is_read_only else database._open_to_write())
                database._held = database._held.pop_all()
        except sqlite3.Error as error:
            raise unavailable(error, settings.name) from error
        return database

    async def _open_to_write(self) -> None:
        settings, held = self.settings, self._held
        lock = CommitLock(None if settings.is_exclusive else settings.path, settings.patience_s)
        guard = ProcessGuard(settings.path)
        held.callback(guard.release)
        held.callback(lock.close)
        await run_sync(self._prepare_file, guard, lock)
        uri = f"{settings.path.as_uri()}?mode=rw"
        thread = await ConnectionThread.open(uri, patience_s=settings.patience_s, closing=lock)
        held.push_async_callback(thread.close)
        session = await thread.run(lambda connection: self._prepare(connection, lock))
        await self._open_reader(uri)
        self.writer = Writer(thread, session, lock, settings.name, settings.patience_s)
        held.push_async_callback(self.writer.close)

    async def _open_to_read(self) -> None:
        path = self.settings.path
        newest = len(load_migrations())
        await run_sync(self._check_to_read, newest)
        # A connection that may write takes away what it put beside the file; one that may not leaves what is there.
        is_in_use = path.with_name(f"{path.name}-wal").exists()
        await self._open_reader(f"{path.as_uri()}?mode={'ro' if is_in_use else 'rw'}")
        version = await self.read(schema_version)
        if version != newest:
            raise SchemaError(
                f"{path} has schema version {version}, and this code needs {newest}: open it with the app once"
            )

    async def _open_reader(self, uri: str) -> None:
        reader = await ConnectionThread.open(uri, patience_s=self.settings.patience_s)
        self._held.push_async_callback(reader.close)
        await reader.run(_configure_reader)
        self._reader = reader

    def _check_to_read(self, newest: int) -> None:
        check_library()
        path = self.settings.path
        check_header(path, newest)
        if not path.exists():
            raise StoreUnavailableError(f"{path} does not exist")
        if path.stat().st_size == 0:
            raise SchemaError(f"{path} is empty: open it with the app once")

    def _prepare_file(self, guard: ProcessGuard, lock: CommitLock) -> None:
        check_library()
        check_header(self.settings.path, len(load_migrations()))
        guard.take(exclusive=self.settings.is_exclusive)
        lock.open()
        create_file(self.settings.path)

    def _prepare(self, connection: StagedConnection, lock: CommitLock) -> Session:
        settings = self.settings
        with lock:
            _patiently(lambda: migrate(connection, settings.path, load_migrations()), settings.patience_s)
            # After the first migration, so that the file's header says whose it is from the moment that it has one.
            mode = _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone(), settings.patience_s)
            if mode[0] != "wal":
                raise StoreUnavailableError(f"the disk of {settings.path} does not support a write-ahead log")
            for pragma in (
                f"synchronous = {settings.durability.upper()}",
                f"cache_size = -{_CACHE_KIB}",
                f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
                f"journal_size_limit = {_LARGEST_IDLE_WAL}",
                "foreign_keys = ON",
                "temp_store = MEMORY",
                "trusted_schema = OFF",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            if settings.is_shared:
                _patiently(lambda: connection.execute(INDEX), settings.patience_s)
            connection.execute("SELECT row FROM wa_actions LIMIT 1").fetchall()
            # From here on it is the writer who waits, and lets go of the commit lock meanwhile.
            connection.execute("PRAGMA busy_timeout = 0").fetchall()
        return Session(connection)


def _answer_wanted(found: Sequence[Loaded]) -> None:
    for answer, checkpoint, error in found:
        if answer.done():
            continue
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(checkpoint)


def _configure_reader(connection: sqlite3.Connection) -> None:
    for pragma in ("query_only = ON", f"cache_size = -{_CACHE_KIB}", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _patiently(work: Callable[[], Any], patience_s: float) -> Any:
    """Try again while the database is busy: SQLite does not wait everywhere."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE_S)
