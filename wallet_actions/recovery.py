"""Start-up: take up again whatever a crash left behind, and tell what was found.

Nothing is freed here and nothing is dropped: coins whose action is gone are reported (L-C10, G5), what cannot be
decoded is kept and shown (G9), and an item that the database would not let us handle is tried again (L-D13).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import anyio

from wallet_actions.checkpoint import Checkpoint, Status, Wake
from wallet_actions.coins import ActionKey, Coin
from wallet_actions.errors import (
    CheckpointDecodeError,
    StoreUnavailableError,
    UnknownActionError,
    VersionConflictError,
)
from wallet_actions.events import EventKind
from wallet_actions.executor import Executor
from wallet_actions.fleet import SKEW
from wallet_actions.leases import Leases
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions.retry import QuadraticWait, RetryPolicy
from wallet_actions.store import Write

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TakeUpAll = Callable[[AsyncIterator[Sequence[ActionKey]], bool], Awaitable[None]]

PAGE = 500
STORE_TRIES = 6
NO_SLACK = timedelta(0)
STORE_POLICY = RetryPolicy(wait=QuadraticWait(timedelta(milliseconds=100), timedelta(seconds=5)))


@dataclass(slots=True)
class RecoveryReport:
    """What a recovery found and did (L-D13).

    Attributes:
        resumed: actions that were taken up; the next six tell what became of them.
        completed: ended as done.
        compensated: ended as cancelled.
        failed: ended as failed.
        parked: wait again.
        stuck: cannot go on without a person.
        elsewhere: driven by somebody else at that moment.
        quarantined: actions that this code cannot understand.
        deferred: actions that the store did not let us handle; the sync loop comes back to them.
        orphans: reserved coins whose action is gone; a person decides.
    """

    resumed: int = 0
    completed: int = 0
    compensated: int = 0
    failed: int = 0
    parked: int = 0
    stuck: int = 0
    elsewhere: int = 0
    quarantined: int = 0
    deferred: int = 0
    orphans: tuple[Coin, ...] = field(default=())


async def recover(
    executor: Executor, *, concurrency: int = 32, slots: AbstractAsyncContextManager[object] | None = None
) -> RecoveryReport:
    """Drive everything that is due, once, until it parks or ends.

    A crash while it runs is no matter: the next one goes on from there (G3). Of several workers that start at once on a
    shared store each takes a part, and what nobody wakes is driven by the first of them.

    Args:
        concurrency: how many actions to drive at once.
        slots: entered for each action while it is driven, in place of `concurrency`.
    Raises:
        StoreUnavailableError: the store cannot be read, also after some tries.
    """
    report = RecoveryReport()
    store = executor.store
    limiter = slots or asyncio.Semaphore(concurrency)

    async def take_up(key: ActionKey, only_if_due: bool) -> None:
        async with limiter:
            _count(report, await _driven(executor, key, only_if_due=only_if_due))

    async def take_up_all(pages: AsyncIterator[Sequence[ActionKey]], only_if_due: bool = False) -> None:
        async for page in pages:
            async with anyio.create_task_group() as tasks:
                for key in page:
                    tasks.start_soon(take_up, key, only_if_due)

    if executor.leases is not None:
        await patiently(executor, executor.leases.begin)
    await revive_quarantined(executor)
    last = await patiently(executor, store.last_write_at)
    now = executor.clock.now()
    await _heed_clock(executor, now, last)
    if executor.leases is not None:
        await _take_part(executor, executor.leases, now, take_up_all, concurrency)
        return await _reported(executor, report)
    # All that runs now, also what was written in this very moment, or later by a clock that was set back since (L-B5).
    before = max(now, last or now) + timedelta(microseconds=1)
    await take_up_all(_keys_of(executor, Status.QUARANTINED))
    await take_up_all(_keys_of(executor, Status.STUCK))
    await take_up_all(_wake_keys(executor, lambda after: store.running(before=before, after=_row(after), limit=PAGE)))
    await take_up_all(_wake_keys(executor, lambda after: store.idle(after=_row(after), limit=PAGE)))
    due = _wake_keys(executor, lambda after: store.wakes(until=now, after=after, limit=PAGE))
    await take_up_all(due, only_if_due=True)
    return await _reported(executor, report)


async def _reported(executor: Executor, report: RecoveryReport) -> RecoveryReport:
    report.orphans = tuple(await patiently(executor, executor.store.orphans))
    if report.orphans:
        logger.error("coins are reserved by actions that are gone", extra={"count": len(report.orphans)})
    return report


async def _take_part(
    executor: Executor, leases: Leases, began_at: datetime, take_up_all: _TakeUpAll, concurrency: int
) -> None:
    """Drive what is due on a store that other workers share, as long as there is more than can be claimed at once."""

    async def before_us(pages: AsyncIterator[Sequence[tuple[ActionKey, datetime]]]) -> AsyncIterator[list[ActionKey]]:
        async for page in pages:
            yield [key for key, written_at in page if written_at < began_at]

    async def stuck() -> AsyncIterator[list[tuple[ActionKey, datetime]]]:
        async for page in _pages_of(executor, Status.STUCK):
            yield [(checkpoint.key, checkpoint.updated_at) for checkpoint in page if leases.knows(checkpoint)]

    async def idle() -> AsyncIterator[list[tuple[ActionKey, datetime]]]:
        after = 0
        while page := await patiently(executor, partial(executor.store.idle, after=after, limit=PAGE)):
            after = page[-1].row
            yield [(wake.key, wake.parked_at) for wake in page if wake.key.kind in executor.registry]

    async def claimed() -> AsyncIterator[list[ActionKey]]:
        while rows := await patiently(executor, partial(leases.claim_due, concurrency)):
            yield [row.key for row in rows]
            if len(rows) < concurrency:
                return

    await take_up_all(before_us(stuck()), False)
    await take_up_all(before_us(idle()), True)
    await take_up_all(claimed(), True)


async def patiently(executor: Executor, work: Callable[[], Awaitable[T]]) -> T:
    """Do something with the store, again if it blips (L-D13).

    Raises:
        StoreUnavailableError: it failed `STORE_TRIES` times.
    """
    for attempt in range(1, STORE_TRIES):
        try:
            return await work()
        except StoreUnavailableError:
            await executor.clock.sleep(STORE_POLICY.delay(attempt))
    return await work()


async def revive_quarantined(executor: Executor) -> list[ActionKey]:
    """Put quarantined actions that this code can read back among the running.

    Returns:
        Which; they are to be driven now.
    """
    revived: list[ActionKey] = []
    async for page in _pages_of(executor, Status.QUARANTINED):
        for checkpoint in page:
            try:
                executor.registry.decode(checkpoint)
            except CheckpointDecodeError:
                continue
            if await _save(executor, replace(checkpoint, status=Status.RUNNING, wake_at=None), EventKind.REVIVED):
                revived.append(checkpoint.key)
    return revived


async def _heed_clock(executor: Executor, now: datetime, last: datetime | None) -> None:
    """Bring wake times back into reach where the clock was set back since they were written (L-B5).

    An action never waits longer than it was parked for.
    """
    slack = NO_SLACK if executor.leases is None else SKEW
    if last is None or last <= now + slack:
        return
    logger.warning("the clock was set back; wake times are shortened", extra={"by_s": (last - now).total_seconds()})
    after: Wake | None = None
    while page := await patiently(executor, partial(executor.store.wakes, until=None, after=after, limit=PAGE)):
        after = page[-1]
        for wake in page:
            wanted = now + (wake.wake_at - wake.parked_at)
            if wake.parked_at <= now or wake.wake_at <= wanted:
                continue
            checkpoint = await patiently(executor, partial(executor.store.load, wake.key))
            if checkpoint is not None and checkpoint.status is Status.PARKED and checkpoint.wake_at == wake.wake_at:
                await _save(executor, replace(checkpoint, wake_at=wanted), EventKind.RESCHEDULED)


async def _save(executor: Executor, changed: Checkpoint, event: EventKind) -> bool:
    following = replace(changed, version=changed.version + 1, updated_at=executor.clock.now())
    write = Write(changed.version, following, event.value)
    try:
        await patiently(executor, partial(executor.store.save, write))
    except VersionConflictError:
        return False
    executor.tell(event, following)
    return True


async def _driven(executor: Executor, key: ActionKey, *, only_if_due: bool) -> DriveResult[Any] | None:
    try:
        return await patiently(executor, partial(executor.drive, key, only_if_due=only_if_due))
    except UnknownActionError:
        return DriveResult(Outcome.SUPERSEDED, key)
    except Exception as error:  # noqa: BLE001 one bad action does not keep the others from being taken up (L-D12)
        logger.error(
            "an action could not be driven",
            extra={"action_kind": key.kind, "action_id": key.id, "error_type": type(error).__name__},
        )
        return None


def _count(report: RecoveryReport, result: DriveResult[Any] | None) -> None:
    if result is None:
        report.deferred += 1
        return
    if result.outcome is Outcome.QUARANTINED:
        report.quarantined += 1
        return
    if result.outcome is Outcome.PAUSED:
        return
    report.resumed += 1
    match result.outcome:
        case Outcome.DONE:
            report.completed += 1
        case Outcome.FAILED if result.status is Status.CANCELLED:
            report.compensated += 1
        case Outcome.FAILED:
            report.failed += 1
        case Outcome.PARKED:
            report.parked += 1
        case Outcome.STUCK:
            report.stuck += 1
        case Outcome.BUSY | Outcome.SUPERSEDED:
            report.elsewhere += 1


async def _pages_of(executor: Executor, status: Status) -> AsyncIterator[Sequence[Checkpoint]]:
    after = 0
    while page := await patiently(
        executor, partial(executor.store.list_actions, statuses=[status], after=after, limit=PAGE)
    ):
        after = page[-1].row
        yield page


async def _keys_of(executor: Executor, status: Status) -> AsyncIterator[Sequence[ActionKey]]:
    async for page in _pages_of(executor, status):
        yield [checkpoint.key for checkpoint in page]


async def _wake_keys(
    executor: Executor, read: Callable[[Wake | None], Awaitable[Sequence[Wake]]]
) -> AsyncIterator[Sequence[ActionKey]]:
    after: Wake | None = None
    while page := await patiently(executor, partial(read, after)):
        after = page[-1]
        yield [wake.key for wake in page]


def _row(after: Wake | None) -> int:
    return after.row if after is not None else 0
