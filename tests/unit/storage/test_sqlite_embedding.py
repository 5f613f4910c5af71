"""The embedding app's tables in step with ours: its statements, our transaction, its own connection."""

from __future__ import annotations

import logging
from asyncio import Event, create_task, gather, sleep, wait_for
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from tests.unit.storage.sqlite_kit import SECRET, coin, in_writer, key, new, plain, rows_of, step
from wallet_actions.errors import (
    ReservationError,
    StatementError,
    StoreUnavailableError,
    UsageError,
)
from wallet_actions.store import Delta, Saved, Statement
from wallet_actions_storage import SQLiteStore

pytestmark = pytest.mark.anyio

PATIENCE_S = 30.0
INSERT = "INSERT INTO orders (name, amount) VALUES (?, ?)"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    async with SQLiteStore(tmp_path / "w.db") as store:
        async with store.transaction() as conn:
            await conn.execute("CREATE TABLE orders (name TEXT PRIMARY KEY, amount INTEGER NOT NULL)")
            await conn.execute("CREATE TABLE late (name TEXT REFERENCES orders (name) DEFERRABLE INITIALLY DEFERRED)")
            await conn.execute(
                "CREATE TRIGGER no_big BEFORE INSERT ON orders WHEN new.amount > 1000"
                " BEGIN SELECT raise(ROLLBACK, 'too large'); END"
            )
        yield store


def order(name: str, amount: Any = 1) -> Statement:
    return Statement(INSERT, (name, amount))


def orders(folder: Path) -> list[str]:
    return [name for (name,) in rows_of(folder / "w.db", "SELECT name FROM orders ORDER BY name")]


async def with_neighbours(store: SQLiteStore, bad: Statement) -> BaseException:
    """Write a unit with this statement in one transaction with four sound ones; its error."""
    await gather(*(store.create(new(f"{n}")) for n in range(5)))
    statements = [(order(f"{n}"),) if n != 2 else (order("gone"), bad) for n in range(5)]
    saves = (store.save(step(f"{n}", 1, Delta(statements=statements[n]))) for n in range(5))
    answers = await gather(*saves, return_exceptions=True)
    assert [type(answer) for n, answer in enumerate(answers) if n != 2] == [Saved] * 4
    assert [row.version for row in await store.list_actions()] == [1, 1, 0, 1, 1]
    error = answers[2]
    assert isinstance(error, BaseException)
    return error


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT",
        "END TRANSACTION",
        "ROLLBACK",
        "BEGIN",
        "  -- sly\n COMMIT",
        "SAVEPOINT mine",
        "RELEASE wa_unit",
        "ROLLBACK TO wa_unit",
        "ATTACH DATABASE ':memory:' AS other",
        "PRAGMA query_only = ON",
        "PRAGMA foreign_keys = OFF",
        "PRAGMA user_version = 9",
        "UPDATE wa_coins SET amount = 1000000",
        "DELETE FROM WA_Actions",
        "INSERT INTO wa_counters VALUES ('n', 1)",
        "DROP TABLE wa_history",
        "DROP INDEX wa_coins_spent",
        "ALTER TABLE wa_facts ADD COLUMN x",
        "CREATE TRIGGER sly AFTER INSERT ON wa_coins BEGIN SELECT 1; END",
        "CREATE TEMP TRIGGER sly AFTER INSERT ON wa_coins BEGIN SELECT 1; END",
        "CREATE INDEX sly ON wa_coins (amount)",
        "CREATE TABLE wa_mine (x)",
        "CREATE TEMP TABLE wa_mine (x)",
        "CREATE VIEW wa_mine AS SELECT 1",
        "CREATE TEMP VIEW wa_mine AS SELECT 1",
        "VACUUM",
        "SELECT 1; SELECT 2",
        "SELECT no_such_function()",
        "INSERT INTO orders VALUES ('x', 'no number and \ud800')",
    ],
)
async def test_a_statement_keeps_to_its_place(store: SQLiteStore, tmp_path: Path, sql: str) -> None:
    """L-B1, G1: one that would end our transaction, leave our file or write our tables fails its own unit alone."""
    assert isinstance(await with_neighbours(store, Statement(sql)), StatementError)
    assert orders(tmp_path) == ["0", "1", "3", "4"]
    assert await store.save(step("2", 1, Delta(statements=(order("2"),)))) == (1, False)
    assert all(finding.is_ok for finding in await store.diagnose())


