"""Sweeps whose processes are killed with SIGKILL (T2)."""

from __future__ import annotations

import functools
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.crash import durable_bank
from tests.crash.durable_bank import (
    BankWorld,
    HangingWorld,
    LeavingWorld,
    PrepaidWorld,
    TalkingWorld,
    forgetful,
    from_the_world,
    top_up,
)
from wallet_actions.errors import UsageError
from wallet_actions.testing.life import CrashKind, Life, Plan
from wallet_actions.testing.nursery import ChildError, Nursery, reference_to
from wallet_actions.testing.sweep import Course, sweep
from wallet_actions.testing.world import World

pytestmark = pytest.mark.anyio

SIGKILL = [CrashKind.SIGKILL]


async def test_a_process_killed_anywhere_twice_is_recovered() -> None:
    """L-S1, G3: the same boundaries as in one process, and all pairs of them."""
    courses: list[Course] = []
    report = await sweep(
        top_up, PrepaidWorld, crashes=SIGKILL, on_case=courses.append, has_faults=False, has_incidents=False
    )
    assert report.is_ok, report
    at_once = await sweep(top_up, PrepaidWorld, has_pairs=False, has_faults=False, has_incidents=False)
    assert [str(b) for b in report.boundaries] == [str(b) for b in at_once.boundaries]
    assert any(b.line for b in report.boundaries)
    singles = {str(course.case) for course in courses if len(course.case.plans) == 1}
    assert singles >= {f"sigkill@{at}" for at in range(1, len(report.boundaries) + 1)}
    pairs = [course for course in courses if len(course.case.plans) == 2]
    assert len(pairs) > len(report.boundaries)
    assert all(course.lives[1].is_over for course in pairs), "a pair in which nobody died twice proves nothing"


async def test_it_finds_what_a_kill_does() -> None:
    report = await sweep(forgetful, BankWorld, crashes=SIGKILL, has_faults=False, has_pairs=False, has_incidents=False)
    assert not report.is_ok
    assert "q had 2 effects at the peer" in str(report)
    assert 'WALLET_ACTIONS_CASE="sigkill@' in str(report)


async def test_one_case_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_ACTIONS_CASE", "sigkill@3+sigkill@2")
    courses: list[Course] = []
    report = await sweep(top_up, BankWorld, on_case=courses.append)
    assert report.is_ok
    assert [str(course.case) for course in courses] == ["sigkill@3+sigkill@2"]
    assert [life.is_over for life in courses[0].lives] == [True, True, False]
    assert [len(life.boundaries) for life in courses[0].lives[:2]] == [3, 2]
    monkeypatch.setenv("WALLET_ACTIONS_CASE", "sigkill@x")
    with pytest.raises(UsageError, match="is not a case such as"):
        await sweep(top_up, BankWorld)
    with pytest.raises(UsageError, match="neither a crash, nor a fault"):
        await sweep(top_up, BankWorld, only="earthquake@1")


async def test_the_parents_arguments_stay_with_it_and_the_actions_may_come_from_the_world() -> None:
    world = functools.partial(BankWorld, greeting="from the parent")
    report = await sweep(from_the_world, world, crashes=SIGKILL, has_faults=False, has_pairs=False, has_incidents=False)
    assert report.is_ok, report
    at_once = await sweep(from_the_world, world, has_faults=False, has_pairs=False)
    assert at_once.is_ok, at_once


async def test_what_a_process_prints_is_searched_for_secrets() -> None:
    report = await sweep(top_up, TalkingWorld, crashes=SIGKILL, only="sigkill@1")
    assert "secret in: printed ***" in str(report)


async def test_a_process_that_hangs_or_leaves_is_told(tmp_path: Path) -> None:
    for world, deadline, message in ((HangingWorld, 2, "hung for 2 s"), (LeavingWorld, 60, "status")):
        async with Nursery(world, top_up, deadline=timedelta(seconds=deadline)) as nursery:
            here = nursery.world()
            try:
                async with here.store() as store:
                    await here.prepare(store)
                (here.folder / "started").touch()
                with pytest.raises(ChildError, match=message):
                    await here.live(Life(Plan()), [])
            finally:
                await here.close()


def local() -> Any:
    def made() -> Any: ...

    return made


class NotDurable(World[None]):
    def wallet(self, life: Life, store: object) -> None: ...


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (lambda: top_up(), "at the top of a module"),
        (local(), "at the top of a module"),
        (7, "with a name"),
    ],
)
async def test_what_cannot_be_imported_is_refused(thing: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        await sweep(thing, BankWorld, crashes=SIGKILL)


async def test_a_name_that_means_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    original = durable_bank.top_up
    monkeypatch.setattr(durable_bank, "top_up", forgetful)
    with pytest.raises(UsageError, match="is something else"):
        reference_to(original, "a function")
    monkeypatch.delattr(durable_bank, "top_up")
    with pytest.raises(UsageError, match=re.escape("has no attribute 'top_up'")):
        reference_to(original, "a function")


async def test_a_world_in_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a DurableWorld, and NotDurable is none"):
        await sweep(top_up, NotDurable, crashes=SIGKILL)


async def test_what_only_this_process_can_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Nursery(BankWorld, top_up) as nursery:
        monkeypatch.setitem(nursery._setup, "make", "tests.crash.durable_bank:gone")
        again = nursery
    with pytest.raises(UsageError, match="another process cannot import what it needs: AttributeError"):
        await again.__aenter__()
