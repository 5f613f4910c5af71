"""Payments that fail or take their time, and batches, swept with the kit at the real mint (G3, G4).

A choice, which the seed decides; what is swept is the way that each course takes through the phases. The mint's own
books are the oracle, and the wallet's history has to add up to them.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator

import pytest

from tests.integration.cashu_worlds import FAILS, FAILS_LATER, SETTLES, BatchWorld, MeltWorld, batch, melt
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions.testing.sweep import IN_PROCESS, Course, sweep

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

SEED = 4


@pytest.fixture(scope="module")
async def fee_mint() -> AsyncIterator[NutshellMint]:
    """With input fees, and keyset ids of the older sort."""
    async with NutshellMint(MintConfig(input_fee_ppk=100, keyset_version=1)) as mint:
        yield mint
        await mint.reset()


@pytest.mark.parametrize(
    ("settings", "has_fees", "sample"),
    [(FAILS, True, 10), (FAILS_LATER, False, 7), (SETTLES, True, 6)],
    ids=["fails", "pending, then fails", "pending, then settles"],
)
async def test_payments_that_do_not_settle_at_once(
    mint: NutshellMint, fee_mint: NutshellMint, settings: dict[str, str], has_fees: bool, sample: int
) -> None:
    """L-C5, L-C6, L-P2, L-D10: also where the coins have to be swapped, since a request may arrive late."""
    at = fee_mint if has_fees else mint
    await at.set(**settings)
    courses: list[Course] = []
    report = await sweep(
        melt,
        functools.partial(MeltWorld, mint=at),
        crashes=IN_PROCESS,
        sample=sample,
        seed=SEED,
        on_case=courses.append,
    )
    assert report.is_ok, report
    assert any(len(course.case.plans) == 2 and course.lives[1].is_over for course in courses), "no double crash"


async def test_batches(mint: NutshellMint) -> None:
    """L-S1, L-S6, L-C6, L-C7, L-P2."""
    report = await sweep(batch, functools.partial(BatchWorld, mint=mint), crashes=IN_PROCESS, sample=8, seed=SEED)
    assert report.is_ok, report
    assert {boundary.name for boundary in report.boundaries if boundary.site == "peer"} >= {
        "POST /v1/mint/bolt11/batch"
    }
