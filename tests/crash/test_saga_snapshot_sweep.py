"""The snapshot of a droplet through every crash and every fault, and cancelled anywhere (L-P1, L-P2, L-P6).

Never two snapshots are ordered, and none is left of a saga that has not ended as done.
"""

from __future__ import annotations

import pytest

from tests.unit.saga.snapshots import CloudWorld, TakeBackup, backup
from wallet_actions.testing.life import FaultKind
from wallet_actions.testing.sweep import sweep

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]


async def test_one_snapshot_or_none_after_every_crash_and_fault() -> None:
    report = await sweep(backup, CloudWorld, has_pairs=False)
    assert report.is_ok, str(report)
    assert any("POST" in boundary.name for boundary in report.boundaries)
    assert FaultKind.OVERTAKEN in CloudWorld.faults


@pytest.mark.parametrize("breaks", [False, True])
async def test_and_after_a_choice_of_two_of_them(breaks: bool) -> None:
    def make() -> TakeBackup:
        return backup(breaks=breaks)

    report = await sweep(make, CloudWorld, sample=200, seed=11)
    assert report.is_ok, str(report)
