"""The course of a saga: forward, back, parked, cancelled, stuck; and what its ledger says at each moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.unit.saga.kit import SECOND, A, B, Job, Made, Rig, Work, fail, results
from wallet_actions.checkpoint import Status
from wallet_actions.errors import ConfigurationError, InvariantError, RejectedError, TransientError
from wallet_actions.outcome import Outcome
from wallet_actions.saga import Wait

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig().open() as rig:
        yield rig


async def test_all_steps_in_order_and_their_results(rig: Rig) -> None:
    saga = Work.new("s", Job(), steps=["a", "b", "c"])
    await rig.executor.start(saga)
    assert await rig.states(saga.key) == ["pending"] * 3
    driven = await rig.executor.drive(saga.key)
    assert driven.outcome is Outcome.DONE
    assert driven.result is not None
    assert driven.result.of(B) == Made(key="s/b")
    assert results(driven.result) == ["a", "b", "c"]
    assert rig.peer.log == ["+s/a", "+s/b", "+s/c"]
    assert await rig.states(saga.key) == ["done"] * 3


async def test_running_is_on_disk_before_the_first_call(rig: Rig) -> None:
    saga = Work.new("s", Job(), steps=["a", "b"])
    seen: list[list[str]] = []

    async def look() -> Made:
        seen.append(await rig.states(saga.key))
        return Made(key="s/b")

    rig.shop.answer("execute b", look)
    await rig.executor.start(saga)
    await rig.executor.drive(saga.key)
    assert seen == [["done", "running"]]


async def test_a_failure_undoes_in_reverse_what_was_begun_the_failed_step_too(rig: Rig) -> None:
    """L-D10."""
    saga = Work.new("s", Job(fails=frozenset({"c"})), steps=["a", "b", "c", "d"])
    await rig.executor.start(saga)
    driven = await rig.executor.drive(saga.key)
    assert driven.outcome is Outcome.FAILED
    assert driven.status is Status.FAILED
    assert "the step c failed: the peer refuses" in str(driven.error)
    assert rig.peer.log == ["+s/a", "+s/b", "+s/c", "-s/c", "-s/b", "-s/a"]
    assert await rig.states(saga.key) == ["compensated"] * 3 + ["pending"]
    assert [row.error for row in await rig.rows(saga.key)] == ["", "", "the peer refuses", ""]


async def test_a_step_parks_and_finds_its_memo(rig: Rig) -> None:
    saga = Work.new("s", Job(waits=frozenset({"b"})), steps=["a", "b"])
    await rig.executor.start(saga)
    driven = await rig.executor.drive(saga.key)
    assert driven.outcome is Outcome.PARKED
    assert driven.wake_at == rig.clock.now() + 5 * SECOND
    assert await rig.states(saga.key) == ["done", "running"]
    assert (await rig.rows(saga.key))[1].memo == {"made": "s/b"}
    await rig.clock.advance(5 * SECOND)
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE


async def test_a_saga_that_is_woken_early_looks_at_once(rig: Rig) -> None:
    saga = Work.new("s", Job(waits=frozenset({"a"})), steps=["a"])
    await rig.executor.start(saga)
    await rig.executor.drive(saga.key)
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE


async def test_attempts_are_durable_and_end_in_a_rollback() -> None:
    """L-S10."""

    class Thrice(A, name="thrice"):
        max_attempts = 3

    class Few(Work, kind="few", steps=[Thrice]): ...

    async with Rig(Few).open() as rig:
        rig.shop.answer("execute thrice", fail(TransientError("busy", retry_after=7 * SECOND)))
        saga = Few.new("s", Job())
        await rig.executor.start(saga)
        for attempt in (1, 2):
            rig.restart()
            driven = await rig.executor.drive(saga.key)
            assert driven.outcome is Outcome.PARKED
            assert isinstance(driven.error, TransientError)
            (row,) = await rig.rows(saga.key)
            assert (row.attempts, row.wake_at) == (attempt, rig.clock.now() + 7 * SECOND)
            await rig.clock.advance(7 * SECOND)
        assert (await rig.executor.drive(saga.key)).outcome is Outcome.FAILED
        assert rig.shop.calls.count("execute thrice") == 3
        assert rig.shop.calls[-1] == "compensate thrice"


async def test_a_deadline_counts_from_the_beginning_across_restarts() -> None:
    class Hasty(A, name="hasty"):
        deadline = timedelta(minutes=1)

    class Rush(Work, kind="rush", steps=[Hasty]): ...

    async with Rig(Rush).open() as rig:
        rig.shop.answer("execute hasty", lambda: Wait(40 * SECOND))
        saga = Rush.new("s", Job())
        await rig.executor.start(saga)
        assert (await rig.executor.drive(saga.key)).outcome is Outcome.PARKED
        await rig.clock.advance(40 * SECOND)
        rig.restart()
        assert (await rig.executor.drive(saga.key)).outcome is Outcome.PARKED
        await rig.clock.advance(40 * SECOND)
        driven = await rig.executor.drive(saga.key)
        assert driven.outcome is Outcome.FAILED
        assert "hasty was not finished by its deadline" in str(driven.error)
        assert rig.shop.calls == ["execute hasty", "execute hasty", "compensate hasty"]


async def test_a_step_that_waits_beyond_its_deadline_fails_at_its_deadline() -> None:
    class Hasty(A, name="hasty"):
        deadline = timedelta(minutes=1)

    class Rush(Work, kind="rush", steps=[Hasty]): ...

    async with Rig(Rush).open() as rig:
        rig.shop.answer("execute hasty", lambda: Wait(timedelta(hours=1)))
        saga = Rush.new("s", Job())
        await rig.executor.start(saga)
        assert (await rig.executor.drive(saga.key)).wake_at == rig.clock.now() + timedelta(minutes=1)
        await rig.clock.advance(timedelta(minutes=1))
        assert (await rig.executor.drive(saga.key)).outcome is Outcome.FAILED
        assert rig.shop.calls == ["execute hasty", "compensate hasty"]


async def test_a_foreign_exception_is_no_refusal_within_the_fault_budget(rig: Rig) -> None:
    """L-D6."""
    rig.shop.answer("execute a", fail(KeyError("x")), lambda: Made(key="s/a"))
    saga = Work.new("s", Job(), steps=["a"])
    await rig.executor.start(saga)
    driven = await rig.executor.drive(saga.key)
    assert driven.outcome is Outcome.PARKED
    (row,) = await rig.rows(saga.key)
    assert (row.attempts, row.faults, row.state) == (1, 1, "running")
    assert "'x'" not in row.error
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE


@pytest.mark.parametrize("moment", ["before the first", "while it waits", "after the last"])
async def test_cancel_is_heeded_before_the_next_step(rig: Rig, moment: str) -> None:
    """L-D11."""
    saga = Work.new("s", Job(waits=frozenset({"b"})), steps=["a", "b", "c"])
    await rig.executor.start(saga)
    if moment == "after the last":

        async def ask() -> Made:
            await rig.operator.request_cancel(saga.key)
            return Made(key=await rig.peer.make("s/c"))

        rig.shop.answer("execute c", ask)
        await rig.executor.drive(saga.key)
    if moment == "while it waits":
        await rig.executor.drive(saga.key)
    if moment != "after the last":
        await rig.operator.request_cancel(saga.key)
    driven = await rig.executor.drive(saga.key)
    assert driven.status is Status.CANCELLED
    assert not rig.peer.things
    expected = {
        "before the first": ["pending"] * 3,
        "while it waits": ["compensated", "compensated", "pending"],
        "after the last": ["compensated"] * 3,
    }
    assert await rig.states(saga.key) == expected[moment]


async def test_cancel_is_refused_while_it_rolls_back_and_the_end_says_failed(rig: Rig) -> None:
    rig.shop.answer("compensate a", lambda: Wait(SECOND), lambda: None)
    saga = Work.new("s", Job(fails=frozenset({"b"})), steps=["a", "b"])
    await rig.executor.start(saga)
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.PARKED
    await rig.operator.request_cancel(saga.key)
    assert (await rig.executor.drive(saga.key)).status is Status.FAILED


async def test_a_compensation_that_keeps_failing_is_stuck_and_all_else_is_undone(rig: Rig) -> None:
    """L-D10: never silently done; an operator's retry goes on with what is left."""
    rig.shop.answer("compensate b", fail(RejectedError("it is in use")))
    saga = Work.new("s", Job(fails=frozenset({"d"})), steps=["a", "b", "c", "d"])
    await rig.executor.start(saga)
    driven = await rig.executor.drive(saga.key)
    assert driven.outcome is Outcome.STUCK
    assert isinstance(driven.error, InvariantError)
    assert "all is undone but for b: it is in use" in str(driven.error)
    assert await rig.states(saga.key) == ["compensated", "compensation_failed", "compensated", "compensated"]
    assert rig.peer.things == {"s/b"}

    calls = len(rig.shop.calls)
    await rig.operator.retry(saga.key)
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.STUCK
    rig.shop.answers.clear()
    await rig.operator.retry(saga.key)
    assert (await rig.executor.drive(saga.key)).status is Status.FAILED
    assert rig.shop.calls[calls:] == ["compensate b", "compensate b"]
    assert await rig.states(saga.key) == ["compensated"] * 4


