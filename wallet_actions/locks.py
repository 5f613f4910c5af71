"""Locks of the process, one for each action that is being driven.

They only spare two tasks of one process the work of racing each other; what keeps an action safe is the version (see
`checkpoint`). A busy lock is told to the caller, never taken for success (L-D1).
"""

from __future__ import annotations

import asyncio

from wallet_actions.coins import ActionKey


class KeyLocks:
    """A lock for each key, made when it is wanted and forgotten when it is free."""

    def __init__(self) -> None:
        self._locks: dict[ActionKey, asyncio.Lock] = {}
        self._interest: dict[ActionKey, int] = {}

    def is_held(self, key: ActionKey) -> bool:
        """Whether somebody holds the key's lock."""
        return key in self._locks

    async def acquire(self, key: ActionKey, *, wait: bool) -> bool:
        """Take the key's lock.

        Args:
            wait: whether to queue where it is held.
        Returns:
            False where it is held and `wait` is off.
        """
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
            self._interest[key] = 0
        elif not wait:
            return False
        self._interest[key] += 1
        try:
            await lock.acquire()
        except BaseException:
            self._drop(key)
            raise
        return True

    def release(self, key: ActionKey) -> None:
        """Give the key's lock back to whoever queues, or forget it."""
        self._locks[key].release()
        self._drop(key)

    def _drop(self, key: ActionKey) -> None:
        self._interest[key] -= 1
        if not self._interest[key]:
            del self._interest[key], self._locks[key]
