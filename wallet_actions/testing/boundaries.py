"""Where a process can die: before and after each write to the store, before and after each call to a peer.

    store = watched(SQLiteStore("wallet.db"), kill_at(write=3, moment="after"))

A crash before a write is one that nobody heard of; one after it is a commit whose answer was lost.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import PurePath
from types import FrameType
from typing import Any, Literal, NamedTuple, cast

from wallet_actions.action import Action
from wallet_actions.checkpoint import Checkpoint
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
        "claim",
        "renew",
        "let_go",
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
        step: the phase that the action was in when it came here; None before there is one, or where it is not known.
    """

    number: int
    moment: Moment
    site: Site
    name: str
    key: ActionKey | None = None
    phase: str | None = None
    line: str | None = None
    step: str | None = None

    def __str__(self) -> str:
        leads_to = f" → {self.phase}" if self.phase else ""
        inside = f" in {self.step}" if self.step else ""
        place = f" at {self.line}" if self.line else ""
        what = "write" if self.site == "store" else "call"
        return f"{self.moment} {what} {self.number} ({self.name}{leads_to}){inside}{place}"


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
        self._phases: dict[ActionKey, str] = {}
        self.writes = 0

    async def __aenter__(self) -> WatchedStore:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._store.__aexit__(*exc)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        if name == "load":
            return self._load
        return self._watch(name, attribute) if name in WRITES else attribute

    async def _load(self, key: ActionKey) -> Checkpoint | None:
        checkpoint = await self._store.load(key)
        if checkpoint is not None:
            self._phases[key] = checkpoint.phase
            _driven.set((key, checkpoint.phase))
        return checkpoint

    def _watch(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.writes += 1
            (key, phase), place = _about(args), place_of_action()
            before = Boundary(self.writes, "before", "store", name, key, phase)
            if place is not None:  # the action itself writes
                before = replace(before, key=key or place.key, line=place.line, step=place.phase)
            elif key is not None:
                before = replace(before, step=self._phases.get(key))
            await reach(self._hook, before)
            answer = await method(*args, **kwargs)
            if key is not None and phase is not None:
                self._phases[key] = phase
                _driven.set((key, phase))
            await reach(self._hook, replace(before, moment="after"))
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


class Place(NamedTuple):
    """Where in an action's code something happens.

    Attributes:
        key, phase: the action, as it was when the step began.
        line: as `module.py:31 in advance`; None where a task of the step's own is at work.
    """

    key: ActionKey
    phase: str
    line: str | None


_driven: ContextVar[tuple[ActionKey, str] | None] = ContextVar("driven", default=None)


def place_of_action() -> Place | None:
    """The innermost place on the stack that is in a method of an action's own class; None outside of a step."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 the documented way to look at one's callers
    while frame is not None:
        if place := _place(frame):
            return place
        frame = frame.f_back
    return None


def place_of_driver(task: asyncio.Task[Any] | None) -> Place | None:
    """Where a step has to be that began a task of its own, and that task is the caller.

    Args:
        task: what the process runs in; perhaps it is this that drives, and waits.
    """
    waiting, driven = place_of_task(task), _driven.get()
    if driven is None or (waiting is not None and waiting[:2] == driven):
        return waiting
    return Place(*driven, line=None)


def forget_driver() -> None:
    """A new process begins in this context: what the last one drove is no place in it."""
    _driven.set(None)


def place_of_task(task: asyncio.Task[Any] | None) -> Place | None:
    """As `place_of_action`, for another task, which waits: the innermost place in a method of an action's class."""
    waiting: Any = None if task is None else task.get_coro()
    found = None
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        found = _place(frame) or found
        waiting = waiting.cr_await
    return found


def _place(frame: FrameType) -> Place | None:
    owner, name = frame.f_locals.get("self"), frame.f_code.co_name
    if not isinstance(owner, Action) or name in {"at", "id", "key"}:
        return None
    line = f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno} in {name}"
    return Place(owner.key, owner.phase.tag, line)


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
