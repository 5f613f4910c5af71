"""Several stores on one PostgreSQL that want the same rows, and what is left of one that fails half-way."""

from __future__ import annotations

import random
import traceback
from asyncio import gather
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import count
from typing import Any

import asyncpg
import pytest

from wallet_actions.checkpoint import Status
from wallet_actions.errors import ReservationError, StoreUnavailableError, UsageError
from wallet_actions.store import Delta, Statement, open_store
from wallet_actions.testing.contract.base import coin, key, new, step
from wallet_actions.testing.postgres import PostgresServer
from wallet_actions_storage.postgres import PostgresStore

pytestmark = pytest.mark.anyio

_numbers = count()


class Two:
    """Two stores on one schema, and a plain connection beside them."""

    def __init__(self, stores: Sequence[PostgresStore], plain: asyncpg.Connection, schema: str) -> None:
        self.one, self.two = stores
        self.plain = plain
        self.schema = schema

    async def deadlocks(self) -> int:
        """How often the server had to break one, in this database."""
        for store in (self.one, self.two):  # an idle connection tells what it has counted, once it is gone
            await store.__aexit__()
        while await self.plain.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%' || $1 || '.wa_%' AND pid <> pg_backend_pid()",
            self.schema,
        ):
            pass
        found = await self.plain.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        for store in (self.one, self.two):
            await store.__aenter__()
        return int(found)


@pytest.fixture
async def two(postgres_server: PostgresServer) -> AsyncIterator[Two]:
    schema = f"contention_{next(_numbers)}"
    stores = [PostgresStore(postgres_server.url, schema=schema) for _ in range(2)]
    plain = await asyncpg.connect(postgres_server.url)
    for store in stores:
        await store.__aenter__()
    try:
        yield Two(stores, plain, schema)
    finally:
        for store in stores:
            await store.__aexit__()
        await plain.close()


async def test_who_takes_the_same_counters_in_another_order(two: Two) -> None:
    """A deadlock costs a second in which nobody is answered; batches lock in one order instead."""
    before = await two.deadlocks()
    names = [f"counter {n}" for n in range(5)]

    async def work(store: PostgresStore, order: list[str]) -> None:
        for _ in range(15):
            await gather(*(store.allocate(name) for name in order))

    await gather(*(work(two.one, names) for _ in range(3)), *(work(two.two, names[::-1]) for _ in range(3)))
    assert await two.one.counters() == dict.fromkeys(names, 90)
    assert await two.deadlocks() == before


async def test_who_ends_actions_of_the_same_kinds_in_another_order(two: Two) -> None:
    """Also where both count in the same slot."""
    before = await two.deadlocks()
    for store in (two.one, two.two):
        database: Any = store._database
        database.writer._slot = 3

    async def work(store: PostgresStore, tag: str, *ends: Status) -> None:
        for turn in range(10):
            names = [f"{tag} {turn} {n}" for n in range(6)]
            await gather(*(store.create(new(name)) for name in names))
            given = [step(name, 1, Delta(add=(coin(name),)), status=ends[n % 2]) for n, name in enumerate(names)]
            await gather(*map(store.finish, given))

    await gather(
        work(two.one, "one", Status.DONE, Status.FAILED),
        work(two.two, "two", Status.FAILED, Status.DONE),
    )
    assert await two.one.count_actions() == {("pay", Status.DONE): 60, ("pay", Status.FAILED): 60}
    assert await two.deadlocks() == before


async def test_who_starts_the_same_actions_in_another_order(two: Two) -> None:
    """G6: each is started once, and nobody waits for a deadlock."""
    before = await two.deadlocks()
    for turn in range(10):
        names = [f"{turn} {n}" for n in range(10)]
        made = await gather(
            *(two.one.create(new(name)) for name in names), *(two.two.create(new(name)) for name in reversed(names))
        )
        assert sum(created.is_new for created in made) == len(names)
    assert await two.deadlocks() == before


async def test_who_chooses_among_the_same_coins(two: Two) -> None:
    """L-C1, L-C2: each coin has one holder; who lost is told so, and nobody waits for a deadlock."""
    before = await two.deadlocks()
    ids = [f"coin {n:02}" for n in range(60)]
    await two.one.create(new("bank", Delta(add=tuple(map(coin, ids)))))
    rng = random.Random(7)
    held: dict[str, str] = {}

    async def one(store: PostgresStore, name: str) -> None:
        wanted = tuple(rng.sample(ids, 2))
        try:
            await store.create(new(name, Delta(reserve=wanted)))
        except ReservationError:
            return
        for coin_id in wanted:
            assert held.setdefault(coin_id, name) == name
        for coin_id in wanted:
            del held[coin_id]
        await store.save(step(name, 1, Delta(release=wanted)))

    async def work(store: PostgresStore, tag: str) -> None:
        for turn in range(8):
            await gather(*(one(store, f"{tag} {turn} {n}") for n in range(10)))

    await gather(work(two.one, "one"), work(two.two, "two"))
    assert {found.state for found in await two.one.coins()} == {"spendable"}
    assert await two.deadlocks() == before