@pytest.mark.parametrize("bad", [order("big", 2000), Statement("INSERT OR ROLLBACK INTO orders VALUES ('gone', 1)")])
async def test_a_statement_that_rolls_everything_back_fails_alone(
    store: SQLiteStore, tmp_path: Path, bad: Statement
) -> None:
    """L-B1: SQLite ends the whole transaction there; the neighbours are written again without it."""
    assert isinstance(await with_neighbours(store, bad), StatementError)
    assert orders(tmp_path) == ["0", "1", "3", "4"]
    assert [len(await store.history(key(f"{n}"))) for n in range(5)] == [2, 2, 1, 2, 2]


async def test_a_constraint_that_is_checked_at_commit_fails_its_unit_alone(store: SQLiteStore, tmp_path: Path) -> None:
    """L-B1: foreign keys of the app's tables hold, the deferred ones too."""
    error = await with_neighbours(store, Statement("INSERT INTO late VALUES ('nobody')"))
    assert isinstance(error, StatementError)
    assert orders(tmp_path) == ["0", "1", "3", "4"]
    with plain(tmp_path / "w.db") as connection:
        connection.execute("INSERT INTO orders VALUES ('somebody', 1)")
    await store.save(step("2", 1, Delta(statements=(Statement("INSERT INTO late VALUES ('somebody')"),))))


async def test_a_statement_may_read_ours(store: SQLiteStore, tmp_path: Path) -> None:
    """Such as the coins that the unit added, which are written before (the order inside a unit)."""
    sum_up = Statement("INSERT INTO orders SELECT 'sum', sum(amount) FROM wa_coins")
    await store.create(new("a", Delta(add=(coin("c", 3), coin("d", 4)), statements=(sum_up,))))
    assert rows_of(tmp_path / "w.db", "SELECT amount FROM orders") == [(7,)]


@pytest.mark.parametrize("value", [SECRET, SECRET + "\ud800", {SECRET}, 2**70])
async def test_no_value_is_told(store: SQLiteStore, value: object, caplog: pytest.LogCaptureFixture) -> None:
    """Not in the error, its cause or its context, and not in the log."""
    with caplog.at_level(logging.DEBUG):
        error: BaseException | None = await with_neighbours(store, Statement(INSERT, (value, None)))
    assert isinstance(error, StatementError)
    while error is not None:
        assert SECRET not in repr(error)
        error = error.__cause__ or error.__context__
    assert SECRET not in caplog.text


async def test_a_statement_that_fails_while_it_is_read_leaves_nothing_open(store: SQLiteStore, tmp_path: Path) -> None:
    """L-B2: an error keeps what was at work when it was raised, and so would keep a transaction open for reading, with
    an old picture of the file, for as long as anybody keeps the error."""
    torn = "SELECT name FROM orders UNION ALL SELECT CAST(x'ff' AS TEXT) UNION ALL SELECT name FROM orders"
    error = await with_neighbours(store, Statement(torn))
    assert isinstance(error, StatementError)
    with plain(tmp_path / "w.db") as other:
        other.execute("INSERT INTO orders VALUES ('theirs', 1)")
    assert await store.save(step("2", 1, Delta(statements=(order("2"),)))) == (1, False)


async def test_what_sqlite_said_is_told(store: SQLiteStore) -> None:
    """To the app's author, as the cause."""
    await store.create(new("a"))
    with pytest.raises(StatementError, match="no such table: nowhere") as caught:
        await store.save(step("a", 1, Delta(statements=(Statement("DELETE FROM nowhere"),))))
    assert isinstance(caught.value.__cause__, aiosqlite.Error)
    with pytest.raises(StatementError, match=r"NOT NULL constraint failed: orders\.amount"):
        await store.save(step("a", 1, Delta(statements=(order("x", None),))))


