"""Two drivers meet over one saga, and processes come and go: the one that lost leaves nothing behind (G2, L-S4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.saga.kit import Job, ShopWorld, Work
from tests.unit.saga.snapshots import CloudWorld, backup
from wallet_actions.action import Action
from wallet_actions.testing.interleavings import interleavings
from wallet_actions.testing.schedules import simulate
from wallet_actions.testing.world import World

pytestmark = pytest.mark.timeout(300)


def failing() -> Work:
    return Work.new("s", Job(fails=frozenset({"b"})), steps=["a", "b"])


def group() -> Work:
    return Work.new("s", Job(fails=frozenset({"c"})), steps=["a", ["b", "c"]])


def broken_backup() -> Action[Any, Any, Any]:
    return backup(breaks=True)


@pytest.mark.parametrize(("make", "world"), [(failing, ShopWorld), (group, ShopWorld), (backup, CloudWorld)])
def test_two_drivers_may_meet_in_any_way(make: Callable[[], Action[Any, Any, Any]], world: type[World[Any]]) -> None:
    report = interleavings(make, world, depth=10)
    assert report.is_ok, str(report)
    assert report.explored > 20


@pytest.mark.parametrize(("make", "world"), [(failing, ShopWorld), (group, ShopWorld), (broken_backup, CloudWorld)])
def test_processes_come_and_go(make: Callable[[], Action[Any, Any, Any]], world: type[World[Any]]) -> None:
    report = simulate(make, world, seed=5, count=40)
    assert report.is_ok, str(report)
