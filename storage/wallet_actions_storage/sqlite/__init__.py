"""A store in one SQLite file."""

from wallet_actions_storage.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
