"""`Receive` at the real mint, swept with the kit: crashes, double crashes, faults of HTTP (G3, G4).

A choice, which the seed decides. The mint's own books are the oracle.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from tests.integration.cashu_receive_world import AMOUNTS, LockedWorld, ReceiveWorld, RestWorld, receive
from wallet_actions.cashu.facts import TRANSACTION
from wallet_actions.testing.life import CrashKind
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.testing.sweep import IN_PROCESS, Course, sweep

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

SEED = 20


class Remembering(ReceiveWorld):
    """Keeps the row of the history that each case ends with."""

    rows: list[dict[str, Any]]

    async def ending(self) -> dict[str, object]:
        async with self.store() as store:
            facts = await store.facts(kind=TRANSACTION)
            self.rows.extend(json.loads(fact.body) for _, fact in facts)
        return await super().ending()


@pytest.mark.parametrize(
    ("world", "sample", "is_dear"),
    [(Remembering, 8, False), (Remembering, 8, True), (LockedWorld, 8, True), (RestWorld, 8, False)],
    ids=["plain", "plain, with fees", "locked, with fees", "rest"],
)
async def test_crashes_and_faults_lose_nothing(
    mint: NutshellMint, dear_mint: NutshellMint, world: Any, sample: int, is_dear: bool
) -> None:
    """L-S1, L-S6, L-S11, L-C6, L-C7, L-P1, L-P2: every write, every request, every answer may be the last one."""
    courses: list[Course] = []
    rows: list[dict[str, Any]] = []
    Remembering.rows = rows
    report = await sweep(
        receive,
        functools.partial(world, mint=dear_mint if is_dear else mint),
        crashes=IN_PROCESS,
        sample=sample,
        seed=SEED,
        on_case=courses.append,
    )
    assert report.is_ok, report
    assert sample - 3 <= report.cases <= sample
    assert any(len(course.case.plans) == 2 and course.lives[1].is_over for course in courses), "no double crash"
    if world is Remembering:
        assert len(rows) > sample
        assert {(row["amount"], row["fee"], row["state"]) for row in rows} == {(sum(AMOUNTS), int(is_dear), "done")}


async def test_kills_lose_nothing(mint: NutshellMint) -> None:
    """L-S1, L-C7, L-P2: the wallet's process is killed with SIGKILL, and its recovery too."""
    courses: list[Course] = []
    report = await sweep(
        receive,
        functools.partial(ReceiveWorld, mint=mint),
        crashes=[CrashKind.SIGKILL],
        has_faults=False,
        has_incidents=False,
        sample=4,
        seed=SEED,
        on_case=courses.append,
    )
    assert report.is_ok, report
    assert all(course.lives[0].is_over for course in courses)