async def test_a_compensation_is_tried_again_with_back_off_before_it_has_failed() -> None:
    class Tried(A, name="tried"):
        compensation_attempts = 2

    class Two(Work, kind="two", steps=[Tried, B]): ...

    async with Rig(Two).open() as rig:
        rig.shop.answer("compensate tried", fail(TransientError("busy")))
        saga = Two.new("s", Job(fails=frozenset({"b"})))
        await rig.executor.start(saga)
        driven = await rig.executor.drive(saga.key)
        assert driven.outcome is Outcome.PARKED
        assert await rig.states(saga.key) == ["compensating", "compensated"]
        assert (await rig.executor.drive(saga.key)).outcome is Outcome.STUCK
        assert await rig.states(saga.key) == ["compensation_failed", "compensated"]


async def test_a_compensation_parks(rig: Rig) -> None:
    rig.shop.answer("compensate a", lambda: Wait(SECOND, memo=[1]), lambda: None)
    saga = Work.new("s", Job(fails=frozenset({"b"})), steps=["a", "b"])
    await rig.executor.start(saga)
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.PARKED
    assert (await rig.rows(saga.key))[0].memo == [1]
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.FAILED


async def test_a_fault_of_configuration_parks_long_and_nothing_is_undone(rig: Rig) -> None:
    rig.shop.answer("execute a", fail(ConfigurationError("the token has expired")), lambda: Made(key="k"))
    saga = Work.new("s", Job(), steps=["a", "b"])
    await rig.executor.start(saga)
    driven = await rig.executor.drive(saga.key)
    assert driven.outcome is Outcome.PARKED
    assert driven.wake_at == rig.clock.now() + timedelta(hours=1)
    assert await rig.states(saga.key) == ["running", "pending"]
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE


async def test_a_broken_rule_is_stuck_and_goes_on_when_told_to(rig: Rig) -> None:
    rig.shop.answer("execute a", fail(InvariantError("impossible")), lambda: Made(key="k"))
    saga = Work.new("s", Job(), steps=["a"])
    await rig.executor.start(saga)
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.STUCK
    await rig.operator.retry(saga.key)
    assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE
