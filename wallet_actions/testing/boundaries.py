"""Where a process can die around a store: before and after each write.

    store = watched(SQLiteStore("wallet.db"), kill_at(write=3, moment="after"))

A crash before a write is one that nobody heard of; one after it is a commit whose answer was lost.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from wallet_actions.coins import ActionKey
from wallet_actions.store import NewAction, Store, Write

Moment = Literal["before", "after"]

WRITES = frozenset(
    {
        "create",
        "save",
        "finish",
        "request_cancel",
        "prune",
        "set_kind_paused",
        "release_orphans",
        "allocate",
    }
)
"""The methods of a store that write."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """One moment at which a process can die.

    Attributes:
        write: which write it is, from 1.
        method: of the store.
        key: the action, where the write is one of an action.
        phase: the phase that the write leads to, where it does.
    """

    write: int
    moment: Moment
    method: str
    key: ActionKey | None = None
    phase: str | None = None


class WatchedStore:
    """A store in front of another one; use `watched`."""

    def __init__(self, store: Store, hook: Callable[[Boundary], None]) -> None:
        self._store = store
        self._hook = hook
        self.writes = 0

    async def __aenter__(self) -> WatchedStore:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._store.__aexit__(*exc)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        return self._watch(name, attribute) if name in WRITES else attribute

    def _watch(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.writes += 1
            write, key, phase = self.writes, *_about(args)
            self._hook(Boundary(write, "before", name, key, phase))
            answer = await method(*args, **kwargs)
            self._hook(Boundary(write, "after", name, key, phase))
            return answer

        return call


def watched(store: Store, hook: Callable[[Boundary], None]) -> Store:
    """A store that calls a hook before and after each of its writes.

    Args:
        hook: may raise, or end the process.
    """
    return cast("Store", WatchedStore(store, hook))


def kill_at(write: int, moment: Moment) -> Callable[[Boundary], None]:
    """A hook that ends this process with SIGKILL at one boundary: nothing is flushed, nothing is cleaned up.

    Args:
        write: from 1.
    """

    def hook(boundary: Boundary) -> None:
        if (boundary.write, boundary.moment) == (write, moment):
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def _about(args: tuple[Any, ...]) -> tuple[ActionKey | None, str | None]:
    subject = args[0] if args else None
    match subject:
        case Write(checkpoint=checkpoint) | NewAction(checkpoint=checkpoint):
            return checkpoint.key, checkpoint.phase
        case ActionKey():
            return subject, None
        case _:
            return None, None
