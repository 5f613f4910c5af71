"""One life of a process: from its start to its end, or to the crash that a plan has in store for it (T2, T3).

Whatever the process does to its store and its peers goes through its life, which counts the boundaries and knows when
it is over: what a dead process still tries to do, in a `finally` say, raises and has no effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar, cast

from wallet_actions.store import Store
from wallet_actions.testing.boundaries import Boundary, is_async_callable, line_of_action, reach, watched

T = TypeVar("T")
PeerT = TypeVar("PeerT")


class Crashed(BaseException):
    """The process is dead. Not an `Exception`: nobody may catch it, and nobody can after a real crash."""


class CrashKind(StrEnum):
    """How a process ends at a boundary."""

    EXCEPTION = "exception"
    CANCELLATION = "cancellation"
    SIGKILL = "sigkill"


class FaultKind(StrEnum):
    """What goes wrong with a call to a peer (T3).

    REQUEST_LOST: the peer never hears of it, and the caller gets a connection error.
    ANSWER_LOST: the peer does it, and the caller gets a connection error.
    DELAYED: the caller gets a connection error; the peer hears of it just before the next call to it.
    DUPLICATED: the peer does it twice, at once.
    DUPLICATED_LATE: the peer does it, and once more when the process is done.
    SLOW: the caller gets its answer after a minute.
    GARBAGE: the peer does it; the answer is something else.
    CONTRADICTION: the peer does it; the answer says otherwise. Only where the world knows how (`World.contradict`).
    """

    REQUEST_LOST = "request_lost"
    ANSWER_LOST = "answer_lost"
    DELAYED = "delayed"
    DUPLICATED = "duplicated"
    DUPLICATED_LATE = "duplicated_late"
    SLOW = "slow"
    GARBAGE = "garbage"
    CONTRADICTION = "contradiction"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen in a life.

    Attributes:
        crash_at: the place of a boundary among all of the life, from 1; None lets it live.
        fault_at: a call to a peer, from 1; None leaves all in peace.
    """

    crash_at: int | None = None
    crash: CrashKind = CrashKind.EXCEPTION
    fault_at: int | None = None
    fault: FaultKind = FaultKind.ANSWER_LOST

    def __str__(self) -> str:
        if self.crash_at is not None:
            return f"{self.crash.value}@{self.crash_at}"
        if self.fault_at is not None:
            return f"{self.fault.value}@{self.fault_at}"
        return "peace"


@dataclass(slots=True)
class Life:
    """One life of a process.

    Attributes:
        plan: what is to happen in it.
        boundaries: those that were reached, in order.
        calls: how many calls to peers were begun.
        is_over: the process has crashed.
        cancelled: the task that the plan has cancelled; it has to end by that.
        garbage, contradict: what the answer to a call becomes; from the world.
        slow: waits for a slow peer; from the world.
        switch: called at each boundary before anything happens there; where a scheduler takes its turn.
    """

    plan: Plan = field(default_factory=Plan)
    boundaries: list[Boundary] = field(default_factory=list)
    calls: int = 0
    is_over: bool = False
    cancelled: asyncio.Task[Any] | None = None
    garbage: Callable[[str, Any], Any] = lambda name, answer: "<html>502 Bad Gateway</html>"
    contradict: Callable[[str, Any], Any] = lambda name, answer: answer
    slow: Callable[[], Awaitable[None]] | None = None
    switch: Callable[[Boundary], Awaitable[None]] | None = None
    late: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)
    delayed: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)

    async def reach(self, boundary: Boundary) -> None:
        """Come to a boundary, and crash there if that is the plan."""
        self.check()
        if self.switch is not None:
            await self.switch(boundary)
            self.check()
        self.boundaries.append(boundary)
        if len(self.boundaries) == self.plan.crash_at:
            await self._crash()

    def check(self) -> None:
        """Raise if the process is dead already."""
        if self.is_over:
            raise Crashed

    async def _crash(self) -> None:
        match self.plan.crash:
            case CrashKind.EXCEPTION:
                self.is_over = True
                raise Crashed
            case CrashKind.CANCELLATION:
                task = asyncio.current_task()
                if task is not None:
                    self.cancelled = task
                    task.cancel()
                    await asyncio.sleep(0)
            case CrashKind.SIGKILL:
                os.kill(os.getpid(), signal.SIGKILL)

    def store(self, store: Store) -> Store:
        """The store as this process sees it."""
        return cast("Store", _LivingStore(watched(store, self.reach), self))

    def peer(self, peer: PeerT, name: str = "") -> PeerT:
        """A peer as this process sees it: each async method, or the async callable itself, is a call.

        Args:
            name: what the boundaries call it.
        """
        return cast("PeerT", _LivingPeer(peer, self, name or type(peer).__name__))

    async def call(self, name: str, function: Callable[[], Awaitable[T]]) -> T:
        """Call a peer: two boundaries, and between them whatever fault is planned.

        Raises:
            ConnectionResetError: the request or its answer was lost.
            Crashed: the process died, or is dead.
        """
        self.check()
        self.calls += 1
        number, line = self.calls, line_of_action()
        await reach(self.reach, Boundary(number, "before", "peer", name, line=line))
        while self.delayed:
            await _ignored(self.delayed.pop(0))
        answer = await self._answer(name, function, self.plan.fault if number == self.plan.fault_at else None)
        await reach(self.reach, Boundary(number, "after", "peer", name, line=line))
        return answer

    async def _answer(self, name: str, function: Callable[[], Awaitable[T]], fault: FaultKind | None) -> T:
        match fault:
            case None:
                return await function()
            case FaultKind.REQUEST_LOST:
                raise ConnectionResetError("the request was lost")
            case FaultKind.DELAYED:
                self.delayed.append(function)
                raise ConnectionResetError("the request is late")
            case FaultKind.ANSWER_LOST:
                await _ignored(function)
                raise ConnectionResetError("the answer was lost")
            case FaultKind.DUPLICATED:
                answer = await function()
                await _ignored(function)
                return answer
            case FaultKind.DUPLICATED_LATE:
                self.late.append(function)
                return await function()
            case FaultKind.SLOW:
                if self.slow is not None:
                    await self.slow()
                return await function()
            case FaultKind.GARBAGE:
                return cast("T", self.garbage(name, await function()))
            case FaultKind.CONTRADICTION:
                return cast("T", self.contradict(name, await function()))

    async def end(self) -> None:
        """Let what is still on its way reach the peer: the network does not die with the process."""
        for function in [*self.delayed, *self.late]:
            await _ignored(function)
        self.delayed.clear()
        self.late.clear()


async def _ignored(function: Callable[[], Awaitable[Any]]) -> None:
    with contextlib.suppress(Exception):  # its answer reaches nobody
        await function()


class _LivingStore:
    def __init__(self, store: Store, life: Life) -> None:
        self._store = store
        self._life = life

    async def __aenter__(self) -> _LivingStore:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._store.__aexit__(*exc)

    def __getattr__(self, name: str) -> Any:
        self._life.check()
        return getattr(self._store, name)


class _LivingPeer:
    def __init__(self, peer: Any, life: Life, name: str) -> None:
        self._peer = peer
        self._life = life
        self._name = name

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._peer, name)
        return self._wrapped(attribute, f"{self._name}.{name}") if is_async_callable(attribute) else attribute

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._wrapped(self._peer, self._name)(*args, **kwargs)

    def _wrapped(self, function: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._life.call(name, lambda: function(*args, **kwargs))

        return call
