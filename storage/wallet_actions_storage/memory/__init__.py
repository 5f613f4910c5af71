"""A store in the process's own memory: for tests, and for wallets that may forget."""

from wallet_actions_storage.memory.store import MemoryStore

__all__ = ["MemoryStore"]
