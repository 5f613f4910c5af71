"""What takes turns in a simulation: the reads of a process, and whatever a test of one's own wants to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, cast

from wallet_actions.coins import ActionKey
from wallet_actions.store import Store
from wallet_actions.testing.boundaries import WRITES, Boundary, is_async_callable
from wallet_actions.testing.life import Life


async def _no_pause(what: str) -> None:
    """Nobody else is there."""


pauses: ContextVar[Callable[[str], Awaitable[None]]] = ContextVar("pause", default=_no_pause)
"""How a task takes a turn of its own, in a simulation."""


async def pause(what: str) -> None:
    """Let others go first, in a simulation: what a store or a peer of one's own does between two of its steps.

    Elsewhere it does nothing.

    Args:
        what: what comes next, for the timeline.
    """
    await pauses.get()(what)


class TurnTakingLife(Life):
    """A life whose reads of the store are turns too, though nobody dies of a read."""

    def store(self, store: Store) -> Store:
        """See `Life`."""
        return cast("Store", _ReadInTurn(super().store(store), self))


class _ReadInTurn:
    def __init__(self, store: Store, life: Life) -> None:
        self._store = store
        self._life = life

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        if name in WRITES or not is_async_callable(attribute):
            return attribute

        async def read(*args: Any, **kwargs: Any) -> Any:
            life = self._life
            key = args[0] if args and isinstance(args[0], ActionKey) else None
            life.check()
            if life.switch is not None:
                await life.switch(Boundary(0, "before", "store", name, key))
            life.check()
            return await attribute(*args, **kwargs)

        return read
