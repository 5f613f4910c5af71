"""Locks of the process, one for each action that is being driven, and the calls that wait for one.

They only spare two tasks of one process the work of racing each other; what keeps an action safe is the version (see
`checkpoint`). A busy lock is told to the caller, never taken for success (L-D1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from wallet_actions.clock import Clock
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


class Call:
    """A call that drives an action, whether it works or sleeps through a park.

    Attributes:
        is_notified: whether something happened that the action may be waiting for, since the last `take_notice`.
    """

    __slots__ = ("_is_asleep", "_stirred", "is_notified")

    def __init__(self) -> None:
        self.is_notified = False
        self._is_asleep = False
        self._stirred = asyncio.Event()

    def take_notice(self) -> bool:
        """Whether it was notified; from now on it is not."""
        was_notified, self.is_notified = self.is_notified, False
        return was_notified

    def notify(self) -> None:
        """Have it drive the action, due or not."""
        self.is_notified = True
        self._stirred.set()

    def stir(self) -> None:
        """If it sleeps, have it look again: somebody else wrote."""
        if self._is_asleep:
            self._stirred.set()

    async def sleep(self, clock: Clock, until: datetime) -> None:
        """Wait for a time, or until it is notified or stirred."""
        self._stirred.clear()
        self._is_asleep = True
        try:
            await clock.wait(self._stirred, until - clock.now())
        finally:
            self._is_asleep = False


class Calls:
    """The calls that drive, by action."""

    def __init__(self) -> None:
        self._calls: dict[ActionKey, list[Call]] = {}

    @contextmanager
    def enter(self, key: ActionKey) -> Iterator[Call]:
        """Be reachable for as long as the block lasts."""
        call = Call()
        self._calls.setdefault(key, []).append(call)
        try:
            yield call
        finally:
            calls = self._calls[key]
            calls.remove(call)
            if not calls:
                del self._calls[key]

    def notify(self, key: ActionKey) -> None:
        """Notify each call for this action."""
        for call in self._calls.get(key, ()):
            call.notify()

    def stir(self, key: ActionKey) -> None:
        """Stir each call for this action."""
        for call in self._calls.get(key, ()):
            call.stir()
