"""One process of a simulation: its lives, and how it drives what there is to drive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

import anyio

from wallet_actions.checkpoint import Status
from wallet_actions.coins import ActionKey
from wallet_actions.errors import StoreUnavailableError, UnknownActionError
from wallet_actions.executor import Executor
from wallet_actions.outcome import DriveMode, Outcome
from wallet_actions.recovery import recover
from wallet_actions.runner import Runner
from wallet_actions.testing.life import Crashed, Life
from wallet_actions.testing.scheduler import Turn
from wallet_actions.testing.world import SYNC
from wallet_actions.transition import Start

T = TypeVar("T")

OPEN = (Status.RUNNING, Status.PARKED)
PATIENCE = timedelta(seconds=1)


class Driving(StrEnum):
    """How a process drives its actions.

    STEPWISE: what is due, one after the other, each until it parks.
    TASKS: a task an action, each until it has ended.
    RUNNER: by a `Runner`.
    BARE: as STEPWISE, without a recovery; the actions are there already.
    """

    STEPWISE = "stepwise"
    TASKS = "tasks"
    RUNNER = "runner"
    BARE = "bare"


@dataclass(slots=True, eq=False)
class Process:
    """One process, through all of its lives.

    Attributes:
        number: from 1.
        lives: how many it has begun.
        ahead: how far its machine's clock is ahead; one item.
        cut_until_s: until when it does not reach its store or its peers, in virtual seconds.
        tasks: all that were begun in this life; a crash ends them.
        asides: those of them that do something beside what the app does.
        drives: those of them that only drive one action, and may be cancelled.
        under_way: the turns of calls whose answer has not come.
    """

    number: int
    driving: Driving
    lives: int = 0
    life: Life = field(default_factory=Life)
    executor: Executor | None = None
    runner: Runner | None = None
    ahead: list[timedelta] = field(default_factory=lambda: [timedelta(0)])
    cut_until_s: dict[str, float] = field(default_factory=dict)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    asides: list[asyncio.Task[None]] = field(default_factory=list)
    drives: set[asyncio.Task[Any]] = field(default_factory=set)
    under_way: dict[tuple[str, int], Turn] = field(default_factory=dict)

    def begin(self, life: Life) -> Life:
        """Begin another life, without anything that a restart forgets."""
        self.lives += 1
        self.life = life
        self.executor = None
        self.runner = None
        self.cut_until_s = {}
        self.tasks = []
        self.asides = []
        self.drives = set()
        self.under_way = {}
        return life

    def crash(self) -> Crashed:
        """End this life: nothing that it still does has any effect.

        Returns:
            What to raise.
        """
        self.life.is_over = True
        for task in self.tasks:
            task.cancel()
        return Crashed()

    # What the app does

    async def run(self, executor: Executor, starts: Sequence[Start], all_over: asyncio.Event) -> None:
        """Recover, start the actions as at every start, and drive until all have ended.

        Args:
            all_over: set once all actions have ended.
        """
        if self.driving is Driving.BARE:
            await self._settle(executor)
            return
        if self.driving is Driving.RUNNER:
            async with Runner(executor, poll=timedelta(seconds=10)) as self.runner:
                await self._start(executor, starts)
                await all_over.wait()
            return
        await insist(executor, lambda: recover(executor))
        await self._start(executor, starts)
        if self.driving is Driving.TASKS:
            async with anyio.create_task_group() as group:
                for start in starts:
                    group.start_soon(self._until_done, executor, start.action.key)
        await self._settle(executor)

    async def _start(self, executor: Executor, starts: Sequence[Start]) -> None:
        for start in starts:
            await insist(executor, lambda start=start: executor.start(start.action, start.changes))  # type: ignore[misc]

    async def _settle(self, executor: Executor) -> None:
        clock = executor.clock
        while True:
            waiting = await insist(executor, lambda: executor.store.list_actions(statuses=OPEN))
            if not waiting:
                return
            now = clock.now()
            due = [
                one.key
                for one in waiting
                if one.status is Status.RUNNING or (one.wake_at is not None and one.wake_at <= now)
            ]
            wakes = [one.wake_at for one in waiting if one.wake_at is not None]
            if not due and wakes:
                await clock.sleep(min(wakes) - now)
            elif not due:
                await clock.sleep(SYNC)
                due = [one.key for one in waiting]
            for key in due:
                await self._driven(executor, key, DriveMode.UNTIL_PARK)

    async def _until_done(self, executor: Executor, key: ActionKey) -> None:
        while True:
            outcome = await self._driven(executor, key, DriveMode.UNTIL_DONE)
            if outcome in (Outcome.DONE, Outcome.FAILED):
                return
            if outcome in (Outcome.PARKED, Outcome.STUCK, Outcome.SUPERSEDED):
                await executor.clock.sleep(PATIENCE if outcome is Outcome.SUPERSEDED else SYNC)

    async def _driven(self, executor: Executor, key: ActionKey, mode: DriveMode) -> Outcome | None:
        """Drive an action in a task of its own, that may be cancelled; None where it was, or the store was away."""
        task = asyncio.ensure_future(executor.drive(key, mode, wait=True))
        self.drives.add(task)
        try:
            return (await task).outcome
        except StoreUnavailableError:
            await executor.clock.sleep(PATIENCE)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if not task.cancelled() or current is None or current.cancelling():
                raise
        finally:
            self.drives.discard(task)
            if not task.done():
                task.cancel()
        return None

    def notify(self, key: ActionKey) -> None:
        """Tell whoever drives an action here that something happened."""
        if self.runner is not None:
            self.runner.notify(key)
        elif self.executor is not None:
            self.executor.notify(key)

    async def drive_once(self, key: ActionKey) -> None:
        """Drive an action beside whatever else the process does."""
        if self.executor is not None:
            with suppress(StoreUnavailableError, UnknownActionError):  # perhaps it is not started yet
                await self.executor.drive(key)


async def insist(executor: Executor, work: Callable[[], Awaitable[T]]) -> T:
    """Do something as soon as the store can be reached."""
    while True:
        try:
            return await work()
        except StoreUnavailableError:
            await executor.clock.sleep(PATIENCE)
