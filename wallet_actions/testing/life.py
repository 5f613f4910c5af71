"""One life of a process: from its start to its end, or to the crash that a plan has in store for it (T2, T3).

Whatever the process does to its store and its peers goes through its life, which counts the boundaries and knows when
it is over: what a dead process still tries to do, in a `finally` say, raises and has no effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar, cast

from wallet_actions.errors import TransientError
from wallet_actions.store import Store
from wallet_actions.testing.boundaries import (
    Boundary,
    forget_driver,
    is_async_callable,
    place_of_action,
    place_of_driver,
    reach,
    watched,
)

BUSY_FOR = timedelta(seconds=30)
AWAY_FOR = timedelta(minutes=10)
MOST_STILL = 500
"""How many writes and calls of one step may follow each other with no time going by."""

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
    OVERTAKEN: the caller gets a connection error; the peer hears of it just after the next call to it.
    OUTAGE: the peer does it, and is away for ten minutes before it has answered.
    REFUSED: the peer does nothing, and says so, now and whenever it is asked again, also by the next process. Only
        where the world knows how (`World.refusal`).

    And where the transport is in it (`wallet_actions.testing.peers`):

    BUSY: the peer refuses for now, and says when to come back: 429 with Retry-After, RESOURCE_EXHAUSTED with RetryInfo.
    FAILED: the peer fails before it does anything: 500, INTERNAL.
    FAILED_AFTER: the peer does it, and what stands before it answers 502 with a page of HTML; UNAVAILABLE.
    CUT_SHORT: the peer does it; only the first half of its answer arrives.
    """

    REQUEST_LOST = "request_lost"
    ANSWER_LOST = "answer_lost"
    DELAYED = "delayed"
    DUPLICATED = "duplicated"
    DUPLICATED_LATE = "duplicated_late"
    SLOW = "slow"
    GARBAGE = "garbage"
    CONTRADICTION = "contradiction"
    OVERTAKEN = "overtaken"
    OUTAGE = "outage"
    REFUSED = "refused"
    BUSY = "busy"
    FAILED = "failed"
    FAILED_AFTER = "failed_after"
    CUT_SHORT = "cut_short"


PEER_FAULTS = tuple(FaultKind)[:11]
"""The faults that any peer can have; the others differ from these only where a transport shows them."""

Symptom = Callable[[FaultKind, Any], Any]
"""How a fault looks to whoever called: gives the answer in place of the peer's, or raises.

It is handed the peer's own answer where the peer has done it, else None.
"""


