"""What the tests of the SQLite store share."""

from __future__ import annotations

import sqlite3
from asyncio import create_task, gather, sleep
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey, Coin
from wallet_actions.store import EMPTY_DELTA, Delta, NewAction, Saved, Store, Write
from wallet_actions_storage.sqlite import SQLiteStore

T0 = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
PATIENCE_S = 30.0
SECRET = "the-payload-that-nobody-may-see"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def key(id: str) -> ActionKey:
    return ActionKey("pay", id)


def checkpoint(
    id: str,
    version: int = 0,
    *,
    status: Status = Status.RUNNING,
    time: datetime = T0,
    wake_at: datetime | None = None,
    state: str = '{"n":1}',
    row: int = 0,
) -> Checkpoint:
    return Checkpoint("pay", id, version, 1, state, "unpaid", status, time, time, wake_at, row=row)


def new(id: str, delta: Delta = EMPTY_DELTA, **fields: Any) -> NewAction:
    return NewAction(checkpoint(id, **fields), delta)


def step(id: str, version: int, delta: Delta = EMPTY_DELTA, **fields: Any) -> Write:
    return Write(version - 1, checkpoint(id, version, **fields), "next", delta=delta)


def coin(id: str, amount: int = 1) -> Coin:
    return Coin(id, "https://mint.example", "sat", amount, SECRET)


@contextmanager
def plain(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of its own, in autocommit."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        yield connection


def rows_of(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with plain(path) as connection:
        return connection.execute(sql).fetchall()


async def in_writer(store: SQLiteStore, work: Callable[[sqlite3.Connection], Any]) -> Any:
    """Run something on the writing connection, between two batches."""
    assert store._database is not None
    assert store._database.writer is not None
    return await store._database.writer._thread.run(work)


def count_commits(connection: sqlite3.Connection) -> list[str]:
    """Have the connection note each COMMIT."""
    commits: list[str] = []
    connection.set_trace_callback(lambda sql: commits.append(sql) if sql.startswith("COMMIT") else None)
    return commits


class Gate:
    """Holds the writing thread until it is opened, so that what is submitted meanwhile has to wait."""

    def __init__(self, store: SQLiteStore) -> None:
        self._event = Event()
        self._task = create_task(in_writer(store, lambda _: self._event.wait(PATIENCE_S)))

    async def open(self) -> None:
        self._event.set()
        await self._task


async def in_one_batch(store: SQLiteStore, calls: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Call the store so that all calls wait before any is worked off.

    Returns:
        What each answered or raised.
    """
    gate = Gate(store)
    tasks = [create_task(call) for call in calls]
    await sleep(0)
    await gate.open()
    return await gather(*tasks, return_exceptions=True)


async def put(store: Store, write: Write) -> Saved:
    return await (store.finish if write.checkpoint.status.is_terminal else store.save)(write)


async def follow(store: Store, id: str, **changes: Any) -> Write:
    """The next write of an action as it stands."""
    found = await store.load(key(id))
    assert found is not None
    return Write(found.version, replace(found, version=found.version + 1, **changes), "next")
