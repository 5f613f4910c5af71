"""What the PostgreSQL store adds to the contract: its schema, its errors, its notifications, its settings."""

from __future__ import annotations

import asyncio
import hashlib
import traceback
from asyncio import Event, gather, wait_for
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from wallet_actions.checkpoint import Status
from wallet_actions.errors import SchemaError, StatementError, StoreUnavailableError, UsageError
from wallet_actions.fleet import Claim
from wallet_actions.ops.target import opened
from wallet_actions.store import Delta, Statement, open_store
from wallet_actions.testing.contract.base import KIND, SECRET, at, coin, key, new, step
from wallet_actions.testing.postgres import PostgresMissingError, PostgresServer, find_binaries
from wallet_actions_storage.postgres import PostgresStore
from wallet_actions_storage.postgres.schema import load_migrations

pytestmark = pytest.mark.anyio

PATIENCE_S = 30.0
_numbers = count()


@pytest.fixture
def schema() -> str:
    return f"store_{next(_numbers)}"


async def query(url: str, sql: str, *values: Any) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql, *values)
    finally:
        await connection.close()


async def test_ten_stores_open_at_once(postgres_server: PostgresServer, schema: str) -> None:
    """L-B4: one migrates, the others wait for it, and all of them write."""
    stores = [PostgresStore(postgres_server.url, schema=schema) for _ in range(10)]
    await gather(*(store.__aenter__() for store in stores))
    try:
        created = await gather(*(store.create(new("a")) for store in stores))
        assert sum(answer.is_new for answer in created) == 1
    finally:
        await gather(*(store.__aexit__(None, None, None) for store in stores))
    rows = await query(postgres_server.url, f"SELECT version FROM {schema}.wa_migrations")
    assert [row[0] for row in rows] == [migration.version for migration in load_migrations()]


