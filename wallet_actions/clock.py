"""Time and chance, as ports: the only module of the engine that reads a clock, sleeps, or draws a random number."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import anyio

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Chance = Callable[[], float]
"""Draws a number from 0 (included) to 1 (excluded)."""

system_chance: Chance = random.SystemRandom().random


def new_incarnation() -> str:
    """A name that no worker had before: 16 hexadecimal digits."""
    return secrets.token_hex(8)


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> datetime:
        """The wall clock, UTC. May be set back between two runs of the process, never within one (L-B5)."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    async def sleep(self, delay: timedelta) -> None:
        """Wait; a delay that is not positive only yields."""
        ...

    async def wait(self, event: asyncio.Event, delay: timedelta | None) -> bool:
        """Wait for an event, at most for a time.

        Args:
            delay: None waits as long as it takes.
        Returns:
            Whether the event is set.
        """
        ...


class SystemClock:
    """The machine's clock; it goes on from where it was when the wall clock is set back under us."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def now(self) -> datetime:
        """The wall clock, UTC; a step back of the machine's clock is not followed."""
        monotonic_s = time.monotonic()
        offset_s = time.time() - monotonic_s
        if offset_s > self._offset_s:
            self._offset_s = offset_s
        return datetime.fromtimestamp(monotonic_s + self._offset_s, UTC)

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    async def sleep(self, delay: timedelta) -> None:
        """Wait on the event loop's clock."""
        await anyio.sleep(max(0.0, delay.total_seconds()))

    async def wait(self, event: asyncio.Event, delay: timedelta | None) -> bool:
        """Wait on the event loop's clock."""
        with anyio.move_on_after(None if delay is None else max(0.0, delay.total_seconds())):
            await event.wait()
        return event.is_set()
