"""A store in a schema of a PostgreSQL database. It needs asyncpg: `pip install "wallet-actions[postgres]"`."""

from wallet_actions_storage.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