async def test_a_schema_of_an_earlier_release_is_brought_up_to_date(
    postgres_server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L-B4: with what is in it; afterwards it is as a new one."""
    indexes = "SELECT replace(indexdef, $1, '') FROM pg_indexes WHERE schemaname = $1 ORDER BY indexname"
    with monkeypatch.context() as earlier:
        earlier.setattr("wallet_actions_storage.postgres.database.load_migrations", lambda: load_migrations()[:1])
        async with PostgresStore(postgres_server.url, schema=schema) as store:
            await store.create(new("a"))
            assert [row.id for row in await store.claim(Claim("one", at(0), timedelta(minutes=1), {KIND: 1}))] == ["a"]
    before = await query(postgres_server.url, indexes, schema)
    async with PostgresStore(postgres_server.url, schema=schema) as store:
        assert [(row.id, row.owner) for row in await store.list_actions()] == [("a", "one")]
    async with PostgresStore(postgres_server.url, schema=f"{schema}_new"):
        pass
    after = await query(postgres_server.url, indexes, schema)
    assert after == await query(postgres_server.url, indexes, f"{schema}_new")
    assert after != before


def test_a_migration_that_others_have_run_stays_as_it_was() -> None:
    """L-B4: what was run once is not run again, so a change to it would reach new databases alone."""
    digest = hashlib.sha256(load_migrations()[0].sql.encode()).hexdigest()
    assert digest == "810a8c19012cb13001eb5ee003b3dff62832ed54806e9271b48ceb66c60c276c"


async def test_a_newer_schema_is_refused(postgres_server: PostgresServer, schema: str) -> None:
    """L-B4: with nothing changed; also by a store that only reads."""
    async with PostgresStore(postgres_server.url, schema=schema):
        pass
    await query(postgres_server.url, f"INSERT INTO {schema}.wa_migrations VALUES (99, 'future', now())")
    for is_read_only in (False, True):
        with pytest.raises(SchemaError, match="newer release"):
            async with PostgresStore(postgres_server.url, schema=schema, read_only=is_read_only):
                pytest.fail("it was opened")


async def test_tables_of_another_program_are_refused(postgres_server: PostgresServer, schema: str) -> None:
    """L-B4: and left as they are."""
    await query(postgres_server.url, f"CREATE SCHEMA {schema}")
    await query(postgres_server.url, f"CREATE TABLE {schema}.wa_actions (x INTEGER)")
    with pytest.raises(SchemaError, match="another program"):
        async with PostgresStore(postgres_server.url, schema=schema):
            pytest.fail("it was opened")


async def test_reading_only_writes_nothing(postgres_server: PostgresServer, schema: str) -> None:
    """An operator looks at a fleet's database without joining in."""
    with pytest.raises(SchemaError, match="open it with the app once"):
        async with PostgresStore(postgres_server.url, schema=schema, read_only=True):
            pytest.fail("it was opened")
    assert await query(postgres_server.url, "SELECT to_regnamespace($1) IS NULL", schema) == [(True,)]
    async with PostgresStore(postgres_server.url, schema=schema) as store:
        await store.create(new("a"))
        async with open_store(f"{postgres_server.url}?schema={schema}&read_only=true") as reading:
            assert [row.id for row in await reading.list_actions()] == ["a"]
            with pytest.raises(UsageError):
                await reading.save(step("a", 1))


async def test_a_command_looks_without_writing(postgres_server: PostgresServer, schema: str) -> None:
    """`wallet-actions` opens a fleet's database to read it: it makes no schema, and is no writer of it."""
    url = f"{postgres_server.url}?schema={schema}"
    with pytest.raises(SchemaError, match="open it with the app once"):
        async with opened(url):
            pytest.fail("it was opened")
    assert await query(postgres_server.url, "SELECT to_regnamespace($1) IS NULL", schema) == [(True,)]
    async with PostgresStore(postgres_server.url, schema=schema) as store:
        await store.create(new("a"))
    async with opened(url) as reading:
        assert await reading.load(key("a")) is not None
        assert await query(postgres_server.url, f"SELECT 1 FROM {schema}.wa_writers WHERE writer <> ''") == []


async def test_a_claim_that_finds_nothing_writes_nothing(postgres_server: PostgresServer, schema: str) -> None:
    """A poll costs no flush: the writer's row is as it was."""
    look = f"SELECT token FROM {schema}.wa_writers WHERE writer <> ''"
    async with PostgresStore(postgres_server.url, schema=schema) as store:
        await store.create(new("later", status=Status.PARKED, wake_at=at(100)))
        before = await query(postgres_server.url, look)
        assert await store.claim(Claim("one", at(1), timedelta(seconds=30), {KIND: 1})) == []
        assert await query(postgres_server.url, look) == before
        assert len(await store.claim(Claim("one", at(101), timedelta(seconds=30), {KIND: 1}))) == 1
        assert await query(postgres_server.url, look) != before


async def test_no_secret_is_in_an_error(postgres_server: PostgresServer, schema: str) -> None:
    """What the server and the driver say of a value stays with them: not in the message, not in what it came from."""
    async with PostgresStore(postgres_server.url, schema=schema) as store:
        async with store.transaction() as conn:
            await conn.execute(
                f"CREATE TABLE {schema}.app (name TEXT PRIMARY KEY, amount INTEGER NOT NULL CHECK (amount > 0))"
            )
        await store.create(new("a"))
        insert = f"INSERT INTO {schema}.app (name, amount) VALUES ($1, $2)"
        for bad in (
            Statement(insert, (SECRET, None)),
            Statement(insert, (SECRET, -1)),
            Statement(insert, (SECRET, SECRET)),
            Statement("SELECT $1::text::integer", (SECRET,)),
            Statement("DO $$ BEGIN RAISE EXCEPTION 'no'; END $$"),
            Statement(f"COMMIT; -- {SECRET}"),
            Statement("SET search_path = nowhere"),
        ):
            with pytest.raises(StatementError) as caught:
                await store.save(step("a", 1, Delta(add=(coin("c"),), statements=(bad,))))
            assert SECRET not in "".join(traceback.format_exception(caught.value))
        for name in (f"{SECRET}\0", f"{SECRET}\ud800"):
            with pytest.raises(UsageError) as refused:
                await store.create(new("b", Delta(add=(coin("d", payload=name),))))
            assert SECRET not in "".join(traceback.format_exception(refused.value))
        assert await store.save(step("a", 1)) == (1, False)


async def test_no_password_is_in_an_error(postgres_server: PostgresServer) -> None:
    """Neither of a server that is not there, nor of one that refuses."""
    with PostgresServer(is_own=True) as other:
        gone = other.port or 1
    for url in (
        f"postgresql://user:{SECRET}@127.0.0.1:{gone}/db",
        f"postgres://nobody:{SECRET}@127.0.0.1:{postgres_server.port}/x",
    ):
        store = PostgresStore(url, busy_timeout=timedelta(seconds=0.2))
        with pytest.raises(StoreUnavailableError) as caught:
            await store.__aenter__()
        assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(vars(store))


async def test_others_hear_of_what_is_due_at_once(postgres_server: PostgresServer, schema: str) -> None:
    """A start, a request, children, what is given back and a kind that goes on; not what a store did itself."""
    async with (
        PostgresStore(postgres_server.url, schema=schema) as one,
        PostgresStore(postgres_server.url, schema=schema) as two,
    ):
        heard, own = Event(), Event()
        async with two.listen(heard.set), one.listen(own.set):
            await one.create(new("a"))
            await wait_for(heard.wait(), PATIENCE_S)
            for act in (
                lambda: one.save(step("a", 1, status=Status.PARKED, wake_at=at(99))),
                lambda: one.request_cancel(key("a"), at(1)),
                lambda: one.save(step("a", 2, Delta(start=(new("child"),)))),
                lambda: one.set_kind_paused("pay", False),
            ):
                heard.clear()
                await act()
                if act.__code__.co_names[0] == "save" and not await one.load(key("child")):
                    continue  # parked until later: nobody needs to hear
                await wait_for(heard.wait(), PATIENCE_S)
        assert not own.is_set()


async def test_a_listener_whose_connection_is_lost_listens_again(postgres_server: PostgresServer, schema: str) -> None:
    """And is woken once, because what was told meanwhile was lost."""
    async with PostgresStore(postgres_server.url, schema=schema) as store:
        heard = Event()
        async with store.listen(heard.set):
            await query(
                postgres_server.url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1",
                f"LISTEN%{schema}%",
            )
            await wait_for(heard.wait(), PATIENCE_S)


async def test_nobody_listens_where_it_is_switched_off(postgres_server: PostgresServer, schema: str) -> None:
    """Behind a pooler a connection cannot listen; polls find everything."""
    url = f"{postgres_server.url}?schema={schema}&listen=false&prepared_statements=false&readers=1"
    async with open_store(url) as store:
        assert isinstance(store, PostgresStore)
        async with store.listen(pytest.fail):
            await store.create(new("a"))
            await store.save(step("a", 1))
        names = await query(
            postgres_server.url, "SELECT 1 FROM pg_stat_activity WHERE query LIKE $1", f"LISTEN%{schema}%"
        )
        assert names == []


async def test_an_app_writes_over_its_own_connection(postgres_server: PostgresServer, schema: str) -> None:
    """G1: ours commit with the app's, and a start that fails leaves the app's transaction to the app."""
    async with PostgresStore(postgres_server.url, schema=schema) as store:
        connection = await asyncpg.connect(postgres_server.url)
        try:
            with pytest.raises(UsageError, match="begin one first"):
                await store.create(new("a"), conn=connection)
            transaction = connection.transaction()
            await transaction.start()
            assert (await store.create(new("a", Delta(add=(coin("c"),))), conn=connection)).is_new
            assert await store.load(key("a")) is None
            with pytest.raises(UsageError):
                await store.create(new("x", Delta(add=(coin("e", payload="\0"),))), conn=connection)
            assert not (await store.create(new("a"), conn=connection)).is_new
            await transaction.commit()
        finally:
            await connection.close()
        assert [row.id for row in await store.list_actions()] == ["a"]
        assert await store.save(step("a", 1)) == (1, False)


async def test_a_server_that_does_not_wait_for_its_disk(postgres_server: PostgresServer, schema: str) -> None:
    """G7: each transaction of ours waits, whatever the user's settings are."""
    role = f"lazy_{schema}"
    await query(postgres_server.url, f"CREATE ROLE {role} LOGIN SUPERUSER")
    await query(postgres_server.url, f"ALTER ROLE {role} SET synchronous_commit = off")
    await query(postgres_server.url, f"ALTER ROLE {role} SET default_transaction_isolation = 'serializable'")
    async with PostgresStore(postgres_server.url.replace("postgres@", f"{role}@"), schema=schema) as store:
        statement = Statement(
            f"INSERT INTO {schema}.seen"
            " SELECT current_setting('synchronous_commit'), current_setting('transaction_isolation')"
        )
        async with store.transaction() as conn:
            await conn.execute(f"CREATE TABLE {schema}.seen (sync TEXT, isolation TEXT)")
        await store.create(new("a", Delta(statements=(statement,))))
        await store.save(step("a", 1))
    assert await query(postgres_server.url, f"SELECT * FROM {schema}.seen") == [("on", "read committed")]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/db?nonsense=1",
        "postgresql://h/db?history=maybe",
        "postgresql://h/db?busy_timeout=soon",
        "postgresql://h/db?busy_timeout=0",
        "postgresql://h/db?readers=0",
        "postgresql://h/db?schema=Upper",
        "postgresql://h/db?schema=a;drop",
        "postgresql://h/db?listen=mysql://h",
    ],
)
async def test_urls_that_cannot_work(url: str) -> None:
    """A `UsageError`, before anything is opened."""
    with pytest.raises(UsageError):
        open_store(url)


async def test_no_server_is_a_failure_and_not_a_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear line says what was looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("wallet_actions.testing.postgres.binaries.SYSTEM", tmp_path)
    assert find_binaries().name == "bin"  # that of PyPI
    monkeypatch.setattr("wallet_actions.testing.postgres.binaries.PACKAGE", "no_such_package")
    with pytest.raises(PostgresMissingError, match="WALLET_ACTIONS_TEST_POSTGRES"):
        PostgresServer(is_own=True).__enter__()


async def test_a_server_of_somebody_elses(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of its own is made there, and dropped."""
    monkeypatch.setenv("WALLET_ACTIONS_TEST_POSTGRES", postgres_server.url)
    async with PostgresServer() as given:
        name = given.url.rpartition("/")[2]
        assert name.startswith("wa_test_")
        async with PostgresStore(given.url) as store:
            await store.create(new("a"))
    await asyncio.sleep(0)
    assert await query(postgres_server.url, "SELECT 1 FROM pg_database WHERE datname = $1", name) == []
