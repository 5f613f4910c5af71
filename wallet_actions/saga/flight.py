"""The calls of a group of steps that are under way at once.

Each step's result is to be on disk as soon as it is there, while others are still at work. Only the executor writes,
and only between two calls of `advance`. So the calls outlive an `advance`: they belong to the drive, and are handed on
from one state of the action to the next, beside its fields. A drive that ends before they have landed lets go of the
action, and with that they are cancelled: like a process that dies, and the next drive executes what is not on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from wallet_actions.errors import RejectedError, TransientError


@dataclass(frozen=True, slots=True)
class Landed:
    """How a call ended: with a value, or with an error."""

    value: object = field(default=None, repr=False)
    error: Exception | None = field(default=None, repr=False)


class Flight:
    """Calls under way, by the name of their step."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, step: object) -> bool:
        return step in self._tasks

    def __del__(self) -> None:
        for task in self._tasks.values():
            if not task.get_loop().is_closed():
                task.cancel()

    def launch(self, step: str, call: Coroutine[Any, Any, object]) -> None:
        """Begin a call."""
        task = asyncio.get_running_loop().create_task(call, name=f"wallet_actions.saga {step}")
        task.add_done_callback(_heard)
        self._tasks[step] = task

    async def land(self, left_s: Mapping[str, float]) -> dict[str, Landed]:
        """Wait until at least one call has ended, and give those that have.

        Args:
            left_s: by step, how many seconds are left of its deadline. A call that takes longer is cancelled, and has
                failed; steps without a deadline are not in it.
        Cancellation: the calls are cancelled too.
        """
        limits = {step: max(0.0, limit_s) for step, limit_s in left_s.items() if step in self._tasks}
        soonest_s = min(limits.values(), default=None)
        try:
            done, _ = await asyncio.wait(self._tasks.values(), timeout=soonest_s, return_when=asyncio.FIRST_COMPLETED)
            overdue = [] if done else [step for step, limit_s in limits.items() if limit_s == soonest_s]
            for step in overdue:
                self._tasks[step].cancel()
            if overdue:
                await asyncio.wait([self._tasks[step] for step in overdue])
        except BaseException:
            await self._abort()
            raise
        landed: dict[str, Landed] = {}
        for step in [step for step, task in self._tasks.items() if task.done()]:
            landed[step] = _landed(self._tasks.pop(step), step, is_overdue=step in overdue)
        return landed

    async def _abort(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        self._tasks.clear()


def _landed(task: asyncio.Task[Any], step: str, *, is_overdue: bool) -> Landed:
    if task.cancelled():
        if is_overdue:
            return Landed(error=RejectedError(f"the step {step} was not finished by its deadline"))
        return Landed(error=TransientError("a call was cut off before its answer came"))
    error = task.exception()
    if isinstance(error, Exception):
        return Landed(error=error)
    if error is not None:
        raise error
    return Landed(task.result())


def _heard(task: asyncio.Task[Any]) -> None:
    """Take note of an error that nobody waits for any more: the step is executed again."""
    if not task.cancelled():
        task.exception()
