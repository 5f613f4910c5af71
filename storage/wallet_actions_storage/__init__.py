"""Stores for `wallet_actions`: SQLite, and memory."""

from wallet_actions_storage.memory import MemoryStore
from wallet_actions_storage.sqlite import SQLiteStore

__all__ = ["MemoryStore", "SQLiteStore"]
