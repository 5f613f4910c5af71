"""What a worker makes of answers that come late: of the store's clock, of its claims, of its renewals."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest

from tests.actions import SECOND, Desk, Rig, doing, done, job, key_of, running, settle
from wallet_actions.checkpoint import Status
from wallet_actions.errors import StoreUnavailableError, UsageError
from wallet_actions.executor import Executor
from wallet_actions.fleet import LATE, Claim, Limit
from wallet_actions.leases import READINGS, FleetClock
from wallet_actions.registry import Registry
from wallet_actions.testing.clock import FakeClock
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio


class SlowStore(MemoryStore):
    """Tells its clock after a while: what it tells is right at the beginning or at the end of that."""

    def __init__(self, clock: FakeClock, *waits: tuple[timedelta, timedelta]) -> None:
        super().__init__(shared=True)
        self._clock, self.waits = clock, list(waits)

    async def now(self) -> datetime:
        before, after = self.waits.pop(0) if self.waits else (timedelta(0), timedelta(0))
        await self._clock.advance(before)
        now = self._clock.now()
        await self._clock.advance(after)
        return now


@pytest.mark.parametrize("is_asked_late", [True, False])
async def test_a_clock_that_was_told_late_is_not_ahead(is_asked_late: bool) -> None:
    """A worker that is stopped while it asks for the time would else take leases that have not lapsed (L-D15)."""
    truth, delay = FakeClock(), 5 * SECOND
    wait = (delay, timedelta(0)) if is_asked_late else (timedelta(0), delay)
    store = SlowStore(truth, *[wait] * READINGS)
    clock = FleetClock(truth, store)
    await clock.read()
    assert truth.now() - delay <= clock.now() <= truth.now()


async def test_a_clock_that_was_told_late_is_read_again() -> None:
    """So that it is not behind either."""
    truth = FakeClock()
    clock = FleetClock(truth, SlowStore(truth, (timedelta(0), 5 * SECOND)))
    await clock.read()
    assert clock.now() == truth.now()


def test_a_claim_that_is_carried_out_late_gets_no_more_than_its_share() -> None:
    """Others have claimed since its time; that is not a clock that was set back."""
    limit, now = Limit(per_second=10), FakeClock().now()
    since = limit.spent(10, None, now + 3 * SECOND)
    assert limit.room(0, since, now) == 0
    assert limit.room(0, since, now + 4 * SECOND) == 10
    assert limit.room(0, since, now - LATE) == 10  # a clock that was set back holds nobody up for ever


@pytest.mark.parametrize("is_taken_over", [True, False])
async def test_a_limit_holds_past_a_worker_that_comes_back(
    monkeypatch: pytest.MonkeyPatch, *, is_taken_over: bool
) -> None:
    """It was away for longer than its lease: what it held was taken over, and nothing else; or it goes on with it."""
    at_work: set[str] = set()

    async def work(name: str) -> None:
        at_work.add(name)
        try:
            await asyncio.Event().wait()
        finally:
            at_work.discard(name)

    async def away(*args: Any, **kwargs: Any) -> Any:
        raise StoreUnavailableError("away")

    async with Rig(store=MemoryStore(shared=True)) as rig:
        desk = Desk(lambda job: doing(lambda: work(job.name))(job))
        limits = {"job": Limit(concurrency=2)}
        rig.executor = Executor(rig.store, desk, Registry(rig.kinds), clock=rig.clock, limits=limits)
        leases = rig.executor.leases
        assert leases is not None
        async with running(rig):
            for name in "abcd":
                await rig.executor.start(job(name))
            await rig.clock.advance(SECOND)
            mine = {key_of(name) for name in at_work}
            others = [key_of(name) for name in "abcd" if name not in at_work]
            assert len(mine) == 2
            store: Any = rig.store
            claim = store.claim
            with monkeypatch.context() as outage:
                for name in ("renew", "let_go", "claim"):
                    outage.setattr(store, name, away)
                await rig.clock.advance(leases.lease + SECOND)
                now, long = rig.clock.now(), 10 * leases.lease
                assert await claim(Claim("other", now, long, {"job": 1}, keys=others, limits=limits)) == []
                if is_taken_over:
                    taken = await claim(Claim("other", now, long, {"job": 1}, limits=limits))
                    assert {row.key for row in taken} == mine
            await rig.clock.advance(leases.lease)
            await settle()
            rows = await rig.store.list_actions(statuses=[Status.RUNNING])
            owned = {row.key: row.owner for row in rows if row.owner is not None}
            assert owned == dict.fromkeys(mine, "other" if is_taken_over else leases.owner)
            assert {key_of(name) for name in at_work} == (set() if is_taken_over else mine)


@pytest.mark.parametrize("is_taken_first", [True, False])
async def test_what_is_taken_anew_is_not_given_back(monkeypatch: pytest.MonkeyPatch, *, is_taken_first: bool) -> None:
    """L-D15: it would be driven here, and by whoever takes it next; whichever of the two the store is asked first."""
    is_at_work, is_answered = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        is_at_work.set()
        await asyncio.Event().wait()

    async with Rig(store=MemoryStore(shared=True)) as rig:
        desk = Desk(lambda job: doing(work)(job))
        rig.executor = Executor(rig.store, desk, Registry(rig.kinds), clock=rig.clock)
        leases = rig.executor.leases
        assert leases is not None
        key = (await rig.executor.start(job("a"))).key
        assert await leases.take(key) is not None
        leases.abandon(key)
        store: Any = rig.store
        slow = "claim" if is_taken_first else "let_go"
        call = getattr(store, slow)

        async def answered_late(*args: Any) -> Any:
            if not is_taken_first:
                await is_answered.wait()
            answer = await call(*args)
            await is_answered.wait()
            return answer

        monkeypatch.setattr(store, slow, answered_late)
        jobs = [lambda: rig.executor.drive(key), leases.give_back]
        async with anyio.create_task_group() as tasks:
            for begin in jobs if is_taken_first else reversed(jobs):
                tasks.start_soon(begin)
                await settle()
            is_answered.set()
            await is_at_work.wait()
            await settle()
            row = await rig.store.load(key)
            assert row is not None
            assert row.owner == leases.owner
            tasks.cancel_scope.cancel()


async def test_a_claim_that_fails_in_whatever_way_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """L-D12: a worker whose loop had ended for it would look alive, and drive nothing any more."""

    async def broken(claim: Claim) -> Any:
        raise UsageError("a row that this release cannot read")

    async with Rig(done, store=MemoryStore(shared=True)) as rig, running(rig):
        with monkeypatch.context() as fault:
            fault.setattr(rig.store, "claim", broken)
            for _ in range(4):
                await rig.clock.advance(SECOND)
        elsewhere = Executor(rig.store, None, Registry(rig.kinds), clock=rig.clock)
        key = (await elsewhere.start(job("a"))).key
        for _ in range(4):
            await rig.clock.advance(SECOND)
        found = await rig.store.load(key)
        assert found is not None
        assert found.status is Status.DONE
