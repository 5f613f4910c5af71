"""The PostgreSQL store behind a pooler that gives each transaction another connection."""

from __future__ import annotations

import logging
from asyncio import Event, gather, wait_for
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.pooler import Pooler
from wallet_actions.errors import StoreUnavailableError
from wallet_actions.store import Delta, Store
from wallet_actions.testing.contract.base import coin, key, new, step
from wallet_actions.testing.postgres import PostgresServer
from wallet_actions.testing.store_contract import SharedStoreContract
from wallet_actions_storage.postgres import PostgresStore, listening

PATIENCE_S = 30.0
_numbers = count()


@pytest.fixture(scope="module")
def pooler(postgres_server: PostgresServer) -> Iterator[Pooler]:
    with Pooler(postgres_server.url) as pooler:
        yield pooler


@pytest.fixture
def schema() -> str:
    return f"pooled_{next(_numbers)}"


class TestPooledStore(SharedStoreContract):
    """What several workers share is in no session."""

    @pytest.fixture(autouse=True)
    def server(self, pooler: Pooler) -> None:
        self.pooler = pooler

    def make_store(self, tmp_path: Path) -> Store:
        schema = f"p_{sha256(str(tmp_path).encode()).hexdigest()[:12]}"
        return PostgresStore(self.pooler.url, schema=schema, prepared_statements=False, listen=False)


@pytest.mark.anyio
async def test_batches_of_many_writers_on_few_connections(pooler: Pooler, schema: str) -> None:
    """L-B1: writers, readers and an app's transaction take turns, on other connections each time."""
    turns = pooler.turns
    stores = [PostgresStore(pooler.url, schema=schema, prepared_statements=False, listen=False) for _ in range(3)]
    await gather(*(store.__aenter__() for store in stores))
    try:

        async def work(store: PostgresStore, tag: str) -> None:
            for turn in range(4):
                name = f"{tag} {turn}"
                async with store.transaction() as conn:
                    await conn.execute("SELECT 1")
                    await store.create(new(name, Delta(add=(coin(name),), reserve=(name,))), conn=conn)
                await store.save(step(name, 1, Delta(spend=(name,), counters=((tag, turn),))))
                assert (await store.load(key(name))) is not None

        await gather(*(work(store, f"{n} {m}") for n, store in enumerate(stores) for m in range(3)))
        assert {found.state for found in await stores[0].coins()} == {"spent"}
        assert len(await stores[0].list_actions()) == 3 * 3 * 4
    finally:
        await gather(*(store.__aexit__(None, None, None) for store in stores))
    assert pooler.turns > turns


@pytest.mark.anyio
async def test_statements_that_a_pooler_does_not_keep_are_told_of(pooler: Pooler, schema: str) -> None:
    """At once, and not by going on over ever new connections; what was refused was not written."""
    turns = pooler.turns
    with pytest.raises(StoreUnavailableError, match="prepared_statements=false"):
        async with PostgresStore(pooler.url, schema=schema, listen=False):
            pytest.fail("it was opened")
    assert pooler.turns < turns + 9
    calls, refused = {"create": 0, "list": 0}, 0
    created: set[str] = set()
    async with PostgresStore(pooler.url, schema=schema, prepared_statements=False, listen=False):
        pass
    async with PostgresStore(pooler.url, schema=schema, listen=False) as store:
        for n in range(9):
            for name, call in (("create", store.create(new(f"{n}"))), ("list", store.list_actions())):
                try:
                    await call
                except StoreUnavailableError as error:
                    calls[name] += "prepared_statements=false" in str(error)
                    refused += 1
                else:
                    created |= {f"{n}"} if name == "create" else set()
    assert all(calls.values())
    assert sum(calls.values()) == refused
    async with PostgresStore(pooler.url, schema=schema, prepared_statements=False, listen=False) as store:
        assert {row.id for row in await store.list_actions()} == created


@pytest.mark.anyio
async def test_a_store_hears_around_its_pooler(postgres_server: PostgresServer, pooler: Pooler, schema: str) -> None:
    """`listen` names the server itself."""
    one, two = (
        PostgresStore(pooler.url, schema=schema, prepared_statements=False, listen=postgres_server.url)
        for _ in range(2)
    )
    heard = Event()
    async with one, two, two.listen(heard.set):
        await one.create(new("a"))
        await wait_for(heard.wait(), PATIENCE_S)


@pytest.mark.anyio
async def test_who_listens_at_a_pooler_is_told(pooler: Pooler, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears nothing, not even itself. Polls find everything, but late: a warning says so, once, and what to set."""
    monkeypatch.setattr(listening, "_HEARTBEAT_S", 0.01)
    beats: list[str] = []
    enough = Event()

    class Log(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            beats.append(record.getMessage())
            enough.set()

    log = Log(logging.WARNING)
    listening._LOG.addHandler(log)
    try:
        async with (
            PostgresStore(pooler.url, schema=schema, prepared_statements=False) as store,
            store.listen(pytest.fail),
        ):
            await wait_for(enough.wait(), PATIENCE_S)
        assert len(beats) == 1
        assert "listen" in beats[0]
    finally:
        listening._LOG.removeHandler(log)


@pytest.mark.anyio
async def test_who_listens_at_the_server_hears_itself(
    postgres_server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a channel of its own, which wakes nobody: so it is not warned."""
    heard = Event()
    add = asyncpg.Connection.add_listener

    async def add_listener(connection: asyncpg.Connection, channel: str, callback: Callable[..., None]) -> None:
        def on_notification(*arguments: Any) -> None:
            callback(*arguments)
            heard.set()

        await add(connection, channel, on_notification if schema not in channel else callback)

    monkeypatch.setattr(asyncpg.Connection, "add_listener", add_listener)
    async with (
        PostgresStore(postgres_server.url, schema=schema) as one,
        PostgresStore(postgres_server.url, schema=schema) as two,
        one.listen(pytest.fail),
    ):
        await wait_for(heard.wait(), PATIENCE_S)
        heard.clear()
        async with two.listen(pytest.fail):
            await wait_for(heard.wait(), PATIENCE_S)
