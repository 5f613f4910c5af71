"""`Send` at the real mint, swept with the kit: crashes, double crashes, faults of HTTP, kills (G3, G4).

A choice, which the seed decides. The mint's own books are the oracle, and a payee who claims what is handed out.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.integration.cashu_send_worlds import ExactWorld, LockedWorld, RevokeWorld, SendWorld, send
from wallet_actions.testing.life import CrashKind
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.testing.sweep import IN_PROCESS, Course, sweep

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

SEED = 20


@pytest.mark.parametrize(
    ("world", "sample", "is_dear"),
    [(SendWorld, 6, True), (ExactWorld, 4, False), (RevokeWorld, 6, True), (LockedWorld, 4, False)],
    ids=["claimed, with fees", "exact", "taken back, with fees", "locked and taken back"],
)
async def test_crashes_and_faults_lose_nothing(
    mint: NutshellMint, dear_mint: NutshellMint, world: Any, sample: int, is_dear: bool
) -> None:
    """L-S1, L-S6, L-S11, L-C4, L-C6, L-C7, L-C8, L-P1, L-P2: every write, request and answer may be the last one."""
    courses: list[Course] = []
    report = await sweep(
        send,
        functools.partial(world, mint=dear_mint if is_dear else mint),
        crashes=IN_PROCESS,
        sample=sample,
        seed=SEED,
        on_case=courses.append,
    )
    assert report.is_ok, report
    assert report.cases >= sample - 3
    assert any(len(course.case.plans) == 2 and course.lives[1].is_over for course in courses), "no double crash"


async def test_kills_lose_nothing(dear_mint: NutshellMint) -> None:
    """L-S1, L-C7, L-P2: the wallet's process is killed with SIGKILL, and its recovery too."""
    courses: list[Course] = []
    report = await sweep(
        send,
        functools.partial(SendWorld, mint=dear_mint),
        crashes=[CrashKind.SIGKILL],
        has_faults=False,
        has_incidents=False,
        sample=3,
        seed=SEED,
        on_case=courses.append,
    )
    assert report.is_ok, report
    assert all(course.lives[0].is_over for course in courses)
