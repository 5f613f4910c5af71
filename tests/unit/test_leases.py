"""What a worker makes of answers that come late: of the store's clock, of its claims, of its renewals."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

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


async def test_a_limit_holds_past_a_worker_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was away for longer than its lease, and others were let in: it does not come on top of them."""
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
            assert len(at_work) == 2
            store: Any = rig.store
            claim = store.claim
            with monkeypatch.context() as outage:
                for name in ("renew", "let_go", "claim"):
                    outage.setattr(store, name, away)
                await rig.clock.advance(leases.lease + SECOND)
                lapsed = [key_of(name) for name in at_work]
                now, long = rig.clock.now(), 10 * leases.lease
                wish = Claim("other", now, long, {"job": 1}, keys=lapsed, limits=limits)
                assert len(await claim(wish)) == 2
            let_go, freed = store.let_go, []

            async def noted(owner: str, keys: Any = ()) -> Any:
                freed.extend(keys)
                return await let_go(owner, keys or None)

            monkeypatch.setattr(store, "let_go", noted)
            mine = {key_of(name) for name in at_work}
            await rig.clock.advance(leases.lease)
            await settle()
            assert sorted(freed) == sorted(mine)  # once: afterwards it may be held again, by whomever
            rows = await rig.store.list_actions(statuses=[Status.RUNNING])
            live = [row for row in rows if row.lease_until is not None and row.lease_until > rig.clock.now()]
            assert {row.owner for row in live} == {"other"}
            assert not at_work


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
