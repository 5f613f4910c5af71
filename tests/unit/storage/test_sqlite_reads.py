"""How the SQLite store finds things: by index, in pages, exactly."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.storage.sqlite_kit import T0, at, coin, key, new, plain, rows_of, step
from wallet_actions.checkpoint import Status, Wake
from wallet_actions.coins import MAX_AMOUNT, ActionKey, Balance, CoinState
from wallet_actions.store import Delta
from wallet_actions_storage import SQLiteStore
from wallet_actions_storage.sqlite import actions, commands, delta, ledger, reads
from wallet_actions_storage.sqlite.schema import load_migrations, migrate

anyio = pytest.mark.anyio


class Explained:
    """A connection that notes how each query is going to be run."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.plans: list[str] = []

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        plan = self.connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
        self.plans.append("; ".join(row[3] for row in plan))
        return self.connection.execute(sql, parameters)


@pytest.fixture
def explained() -> Iterator[Explained]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, Path("w.db"), load_migrations())
    yield Explained(connection)
    connection.close()


def test_what_is_due_is_found_by_index(explained: Explained) -> None:
    """G8: and in its order, so that a page costs what it holds, however many are parked."""
    connection: Any = explained
    wake = Wake(key("a"), at(5), at(5), 1)
    reads.wakes(connection, T0, wake, 10)
    reads.idle(connection, 0, 10)
    assert len(explained.plans) == 2
    for plan in explained.plans:
        assert "wa_actions_open (status=? AND wake_at" in plan
        assert "TEMP B-TREE" not in plan
        assert "SCAN" not in plan
    reads.running(connection, T0, 0, 10)
    reads.list_actions(connection, [Status.STUCK, Status.QUARANTINED], None, 0, 10)
    assert all("wa_actions_open (status=?" in plan for plan in explained.plans)


def test_pages_are_found_by_key(explained: Explained) -> None:
    """A page of a large table is neither sorted nor counted off."""
    connection: Any = explained
    reads.list_actions(connection, None, None, 5, 10)
    reads.list_actions(connection, [Status.DONE], ["pay"], 5, 10)
    ledger.coins(connection, None, None, None, None, "c", 10)
    ledger.coins(connection, "m", "sat", CoinState.SPENDABLE, None, "c", 10)
    ledger.coins(connection, None, None, None, ActionKey("pay", "a"), "c", 10)
    ledger.facts(connection, "f", None, 5, 10)
    for plan in explained.plans:
        assert "SEARCH" in plan
        assert "TEMP B-TREE" not in plan
        assert "SCAN" not in plan


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (delta.release_all(key("a"))[0], "wa_coins_reserved (holder_id=? AND holder_kind=?)"),
        (commands._FORGET_PAYLOADS, "wa_coins_spent (holder_id=? AND holder_kind=?)"),
        (commands._PRUNABLE, "wa_actions_prunable"),
        (actions._STANDING_AT, "INTEGER PRIMARY KEY"),
        (actions._GO_ON[True], "INTEGER PRIMARY KEY"),
        (ledger._ORPHANS, "wa_coins_reserved"),
        (ledger._BALANCES, "COVERING INDEX wa_coins_unspent"),
    ],
)
def test_writes_find_their_rows_by_index(explained: Explained, sql: str, index: str) -> None:
    """What an action holds, spent or owns is found without passing over anybody else's."""
    explained.execute(sql, (0,) * sql.count("?"))
    assert index in explained.plans[0]


def test_a_running_action_moves_no_index(explained: Explained) -> None:
    """The hot write: SQLite's own program for it opens the table for writing, and none of its indexes."""
    connection = explained.connection
    program = connection.execute(f"EXPLAIN {actions._GO_ON[True]}", (0,) * actions._GO_ON[True].count("?")).fetchall()
    opened = [row[3] for row in program if row[1] == "OpenWrite"]
    roots = dict(connection.execute("SELECT rootpage, name FROM sqlite_schema").fetchall())
    assert [roots[page] for page in opened] == ["wa_actions"]


