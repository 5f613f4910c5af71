"""Locks of the process, one for each action that is being driven, and the calls that wait for one.

They only spare two tasks of one process the work of racing each other; what keeps an action safe is the version (see
`checkpoint`). A busy lock is told to the caller, never taken for success (L-D1).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from datetime import datetime
from typing import Self

from wallet_actions.clock import Clock
from wallet_actions.coins import ActionKey


class KeyLocks:
    """A lock for each key, fair to those who queue, and forgotten when it is free."""

    def __init__(self) -> None:
        self._held: dict[ActionKey, deque[asyncio.Future[None]] | None] = {}

    def is_held(self, key: ActionKey) -> bool:
        """Whether somebody holds the key's lock."""
        return key in self._held

    async def acquire(self, key: ActionKey, *, wait: bool) -> bool:
        """Take the key's lock.

        Args:
            wait: whether to queue where it is held.
        Returns:
            False where it is held and `wait` is off.
        """
        if key not in self._held:
            self._held[key] = None  # most often nobody queues
            return True
        if not wait:
            return False
        queue = self._held[key]
        if queue is None:
            queue = self._held[key] = deque()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.release(key)  # it was handed over before this task gave up
            else:
                with suppress(ValueError):  # a release has passed it over
                    queue.remove(turn)
            raise
        return True

    def release(self, key: ActionKey) -> None:
        """Hand the key's lock to whoever queued first, or forget it."""
        queue = self._held[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():  # else its task gives up just now
                turn.set_result(None)
                return
        del self._held[key]


class Call:
    """A call that drives an action, whether it works or sleeps through a park; reachable inside a `with`.

    Attributes:
        is_notified: whether something happened that the action may be waiting for, since the last `take_notice`.
    """

    __slots__ = ("_calls", "_key", "_stirred", "is_notified")

    def __init__(self, calls: Calls, key: ActionKey) -> None:
        self.is_notified = False
        self._calls = calls
        self._key = key
        self._stirred: asyncio.Event | None = None  # while it sleeps

    def __enter__(self) -> Self:
        self._calls.put(self._key, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.drop(self._key, self)

    def take_notice(self) -> bool:
        """Whether it was notified; from now on it is not."""
        was_notified, self.is_notified = self.is_notified, False
        return was_notified

    def notify(self) -> None:
        """Have it drive the action, due or not."""
        self.is_notified = True
        self.stir()

    def stir(self) -> None:
        """If it sleeps, have it look again: somebody else wrote."""
        if self._stirred is not None:
            self._stirred.set()

    async def sleep(self, clock: Clock, until: datetime) -> None:
        """Wait for a time, or until it is notified or stirred."""
        self._stirred = asyncio.Event()
        self._calls.asleep += 1
        try:
            await clock.wait(self._stirred, until - clock.now())
        finally:
            self._calls.asleep -= 1
            self._stirred = None


class Calls:
    """The calls that drive, by action.

    Attributes:
        asleep: how many of them sleep; where none does, there is nobody to stir.
    """

    def __init__(self) -> None:
        self.asleep = 0
        self._calls: dict[ActionKey, list[Call]] = {}

    def enter(self, key: ActionKey) -> Call:
        """A new call, to be entered by `with`."""
        return Call(self, key)

    def put(self, key: ActionKey, call: Call) -> None:
        """Have a call be reached."""
        self._calls.setdefault(key, []).append(call)

    def drop(self, key: ActionKey, call: Call) -> None:
        """Have a call be reached no more."""
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