class Incident(StrEnum):
    """What happens around a process that goes on living.

    CANCEL: somebody asks every action that is under way to cancel itself.
    CLOCK_BACK: the wall clock is set back by an hour (T5).
    """

    CANCEL = "cancel"
    CLOCK_BACK = "clock_back"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen in a life.

    Attributes:
        crash_at: the place of a boundary among all of the life, from 1; None lets it live.
        fault_at: a call to a peer, from 1; None leaves all in peace.
        incident_at: the place of a boundary among all of the life, from 1; None lets nothing happen.
    """

    crash_at: int | None = None
    crash: CrashKind = CrashKind.EXCEPTION
    fault_at: int | None = None
    fault: FaultKind = FaultKind.ANSWER_LOST
    incident_at: int | None = None
    incident: Incident = Incident.CANCEL

    def __str__(self) -> str:
        parts = []
        if self.fault_at is not None:
            parts.append(f"{self.fault.value}@{self.fault_at}")
        if self.incident_at is not None:
            parts.append(f"{self.incident.value}@{self.incident_at}")
        if self.crash_at is not None:
            parts.append(f"{self.crash.value}@{self.crash_at}")
        return ",".join(parts) or "peace"


@dataclass(slots=True)
class Life:
    """One life of a process.

    Attributes:
        plan: what is to happen in it.
        boundaries: those that were reached, in order.
        calls: how many calls to peers were begun.
        is_over: the process has crashed.
        task: what the process runs in; None where whoever reaches a boundary runs in it. gRPC calls from another task.
        cancelled: the task that the plan has cancelled; it has to end by that.
        garbage, contradict: what the answer to a call becomes; from the world.
        slow: waits for a slow peer; from the world.
        switch: called at each boundary before anything happens there; where a scheduler takes its turn.
        refuse: what a peer that refuses raises; from the world.
        refused: the calls that are refused by now; the world's, and so the next life's too.
        happen: makes an incident happen; from the world.
        monotonic: the clock that the process lives by, in seconds; from the world.
        violations: what the life itself found wrong, and where.
    """

    plan: Plan = field(default_factory=Plan)
    boundaries: list[Boundary] = field(default_factory=list)
    calls: int = 0
    is_over: bool = False
    task: asyncio.Task[Any] | None = None
    cancelled: asyncio.Task[Any] | None = None
    garbage: Callable[[str, Any], Any] = lambda name, answer: "<html>502 Bad Gateway</html>"
    contradict: Callable[[str, Any], Any] = lambda name, answer: answer
    slow: Callable[[], Awaitable[None]] | None = None
    switch: Callable[[Boundary], Awaitable[None]] | None = None
    refuse: Callable[[str], Exception | None] = lambda name: None
    refused: set[str] = field(default_factory=set)
    happen: Callable[[Incident], Awaitable[None]] | None = None
    monotonic: Callable[[], float] = time.monotonic
    violations: dict[str, Boundary] = field(default_factory=dict)
    late: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)
    delayed: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)
    overtaken: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)
    away_until_s: float | None = None
    _still: Counter[tuple[object, ...]] = field(default_factory=Counter)
    _still_since_s: float = -1.0

    def __post_init__(self) -> None:
        forget_driver()

    async def reach(self, boundary: Boundary) -> None:
        """Come to a boundary, and crash there if that is the plan."""
        self.check()
        if self.switch is not None:
            await self.switch(boundary)
            self.check()
        self.boundaries.append(boundary)
        self._notice_heat(boundary)
        if len(self.boundaries) == self.plan.incident_at and self.happen is not None:
            await self.happen(self.plan.incident)
        if len(self.boundaries) == self.plan.crash_at:
            await self._crash()

    def _notice_heat(self, boundary: Boundary) -> None:
        now_s = self.monotonic()
        if now_s != self._still_since_s:
            self._still_since_s = now_s
            self._still.clear()
        place = (boundary.key, boundary.step) if boundary.key else (boundary.name, boundary.line)
        self._still[place] += 1
        if self._still[place] > MOST_STILL:
            who = f"{boundary.key} in {boundary.step}" if boundary.key else boundary.name
            self.violations[f"{who} loops hot: {MOST_STILL} writes and calls, and no time went by"] = boundary
            self.is_over = True
            raise Crashed

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
                task = self.task or asyncio.current_task()
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

    async def call(self, name: str, function: Callable[[], Awaitable[T]], *, symptom: Symptom | None = None) -> T:
        """Call a peer: two boundaries, and between them whatever fault is planned.

        Args:
            symptom: how a fault looks; by default what is told below.
        Raises:
            ConnectionResetError: the request or its answer was lost, or half of it.
            TransientError: the peer was busy or failed.
            Crashed: the process died, or is dead.
        """
        self.check()
        self.calls += 1
        number, place = self.calls, place_of_action() or place_of_driver(self.task)
        before = Boundary(number, "before", "peer", name)
        if place is not None:
            before = replace(before, key=place.key, line=place.line, step=place.phase)
        await reach(self.reach, before)
        while self.delayed:
            await _ignored(self.delayed.pop(0))
        fault = self.plan.fault if number == self.plan.fault_at else None
        if self.away_until_s is not None and self.monotonic() < self.away_until_s:
            fault = FaultKind.REQUEST_LOST
        elif name in self.refused:
            fault = FaultKind.REFUSED
        overtaken, self.overtaken = self.overtaken, []
        try:
            answer = await self._answer(name, fault, function, symptom or self._symptom(name))
        finally:
            for request in overtaken:
                await _ignored(request)
        await reach(self.reach, replace(before, moment="after"))
        return answer

    async def _answer(
        self, name: str, fault: FaultKind | None, function: Callable[[], Awaitable[T]], symptom: Symptom
    ) -> T:
        match fault:
            case None:
                return await function()
            case FaultKind.REQUEST_LOST | FaultKind.BUSY | FaultKind.FAILED:
                return cast("T", symptom(fault, None))
            case FaultKind.DELAYED:
                self.delayed.append(function)
                return cast("T", symptom(fault, None))
            case FaultKind.OVERTAKEN:
                self.overtaken.append(function)
                return cast("T", symptom(FaultKind.DELAYED, None))
            case FaultKind.OUTAGE:
                await _ignored(function)
                self.away_until_s = self.monotonic() + AWAY_FOR.total_seconds()
                return cast("T", symptom(FaultKind.ANSWER_LOST, None))
            case FaultKind.REFUSED:
                refusal = self.refuse(name)
                if refusal is None:
                    return await function()
                self.refused.add(name)
                raise refusal
            case FaultKind.ANSWER_LOST:
                await _ignored(function)
                return cast("T", symptom(fault, None))
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
            case FaultKind.GARBAGE | FaultKind.CONTRADICTION | FaultKind.FAILED_AFTER | FaultKind.CUT_SHORT:
                return cast("T", symptom(fault, await function()))

    def _symptom(self, name: str) -> Symptom:
        def symptom(fault: FaultKind, answer: Any) -> Any:
            match fault:
                case FaultKind.GARBAGE:
                    return self.garbage(name, answer)
                case FaultKind.CONTRADICTION:
                    return self.contradict(name, answer)
                case FaultKind.BUSY:
                    raise TransientError("the peer is busy", retry_after=BUSY_FOR)
                case FaultKind.FAILED | FaultKind.FAILED_AFTER:
                    raise TransientError("the peer failed")
                case FaultKind.REQUEST_LOST:
                    raise ConnectionResetError("the request was lost")
                case FaultKind.DELAYED:
                    raise ConnectionResetError("the request is late")
                case _:
                    raise ConnectionResetError("the answer was lost")

        return symptom

    async def end(self) -> None:
        """Let what is still on its way reach the peer: the network does not die with the process."""
        for requests in (self.delayed, self.overtaken, self.late):
            while requests:
                await _ignored(requests.pop(0))


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