@anyio
async def test_many_due_at_one_moment_are_paged(tmp_path: Path) -> None:
    """G8: by row within the moment, across pages, together with those before and after."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        parked = tuple(new(f"{n}", status=Status.PARKED, wake_at=at(n // 40)) for n in range(120))
        await store.create(new("parent", Delta(start=parked)))
        seen: list[str] = []
        last = None
        while page := await store.wakes(until=at(100), after=last, limit=7):
            seen += [wake.key.id for wake in page]
            last = page[-1]
        assert seen == [f"{n}" for n in range(120)]


@anyio
async def test_running_with_a_wake_time_are_not_missed(tmp_path: Path) -> None:
    """L-D15: such a row is odd, and is listed in its place all the same."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        for n in range(6):
            await store.create(new(f"{n}", wake_at=at(9) if n % 2 else None))
        assert [wake.key.id for wake in await store.running(before=at(1), limit=4)] == ["0", "1", "2", "3"]


@anyio
async def test_balances_beyond_64_bits(tmp_path: Path) -> None:
    """G4: a sum of SQLite's would overflow, or lose its last digits."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        coins = tuple(coin(f"c{n}", MAX_AMOUNT - n) for n in range(9))
        await store.create(new("a", Delta(add=coins, reserve=("c0", "c1"))))
        amounts = [MAX_AMOUNT - n for n in range(9)]
        expected = Balance(coins[0].account, "sat", sum(amounts[2:]), sum(amounts[:2]))
        assert await store.balances() == [expected]


@anyio
async def test_a_status_of_a_later_release_is_shown(tmp_path: Path) -> None:
    """G9, L-U2: as quarantined; it is not dropped from a listing, and no listing fails for it."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        await store.create(new("a"))
        await store.create(new("b"))
    with plain(tmp_path / "w.db") as connection:
        connection.execute("UPDATE wa_actions SET status = 'dreaming', cancel = 'perhaps' WHERE id = 'a'")
    async with SQLiteStore(tmp_path / "w.db") as store:
        assert [row.status for row in await store.list_actions()] == [Status.QUARANTINED, Status.RUNNING]
        assert await store.count_actions() == {("pay", Status.QUARANTINED): 1, ("pay", Status.RUNNING): 1}


@anyio
async def test_pruning_leaves_no_history_behind(tmp_path: Path) -> None:
    """L-B6: each action's own, and no other's, though they stand mixed in one table."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        for name in "abc":
            await store.create(new(name))
        for version in range(1, 30):
            for name in "abc":
                await store.save(step(name, version))
        await store.finish(step("b", 30, status=Status.DONE))
        assert await store.prune(at(1)) == 1
        assert await store.history(key("b")) == []
        assert [len(await store.history(key(name))) for name in "ac"] == [30, 30]
        pages = [entry.version for entry in await store.history(key("a"), after=11, limit=5)]
        assert pages == [12, 13, 14, 15, 16]
    assert rows_of(tmp_path / "w.db", "SELECT count(*) FROM wa_history") == [(60,)]


@anyio
async def test_the_clock_survives_a_crash(tmp_path: Path) -> None:
    """L-B5: the latest write is on disk with the write itself."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        await store.create(new("a", time=at(5)))
        await store.save(step("a", 1, time=at(9)))
        await store.request_cancel(key("a"), at(12))
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("w.db", "w.db-wal"):
            (copy / name).write_bytes((tmp_path / name).read_bytes())
        await store.save(step("a", 2, time=at(3)))
        found = await store.load(key("a"))
    assert found is not None
    assert found.updated_at == at(9)
    async with SQLiteStore(copy / "w.db") as store:
        assert await store.last_write_at() == at(12)
        assert await store.running(before=at(9) + timedelta(microseconds=1)) != []


@anyio
@pytest.mark.parametrize("status", [Status.DONE, Status.FAILED])
async def test_an_action_that_is_created_ended_is_counted_like_any_other(tmp_path: Path, status: Status) -> None:
    """What has ended is not counted row by row, so each way to an end has to add to the sum."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        await store.create(new("a", status=status))
        await store.create(new("b"))
        await store.finish(step("b", 1, status=status))

        assert await store.count_actions() == {("pay", status): 2}
