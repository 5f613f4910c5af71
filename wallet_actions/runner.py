"""The sync loop: drives what is due, when it is due, a bounded number at once.

A parked action costs an entry in a heap, not a task. What other processes parked is found by a poll, what nobody has
woken by a slower sync. Wake times are kept on the monotonic clock, so a step of the wall clock moves none of them
(L-B5).
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Self

import anyio
from anyio.abc import TaskGroup

from wallet_actions.checkpoint import Wake
from wallet_actions.coins import ActionKey
from wallet_actions.errors import StoreUnavailableError, UnknownActionError, WalletActionError
from wallet_actions.events import Event, EventKind
from wallet_actions.executor import Executor
from wallet_actions.operator import Operator
from wallet_actions.outcome import Outcome
from wallet_actions.recovery import STORE_POLICY, RecoveryReport, recover, revive_quarantined

logger = logging.getLogger(__name__)

PAGE = 500


class Runner:
    """Drives the actions of an executor for as long as its `async with` lasts.

    On entering, a recovery starts in the background (`recovered` waits for its report), and new actions are driven at
    once beside it. On leaving it stops taking work, lets the steps under way finish for `drain`, and cancels what is
    left then: a cancelled step runs again at the next start (L-D16).

    Args:
        executor: on an open store.
        concurrency: how many actions to drive at once, ≥ 1.
        poll: how often to look for due actions that other processes parked; None where there are none.
        sync: how often to drive what is parked without a wake time.
        stalled: how long a running action of another process may go without a write before it is taken up here.
        drain: how long to wait for steps under way when leaving.
        retention: forget the details of actions that ended longer ago; None keeps them.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        concurrency: int = 64,
        poll: timedelta | None = timedelta(seconds=5),
        sync: timedelta = timedelta(minutes=5),
        stalled: timedelta = timedelta(minutes=1),
        drain: timedelta = timedelta(seconds=10),
        retention: timedelta | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError("a runner drives at least one action at once")
        self._executor = executor
        self._clock = executor.clock
        self._concurrency = concurrency
        self._poll = poll
        self._sync = sync
        self._stalled = stalled
        self._drain = drain
        self._retention = retention
        self._heap: list[tuple[float, ActionKey]] = []
        self._armed: dict[ActionKey, float] = {}
        self._ready: dict[ActionKey, bool] = {}  # whether to drive it even if it is not due
        self._active: dict[ActionKey, bool] = {}  # whether to drive it once more
        self._store_failures = 0
        self._is_stopping = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._recovered = asyncio.Event()
        self._report: RecoveryReport | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._forget = self._executor.observe(self._look)
        self._task = asyncio.create_task(self._run(), name="wallet_actions.runner")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._is_stopping = True
        self._wake.set()
        task = self._task
        try:
            if task is not None:
                with anyio.CancelScope(shield=True):
                    await task
        finally:
            self._forget()

    @property
    def parked(self) -> int:
        """How many wake times are kept."""
        return len(self._armed)

    def notify(self, key: ActionKey) -> None:
        """Drive an action now, due or not: something happened that it may be waiting for. Never lost, never doubled."""
        self._executor.notify(key)
        if key in self._active:
            self._active[key] = True
        else:
            self._ready[key] = True
            self._wake.set()

    async def recovered(self) -> RecoveryReport:
        """Wait for the recovery of this start, and read its report.

        Raises:
            StoreUnavailableError: it could not be finished; what it did not reach is found by the sync.
        """
        await self._recovered.wait()
        if self._report is None:
            raise StoreUnavailableError("the recovery could not read the store; the sync loop goes on trying")
        return self._report

    @property
    def is_recovered(self) -> bool:
        """Whether the recovery of this start is over."""
        return self._recovered.is_set()

    # The loop

    async def _run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._recover)
            if self._poll is not None:
                tasks.start_soon(self._periodically, self._poll, self._look_around)
            tasks.start_soon(self._periodically, self._sync, self._sync_once)
            while not self._is_stopping:
                self._wake.clear()
                self._start_what_is_due(tasks)
                await self._clock.wait(self._wake, self._until_next())
            if self._active:
                self._idle.clear()
                await self._clock.wait(self._idle, self._drain)
            tasks.cancel_scope.cancel()
        self._recovered.set()

    def _until_next(self) -> timedelta | None:
        if not self._heap or len(self._active) >= self._concurrency:
            return None
        return timedelta(seconds=max(0.0, self._heap[0][0] - self._clock.monotonic()))

    def _start_what_is_due(self, tasks: TaskGroup) -> None:
        now_s = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now_s:
            due_s, key = heapq.heappop(self._heap)
            if self._armed.get(key) == due_s:  # else it was armed anew since
                del self._armed[key]
                self._offer(key)
        while self._ready and len(self._active) < self._concurrency:
            key = next(iter(self._ready))
            is_forced = self._ready.pop(key)
            self._active[key] = False
            tasks.start_soon(self._drive, key, is_forced)

    def _offer(self, key: ActionKey) -> None:
        if key not in self._active:
            self._ready.setdefault(key, False)

    def _arm(self, key: ActionKey, delay: timedelta) -> None:
        due_s = self._clock.monotonic() + max(0.0, delay.total_seconds())
        if self._armed.get(key) == due_s:
            return
        self._armed[key] = due_s
        heapq.heappush(self._heap, (due_s, key))
        if self._heap[0][1] is key:
            self._wake.set()

    def _look(self, event: Event) -> None:
        match event.kind:
            case EventKind.STARTED:
                self._offer(event.key)
                self._wake.set()
            case EventKind.PARKED | EventKind.RETRIED if event.wake_at is not None:
                self._arm(event.key, event.wake_at - event.at)
            case EventKind.DONE | EventKind.FAILED | EventKind.CANCELLED | EventKind.STUCK | EventKind.PARKED:
                self._armed.pop(event.key, None)

    async def _drive(self, key: ActionKey, is_forced: bool) -> None:
        try:
            result = await self._executor.drive(key, wait=is_forced, only_if_due=not is_forced)
            self._store_failures = 0
            if result.outcome is Outcome.PARKED and result.action is None and result.wake_at is not None:
                self._arm(key, result.wake_at - self._clock.now())  # it was not due yet
        except StoreUnavailableError:
            self._store_failures += 1
            self._arm(key, STORE_POLICY.delay(self._store_failures))
        except UnknownActionError:
            pass  # a start that was rolled back
        except WalletActionError as error:
            logger.error(
                "an action could not be driven",
                extra={"action_kind": key.kind, "action_id": key.id, "error_type": type(error).__name__},
            )
        finally:
            if self._active.pop(key):
                self._ready[key] = True
            if not self._active:
                self._idle.set()
            self._wake.set()

    # In the background

    async def _recover(self) -> None:
        try:
            self._report = await recover(self._executor, concurrency=self._concurrency)
            await self._arm_all()
        except WalletActionError as error:
            logger.error("the recovery was cut short", extra={"error_type": type(error).__name__})
        finally:
            self._recovered.set()

    async def _arm_all(self) -> None:
        now = self._clock.now()
        after: Wake | None = None
        while page := await self._executor.store.wakes(until=None, after=after, limit=PAGE):
            after = page[-1]
            for wake in page:
                if wake.key not in self._armed and wake.key not in self._active:
                    self._arm(wake.key, wake.wake_at - now)

    async def _periodically(self, interval: timedelta, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._clock.sleep(interval)
            try:
                await work()
            except WalletActionError as error:
                logger.warning("a sync failed; it will be tried again", extra={"error_type": type(error).__name__})

    async def _look_around(self) -> None:
        store, now = self._executor.store, self._clock.now()
        room = max(1, self._concurrency - len(self._active) - len(self._ready))
        due = await store.wakes(until=now, limit=room + len(self._active) + len(self._ready))
        stalled = await store.running(before=now - self._stalled, limit=room + len(self._active) + len(self._ready))
        self._offer_all([*due, *stalled])

    async def _sync_once(self) -> None:
        store = self._executor.store
        await revive_quarantined(self._executor)
        after = 0
        while page := await store.idle(after=after, limit=PAGE):
            after = page[-1].row
            self._offer_all(page)
        if self._retention is not None:
            await Operator(store, clock=self._clock).prune(self._retention)

    def _offer_all(self, wakes: Sequence[Wake]) -> None:
        for wake in wakes:
            self._offer(wake.key)
        if wakes:
            self._wake.set()
