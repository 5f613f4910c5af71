"""Issue and Melt at the real mint, swept with the kit: crashes, double crashes, faults of HTTP, kills (G3, G4).

A choice, which the seed decides; `make sweep-cashu` does all of it. The mint's own books are the oracle.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.integration.cashu_worlds import CashuWorld, MeltWorld, issue, melt
from wallet_actions.testing.life import CrashKind
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.testing.sweep import IN_PROCESS, Case, Course, sweep

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

SEED = 20


@pytest.mark.parametrize(
    ("make", "world", "sample"), [(issue, CashuWorld, 22), (melt, MeltWorld, 16)], ids=["issue", "melt"]
)
async def test_crashes_and_faults_lose_nothing(mint: NutshellMint, make: Any, world: Any, sample: int) -> None:
    """L-S1, L-S6, L-C5, L-C6, L-C7, L-P1, L-P2: every write, every request, and every answer may be the last one."""
    courses: list[Course] = []
    report = await sweep(
        make,
        functools.partial(world, mint=mint),
        crashes=IN_PROCESS,
        sample=sample,
        seed=SEED,
        on_case=courses.append,
    )
    assert report.is_ok, report
    assert sample - 3 <= report.cases <= sample
    assert any(len(course.case.plans) == 2 and course.lives[1].is_over for course in courses), "no double crash"
    assert any(plan.fault_at for course in courses for plan in course.case.plans), "no fault"
    names = {boundary.name for boundary in report.boundaries if boundary.site == "peer"}
    assert names >= {"GET /v1/keysets"}
    assert all(len(name) < 40 for name in names), "a quote's id is a secret"


@pytest.mark.parametrize(("make", "world"), [(issue, CashuWorld), (melt, MeltWorld)], ids=["issue", "melt"])
async def test_kills_lose_nothing(mint: NutshellMint, make: Any, world: Any) -> None:
    """L-S1, L-C7, L-P2: the wallet's process is killed with SIGKILL, and its recovery too."""
    courses: list[Course] = []
    report = await sweep(
        make,
        functools.partial(world, mint=mint),
        crashes=[CrashKind.SIGKILL],
        has_faults=False,
        has_incidents=False,
        sample=6,
        seed=SEED,
        on_case=courses.append,
    )
    assert report.is_ok, report
    assert all(course.lives[0].is_over for course in courses)
    assert any(len(course.case.plans) == 2 and course.lives[1].is_over for course in courses), "no double kill"


async def test_the_oracle_sees_what_is_missing(mint: NutshellMint) -> None:
    """A world whose books are off by one sat fails in every case: the mint is asked, not the wallet."""

    class Off(CashuWorld):
        async def owed(self) -> dict[tuple[str, str], int]:
            return {place: amount + 1 for place, amount in (await super().owed()).items()}

    report = await sweep(issue, functools.partial(Off, mint=mint))
    assert [course.case for course in report.failures] == [Case()]
    assert "the wallet owns 20 sat, its peer says 21" in str(report)
