"""The places of a runner: how many actions are driven at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import anyio

from wallet_actions.clock import Clock


class Slots:
    """Bounds how many actions are driven at once, and lets those that are finish.

    Args:
        number: how many, ≥ 1.
    """

    def __init__(self, number: int) -> None:
        self._free = asyncio.Semaphore(number)
        self._taken = 0
        self._is_closed = False
        self._empty = asyncio.Event()

    async def __aenter__(self) -> None:
        await self._free.acquire()
        if self._is_closed:
            await anyio.sleep_forever()  # until it is cancelled with all that is not under way
        self._taken += 1

    async def __aexit__(self, *exc: object) -> None:
        self._taken -= 1
        self._free.release()
        if not self._taken:
            self._empty.set()

    async def drain(self, clock: Clock, patience: timedelta) -> None:
        """Let nobody in any more, and wait for those inside."""
        self._is_closed = True
        if self._taken:
            self._empty.clear()
            await clock.wait(self._empty, patience)
