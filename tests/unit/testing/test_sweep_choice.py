"""Which cases a sweep tries, and where what it starts comes from."""

from __future__ import annotations

import pytest

from tests.crash.durable_bank import BankWorld, TopUp, Unpaid, top_up
from wallet_actions.testing.life import CrashKind
from wallet_actions.testing.sweep import Course, sweep

pytestmark = pytest.mark.anyio


async def chosen(seed: int, sample: int | None = 8) -> list[str]:
    courses: list[Course] = []
    report = await sweep(top_up, BankWorld, sample=sample, seed=seed, on_case=courses.append)
    assert report.is_ok, report
    assert report.cases == len(courses)
    return [str(course.case) for course in courses]


async def test_a_sample_is_what_its_seed_says() -> None:
    first = await chosen(1)
    assert await chosen(1) == first
    assert await chosen(2) != first
    assert len([case for case in first if "+" in case or "&" in case]) >= 2, "half of them are of two mishaps"


async def test_a_plan_tells_how_many_there_are() -> None:
    planned: list[int] = []
    tried: list[Course] = []
    report = await sweep(
        top_up,
        BankWorld,
        crashes=[CrashKind.EXCEPTION],
        has_pairs=False,
        has_incidents=False,
        on_plan=planned.append,
        on_case=tried.append,
    )
    assert sum(planned) == len(tried) == report.cases


async def made_of(world: BankWorld) -> TopUp:
    """Asks the world, as for a quote."""
    assert (world.folder / "greeting").exists(), "it was not prepared yet"
    await world.bank.paid_at("another")
    return TopUp(quote="q", phase=Unpaid())


async def made_of_nothing() -> list[TopUp]:
    return [TopUp(quote="q", phase=Unpaid())]


async def test_what_is_started_may_come_from_the_world_or_from_an_await() -> None:
    for make in (made_of, made_of_nothing):
        crashes = [CrashKind.EXCEPTION]
        report = await sweep(make, BankWorld, crashes=crashes, has_pairs=False, has_faults=False, has_incidents=False)
        assert report.is_ok, report
        assert report.name == "durable_top_up"
        assert report.cases == len(report.boundaries)
