"""The PostgreSQL store keeps the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from wallet_actions.coins import ActionKey
from wallet_actions.store import Store
from wallet_actions.testing.postgres import PostgresServer
from wallet_actions.testing.store_contract import SharedStoreContract, SqlStoreContract
from wallet_actions_storage.postgres import PostgresStore

T = TypeVar("T")


class TestPostgresStore(SqlStoreContract, SharedStoreContract):
    @pytest.fixture(autouse=True)
    def schema(self, tmp_path: Path, postgres_server: PostgresServer) -> None:
        """A schema of its own for each test; all go with the database."""
        self.server = postgres_server
        self.insert_sql = f"INSERT INTO {self.schema_of(tmp_path)}.app_orders (name, amount) VALUES ($1, $2)"

    def make_store(self, tmp_path: Path) -> Store:
        return PostgresStore(self.server.url, schema=self.schema_of(tmp_path))

    def make_orphan(self, tmp_path: Path, coin_id: str, holder: ActionKey) -> None:
        self.query(
            f"UPDATE {self.schema_of(tmp_path)}.wa_coins"
            " SET state = 'reserved', holder_kind = $1, holder_id = $2 WHERE id = $3",
            *holder,
            coin_id,
        )

    async def make_app_table(self, store: Store) -> None:
        schema = self.insert_sql.split()[2]
        async with store.transaction() as conn:
            await conn.execute(
                f'CREATE TABLE {schema} (name TEXT COLLATE "C" PRIMARY KEY, amount INTEGER NOT NULL)', ()
            )

    def app_rows(self, tmp_path: Path) -> list[str]:
        return [row[0] for row in self.query(f"SELECT name FROM {self.schema_of(tmp_path)}.app_orders ORDER BY name")]

    def schema_of(self, tmp_path: Path) -> str:
        return f"t_{sha256(str(tmp_path).encode()).hexdigest()[:12]}"

    def query(self, sql: str, *values: Any) -> list[Any]:
        """Ask over a connection that is not the store's, from whatever thread and loop."""

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self.server.url)
            try:
                return await connection.fetch(sql, *values)
            finally:
                await connection.close()

        return in_thread(ask())


def in_thread(work: Coroutine[Any, Any, T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
