# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of callers: cancelled, too early, too late, or waiting while the store closes."""

from __future__ import annotations

from asyncio import create_task, gather, sleep
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from wallet_actions.coins import Fact
from wallet_actions.errors import (
    StoreUnavailableError,
    VersionConflictError,
)
from wallet_actions.store import Created, Delta, Store
from wallet_actions.testing.contract.base import (
    StoreHooks,
    all_actions,
    at,
    coin,
    done,
    key,
    new,
    step,
)


class CancelledCallerContract(StoreHooks):
    """A caller may be cancelled at any time."""

    async def test_a_cancelled_write_happened_wholly_or_not(self, tmp_path: Path) -> None:
        """L-B1, G1: wherever its caller is cancelled, a unit is there with all its parts or with none."""
        async with self.make_store(tmp_path) as store:
            for turns in range(12):
                name = f"{turns}"
                await store.create(new(name))
                delta = Delta(
                    add=(coin(f"c{name}"), coin(f"d{name}")),
                    reserve=(f"c{name}",),
                    facts=(Fact("f", name),),
                    start=(new(f"child {name}"),),
                )
                task = create_task(store.save(step(name, 1, delta)))
                await _turns(turns)
                task.cancel()
                await gather(task, return_exceptions=True)
                assert (await store.create(new(f"next {name}"))).is_new
        async with self.make_store(tmp_path) as store:
            versions = {row.id: row.version for row in await all_actions(store)}
            coins = {found.id: found for found in await store.coins()}
            facts = {fact.key for _, fact in await store.facts()}
            for turns in range(12):
                name = f"{turns}"
                is_written = versions[name] == 1
                assert len(await store.history(key(name))) == (2 if is_written else 1)
                assert (f"child {name}" in versions, name in facts) == (is_written, is_written)
                assert (f"c{name}" in coins, f"d{name}" in coins) == (is_written, is_written)
                assert not is_written or coins[f"c{name}"].holder == key(name)
                assert await store.save(step(name, versions[name] + 1)) == (versions[name] + 1, False)

    async def test_a_cancelled_caller_harms_no_other(self, store: Store) -> None:
        """L-B1: those that are written with it are answered, and commit; no transaction stays open."""
        for n in range(16):
            await store.create(new(f"{n}"))
        for turns in range(4):
            tasks = [create_task(store.save(step(f"{n}", turns + 1))) for n in range(8, 16)]
            victims = [create_task(store.allocate("n")) for _ in range(8)]
            await _turns(turns)
            for victim in victims:
                victim.cancel()
            assert await gather(*tasks) == [(turns + 1, False)] * 8
            await gather(*victims, return_exceptions=True)
        for n in range(8):
            assert await store.save(step(f"{n}", 1)) == (1, False)
        before = await store.counters()
        assert await store.allocate("n") >= before.get("n", 0)

    async def test_a_cancelled_reader_harms_no_other(self, store: Store) -> None:
        """L-B1: a read that nobody waits for any more leaves nothing open either."""
        await store.create(new("a", Delta(add=(coin("c"),))))
        for turns in range(6):
            reads = [create_task(read) for read in (store.load(key("a")), store.coins(), store.list_actions())]
            await _turns(turns)
            for read in reads:
                read.cancel()
            await gather(*reads, return_exceptions=True)
            assert await store.save(step("a", turns + 1)) == (turns + 1, False)
        assert len(await store.history(key("a"))) == 7


class CloseContract(StoreHooks):
    """Closing, and what comes after."""

    async def test_a_closed_store_answers_with_an_error(self, tmp_path: Path) -> None:
        """Every method of a store that is closed, or not open yet, raises `StoreUnavailableError`; nothing hangs."""
        fresh, closed = self.make_store(tmp_path), self.make_store(tmp_path)
        async with closed:
            await closed.create(new("a"))
        for store in (fresh, closed):
            for call in _calls(store):
                with pytest.raises(StoreUnavailableError):
                    await call()
        async with self.make_store(tmp_path) as store:
            assert [(row.id, row.version) for row in await store.list_actions()] == [("a", 0)]

    async def test_closing_answers_all_who_wait(self, tmp_path: Path) -> None:
        """What is queued is written or refused, each caller is told which, and what was told is on disk (G7)."""
        for turns in range(4):
            async with self.make_store(tmp_path) as store:
                tasks = [create_task(store.create(new(f"{turns} {n}"))) for n in range(20)]
                await _turns(turns)
            answers = await gather(*tasks, return_exceptions=True)
            assert {type(answer) for answer in answers} <= {Created, StoreUnavailableError}
            written = {f"{turns} {n}" for n, answer in enumerate(answers) if isinstance(answer, Created)}
            async with self.make_store(tmp_path) as store:
                found = {row.id for row in await all_actions(store) if row.id.startswith(f"{turns} ")}
            assert found == written

    async def test_closing_after_an_error(self, tmp_path: Path) -> None:
        """An exception in the block passes through, and what was committed before stays."""

        async def block() -> None:
            async with self.make_store(tmp_path) as store:
                await store.create(new("a"))
                with pytest.raises(VersionConflictError):
                    await store.save(step("a", 5))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await block()
        async with self.make_store(tmp_path) as store:
            assert (await store.load(key("a"))) is not None


async def _turns(count: int) -> None:
    for _ in range(count):
        await sleep(0)


def _calls(store: Store) -> list[Callable[[], Awaitable[object]]]:
    """Every method of the port, but for `transaction`."""
    return [
        lambda: store.create(new("b")),
        lambda: store.save(step("a", 1)),
        lambda: done(store, "a"),
        lambda: store.request_cancel(key("a"), at(1)),
        lambda: store.load(key("a")),
        store.list_actions,
        store.count_actions,
        lambda: store.wakes(until=None),
        store.idle,
        lambda: store.running(before=at(1)),
        store.last_write_at,
        lambda: store.history(key("a")),
        lambda: store.prune(at(1)),
        lambda: store.set_kind_paused("x", True),
        store.paused_kinds,
        store.coins,
        lambda: store.coins_by_id(["c"]),
        store.balances,
        store.orphans,
        lambda: store.release_orphans(["c"]),
        store.facts,
        lambda: store.allocate("n"),
        store.counters,
        store.diagnose,
    ]
