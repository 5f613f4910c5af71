"""The SQLite store keeps the contract."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from wallet_actions.coins import ActionKey
from wallet_actions.store import Store
from wallet_actions.testing.contract.actions import SaveContract
from wallet_actions.testing.contract.course import CancelContract
from wallet_actions.testing.contract.listing import PruneContract, WakeContract
from wallet_actions.testing.store_contract import SharedStoreContract, SqlStoreContract
from wallet_actions_storage import SQLiteStore


class TestSQLiteStore(SqlStoreContract):
    def make_store(self, tmp_path: Path) -> Store:
        return SQLiteStore(tmp_path / "wallet.db")

    def make_orphan(self, tmp_path: Path, coin_id: str, holder: ActionKey) -> None:
        with closing(sqlite3.connect(tmp_path / "wallet.db")) as connection, connection:
            connection.execute(
                "UPDATE wa_coins SET state = 'reserved', holder_kind = ?, holder_id = ? WHERE id = ?",
                (*holder, coin_id),
            )

    def app_rows(self, tmp_path: Path) -> list[str]:
        with closing(sqlite3.connect(tmp_path / "wallet.db")) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM app_orders ORDER BY name")]


class TestSharedSQLiteStore(SharedStoreContract, SaveContract, CancelContract, WakeContract, PruneContract):
    """What several workers add, and of the rest what claims, owners and lanes could break."""

    def make_store(self, tmp_path: Path) -> Store:
        return SQLiteStore(tmp_path / "wallet.db", shared=True)
