"""Wrong types, missing classes, bad plans: one clear error, nothing begun, nothing lost, and on it goes once mended."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from tests.unit.saga.kit import A, B, C, Job, Made, Rig, Shop, Work, fail
from wallet_actions.checkpoint import Status
from wallet_actions.errors import ConfigurationError, InvariantError, UsageError
from wallet_actions.outcome import Outcome
from wallet_actions.saga import Context, Record, Saga, Step, Wait

pytestmark = pytest.mark.anyio


class Old(Saga[Shop, Job], kind="order", steps=[A, B, C]): ...


class WithoutB(Saga[Shop, Job], kind="order", steps=[A, C]): ...


class NewB(B, name="better", former_names=["b"]): ...


class Renamed(Saga[Shop, Job], kind="order", steps=[A, NewB, C]): ...


async def test_a_step_that_is_gone_after_an_upgrade_begins_nothing_and_goes_on_once_it_is_back() -> None:
    async with Rig(Old).open() as rig:
        saga = Old.new("s", Job())
        await rig.executor.start(saga)
        rig.restart(WithoutB)
        driven = await rig.executor.drive(saga.key)
        assert driven.outcome is Outcome.PARKED
        assert isinstance(driven.error, ConfigurationError)
        assert "the step 'b' is not registered" in str(driven.error)
        assert rig.shop.calls == []
        assert await rig.states(saga.key) == ["pending"] * 3
        rig.restart(Old)
        await rig.operator.retry(saga.key)
        assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE


async def test_a_compensation_whose_class_is_gone_is_never_skipped() -> None:
    async with Rig(Old).open() as rig:
        rig.shop.answer("compensate c", lambda: Wait(Old.retry.cap), lambda: None)
        saga = Old.new("s", Job(fails=frozenset({"c"})))
        await rig.executor.start(saga)
        assert (await rig.executor.drive(saga.key)).outcome is Outcome.PARKED
        rig.restart(WithoutB)
        driven = await rig.executor.drive(saga.key)
        assert isinstance(driven.error, ConfigurationError)
        assert driven.outcome is Outcome.PARKED
        assert rig.peer.things >= {"s/a", "s/b"}
        rig.restart(Renamed)
        assert (await rig.executor.drive(saga.key)).status is Status.FAILED
        assert not rig.peer.things & {"s/a", "s/b"}
        assert rig.shop.calls[-2:] == ["compensate b", "compensate a"]


async def test_a_renamed_step_answers_to_its_former_name() -> None:
    async with Rig(Old).open() as rig:
        rig.shop.answer("execute c", lambda: Wait(Old.retry.cap), lambda: Made(key="k"))
        saga = Old.new("s", Job())
        await rig.executor.start(saga)
        await rig.executor.drive(saga.key)
        rig.restart(Renamed)
        driven = await rig.executor.drive(saga.key)
        assert driven.outcome is Outcome.DONE
        assert driven.result is not None
        assert driven.result.of(NewB) == Made(key="s/b")
        assert [group[0] for group in Renamed.new("t", Job()).plan] == ["a", "better", "c"]


class Unsaid(B, name="other"): ...


class Misnamed(Saga[Shop, Job], kind="order", steps=[A, Unsaid, C]): ...


class Narrow(Record):
    colour: str


class Narrowed(Saga[Shop, Narrow], kind="order", steps=[A, B, C]): ...  # another input


async def test_a_step_that_changes_its_name_is_missed_and_goes_on_once_it_says_so() -> None:
    async with Rig(Old).open() as rig:
        rig.shop.answer("execute a", lambda: Wait(Old.retry.cap), lambda: Made(key="s/a"))
        saga = Old.new("s", Job())
        await rig.executor.start(saga)
        await rig.executor.drive(saga.key)
        before = await rig.states(saga.key)
        rig.restart(Misnamed)
        driven = await rig.executor.drive(saga.key)
        assert driven.outcome is Outcome.PARKED
        assert "the step 'b' is not registered" in str(driven.error)
        assert (rig.shop.calls, await rig.states(saga.key)) == (["execute a"], before)
        rig.restart(Renamed)
        await rig.operator.retry(saga.key)
        assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE


async def test_a_saga_whose_input_this_code_cannot_read_is_kept_and_goes_on_with_code_that_can() -> None:
    """G9, L-U2."""
    async with Rig(Old).open() as rig:
        saga = Old.new("s", Job())
        await rig.executor.start(saga)
        rig.restart(Narrowed)
        driven = await rig.executor.drive(saga.key)
        assert driven.status is Status.QUARANTINED
        assert rig.shop.calls == []
        assert await rig.states(saga.key) == ["pending"] * 3
        rig.restart(Old)
        assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE


async def test_a_wrong_type_parks_and_the_step_is_executed_again_once_mended() -> None:
    async with Rig().open() as rig:
        rig.shop.answer("execute b", lambda: 7)
        saga = Work.new("s", Job(), steps=["a", "b"])
        await rig.executor.start(saga)
        driven = await rig.executor.drive(saga.key)
        assert driven.outcome is Outcome.PARKED
        assert isinstance(driven.error, ConfigurationError)
        assert "the step b returned what is of type int, and it declares Made" in str(driven.error)
        assert await rig.states(saga.key) == ["done", "running"]
        rig.shop.answers.clear()
        assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE


async def test_a_compensation_that_returns_a_value_parks() -> None:
    async with Rig().open() as rig:
        rig.shop.answer("compensate a", lambda: True, lambda: None)
        saga = Work.new("s", Job(fails=frozenset({"b"})), steps=["a", "b"])
        await rig.executor.start(saga)
        driven = await rig.executor.drive(saga.key)
        assert isinstance(driven.error, ConfigurationError)
        assert await rig.states(saga.key) == ["compensating", "compensated"]
        assert (await rig.executor.drive(saga.key)).status is Status.FAILED


@pytest.mark.parametrize("wait", [Wait(5), Wait(Old.retry.cap, memo=object())])  # type: ignore[arg-type]
async def test_a_wait_that_cannot_be_kept_parks(wait: Wait) -> None:
    async with Rig().open() as rig:
        rig.shop.answer("execute a", lambda: wait, lambda: Made(key="k"))
        saga = Work.new("s", Job(), steps=["a"])
        await rig.executor.start(saga)
        driven = await rig.executor.drive(saga.key)
        assert isinstance(driven.error, ConfigurationError)
        assert (await rig.executor.drive(saga.key)).outcome is Outcome.DONE


async def test_a_result_that_new_code_cannot_read_parks_who_asks_for_it() -> None:
    class Other(Record):
        number: int

    class Changed(Step[Shop, Job, Other], name="a"):
        async def execute(self, context: Context[Shop, Job]) -> Other:
            raise AssertionError

        async def compensate(self, context: Context[Shop, Job]) -> None: ...

    class Asking(Step[Shop, Job, Made], name="b"):
        async def execute(self, context: Context[Shop, Job]) -> Made:
            return Made(key=str(context.result(Changed).number))

        async def compensate(self, context: Context[Shop, Job]) -> None: ...

    class New(Saga[Shop, Job], kind="order", steps=[Changed, Asking, C]): ...

    async with Rig(Old).open() as rig:
        rig.shop.answer("execute b", lambda: Wait(Old.retry.cap))
        saga = Old.new("s", Job())
        await rig.executor.start(saga)
        await rig.executor.drive(saga.key)
        rig.restart(New)
        driven = await rig.executor.drive(saga.key)
        assert isinstance(driven.error, ConfigurationError)
        assert "what the step a returned cannot be read by this code" in str(driven.error)


async def test_asking_for_the_result_of_a_later_step_is_a_bug() -> None:
    class Early(Step[Shop, Job, Made], name="early"):
        async def execute(self, context: Context[Shop, Job]) -> Made:
            return context.result(A)

        async def compensate(self, context: Context[Shop, Job]) -> None:
            assert context.get(A) is None

    class Wrong(Saga[Shop, Job], kind="wrong", steps=[Early, A]): ...

    async with Rig(Wrong).open() as rig:
        await rig.executor.start(Wrong.new("s", Job()))
        driven = await rig.executor.drive(Wrong.new("s", Job()).key)
        assert driven.outcome is Outcome.STUCK
        assert isinstance(driven.error, InvariantError)


class Loose(BaseModel):
    name: str = ""


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([], "at least one step"),
        ([[]], "at least one step"),
        (["a", "x"], "has no step 'x'"),
        (["a", ["b", "a"]], "comes once in a plan: a"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_at_the_start(steps: Any, error: str) -> None:
    with pytest.raises(UsageError, match=error):
        Work.new("s", Job(), steps=steps)


def test_an_input_that_can_change_is_refused() -> None:
    with pytest.raises(UsageError, match="not frozen"):
        Saga[Shop, Loose].new("s", Loose())


def test_classes_that_cannot_be_steps_are_refused() -> None:
    with pytest.raises(UsageError, match="needs a name"):

        class Nameless(Saga[Shop, Job], kind="x", steps=[type("N", (A,), {"name": ""})]): ...

    with pytest.raises(UsageError, match="two steps are called 'a'"):

        class Twice(Saga[Shop, Job], kind="x", steps=[A, A]): ...

    with pytest.raises(UsageError, match="derived from Step"):

        class Foreign(Saga[Shop, Job], kind="x", steps=[Made]): ...

    class Untyped(Step, name="u"):  # type: ignore[type-arg]
        async def execute(self, context: Any) -> None: ...
        async def compensate(self, context: Any) -> None: ...

    with pytest.raises(UsageError, match="needs its types"):

        class Unclear(Saga[Shop, Job], kind="x", steps=[Untyped]): ...


async def test_a_wallet_without_a_clock_is_a_fault_of_configuration() -> None:
    async with Rig().open() as rig:
        rig.shop.clock = None  # type: ignore[assignment]
        saga = Work.new("s", Job(), steps=["a"])
        await rig.executor.start(saga)
        driven = await rig.executor.drive(saga.key)
        assert isinstance(driven.error, ConfigurationError)
        assert "wants a wallet with a `clock`" in str(driven.error)


async def test_secrets_of_errors_and_results_are_not_told() -> None:
    async with Rig().open() as rig:
        rig.shop.answer("execute b", fail(ValueError("hunter2")))
        rig.shop.answer("execute a", lambda: Made(key="hunter2"))
        saga = Work.new("s", Job(), steps=["a", "b"])
        await rig.executor.start(saga)
        driven = await rig.executor.drive(saga.key)
        assert "hunter2" not in repr(await rig.rows(saga.key)) + repr(driven) + repr(driven.action)