async def test_rows_are_read_in_a_transaction(store: SQLiteStore) -> None:
    """As from a cursor of aiosqlite, read to the end."""
    async with store.transaction() as conn:
        written = await conn.execute("INSERT INTO orders VALUES ('a', 1), ('b', 2), ('c', 3)")
        assert written.rowcount == 3
        found = await conn.execute("SELECT name FROM orders WHERE amount > ? ORDER BY name", (0,))
        assert await found.fetchone() == ("a",)
        assert await found.fetchall() == [("b",), ("c",)]
        assert await found.fetchone() is None
        assert await (await conn.execute("PRAGMA table_info(orders)")).fetchall()


async def test_a_transaction_may_have_savepoints(store: SQLiteStore, tmp_path: Path) -> None:
    """Begin and commit are the block's."""
    async with store.transaction() as conn:
        await conn.execute(INSERT, ("kept", 1))
        await conn.execute("SAVEPOINT mine")
        await conn.execute(INSERT, ("gone", 1))
        await store.create(new("gone"), conn=conn)
        await conn.execute("ROLLBACK TO mine")
        await store.create(new("kept"), conn=conn)
        for sql in ("COMMIT", "ROLLBACK", "BEGIN"):
            with pytest.raises(StatementError):
                await conn.execute(sql)
    assert orders(tmp_path) == ["kept"]
    assert [row.id for row in await store.list_actions()] == ["kept"]


async def test_a_transaction_that_a_statement_ended_is_over(store: SQLiteStore, tmp_path: Path) -> None:
    """G1: what follows does not run by itself, and the block is told at its end."""
    with pytest.raises(StatementError, match="roll the transaction back"):  # noqa: PT012
        async with store.transaction() as conn:
            await conn.execute(INSERT, ("first", 1))
            with pytest.raises(StatementError):
                await conn.execute(INSERT, ("big", 2000))
            with pytest.raises(StatementError, match="roll the transaction back"):
                await conn.execute(INSERT, ("after", 1))
            with pytest.raises(StatementError):
                await store.create(new("a"), conn=conn)
    assert orders(tmp_path) == []
    assert (await store.create(new("a"))).is_new


async def test_a_transaction_that_cannot_commit_tells(store: SQLiteStore, tmp_path: Path) -> None:
    """G7: the block raises, nothing of it stands, and the next one is not affected."""
    with pytest.raises(StatementError, match="FOREIGN KEY"):  # noqa: PT012
        async with store.transaction() as conn:
            await conn.execute(INSERT, ("x", 1))
            await conn.execute("INSERT INTO late VALUES ('nobody')")
    assert orders(tmp_path) == []
    async with store.transaction() as conn:
        await conn.execute(INSERT, ("y", 1))
    assert orders(tmp_path) == ["y"]


async def test_a_transaction_ends_with_its_block(store: SQLiteStore) -> None:
    """What it yielded is of no use later, nor in another store."""
    async with store.transaction() as conn:
        await conn.execute(INSERT, ("x", 1))
    with pytest.raises(UsageError, match="ended"):
        await conn.execute(INSERT, ("y", 1))
    with pytest.raises(UsageError, match="ended"):
        await store.create(new("a"), conn=conn)
    with pytest.raises(UsageError):
        await store.create(new("a"), conn=object())


async def test_a_transaction_of_another_store_is_refused(store: SQLiteStore, tmp_path: Path) -> None:
    """Its own writes wait for their own writer, and are not in its way."""
    async with SQLiteStore(tmp_path / "other.db") as other, other.transaction() as conn:
        with pytest.raises(UsageError):
            await store.create(new("a"), conn=conn)
        assert (await store.create(new("a"))).is_new