@pytest.mark.parametrize("state", ["deadlock_detected", "serialization_failure"])
async def test_statements_of_the_app_in_whose_way_others_are_run_again(two: Two, state: str) -> None:
    """They are at no fault, and no action gets stuck for it; however often it happens to them."""
    await two.plain.execute(f"CREATE SEQUENCE {two.schema}.tries")
    await two.plain.execute(
        f"CREATE FUNCTION {two.schema}.app() RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF"
        f" nextval('{two.schema}.tries') <= 3 THEN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END IF; END $$"
    )
    statement = Statement(f"SELECT {two.schema}.app()")
    made = await gather(two.one.create(new("a", Delta(statements=(statement,)))), two.one.create(new("b")))
    assert all(created.is_new for created in made)
    assert await two.plain.fetchval(f"SELECT last_value FROM {two.schema}.tries") == 4


async def test_who_waits_for_a_row_does_not_take_the_others_with_it(two: Two) -> None:
    """L-B1: a unit that fails does so alone, also where it fails for somebody else's lock."""
    url = two.plain
    await two.one.create(new("bank", Delta(add=(coin("c"),))))
    async with PostgresStore(two.one._settings.dsn, schema=two.schema, busy_timeout=timedelta(seconds=1)) as store:
        async with url.transaction():
            await url.execute(f"SELECT 1 FROM {two.schema}.wa_coins FOR UPDATE")
            answers = await gather(
                store.create(new("before")),
                store.create(new("a", Delta(reserve=("c",)))),
                store.allocate("n"),
                store.save(step("bank", 1)),
                return_exceptions=True,
            )
            assert [type(answer).__name__ for answer in answers] == ["Created", "StoreUnavailableError", "int", "Saved"]
        assert isinstance(answers[1], StoreUnavailableError)
        assert (await store.create(new("a", Delta(reserve=("c",))))).is_new


@pytest.mark.parametrize("bad", ["nul \0", "surrogate \ud800"])
async def test_a_name_that_no_coin_can_have_is_its_own_units_fault(two: Two, bad: str) -> None:
    """L-B1: also where all coins that a batch wants are locked in one statement."""
    answers = await gather(
        two.one.create(new("a", Delta(add=(coin("c"),)))),
        two.one.create(new("b", Delta(reserve=(bad,)))),
        two.one.create(new("d", Delta(reserve=("c",)))),
        return_exceptions=True,
    )
    assert [type(answer).__name__ for answer in answers] == ["Created", "UsageError", "Created"]
    assert [found.holder for found in await two.one.coins()] == [key("d")]


async def test_a_notification_that_fails_leaves_the_readers_alone(two: Two) -> None:
    """A script that failed half-way had left its transaction open, and every read after it failed."""
    async with PostgresStore(two.one._settings.dsn, schema=two.schema, readers=1) as store:
        database: Any = store._database
        database.messenger._channel = "too long a name for a channel, by far" * 3
        for name in ("a", "b"):
            await store.create(new(name))
            await database.messenger._sending
            assert await store.load(key(name)) is not None


async def test_writers_that_died_long_ago_are_forgotten(two: Two) -> None:
    """But not the latest time that they wrote at (L-B5); and one that was only silent goes on."""
    await two.one.create(new("a"))
    latest = await two.one.last_write_at()
    await two.plain.execute(
        f"INSERT INTO {two.schema}.wa_writers SELECT 'dead ' || n, 1, NULL, now() - interval '8 days'"
        " FROM generate_series(1, 20) AS n"
    )
    await two.plain.execute(f"UPDATE {two.schema}.wa_writers SET seen = now() - interval '8 days'")
    await two.two.create(new("b"))
    assert await two.plain.fetchval(f"SELECT count(*) FROM {two.schema}.wa_writers WHERE writer <> ''") == 1
    assert await two.two.last_write_at() == latest
    assert await two.one.save(step("a", 1)) == (1, False)
    assert await two.plain.fetchval(f"SELECT count(*) FROM {two.schema}.wa_writers WHERE writer <> ''") == 2


@pytest.mark.parametrize("password", ["pa/word", "pa?word", "pa#word", "12?word", "pa[word", "pa/w@rd", "pa]word"])
async def test_a_password_that_is_not_quoted_is_not_told(password: str) -> None:
    """It would be taken for a host, a path or an option, and those are named in errors."""
    url = f"postgresql://user:{password}@127.0.0.1:1/db"
    for make in (open_store, PostgresStore):
        with pytest.raises(UsageError) as caught:
            make(url)
        told = "".join(traceback.format_exception(caught.value)[-1:])
        assert "word@" not in told.replace("password@host", "")
        assert password not in told
        assert password[:2] not in told.replace("password", "").replace("part", "")
