"""A small, seeded sample of `make soak`."""

from __future__ import annotations

import pytest

from tests.soak.course import Soak
from wallet_actions.testing.nutshell import MintConfig

pytestmark = pytest.mark.anyio


async def test_two_processes_that_die_again_and_again_keep_one_wallet_whole() -> None:
    """G2, G3, G4, L-S4, L-D15: to the satoshi, against the mint's books."""
    told: list[int] = []
    soak = Soak(
        seed=1,
        count=60,
        kills=6,
        config=MintConfig(input_fee_ppk=100),
        on_progress=lambda begun, kills: told.append(begun),
    )
    report = await soak.run()

    assert [str(finding) for finding in report.findings] == []
    assert report.operations.total() >= len(told) >= 60
    assert report.kills >= 3
    assert {name.split()[0] for name in report.operations} >= {"issue", "send", "receive"}
    assert report.owned + report.elsewhere == report.outstanding > 0
    assert (
        str(report) == f"soak: {report.operations.total()} operations, {report.kills} kills: 0 lost, 0 stuck, 0 doubled"
    )