async def test_a_transaction_that_waits_can_be_cancelled(store: SQLiteStore) -> None:
    """L-B1: it never begins, and nobody waits for it."""
    inside, go_on = Event(), Event()
    go_on_later = [Event() for _ in range(3)]
    first = create_task(_block(store, inside, go_on))
    await inside.wait()
    blocks = [create_task(_block(store, Event(), event)) for event in go_on_later]
    await sleep(0)
    for block in blocks[:2]:
        block.cancel()
    go_on.set()
    go_on_later[2].set()
    answers = await wait_for(gather(first, *blocks, return_exceptions=True), PATIENCE_S)
    assert [isinstance(answer, BaseException) for answer in answers] == [False, True, True, False]
    assert (await wait_for(store.create(new("a")), PATIENCE_S)).is_new


async def _block(store: SQLiteStore, inside: Event, go_on: Event) -> None:
    async with store.transaction() as conn:
        await conn.execute("SELECT 1")
        inside.set()
        await go_on.wait()


async def test_saves_before_a_transaction_commit_before_it(store: SQLiteStore, tmp_path: Path) -> None:
    """The queue keeps its order around a block."""
    await store.create(new("a"))
    save = create_task(store.save(step("a", 1)))
    await sleep(0)
    async with store.transaction() as conn:
        assert await (await conn.execute("SELECT version FROM wa_actions")).fetchall() == [(1,)]
    assert await save == (1, False)


