"""Rollbacks crash at each boundary: after a deadline, with waits on the way back, and where something cannot be undone.

What is stuck holds nothing but what its peer keeps, with everything else undone, and never ends as if all were well
(L-D9, L-D10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from tests.unit.saga.kit import A, Job, Made, Making, Shop, ShopWorld, Work, whole_or_nothing
from tests.unit.saga.nested import Inner, Outer
from wallet_actions.action import Action
from wallet_actions.checkpoint import Status
from wallet_actions.retry import QuadraticWait, RetryPolicy
from wallet_actions.saga import Context, RowState, Saga, Wait, ledger, list_sagas
from wallet_actions.testing import oracles
from wallet_actions.testing.life import CrashKind
from wallet_actions.testing.sweep import sweep

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


class Leisurely(Making, name="leisurely"):
    """Waits while it is done and while it is undone, and says where it stands in its memo."""

    retry = RetryPolicy(wait=QuadraticWait(timedelta(seconds=3)))

    async def execute(self, context: Context[Shop, Job]) -> Made | Wait:
        made = await super().execute(context)
        return made if context.memo == "made" else Wait(timedelta(seconds=7), memo="made")

    async def compensate(self, context: Context[Shop, Job]) -> Wait | None:
        await super().compensate(context)
        return None if context.memo == "unmade" else Wait(timedelta(seconds=7), memo="unmade")


class Endless(Making, name="endless"):
    """Is never ready; it has failed by its deadline."""

    deadline = timedelta(minutes=1)

    async def execute(self, context: Context[Shop, Job]) -> Made | Wait:
        await super().execute(context)
        return Wait(timedelta(seconds=25))


class Late(Saga[Shop, Job], kind="late", steps=[A, Leisurely, Endless]): ...


class Deep(Outer, kind="deep", steps=[A, Inner, Leisurely]): ...


class StuckWorld(ShopWorld):
    """One in which sagas may be stuck: `whole_or_nothing` says of what such a one consists."""

    kinds: ClassVar[Sequence[type[Action[Any, Any, Any]]]] = [Work, Late, Deep]
    ends: ClassVar[Mapping[str, Status]] = {}

    async def check(self, said: Iterable[str] = ()) -> list[str]:
        async with self.store() as store:
            found = (
                await whole_or_nothing(store, self.peer)
                + await oracles.history_complete(store)
                + await oracles.terminal_is_final(store)
                + oracles.once(self.effects())
            )
            for info in await list_sagas(store):
                states = {row.state for row in await ledger(store, info.key)}
                if (info.status is Status.STUCK) != (RowState.COMPENSATION_FAILED in states):
                    found.append(f"{info.key} is {info.status.value} with {sorted(states)}")
        return found


def late() -> Late:
    return Late.new("s", Job(), steps=["a", ["leisurely", "endless"]])


def stuck() -> Work:
    return Work.new("s", Job(fails=frozenset({"c"}), sticks=frozenset({"a"})), steps=["a", "b", "c"])


def stuck_group() -> Work:
    return Work.new("s", Job(fails=frozenset({"d"}), sticks=frozenset({"b", "d"})), steps=["a", ["b", "c"], "d"])


def deep() -> Deep:
    """A group of a saga and a step; the saga is done, then reversed, and its reversal cannot undo all."""
    return Deep.new("s", Job(sticks=frozenset({"b"})), steps=["a", ["inner", "leisurely"]])


@pytest.mark.parametrize("make", [late, stuck, stuck_group])
async def test_a_rollback_goes_on_from_every_crash(make: Callable[[], Action[Any, Any, Any]]) -> None:
    report = await sweep(make, StuckWorld, has_pairs=False)
    assert report.is_ok, str(report)
    assert {"forward", "backward"} <= {boundary.step for boundary in report.boundaries}
    pairs = await sweep(make, StuckWorld, crashes=[CrashKind.EXCEPTION], sample=60, seed=3)
    assert pairs.is_ok, str(pairs)


async def test_so_does_that_of_a_saga_in_a_group() -> None:
    report = await sweep(deep, StuckWorld, sample=150, seed=5)
    assert report.is_ok, str(report)
