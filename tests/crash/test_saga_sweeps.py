"""Sagas crash at each boundary and each pair of them, meet each fault of each call, and are cancelled at each boundary.

In the end each is whole or nothing is left of it, in any case (G3, L-D10, L-D11).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from tests.unit.saga.kit import Job, ShopWorld, Work
from tests.unit.saga.nested import Outer, outer
from wallet_actions.action import Action
from wallet_actions.testing.life import FaultKind
from wallet_actions.testing.sweep import sweep

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


class NestedWorld(ShopWorld):
    kinds: ClassVar[Sequence[type[Action[Any, Any, Any]]]] = [Work, Outer]


def linear() -> Work:
    return Work.new("s", Job(waits=frozenset({"b"})), steps=["a", "b", "c"])


def failing() -> Work:
    return Work.new("s", Job(fails=frozenset({"c"})), steps=["a", "b", "c", "d"])


def group() -> Work:
    return Work.new("s", Job(waits=frozenset({"c"})), steps=["a", ["b", "c"], "d"])


def failing_group() -> Work:
    return Work.new("s", Job(fails=frozenset({"c"})), steps=["a", ["b", "c"]])


@pytest.mark.parametrize("make", [linear, failing, group, failing_group])
async def test_a_saga_is_whole_or_nothing_is_left(make: Callable[[], Work]) -> None:
    report = await sweep(make, ShopWorld)
    assert report.is_ok, str(report)
    assert report.cases > 500


@pytest.mark.parametrize("fails", ["", "c", "d"])
async def test_so_is_one_with_another_as_its_step(fails: str) -> None:
    def make() -> Action[Any, Any, Any]:
        return outer(Job(fails=frozenset({fails})))

    report = await sweep(make, NestedWorld, sample=300, seed=7)
    assert report.is_ok, str(report)
    assert FaultKind.ANSWER_LOST in NestedWorld.faults