@pytest.fixture
async def own(store: SQLiteStore, tmp_path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """A connection of the app's own."""
    async with aiosqlite.connect(tmp_path / "w.db", timeout=0.05) as connection:
        yield connection


async def test_our_rows_in_the_apps_own_transaction(
    store: SQLiteStore, own: aiosqlite.Connection, tmp_path: Path
) -> None:
    """G7: they are there once the app commits, not before; the second start finds the first."""
    await own.execute(INSERT, ("x", 1))
    delta = Delta(add=(coin("c"), coin("d")), reserve=("c",), start=(new("child", Delta(reserve=("d",))),))
    created = await store.create(new("a", delta), conn=own)
    assert created.is_new
    again = await store.create(new("a", delta), conn=own)
    assert (again.is_new, again.checkpoint) == (False, created.checkpoint)
    assert await store.load(key("a")) is None
    await own.commit()
    assert await store.load(key("a")) == created.checkpoint
    assert [found.holder for found in await store.coins()] == [key("a"), key("child")]
    assert [entry.event for entry in await store.history(key("a"))] == ["start"]
    assert await store.save(step("a", 1)) == (1, False)
    assert orders(tmp_path) == ["x"]


async def test_the_apps_own_transaction_rolls_back_ours(
    store: SQLiteStore, own: aiosqlite.Connection, tmp_path: Path
) -> None:
    await own.execute(INSERT, ("x", 1))
    await store.create(new("a"), conn=own)
    await own.rollback()
    assert await store.load(key("a")) is None
    assert orders(tmp_path) == []


async def test_a_create_that_fails_leaves_the_apps_own_rows(
    store: SQLiteStore, own: aiosqlite.Connection, tmp_path: Path
) -> None:
    """G1: nothing of ours stands, and the app decides about its own."""
    await store.create(new("b", Delta(add=(coin("taken"),), reserve=("taken",))))
    await own.execute(INSERT, ("x", 1))
    bad = (
        (Delta(add=(coin("c"),), reserve=("taken",)), ReservationError),
        (Delta(add=(coin("c"),), statements=(order("y"), order("x"))), StatementError),
        (Delta(add=(coin("c"),), statements=(Statement(INSERT, ({1}, 1)),)), StatementError),
        (Delta(add=(coin("c"), coin("\ud800"))), UsageError),
    )
    for delta, error in bad:
        with pytest.raises(error):
            await store.create(new("a", delta), conn=own)
    await own.commit()
    assert orders(tmp_path) == ["x"]
    assert [row.id for row in await store.list_actions()] == ["b"]
    assert [found.id for found in await store.coins()] == ["taken"]


async def test_the_apps_own_connection_logs_no_secret(
    store: SQLiteStore, own: aiosqlite.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """aiosqlite logs the arguments of each call, and those of this one hold a payload."""
    with caplog.at_level(logging.DEBUG):
        await own.execute("BEGIN IMMEDIATE")
        await store.create(new("a", Delta(add=(coin("c"),)), state=SECRET), conn=own)
        await own.commit()
    assert "INSERT INTO wa_coins" in caplog.text
    assert SECRET not in caplog.text
    assert (await store.coins())[0].payload == SECRET


async def test_the_apps_own_connection_needs_a_transaction(
    store: SQLiteStore, own: aiosqlite.Connection, tmp_path: Path
) -> None:
    """On this file, and open: otherwise nothing is written."""
    with pytest.raises(UsageError, match="begin one"):
        await store.create(new("a"), conn=own)
    async with aiosqlite.connect(tmp_path / "other.db") as other:
        await other.execute("BEGIN")
        with pytest.raises(UsageError, match="own file"):
            await store.create(new("a"), conn=other)
        await other.rollback()
    with pytest.raises(UsageError, match="closed"):
        await store.create(new("a"), conn=other)
    assert await store.list_actions() == []


async def test_the_apps_own_connection_may_make_its_rows_into_something_else(
    store: SQLiteStore, own: aiosqlite.Connection
) -> None:
    """Ours are read as they are all the same; texts that are no texts are refused."""
    own.row_factory = lambda cursor, row: {"first": row[0]}  # type: ignore[assignment]
    await store.create(new("b", Delta(add=(coin("taken"),), reserve=("taken",))))
    await own.execute("BEGIN")
    found = await store.create(new("b"), conn=own)
    assert found.checkpoint == await store.load(key("b"))
    with pytest.raises(ReservationError):
        await store.create(new("a", Delta(reserve=("taken",))), conn=own)
    own.text_factory = bytes
    with pytest.raises(UsageError, match="text_factory"):
        await store.create(new("a"), conn=own)
    await own.rollback()


async def test_the_apps_own_transaction_waits_its_turn(store: SQLiteStore, own: aiosqlite.Connection) -> None:
    """L-B2: where we hold the file longer than its patience, it is told, and may try again."""
    await own.execute("BEGIN")
    async with store.transaction() as conn:
        await conn.execute(INSERT, ("x", 1))
        with pytest.raises(StoreUnavailableError, match="busy"):
            await store.create(new("a"), conn=own)
    await own.rollback()
    await own.execute("BEGIN")
    assert (await store.create(new("a"), conn=own)).is_new
    await own.commit()


async def test_a_cancelled_create_in_the_apps_own_transaction(
    store: SQLiteStore, own: aiosqlite.Connection, tmp_path: Path
) -> None:
    """L-B1: nothing of ours is half there, wherever it was cancelled, and the app may go on and commit."""
    for turns in range(0, 40, 3):
        await own.execute(INSERT, (f"{turns:02}", 1))
        delta = Delta(add=(coin(f"c{turns}"), coin(f"d{turns}")), start=(new(f"child {turns}"),))
        create = create_task(store.create(new(f"{turns}", delta), conn=own))
        for _ in range(turns):
            await sleep(0)
        create.cancel()
        await gather(create, return_exceptions=True)
        await own.commit()
    rows = {row.id for row in await store.list_actions()}
    coins = {found.id for found in await store.coins()}
    for turns in range(0, 40, 3):
        is_there = f"{turns}" in rows
        assert (f"child {turns}" in rows, f"c{turns}" in coins, f"d{turns}" in coins) == (is_there,) * 3
    assert len(orders(tmp_path)) == 14


async def test_an_app_statement_does_not_borrow_our_permissions(store: SQLiteStore) -> None:
    """A text that we have prepared ourselves is asked about again when the app sends it."""
    await store.create(new("a"))
    assert not await in_writer(store, lambda connection: connection.in_transaction)
    with pytest.raises(StatementError):
        await store.save(step("a", 1, Delta(statements=(Statement("COMMIT"),))))
    assert await store.save(step("a", 1)) == (1, False)
