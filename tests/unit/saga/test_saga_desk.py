"""Starting from a list of steps, listing, and reading the ledger with the database alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Self

import pytest

from tests.unit.saga.kit import A, B, Job, Rig, Work
from tests.unit.saga.nested import Outer
from wallet_actions.action import Action, Phase
from wallet_actions.checkpoint import Status
from wallet_actions.coins import ActionKey
from wallet_actions.engine import Engine
from wallet_actions.errors import CheckpointDecodeError, UnknownActionError, UsageError
from wallet_actions.saga import ledger, list_sagas, start_saga
from wallet_actions.store import Write
from wallet_actions.transition import Done, Transition

pytestmark = pytest.mark.anyio


class Idle(Phase): ...


class Plain(Action[object, Idle], kind="plain"):
    @property
    def id(self) -> str:
        return "p"

    async def advance(self, wallet: object) -> Transition[Self]:
        return Done()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig(Work, Outer).open() as rig:
        yield rig


async def test_a_saga_is_started_from_a_list_and_driven_by_an_engine(rig: Rig) -> None:
    async with Engine(rig.store, rig.shop, kinds=[Work]) as engine:
        started = await start_saga(engine, Work, "s", Job(), [A, B], purpose="provision", triggered_by="ops")
        assert started.is_new
        assert sorted((await engine.result(Work, "s")).results) == ["a", "b"]
        assert not (await start_saga(engine, Work, "s", Job(), [A, B])).is_new


async def test_sagas_are_found_by_status_kind_purpose_label_and_who_wanted_them(rig: Rig) -> None:
    purposes = ["provision", "suspend", "offboard", "update", "rollback", "test"]
    for number, purpose in enumerate(purposes):
        await start_saga(
            rig.executor,
            Work,
            f"s-{number}",
            Job(),
            purpose=purpose,
            triggered_by="cron" if number % 2 else "ops",
            labels=[f"customer:{number // 2}"],
        )
    await rig.executor.drive(ActionKey("work", "s-0"))

    async def ids(**chosen: object) -> list[str]:
        return [info.key.id for info in await list_sagas(rig.store, **chosen)]  # type: ignore[arg-type]

    assert await ids() == [f"s-{number}" for number in range(6)]
    assert await ids(purpose="offboard") == ["s-2"]
    assert await ids(label="customer:1") == ["s-2", "s-3"]
    assert await ids(label="customer:1", triggered_by="cron") == ["s-3"]
    assert await ids(statuses=[Status.DONE]) == ["s-0"]
    assert await ids(kinds=["outer"]) == []
    page = await list_sagas(rig.store, limit=4)
    assert [info.key.id for info in await list_sagas(rig.store, after=page[-1].checkpoint.row)] == ["s-4", "s-5"]
    (first,) = await list_sagas(rig.store, statuses=[Status.DONE])
    assert (first.purpose, first.triggered_by, first.labels, first.steps, first.status) == (
        "provision",
        "ops",
        frozenset({"customer:0"}),
        {"done": 5},
        Status.DONE,
    )


async def test_the_ledger_of_what_is_no_saga_unknown_or_pruned(rig: Rig) -> None:
    with pytest.raises(UnknownActionError):
        await ledger(rig.store, ActionKey("work", "none"))
    saga = Work.new("s", Job(), steps=["a"])
    await rig.executor.start(saga)
    await rig.executor.drive(saga.key)
    await rig.clock.advance(timedelta(days=2))
    await rig.operator.prune(timedelta(days=1))
    assert await ledger(rig.store, saga.key) == ()
    assert await list_sagas(rig.store) == []
    assert (await rig.executor.result(Work, "s")).of(A).key == "s/a"
    with pytest.raises(UsageError, match="has no step b"):
        (await rig.executor.result(Work, "s")).of(B)


async def test_a_ledger_of_other_code_is_not_guessed_at(rig: Rig) -> None:
    """G9."""
    saga = Work.new("s", Job(), steps=["a"])
    await rig.executor.start(saga)
    checkpoint = await rig.store.load(saga.key)
    assert checkpoint is not None
    assert checkpoint.state is not None
    newer = replace(checkpoint, version=1, state=checkpoint.state.replace('"pending"', '"melting"'))
    await rig.store.save(Write(0, newer, "next"))
    with pytest.raises(CheckpointDecodeError):
        await ledger(rig.store, saga.key)
    driven = await rig.executor.drive(saga.key)
    assert driven.status is Status.QUARANTINED
    assert rig.shop.calls == []


async def test_an_executor_looks_through_its_own_sagas_alone(rig: Rig) -> None:
    await rig.executor.start(Work.new("s", Job(), steps=["a"]))
    assert [info.key.id for info in await list_sagas(rig.executor)] == ["s"]
    assert await list_sagas(rig.executor, kinds=["plain"]) == []
    rig.restart(Outer, Plain)
    assert await list_sagas(rig.executor) == []
    (info,) = await list_sagas(rig.store)
    assert (info.plan, info.reason, info.reverses) == ((("a",),), "", None)


class Forward(Phase): ...


class Moving(Action[object, Forward], kind="moving"):
    """No saga, with a phase that is called like one of theirs."""

    @property
    def id(self) -> str:
        return "m"

    async def advance(self, wallet: object) -> Transition[Self]:
        return Done()


async def test_what_is_no_saga_is_not_listed_and_has_no_ledger() -> None:
    async with Rig(Plain, Moving, Work).open() as rig:
        await rig.executor.start(Plain(phase=Idle()))
        await rig.executor.start(Moving(phase=Forward()))
        assert await list_sagas(rig.store) == []
        with pytest.raises(UsageError, match="is no saga"):
            await ledger(rig.store, ActionKey("plain", "p"))
