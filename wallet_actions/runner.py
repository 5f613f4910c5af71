"""The sync loop: drives what is due, when it is due, a bounded number at once.

A parked action costs an entry in a heap, not a task. What other processes parked is found by a poll, what nobody has
woken by a slower sync. Wake times are kept on the monotonic clock, so a step of the wall clock moves none of them
(L-B5).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from wallet_actions.agenda import Agenda
from wallet_actions.checkpoint import Status, Wake
from wallet_actions.claims import POLL, Claims
from wallet_actions.coins import ActionKey
from wallet_actions.errors import StoreUnavailableError, UnknownActionError
from wallet_actions.events import Event, EventKind
from wallet_actions.executor import Executor
from wallet_actions.operator import Operator
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions.recovery import STORE_POLICY, RecoveryReport, patiently, recover, revive_quarantined
from wallet_actions.slots import Slots

logger = logging.getLogger(__name__)

PAGE = 500
BUSY_WAIT = timedelta(seconds=1)
READ_AHEAD_S = 1.0
CLOCKS_APART_S = 0.001


class Runner:
    """Drives the actions of an executor for as long as its `async with` lasts.

    On entering, a recovery starts in the background (`recovered` waits for its report), and new actions are driven at
    once beside it. On leaving it stops taking work, lets the steps under way finish for `drain`, and cancels what is
    left then: a cancelled step runs again at the next start (L-D16).

    Args:
        executor: on an open store.
        concurrency: how many actions to drive at once, ≥ 1.
        poll: how often to look for due actions that other processes parked; None where there are none. On a shared
            store twice a second, or more often.
        sync: how often to drive what is parked without a wake time.
        stalled: how long a running action of another process may go without a write before it is taken up here; on a
            shared store that is said by its lease.
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
        self._agenda = Agenda()
        self._reading = asyncio.Lock()
        self._read_from_s = -math.inf
        self._ready: dict[ActionKey, bool] = {}  # whether to drive it even if it is not due
        self._active: dict[ActionKey, bool] = {}  # whether to drive it once more
        self._owed: set[ActionKey] = set()  # notified, but the store was away
        self._kinds: set[str] = set()  # to be looked over
        self._slots = Slots(concurrency)
        self._store_failures = 0
        self._is_stopping = False
        self._wake = asyncio.Event()
        self._recovered = asyncio.Event()
        self._report: RecoveryReport | None = None
        self._task: asyncio.Task[None] | None = None
        self._leases = executor.leases
        self._claims: Claims | None = None

    async def __aenter__(self) -> Self:
        self._is_stopping = False
        self._wake, self._recovered, self._report = asyncio.Event(), asyncio.Event(), None
        self._slots = Slots(self._concurrency)
        if self._leases is not None:
            self._claims = Claims(self._leases, self._concurrency, self._wake.set)
            self._leases.has_room = lambda: not self._is_stopping and self._room > 0
            self._leases.on_abandoned = self._wake.set
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
        """How many wake times are kept in memory: the nearest, see `agenda`."""
        return len(self._agenda)

    def notify(self, key: ActionKey) -> None:
        """Drive an action now, due or not: something happened that it may be waiting for. Never lost, never doubled."""
        self._executor.notify(key)
        if key in self._active:
            self._active[key] = True
        else:
            self._ready[key] = True
            self._wake.set()

    def notify_kind(self, kind: str) -> None:
        """Heed at once that a kind was paused or resumed."""
        self._executor.forget_pauses()
        self._kinds.add(kind)
        self._wake.set()

    async def recovered(self) -> RecoveryReport:
        """Wait for the recovery of this start, and read its report.

        Raises:
            StoreUnavailableError: it could not be finished yet; it starts again in the background.
        """
        await self._recovered.wait()
        if self._report is None:
            raise StoreUnavailableError("the recovery could not read the store; it is tried again in the background")
        return self._report

    @property
    def is_recovered(self) -> bool:
        """Whether the recovery of this start is over."""
        return self._recovered.is_set()

    # The loop

    async def _run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._recover)
            if self._claims is not None:
                self._share(tasks, self._claims)
            elif self._poll is not None:
                tasks.start_soon(self._periodically, self._poll, self._look_around)
            tasks.start_soon(self._periodically, self._sync, self._sync_once)
            while not self._is_stopping:
                self._wake.clear()
                while self._kinds:
                    tasks.start_soon(self._look_over, self._kinds.pop())
                self._start_what_is_due(tasks)
                if self._claims is not None:
                    self._claim(tasks, self._claims)
                self._read_on_in_time(tasks)
                await self._clock.wait(self._wake, self._until_next())
            await self._slots.drain(self._clock, self._drain)
            tasks.cancel_scope.cancel()
        if self._claims is not None:
            await self._claims.end()
        self._recovered.set()

    @property
    def _room(self) -> int:
        return self._concurrency - len(self._active) - len(self._ready)

    def _until_next(self) -> timedelta | None:
        if len(self._active) >= self._concurrency:
            return None
        next_s = min(self._agenda.next_s, self._next_reading_s())
        return None if next_s == math.inf else timedelta(seconds=max(0.0, next_s - self._clock.monotonic()))

    def _start_what_is_due(self, tasks: TaskGroup) -> None:
        for key in self._agenda.take_due(self._clock.monotonic()):
            if self._claims is None or key in self._owed:
                self._offer(key)
            else:
                self._claims.want()
        while self._ready and len(self._active) < self._concurrency:
            key = next(iter(self._ready))
            is_forced = self._ready.pop(key) or key in self._owed
            self._owed.discard(key)
            self._active[key] = False
            tasks.start_soon(self._drive, key, is_forced)

    def _next_reading_s(self) -> float:
        agenda = self._agenda
        if self._claims is not None or not agenda.has_room(len(self._ready)):
            return math.inf
        return max(agenda.horizon_s - READ_AHEAD_S, self._read_from_s)

    def _read_on_in_time(self, tasks: TaskGroup) -> None:
        if self._clock.monotonic() >= self._next_reading_s():
            self._agenda.begin_reading()
            tasks.start_soon(self._read_on)

    def _offer(self, key: ActionKey) -> None:
        if key not in self._active:
            self._ready.setdefault(key, False)

    def _arm(self, key: ActionKey, delay: timedelta, *, is_stored: bool = True) -> None:
        due_s = self._clock.monotonic() + max(0.0, delay.total_seconds())
        if self._claims is not None:
            due_s += CLOCKS_APART_S  # or it would not be due yet by the store's
        armed_s = self._agenda.due_s(key)
        if armed_s == due_s or (armed_s < due_s and key in self._owed):
            return
        self._agenda.put(key, due_s, is_stored=is_stored)
        self._wake.set()

    def _disarm(self, key: ActionKey) -> None:
        if key not in self._owed:
            self._agenda.remove(key)

    def _drop(self, key: ActionKey) -> None:
        """Forget that it was to be driven, or it would be driven before its time once it is resumed."""
        self._ready.pop(key, None)
        if self._leases is not None:
            self._leases.put_back(key)
        if key in self._active:
            self._active[key] = False
        self._owed.discard(key)
        self._disarm(key)

    def _look(self, event: Event) -> None:
        match event.kind:
            case EventKind.STARTED if self._claims is not None and not self._has_in_hand(event.key):
                self._claims.want()
            case EventKind.STARTED:
                self._offer(event.key)
                self._wake.set()
            case EventKind.PARKED | EventKind.RETRIED if event.wake_at is not None:
                self._arm(event.key, event.wake_at - event.at)
            case EventKind.PARKED | EventKind.RETRIED:
                self._disarm(event.key)
            case EventKind.RESUMED if event.wake_at is not None:
                self._arm(event.key, event.wake_at - event.at)
            case EventKind.PAUSED | EventKind.STOPPED:
                self._drop(event.key)
            case EventKind.DONE | EventKind.FAILED | EventKind.CANCELLED | EventKind.STUCK:
                self._owed.discard(event.key)
                self._disarm(event.key)

    async def _drive(self, key: ActionKey, is_forced: bool) -> None:
        try:
            if self._claims is not None:
                result = await self._claims.drive(key, partial(self._driven, key, only_if_due=not is_forced))
            else:
                result = await self._driven(key, wait=is_forced, only_if_due=not is_forced)
            self._store_failures = 0
            if result is None:
                pass
            elif result.outcome is Outcome.BUSY:
                if is_forced and self._claims is not None:
                    self._owed.add(key)  # another worker may have looked before whatever happened
                self._arm(key, BUSY_WAIT, is_stored=False)  # whoever drives it may be cancelled, and leave it
            elif result.outcome is Outcome.PARKED and result.action is None and result.wake_at is not None:
                self._arm(key, result.wake_at - self._clock.now())  # it was not due yet
        except StoreUnavailableError:
            self._store_failures += 1
            if is_forced:
                self._owed.add(key)
            self._arm(key, STORE_POLICY.delay(self._store_failures), is_stored=False)
        except UnknownActionError:
            pass  # a start that was rolled back
        except Exception as error:  # noqa: BLE001 one bad action does not end the loop for the others (L-D12)
            logger.error(
                "an action could not be driven",
                extra={"action_kind": key.kind, "action_id": key.id, "error_type": type(error).__name__},
            )
        finally:
            if self._active.pop(key):
                self._ready[key] = True
            self._wake.set()

    async def _driven(self, key: ActionKey, *, wait: bool = False, only_if_due: bool) -> DriveResult[Any] | None:
        async with self._slots:
            return await self._executor.drive(key, wait=wait, only_if_due=only_if_due)

    # With others

    def _share(self, tasks: TaskGroup, claims: Claims) -> None:
        async def look() -> None:
            claims.want()

        tasks.start_soon(claims.keep)
        tasks.start_soon(claims.listen)
        tasks.start_soon(self._periodically, POLL if self._poll is None else min(POLL, self._poll), look)

    def _claim(self, tasks: TaskGroup, claims: Claims) -> None:
        if self._clock.monotonic() >= self._agenda.horizon_s:
            # What was left out is found by the polls; from here on it is complete again.
            self._agenda.begin_reading()
            self._agenda.end_reading(math.inf)
        room = self._room
        if claims.begins(room):
            tasks.start_soon(claims.claim, room, self._offer_claimed)
        if claims.gives_back():
            tasks.start_soon(claims.give_back)

    def _offer_claimed(self, key: ActionKey) -> None:
        if key in self._active:
            self._active[key] = True  # it has just been parked here, and is not through
        else:
            self._ready.setdefault(key, False)

    def _has_in_hand(self, key: ActionKey) -> bool:
        return self._leases is not None and self._leases.has_in_hand(key)

    # In the background

    async def _recover(self) -> None:
        failures = 0
        while True:
            try:
                self._report = await recover(self._executor, slots=self._slots)
                if self._claims is None:
                    await self._read_ahead()
                return
            except Exception as error:  # noqa: BLE001 nothing is dropped: it starts again (L-D13)
                failures += 1
                logger.error("the recovery was cut short; it starts again", extra={"error_type": type(error).__name__})
            finally:
                self._recovered.set()
            await self._clock.sleep(STORE_POLICY.delay(failures))

    async def _read_on(self) -> None:
        failures = 0
        while True:
            try:
                return await self._read_ahead()
            except Exception as error:  # noqa: BLE001 what is not known here is due one day; it starts again (L-D13)
                failures += 1
                logger.warning("wake times could not be read", extra={"error_type": type(error).__name__})
            await self._clock.sleep(STORE_POLICY.delay(failures))

    async def _read_ahead(self) -> None:
        """Put what is due next on the agenda, from the first on: much has changed since it was read the last time."""
        async with self._reading:
            self._agenda.begin_reading()
            horizon_s = await self._read_wakes()
            self._agenda.end_reading(horizon_s)
        # Whatever keeps an action from being driven though it is due, it is not read over and over (G8).
        self._read_from_s = self._clock.monotonic() + READ_AHEAD_S
        self._wake.set()

    async def _read_wakes(self) -> float:
        nearest, found = self._agenda.nearest, 0
        after: Wake | None = None
        read = partial(self._executor.store.wakes, until=None, limit=min(PAGE, nearest))
        while page := await patiently(self._executor, partial(read, after=after)):
            after = page[-1]
            now, now_s = self._clock.now(), self._clock.monotonic()
            for wake in page:
                if wake.key not in self._agenda and wake.key not in self._active and wake.key not in self._ready:
                    self._arm(wake.key, wake.wake_at - now)
                    found += 1
            if found >= nearest:
                return now_s + max(0.0, (after.wake_at - now).total_seconds())
        return math.inf

    async def _look_over(self, kind: str) -> None:
        """Take up what lay still while a kind was paused."""
        try:
            if await self._executor.is_kind_paused(kind):
                return
            if self._claims is not None:
                self._claims.want()
                await self._offer_idle(kind)
                return
            after = 0
            read = partial(self._executor.store.list_actions, statuses=[Status.RUNNING, Status.PARKED], kinds=[kind])
            while page := await patiently(self._executor, partial(read, after=after, limit=PAGE)):
                after = page[-1].row
                now = self._clock.now()
                for checkpoint in page:
                    if checkpoint.wake_at is None:
                        self._arm(checkpoint.key, timedelta(0), is_stored=False)
                    else:
                        self._arm(checkpoint.key, checkpoint.wake_at - now)
        except Exception as error:  # noqa: BLE001 what it did not reach is found by the sync
            logger.warning("a resumed kind was not looked over", extra={"error_type": type(error).__name__})

    async def _periodically(self, interval: timedelta, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._clock.sleep(interval)
            try:
                await work()
            except Exception as error:  # noqa: BLE001 the loop outlives whatever a turn of it meets
                logger.warning("a sync failed; it will be tried again", extra={"error_type": type(error).__name__})

    async def _look_around(self) -> None:
        store, now = self._executor.store, self._clock.now()
        # Another program on the same store does not know our kinds, and may have taken ours for broken at its start.
        self._offer_all(await revive_quarantined(self._executor))
        room = max(1, self._concurrency - len(self._active) - len(self._ready))
        due = await store.wakes(until=now, limit=room + len(self._active) + len(self._ready))
        stalled = await store.running(before=now - self._stalled, limit=room + len(self._active) + len(self._ready))
        registry = self._executor.registry
        self._offer_all([wake.key for wake in (*due, *stalled) if wake.key.kind in registry])

    async def _sync_once(self) -> None:
        store = self._executor.store
        if self._claims is None:
            await self._look_around()
            await self._offer_idle()
        else:
            self._offer_all(await revive_quarantined(self._executor))
            # Of all workers the first does it: it parks them anew.
            await self._offer_idle(before=self._clock.now() - self._sync)
        if self._retention is not None:
            await Operator(store, clock=self._clock).prune(self._retention)

    async def _offer_idle(self, kind: str | None = None, *, before: datetime | None = None) -> None:
        after = 0
        while page := await self._executor.store.idle(after=after, limit=PAGE):
            after = page[-1].row
            self._offer_all(
                [
                    wake.key
                    for wake in page
                    if wake.key.kind in self._executor.registry
                    and kind in (None, wake.key.kind)
                    and (before is None or wake.parked_at <= before)
                ]
            )

    def _offer_all(self, keys: Sequence[ActionKey]) -> None:
        for key in keys:
            self._offer(key)
        if keys:
            self._wake.set()
