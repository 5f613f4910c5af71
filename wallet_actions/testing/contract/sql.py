# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of `Delta.statements` and `transaction`: the app's own tables in step with ours."""

from __future__ import annotations

from asyncio import Event, create_task, gather, wait_for
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from wallet_actions.checkpoint import Status
from wallet_actions.errors import (
    InvariantError,
    ReservationError,
    StatementError,
    StoreUnavailableError,
    UsageError,
    VersionConflictError,
)
from wallet_actions.store import Delta, Statement, Store
from wallet_actions.testing.contract.base import (
    SECRET,
    StoreHooks,
    coin,
    done,
    everything,
    holding,
    key,
    new,
    step,
)

PATIENCE_S = 30.0


class SqlContract(StoreHooks):
    """A store with SQL. The app's table is `app_orders`, with a primary key `name` and an integer `amount`.

    Attributes:
        insert_sql: adds a row; two parameters, in the dialect of the store.
    """

    insert_sql = "INSERT INTO app_orders (name, amount) VALUES (?, ?)"

    async def make_app_table(self, store: Store) -> None:
        """Make the app's table; to be overridden where the dialect differs."""
        async with store.transaction() as conn:
            await conn.execute("CREATE TABLE app_orders (name TEXT PRIMARY KEY, amount INTEGER NOT NULL)", ())

    def app_rows(self, tmp_path: Path) -> list[str]:
        """Read the names in the app's table, sorted, over a connection that is not the store's."""
        raise NotImplementedError("a contract suite says how the app's table is read")

    def _order(self, name: str, amount: int | None = 1) -> Statement:
        return Statement(self.insert_sql, (name, amount))

    async def test_statements_commit_with_their_unit(self, store: Store, tmp_path: Path) -> None:
        """G1: on start, save and end, and those of a child; in their order."""
        await self.make_app_table(store)
        child = new("child", Delta(statements=(self._order("child"),)))
        await store.create(new("a", Delta(statements=(self._order("1"), self._order("2")), start=(child,))))
        assert self.app_rows(tmp_path) == ["1", "2", "child"]
        await store.save(step("a", 1, Delta(statements=(self._order("3"),))))
        assert self.app_rows(tmp_path) == ["1", "2", "3", "child"]
        await store.finish(step("a", 2, Delta(statements=(self._order("4"),)), status=Status.DONE))
        assert self.app_rows(tmp_path) == ["1", "2", "3", "4", "child"]

    async def test_statements_of_a_start_that_exists_do_not_run(self, store: Store, tmp_path: Path) -> None:
        """G6: neither of the action nor of a child."""
        await self.make_app_table(store)
        again = new("a", Delta(statements=(self._order("1"),)))
        for _ in range(2):
            await store.create(again)
        await store.create(new("b", Delta(start=(again,))))
        assert self.app_rows(tmp_path) == ["1"]

    async def test_a_failing_statement_undoes_its_unit(self, store: Store, tmp_path: Path) -> None:
        """G1, L-S1: a `StatementError`, nothing of the unit, no parameter in the error, and the store goes on."""
        await self.make_app_table(store)
        await holding(store, "a", "c")
        before = await everything(store)
        for bad in (
            self._order(SECRET, None),
            Statement("INSERT INTO no_such_table VALUES ('x')"),
            Statement("NO SQL"),
        ):
            delta = Delta(
                add=(coin("d"),), release=("c",), statements=(self._order("good"), bad), start=(new("child"),)
            )
            for call in _writes(store, delta):
                with pytest.raises(StatementError) as caught:
                    await call()
                assert SECRET not in str(caught.value)
                assert await everything(store) == before
                assert self.app_rows(tmp_path) == []
        assert await store.save(step("a", 1, Delta(statements=(self._order("good"),)))) == (1, False)

    async def test_a_unit_that_fails_undoes_its_statements(self, store: Store, tmp_path: Path) -> None:
        """G1, G2: a lost version check, a taken coin and a bug each leave the app's table as it was."""
        await self.make_app_table(store)
        await holding(store, "b", "taken")
        await store.create(new("a"))
        order = (self._order("1"),)
        with pytest.raises(VersionConflictError):
            await store.save(step("a", 2, Delta(statements=order)))
        with pytest.raises(ReservationError):
            await store.save(step("a", 1, Delta(statements=order, reserve=("taken",))))
        with pytest.raises(InvariantError):
            await store.save(step("a", 1, Delta(statements=order, start=(new("c", Delta(spend=("taken",))),))))
        assert self.app_rows(tmp_path) == []

    async def test_a_failing_statement_harms_no_neighbour(self, store: Store, tmp_path: Path) -> None:
        """L-B1: units that are written at the same time commit without it."""
        await self.make_app_table(store)
        for n in range(12):
            await store.create(new(f"{n}"))
        saves = (
            store.save(step(f"{n}", 1, Delta(statements=(self._order(f"{n:02}"), self._order(f"x{n // 2}")))))
            for n in range(12)
        )
        answers = await gather(*saves, return_exceptions=True)
        good = [n for n, answer in enumerate(answers) if not isinstance(answer, BaseException)]
        assert {n // 2 for n in good} == set(range(6))
        assert [type(answer) for answer in answers if isinstance(answer, BaseException)] == [StatementError] * 6
        assert self.app_rows(tmp_path) == [*(f"{n:02}" for n in good), *(f"x{n}" for n in range(6))]
        assert [row.version for row in await store.list_actions()] == [int(n in good) for n in range(12)]

    async def test_a_transaction_commits_the_apps_rows_with_ours(self, store: Store, tmp_path: Path) -> None:
        """G7: nothing is to be seen before the block ends, everything after."""
        await self.make_app_table(store)
        async with store.transaction() as conn:
            await conn.execute(self.insert_sql, ("1", 1))
            created = await store.create(new("a", Delta(add=(coin("c"),), reserve=("c",))), conn=conn)
            assert created.is_new
            again = await store.create(new("a"), conn=conn)
            assert (again.is_new, again.checkpoint) == (False, created.checkpoint)
            assert self.app_rows(tmp_path) == []
        assert self.app_rows(tmp_path) == ["1"]
        assert await store.load(key("a")) == created.checkpoint
        assert [held.holder for held in await store.coins()] == [key("a")]
        assert await store.save(step("a", 1)) == (1, False)

    async def test_a_transaction_rolls_back_both(self, store: Store, tmp_path: Path) -> None:
        """G1: an exception in the block passes through, and neither the app's rows nor ours are there."""
        await self.make_app_table(store)
        before = await everything(store)

        async def block() -> None:
            async with store.transaction() as conn:
                await conn.execute(self.insert_sql, ("1", 1))
                await store.create(new("a", Delta(add=(coin("c"),))), conn=conn)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await block()
        assert await everything(store) == before
        assert self.app_rows(tmp_path) == []
        assert (await store.create(new("a"))).is_new

    async def test_a_cancelled_transaction_rolls_back(self, store: Store, tmp_path: Path) -> None:
        """L-B1: and the next caller is not affected."""
        await self.make_app_table(store)
        inside = Event()

        async def block() -> None:
            async with store.transaction() as conn:
                await conn.execute(self.insert_sql, ("1", 1))
                await store.create(new("a"), conn=conn)
                inside.set()
                await Event().wait()

        task = create_task(block())
        await inside.wait()
        task.cancel()
        await gather(task, return_exceptions=True)
        assert task.cancelled()
        assert (await wait_for(store.create(new("b")), PATIENCE_S)).is_new
        assert await store.load(key("a")) is None
        assert self.app_rows(tmp_path) == []

    async def test_a_failing_create_leaves_the_block_to_the_app(self, store: Store, tmp_path: Path) -> None:
        """G1: its unit is undone alone; the app may go on and commit what it wrote itself."""
        await self.make_app_table(store)
        await holding(store, "b", "taken")
        async with store.transaction() as conn:
            await conn.execute(self.insert_sql, ("1", 1))
            for delta, error in (
                (Delta(add=(coin("d"),), reserve=("taken",)), ReservationError),
                (Delta(add=(coin("d"),), spend=("taken",)), InvariantError),
                (Delta(add=(coin("d"),), statements=(self._order("2"), self._order("1"))), StatementError),
            ):
                with pytest.raises(error):
                    await store.create(new("a", delta), conn=conn)
            await conn.execute(self.insert_sql, ("3", 3))
            assert (await store.create(new("c"), conn=conn)).is_new
        assert self.app_rows(tmp_path) == ["1", "3"]
        assert [row.id for row in await store.list_actions()] == ["b", "c"]
        assert [held.id for held in await store.coins()] == ["taken"]

    async def test_a_write_beside_the_block_is_refused(self, store: Store, tmp_path: Path) -> None:
        """A write inside the block that is not given its `conn` would wait for itself: a `UsageError` instead."""
        await self.make_app_table(store)
        await store.create(new("a"))
        async with store.transaction() as conn:
            calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
                lambda: store.create(new("b")),
                lambda: store.save(step("a", 1)),
                lambda: done(store, "a"),
                lambda: store.allocate("n"),
                lambda: store.set_kind_paused("x", True),
            ]
            for call in calls:
                with pytest.raises(UsageError):
                    await wait_for(call(), PATIENCE_S)
            with pytest.raises(UsageError):
                async with store.transaction():
                    pytest.fail("a transaction was opened inside another")
            await conn.execute(self.insert_sql, ("1", 1))
        assert self.app_rows(tmp_path) == ["1"]
        assert [(row.id, row.version) for row in await store.list_actions()] == [("a", 0)]
        assert await store.counters() == {}

    async def test_a_closed_store_has_no_transactions(self, tmp_path: Path) -> None:
        """The block is not entered."""
        async with self.make_store(tmp_path) as store:
            await self.make_app_table(store)
        with pytest.raises(StoreUnavailableError):
            async with store.transaction():
                pytest.fail("a transaction was opened on a closed store")

    async def test_writes_of_other_tasks_wait_for_the_block(self, store: Store, tmp_path: Path) -> None:
        """L-B1: they are neither refused nor part of it, and commit after it, also when it is rolled back."""
        await self.make_app_table(store)
        await store.create(new("a"))
        inside, go_on = Event(), Event()

        async def block() -> None:
            async with store.transaction() as conn:
                await conn.execute(self.insert_sql, ("1", 1))
                inside.set()
                await go_on.wait()
                raise ZeroDivisionError

        task = create_task(block())
        await inside.wait()
        others = [create_task(store.save(step("a", 1))), create_task(store.allocate("n"))]
        go_on.set()
        with pytest.raises(ZeroDivisionError):
            await task
        assert await gather(*others) == [(1, False), 0]
        assert self.app_rows(tmp_path) == []


def _writes(store: Store, delta: Delta) -> list[Callable[[], Awaitable[object]]]:
    """The ways in which an action that exists, or a new one, can write a delta."""
    statements = Delta(statements=delta.statements)
    return [
        lambda: store.save(step("a", 1, delta)),
        lambda: store.finish(step("a", 1, delta, status=Status.DONE)),
        lambda: store.create(new("b", statements)),
        lambda: store.save(step("a", 1, Delta(start=(new("child", statements),)))),
    ]
