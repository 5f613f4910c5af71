"""A saga as a step of another: started with its row, cancelled while under way, reversed once done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.unit.saga.kit import Job, Rig, Work, fail
from tests.unit.saga.nested import Outer, outer
from wallet_actions.checkpoint import Status
from wallet_actions.coins import ActionKey
from wallet_actions.errors import RejectedError, UsageError
from wallet_actions.outcome import Outcome
from wallet_actions.saga import SagaResult, Wait, start_reversal
from wallet_actions.testing.oracles import all_actions

pytestmark = pytest.mark.anyio

INNER = ActionKey("work", "s.inner")
REVERSAL = ActionKey("work", "s.inner/reversal")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig(Work, Outer).open() as rig:
        yield rig


async def settle(rig: Rig) -> None:
    for _ in range(20):
        for action in await all_actions(rig.store):
            if action.status in (Status.RUNNING, Status.PARKED):
                await rig.executor.drive(action.key)


async def status(rig: Rig, key: ActionKey) -> Status | None:
    checkpoint = await rig.store.load(key)
    return checkpoint.status if checkpoint is not None else None


async def test_the_child_is_started_with_its_row_and_gives_its_result(rig: Rig) -> None:
    saga = outer(Job())
    await rig.executor.start(saga)
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.PARKED
    assert await status(rig, INNER) is Status.RUNNING
    assert await rig.states(saga.key) == ["done", "running", "pending"]
    await settle(rig)
    driven = await rig.executor.drive(saga.key)
    assert driven.outcome is Outcome.DONE
    inner = next(step for name, step in Outer.steps.items() if name == "inner")
    assert driven.result is not None
    result = driven.result.of(inner)
    assert isinstance(result, SagaResult)
    assert sorted(result.results) == ["b", "c"]
    assert rig.peer.log == ["+s/a", "+s.inner/b", "+s.inner/c", "+s/d"]


async def test_a_child_that_fails_has_undone_itself_and_fails_the_step(rig: Rig) -> None:
    saga = outer(Job(fails=frozenset({"c"})))
    await rig.executor.start(saga)
    await settle(rig)
    driven = await rig.executor.drive(saga.key)
    assert driven.status is Status.FAILED
    assert "work s.inner failed" in str(driven.error)
    assert rig.peer.log == ["+s/a", "+s.inner/b", "+s.inner/c", "-s.inner/c", "-s.inner/b", "-s/a"]


async def test_a_child_under_way_is_cancelled_with_its_parent(rig: Rig) -> None:
    saga = outer(Job(waits=frozenset({"c"})))
    await rig.executor.start(saga)
    await rig.executor.drive(saga.key)
    await rig.executor.drive(INNER)
    await rig.operator.request_cancel(saga.key)
    await settle(rig)
    assert (await status(rig, saga.key), await status(rig, INNER)) == (Status.CANCELLED, Status.CANCELLED)
    assert not rig.peer.things


async def test_a_child_that_is_done_is_reversed(rig: Rig) -> None:
    saga = outer(Job(fails=frozenset({"d"})))
    await rig.executor.start(saga)
    await settle(rig)
    assert await status(rig, saga.key) is Status.FAILED
    assert (await status(rig, INNER), await status(rig, REVERSAL)) == (Status.DONE, Status.DONE)
    assert rig.peer.log[-5:] == ["+s/d", "-s/d", "-s.inner/c", "-s.inner/b", "-s/a"]
    assert await rig.states(REVERSAL) == ["compensated", "compensated"]


async def test_a_reversal_that_is_stuck_keeps_the_parent_from_ending_and_all_else_is_undone(rig: Rig) -> None:
    """L-D10: it polls for no child that a person has to mend."""
    rig.shop.answer("compensate b", fail(RejectedError("it is in use")))
    saga = outer(Job(fails=frozenset({"d"})))
    await rig.executor.start(saga)
    await settle(rig)
    assert (await status(rig, saga.key), await status(rig, REVERSAL)) == (Status.STUCK, Status.STUCK)
    assert await rig.states(saga.key) == ["compensated", "compensation_failed", "compensated"]
    assert rig.peer.things == {"s.inner/b"}
    rig.shop.answers.clear()
    await rig.operator.retry(REVERSAL)
    await rig.operator.retry(saga.key)
    await settle(rig)
    assert await status(rig, saga.key) is Status.FAILED
    assert not rig.peer.things


async def test_the_longer_a_child_takes_the_less_often_it_is_looked_at(rig: Rig) -> None:
    rig.shop.answer("execute b", lambda: Wait(timedelta(days=1)))
    saga = outer(Job())
    await rig.executor.start(saga)
    waits = []
    for passed in (timedelta(0), timedelta(minutes=2), timedelta(hours=5)):
        await rig.clock.advance(passed)
        await rig.executor.drive(saga.key)
        driven = await rig.executor.drive(saga.key)
        assert driven.wake_at is not None
        waits.append((driven.wake_at - rig.clock.now()).total_seconds())
    assert waits == [2, 12, 60]


async def test_a_child_that_was_never_started_needs_no_undoing(rig: Rig) -> None:
    saga = outer(Job(fails=frozenset({"a"})))
    await rig.executor.start(saga)
    await settle(rig)
    assert await status(rig, INNER) is None
    assert await rig.states(saga.key) == ["compensated", "pending", "pending"]


async def test_a_saga_with_a_child_is_reversed_as_a_whole(rig: Rig) -> None:
    saga = outer(Job())
    await rig.executor.start(saga)
    with pytest.raises(UsageError, match="is not done"):
        await start_reversal(rig.executor, Outer, "s")
    await settle(rig)
    started = await start_reversal(rig.executor, Outer, "s")
    again = await start_reversal(rig.executor, Outer, "s")
    assert (started.is_new, again.is_new, again.key) == (True, False, started.key)
    await settle(rig)
    assert await status(rig, started.key) is Status.DONE
    assert not rig.peer.things
    assert rig.peer.log[4:] == ["-s/d", "-s.inner/c", "-s.inner/b", "-s/a"]
    with pytest.raises(UsageError, match="can be reversed"):
        await start_reversal(rig.executor, Outer, started.key.id)


async def test_a_reversal_cannot_be_cancelled(rig: Rig) -> None:
    saga = Work.new("s", Job(), steps=["a"])
    await rig.executor.start(saga)
    await settle(rig)
    started = await start_reversal(rig.executor, Work, "s")
    await rig.operator.request_cancel(started.key)
    await settle(rig)
    assert await status(rig, started.key) is Status.DONE
