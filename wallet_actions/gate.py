"""Lets what takes leases go side by side, and what gives them back alone.

Were both under way at once, the store could carry them out in either order: what a worker takes anew it would drive on
while it had given it back, and another worker beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Many takers, or one giver. A giver that waits keeps new takers out."""

    def __init__(self) -> None:
        self._takers = 0
        self._giver = asyncio.Lock()
        self._is_empty = asyncio.Event()

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[None]:
        """Hold the gate together with other takers."""
        async with self._giver:
            self._takers += 1
        try:
            yield
        finally:
            self._takers -= 1
            if not self._takers:
                self._is_empty.set()

    @asynccontextmanager
    async def giving(self) -> AsyncIterator[None]:
        """Hold the gate alone."""
        async with self._giver:
            while self._takers:
                self._is_empty.clear()
                await self._is_empty.wait()
            yield
