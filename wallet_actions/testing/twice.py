"""Take every step twice from the same state: both have to come to the same checkpoint (T6).

After a crash a step runs again, and its peer may know it from the first time. So the second answer is the one that is
written, and it has to lead where the first would have: the same phase, status, result, coins and facts. Three things
are granted to a step. Counters that it allocates are given out again, since gaps are fine. The clock stands still
meanwhile. And a step that only waits may find, the second time, that the wait is over; it is then the second and a
third that are compared.

The environment variable WALLET_ACTIONS_DOUBLE_DRIVE switches it on for every world of a test run, and, with the pytest
plugin, for every executor: a step whose answers differ is stuck then. Off are `0`, `false`, `no`, `off` and nothing.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from wallet_actions.action import Action
from wallet_actions.checkpoint import Checkpoint
from wallet_actions.delta import to_delta
from wallet_actions.errors import InvariantError, WalletActionError
from wallet_actions.executor import Executor
from wallet_actions.retry import RetryPolicy
from wallet_actions.step import Decision, Refused, Stuck
from wallet_actions.successor import successor
from wallet_actions.transition import Park

VARIABLE = "WALLET_ACTIONS_DOUBLE_DRIVE"
_OFF = frozenset({"", "0", "false", "no", "off"})

Allocate = Callable[[str, int], Awaitable[int]]

# Of the step that the task is taking: other steps may be under way in other tasks.
_allocated: ContextVar[list[int] | None] = ContextVar("allocated", default=None)
_replayed: ContextVar[list[int] | None] = ContextVar("replayed", default=None)

Decide = Callable[[Action[Any, Any, Any], Checkpoint, RetryPolicy], Awaitable[Decision]]


def is_switched_on() -> bool:
    """Whether the environment asks for it."""
    return os.environ.get(VARIABLE, "").strip().lower() not in _OFF


@dataclass(frozen=True, slots=True)
class Difference:
    """A step that came to two different ends.

    Attributes:
        step: the action's class and the phase that it was in.
        first, second: what each time would have been written; sensitive values masked.
    """

    step: str
    first: dict[str, str]
    second: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.step} came to two different ends:"]
        for name in sorted(self.first.keys() | self.second.keys()):
            once, again = self.first.get(name), self.second.get(name)
            if once != again:
                lines += [f"  {name}, the first time:  {once}", f"  {name}, the second time: {again}"]
        return "\n".join(lines)


@dataclass(slots=True)
class DoubleReport:
    """What a double drive found.

    Attributes:
        steps: how many steps were taken twice.
        differences: steps whose ends differ.
        violations: what the oracles of the world found afterwards.
    """

    steps: int = 0
    differences: list[Difference] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether nothing was found."""
        return not self.differences and not self.violations

    def __str__(self) -> str:
        head = f"{self.steps} steps taken twice, {len(self.differences)} differ"
        return "\n".join([head, *map(str, self.differences), *(f"violated: {one}" for one in self.violations)])


class DoubleDriver:
    """Takes each step of an executor twice.

    Args:
        executor: its `decide` and its store's `allocate` are replaced; also those of an earlier driver.
        report: where to write what differs; None makes the step stuck instead.
    """

    def __init__(self, executor: Executor, report: DoubleReport | None = None) -> None:
        self._executor = executor
        self._decide: Decide = functools.partial(Executor.decide, executor)
        self._report = report
        before = getattr(executor.store.allocate, "__self__", None)
        self._allocate: Allocate = executor.store.allocate
        if isinstance(before, DoubleDriver):
            self._allocate = before._allocate  # noqa: SLF001 another of this class
        executor.decide = self.decide  # type: ignore[method-assign]
        executor.store.allocate = self.allocate  # type: ignore[method-assign]

    async def allocate(self, counter: str, count: int = 1) -> int:
        """Give out the same values again the second time."""
        replayed = _replayed.get()
        if replayed:
            return replayed.pop(0)
        first = await self._allocate(counter, count)
        allocated = _allocated.get()
        if allocated is not None:
            allocated.append(first)
        return first

    async def decide(self, action: Action[Any, Any, Any], checkpoint: Checkpoint, policy: RetryPolicy) -> Decision:
        """Take a step twice, and compare. It is stuck where its ends differ and there is no report to write it to."""
        token = _allocated.set([])
        try:
            first = await self._decide(action, checkpoint, policy)
            second = await self._again(action, checkpoint, policy)
            if _only_waits(first, action) and not _only_waits(second, action):
                first, second = second, await self._again(action, checkpoint, policy)
        finally:
            _allocated.reset(token)
        if self._report is not None:
            self._report.steps += 1
        once, again = (self._end(action, checkpoint, decision) for decision in (first, second))
        if once != again:
            difference = Difference(f"{type(action).__name__} in {action.phase.tag}", once, again)
            if self._report is None:
                broken = InvariantError(str(difference), rule="a step taken twice comes to the same end")
                return Decision(Stuck(broken), is_failure=True)
            self._report.differences.append(difference)
        return second

    async def _again(self, action: Action[Any, Any, Any], checkpoint: Checkpoint, policy: RetryPolicy) -> Decision:
        token = _replayed.set(list(_allocated.get() or ()))
        try:
            return await self._decide(action, checkpoint, policy)
        finally:
            _replayed.reset(token)

    def _end(self, action: Action[Any, Any, Any], checkpoint: Checkpoint, decision: Decision) -> dict[str, str]:
        """What would be written, by name, fit to be shown."""
        answer = decision.answer
        end = {"answer": type(answer).__name__}
        if isinstance(answer, Stuck | Refused):
            return end
        kind = self._executor.registry.of(action)
        try:
            following, _ = successor(kind, checkpoint, decision, checkpoint.updated_at)
            delta = to_delta(answer.changes, checkpoint.key, self._executor.registry, now=checkpoint.updated_at)
        except WalletActionError as error:
            return end | {"error": str(error)}
        end |= {
            "status": following.status.value,
            "phase": following.phase,
            "waits": str(following.wake_at is not None),
            "error": str(following.error),
            "state": repr(getattr(answer, "action", action)),
            "state, as written": _fingerprint(following.state),
            "result": _fingerprint(following.result),
        }
        for name in ("add", "release", "reserve", "spend", "counters"):
            end[name] = str([getattr(item, "id", item) for item in getattr(delta, name)])
        end["facts"] = str([(fact.kind, fact.key, _fingerprint(fact.body)) for fact in delta.facts])
        end["children"] = str([child.checkpoint.key for child in delta.start])
        return end


def install() -> Callable[[], None]:
    """Make every executor of this process from now on take its steps twice.

    Returns:
        What takes it back.
    """
    original = Executor.__init__

    @functools.wraps(original)
    def doubled(self: Executor, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        DoubleDriver(self)

    Executor.__init__ = doubled  # type: ignore[method-assign]

    def take_back() -> None:
        Executor.__init__ = original  # type: ignore[method-assign]

    return take_back


def _only_waits(decision: Decision, action: Action[Any, Any, Any]) -> bool:
    match decision.answer:
        case Park(action=following, error=None):
            return bool(following == action)
        case _:
            return False


def _fingerprint(text: str | None) -> str:
    """Tells texts apart without telling what they say."""
    if text is None:
        return "nothing"
    return f"{len(text)} characters, {hashlib.sha256(text.encode()).hexdigest()[:12]}"
