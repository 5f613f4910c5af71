"""Time, as a port: the only module of the engine that reads a clock or sleeps."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

import anyio

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


class SystemClock:
    """The machine's clock; it goes on from where it was when the wall clock is set back under us."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def now(self) -> datetime:
        """The wall clock, UTC; a step back of the machine's clock is not followed."""
        offset_s = time.time() - time.monotonic()
        self._offset_s = max(self._offset_s, offset_s)
        return EPOCH + timedelta(seconds=time.monotonic() + self._offset_s)

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    async def sleep(self, delay: timedelta) -> None:
        """Wait on the event loop's clock."""
        await anyio.sleep(max(0.0, delay.total_seconds()))
