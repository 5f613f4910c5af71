"""The memory store keeps the contract."""

from __future__ import annotations

from pathlib import Path

from wallet_actions.coins import ActionKey, CoinState
from wallet_actions.store import Store
from wallet_actions.testing.store_contract import StoreContract
from wallet_actions_storage.memory import MemoryStore
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
