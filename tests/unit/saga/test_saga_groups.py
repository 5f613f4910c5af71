"""Groups: steps that are under way at once, each result on disk as soon as it is there."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.unit.saga.kit import SECOND, A, B, Job, Made, Rig, Work, fail
from wallet_actions.checkpoint import Status
from wallet_actions.errors import ConfigurationError, RejectedError
from wallet_actions.outcome import Outcome
from wallet_actions.saga import Wait

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig().open() as rig:
        yield rig


async def test_steps_of_a_group_are_under_way_at_once(rig: Rig) -> None:
    meeting = asyncio.Barrier(2)

    async def meet() -> Made:
        async with asyncio.timeout(5):
            await meeting.wait()
        return Made(key="k")

    rig.shop.answer("execute b", meet)
    rig.shop.answer("execute c", meet)
    saga = Work.new("s", Job(), steps=["a", ["b", "c"], "d"])
    await rig.executor.start(saga)
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE
    assert rig.shop.calls[0] == "execute a"
    assert rig.shop.calls[-1] == "execute d"


async def test_after_a_crash_only_what_is_not_on_disk_is_executed_again(rig: Rig) -> None:
    """G3: b hangs when the process dies; a, which was done meanwhile, is not called again."""
    hanging = asyncio.Event()

    async def hang() -> Made:
        hanging.set()
        await asyncio.Event().wait()
        raise AssertionError

    rig.shop.answer("execute b", hang, lambda: Made(key="k"))
    saga = Work.new("s", Job(), steps=[["a", "b"]])
    await rig.executor.start(saga)
    is_kept = asyncio.Event()
    rig.executor.observe(lambda event: is_kept.set() if event.version == 2 else None)
    driving = asyncio.create_task(rig.executor.drive(saga.key))
    async with asyncio.timeout(5):
        await hanging.wait()
        await is_kept.wait()
    assert await rig.states(saga.key) == ["done", "running"]
    driving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driving
    rig.restart()
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE
    assert rig.shop.calls == ["execute a", "execute b", "execute b"]


async def test_a_drive_that_is_superseded_lets_go_of_the_calls_under_way(rig: Rig) -> None:
    """G2, L-S4."""
    ended = asyncio.Event()

    async def hang() -> Made:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async def steal() -> Made:
        await rig.operator.pause(saga.key)
        return Made(key="k")

    rig.shop.answer("execute a", steal)
    rig.shop.answer("execute b", hang)
    saga = Work.new("s", Job(), steps=[["a", "b"]])
    await rig.executor.start(saga)
    result = await rig.executor.drive(saga.key)
    assert result.outcome is Outcome.SUPERSEDED
    del result
    gc.collect()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_failure_waits_for_the_others_then_all_is_undone(rig: Rig) -> None:
    saga = Work.new("s", Job(fails=frozenset({"b"}), waits=frozenset({"d"})), steps=["a", ["b", "c", "d"]])
    await rig.executor.start(saga)
    assert (await rig.executor.drive(saga.key)).status is Status.FAILED
    assert not rig.peer.things
    assert [call for call in rig.shop.calls if call.startswith("compensate")] == [
        "compensate d",
        "compensate c",
        "compensate b",
        "compensate a",
    ]


async def test_each_waits_for_its_own_time(rig: Rig) -> None:
    rig.shop.answer("execute a", lambda: Wait(2 * SECOND), lambda: Made(key="k"))
    rig.shop.answer("execute b", lambda: Wait(7 * SECOND), lambda: Made(key="k"))
    saga = Work.new("s", Job(), steps=[["a", "b"]])
    await rig.executor.start(saga)
    assert (await rig.executor.drive(saga.key)).wake_at == rig.clock.now() + 2 * SECOND
    await rig.clock.advance(2 * SECOND)
    assert (await rig.executor.drive(saga.key)).wake_at == rig.clock.now() + 5 * SECOND
    assert await rig.states(saga.key) == ["done", "running"]
    await rig.clock.advance(5 * SECOND)
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE
    assert rig.shop.calls == ["execute a", "execute b", "execute a", "execute b"]


async def test_a_fault_of_configuration_does_not_lose_what_its_neighbour_did(rig: Rig) -> None:
    rig.shop.answer("execute a", fail(ConfigurationError("the token has expired")))
    saga = Work.new("s", Job(), steps=[["a", "b"]])
    await rig.executor.start(saga)
    driven = await rig.executor.drive(saga.key)
    assert driven.outcome is Outcome.PARKED
    assert isinstance(driven.error, ConfigurationError)
    assert await rig.states(saga.key) == ["running", "done"]
    rig.shop.answers.clear()
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE
    assert rig.shop.calls.count("execute b") == 1


async def test_a_call_that_hangs_is_cut_off_at_its_deadline() -> None:
    class Hasty(A, name="hasty"):
        deadline = timedelta(milliseconds=20)

    class Rush(Work, kind="rush", steps=[Hasty, B]): ...

    async with Rig(Rush).open() as rig:
        rig.shop.answer("execute hasty", lambda: asyncio.Event().wait())
        saga = Rush.new("s", Job(), steps=[["hasty", "b"]])
        await rig.executor.start(saga)
        driven = await rig.executor.drive(saga.key)
        assert driven.outcome is Outcome.FAILED
        assert "hasty was not finished by its deadline" in str(driven.error)
        assert await rig.states(saga.key) == ["compensated", "compensated"]


async def test_a_cancel_waits_for_the_calls_under_way(rig: Rig) -> None:
    """What is still on its way to the peer would land after it was undone."""
    asked = asyncio.Event()

    async def ask() -> Made:
        await rig.operator.request_cancel(saga.key)
        asked.set()
        return Made(key=await rig.peer.make("s/a"))

    async def slow() -> Made:
        await asked.wait()
        for _ in range(200):
            await asyncio.sleep(0)
        return Made(key=await rig.peer.make("s/b"))

    rig.shop.answer("execute a", ask)
    rig.shop.answer("execute b", slow)
    saga = Work.new("s", Job(), steps=[["a", "b"], "c"])
    await rig.executor.start(saga)
    assert (await rig.executor.drive(saga.key)).status is Status.CANCELLED
    assert rig.peer.log == ["+s/a", "+s/b", "-s/b", "-s/a"]


async def test_two_of_a_group_fail_and_both_are_told(rig: Rig) -> None:
    rig.shop.answer("execute a", fail(RejectedError("no a")))
    rig.shop.answer("execute b", fail(RejectedError("no b")))
    saga = Work.new("s", Job(), steps=[["a", "b"]])
    await rig.executor.start(saga)
    driven = await rig.executor.drive(saga.key)
    assert "the step a failed: no a; the step b failed: no b" in str(driven.error)


async def test_one_that_waits_for_nothing_does_not_loop_while_another_is_under_way(rig: Rig) -> None:
    """G8."""
    is_free = asyncio.Event()

    async def slow() -> Made:
        for _ in range(200):
            await asyncio.sleep(0)
        is_free.set()
        return Made(key="k")

    rig.shop.answer("execute a", lambda: Wait(timedelta(0)))
    rig.shop.answer("execute b", slow)
    saga = Work.new("s", Job(), steps=[["a", "b"]])
    await rig.executor.start(saga)
    driven = await rig.executor.drive(saga.key)
    assert driven.outcome is Outcome.PARKED
    assert is_free.is_set()
    assert rig.shop.calls == ["execute a", "execute b"]
