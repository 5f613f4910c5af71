"""`Swap` at the real mint, swept with the kit: crashes, double crashes, faults of HTTP, kills (G3, G4).

A choice, which the seed decides. The mint's own books are the oracle.
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.cashu_swap_world import FUNDS, RotatedWorld, SplitWorld, SwapWorld, swap
from wallet_actions.cashu.facts import TRANSACTION
from wallet_actions.testing.life import CrashKind
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions.testing.sweep import IN_PROCESS, Course, sweep

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

SEED = 20


@pytest.fixture(scope="module")
async def dear_mint() -> AsyncIterator[NutshellMint]:
    """With input fees, and keyset ids of version 1."""
    async with NutshellMint(MintConfig(input_fee_ppk=100, keyset_version=1)) as mint:
        yield mint


class Remembering(SwapWorld):
    """Keeps the rows of the history that each case ends with."""

    rows: list[dict[str, Any]]

    async def ending(self) -> dict[str, object]:
        async with self.store() as store:
            found = [json.loads(fact.body) for _, fact in await store.facts(kind=TRANSACTION)]
        self.rows.extend(row for row in found if row["operation"] == "cashu_swap")
        return await super().ending()


@pytest.mark.parametrize(
    ("world", "sample", "is_dear"),
    [(Remembering, 4, False), (Remembering, 6, True), (SplitWorld, 4, True), (RotatedWorld, 6, True)],
    ids=["few", "few, with fees", "split, with fees", "rotated, with fees"],
)
async def test_crashes_and_faults_lose_nothing(
    mint: NutshellMint, dear_mint: NutshellMint, world: Any, sample: int, is_dear: bool
) -> None:
    """L-S1, L-S6, L-S11, L-C4, L-C6, L-C7, L-P1, L-P2: every write, request and answer may be the last one."""
    courses: list[Course] = []
    rows: list[dict[str, Any]] = []
    Remembering.rows = rows
    report = await sweep(
        swap,
        functools.partial(world, mint=dear_mint if is_dear else mint),
        crashes=IN_PROCESS,
        sample=sample,
        seed=SEED,
        on_case=courses.append,
    )
    assert report.is_ok, report
    assert sample - 3 <= report.cases <= sample
    assert any(len(course.case.plans) == 2 and course.lives[1].is_over for course in courses), "no double crash"
    assert "POST /v1/swap" in {boundary.name for boundary in report.boundaries if boundary.site == "peer"}
    if world is Remembering:
        assert len(rows) > sample
        assert {row["state"] for row in rows} <= {"done", "cancelled"}
        made = {(row["amount"], row["fee"]) for row in rows if row["state"] == "done"}
        assert len(made) == 1, "the history tells of the crash"
        ((amount, fee),) = made
        assert fee == int(is_dear)
        assert amount + fee <= sum(FUNDS)


async def test_kills_lose_nothing(mint: NutshellMint) -> None:
    """L-S1, L-C7, L-P2: the wallet's process is killed with SIGKILL, and its recovery too."""
    courses: list[Course] = []
    report = await sweep(
        swap,
        functools.partial(SwapWorld, mint=mint),
        crashes=[CrashKind.SIGKILL],
        has_faults=False,
        has_incidents=False,
        sample=2,
        seed=SEED,
        on_case=courses.append,
    )
    assert report.is_ok, report
    assert all(course.lives[0].is_over for course in courses)
