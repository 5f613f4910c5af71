"""Where a process can die: before and after each write to the store, before and after each call to a peer.

    store = watched(SQLiteStore("wallet.db"), kill_at(write=3, moment="after"))

A crash before a write is one that nobody heard of; one after it is a commit whose answer was lost.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import PurePath
from types import FrameType
from typing import Any, Literal, cast

from wallet_actions.action import Action
from wallet_actions.coins import ActionKey
from wallet_actions.store import NewAction, Store, Write

Moment = Literal["before", "after"]
Site = Literal["store", "peer"]

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
        number: which write, or which call, it belongs to: from 1, writes and calls each for themselves.
        site: whether it is a write to the store or a call to a peer.
        name: the method of the store, or what is called.
        key: the action, where that is known.
        phase: the phase that a write leads to.
        line: the line of the action's code that led here, as `module.py:31 in advance`.
    """

    number: int
    moment: Moment
    site: Site
    name: str
    key: ActionKey | None = None
    phase: str | None = None
    line: str | None = None

    def __str__(self) -> str:
        leads_to = f" → {self.phase}" if self.phase else ""
        place = f" at {self.line}" if self.line else ""
        what = "write" if self.site == "store" else "call"
        return f"{self.moment} {what} {self.number} ({self.name}{leads_to}){place}"


Hook = Callable[[Boundary], Awaitable[None] | None]
"""Is told of each boundary; may raise, cancel, or end the process."""


async def reach(hook: Hook, boundary: Boundary) -> None:
    """Tell a hook of a boundary."""
    waiting = hook(boundary)
    if waiting is not None:
        await waiting


class WatchedStore:
    """A store in front of another one; use `watched`."""

    def __init__(self, store: Store, hook: Hook) -> None:
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
            number, line, (key, phase) = self.writes, line_of_action(), _about(args)
            await reach(self._hook, Boundary(number, "before", "store", name, key, phase, line))
            answer = await method(*args, **kwargs)
            await reach(self._hook, Boundary(number, "after", "store", name, key, phase, line))
            return answer

        return call


def watched(store: Store, hook: Hook) -> Store:
    """A store that tells a hook before and after each of its writes."""
    return cast("Store", WatchedStore(store, hook))


def kill_at(write: int, moment: Moment) -> Callable[[Boundary], None]:
    """A hook that ends this process with SIGKILL at one boundary: nothing is flushed, nothing is cleaned up.

    Args:
        write: from 1.
    """

    def hook(boundary: Boundary) -> None:
        if (boundary.number, boundary.moment) == (write, moment):
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def line_of_action() -> str | None:
    """The innermost line on the stack that is a method of an action's own class; None outside of a step."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 the documented way to look at one's callers
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, Action) and frame.f_code.co_name not in {"at", "id", "key"}:
            return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return None


def is_async_callable(value: object) -> bool:
    """Whether calling it gives something to await."""
    return inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(value, "__call__", None))  # noqa: B004


def _about(args: tuple[Any, ...]) -> tuple[ActionKey | None, str | None]:
    subject = args[0] if args else None
    match subject:
        case Write(checkpoint=checkpoint) | NewAction(checkpoint=checkpoint):
            return checkpoint.key, checkpoint.phase
        case ActionKey():
            return subject, None
        case _:
            return None, None
