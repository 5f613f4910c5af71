"""The memory store keeps the contract."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from wallet_actions.coins import ActionKey, CoinState
from wallet_actions.errors import UsageError
from wallet_actions.store import Store, open_store
from wallet_actions.testing.contract.base import key, new
from wallet_actions.testing.store_contract import SharedStoreContract, StoreContract
from wallet_actions_storage import MemoryStore
from wallet_actions_storage.memory.ordered import Ordered
from wallet_actions_storage.memory.tables import with_holder


class TestMemoryStore(StoreContract):
    memory: MemoryStore | None = None

    def make_store(self, tmp_path: Path) -> Store:
        if self.memory is None:
            self.memory = MemoryStore()
            return self.memory
        return self.memory.peer()

    def make_orphan(self, tmp_path: Path, coin_id: str, holder: ActionKey) -> None:
        assert self.memory is not None
        tables = self.memory._tables
        tables.put_coin(with_holder(tables.coins[coin_id], CoinState.RESERVED, holder))


@pytest.mark.anyio
async def test_an_object_keeps_what_it_holds() -> None:
    """G3: crash tests open the same object again, where a process would open its file."""
    store = MemoryStore()
    async with store:
        await store.create(new("a"))
    async with store:
        assert (await store.load(key("a"))) is not None


@pytest.mark.anyio
async def test_a_cancelled_writer_has_committed() -> None:
    """L-B1: the hardest case for a caller, at the first turn of the loop; so crash tests meet it for certain."""
    async with MemoryStore() as store:
        task = asyncio.create_task(store.create(new("a")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await store.load(key("a"))) is not None


@pytest.mark.anyio
async def test_stores_found_by_url_are_apart() -> None:
    """`memory://` names no memory: each is new, and anything behind it is refused."""
    one, two = open_store("memory://"), open_store("memory://")
    assert isinstance(one, MemoryStore)
    async with one, two:
        await one.create(new("a"))
        assert await two.list_actions() == []
    with pytest.raises(UsageError):
        open_store("memory://name")


def test_a_sorted_set_stays_sorted() -> None:
    """G8: thousands of wakes come and go, in any order, through the splitting and emptying of chunks."""
    chance = random.Random(7)
    ordered: Ordered[int] = Ordered()
    keys: set[int] = set()
    for size in (5000, 300, 3000, 0, 10):
        while len(keys) < size:
            if (added := chance.randrange(10**6)) not in keys:
                keys.add(added)
                ordered.add(added)
        for removed in chance.sample(sorted(keys), len(keys) - size):
            keys.remove(removed)
            ordered.remove(removed)
        assert list(ordered.after(None)) == sorted(keys)
        for cursor in (-1, *chance.sample(range(10**6), 20), *sorted(keys)[::97], 10**6):
            assert list(ordered.after(cursor)) == sorted(name for name in keys if name > cursor)


class TestSharedMemoryStore(TestMemoryStore, SharedStoreContract):
    """All that holds for a memory of one process, and what several workers add to it."""

    def make_store(self, tmp_path: Path) -> Store:
        if self.memory is None:
            self.memory = MemoryStore(shared=True)
            return self.memory
        return self.memory.peer()
