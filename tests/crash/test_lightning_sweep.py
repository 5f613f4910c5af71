"""Payments crashed at every boundary, with every fault of every call (T1, T2, T3)."""

from __future__ import annotations

import pytest

from tests.unit.lightning.worlds import FailingWorld, LateCopyWorld, PayingWorld, opened
from wallet_actions.testing.life import CrashKind
from wallet_actions.testing.sweep import sweep

pytestmark = pytest.mark.anyio

PHASES = {
    PayingWorld: {"coins_reserved", "dispatched", "in_flight", "settled"},
    FailingWorld: {"coins_reserved", "dispatched", "in_flight", "payment_failed"},
    LateCopyWorld: {"coins_reserved", "dispatched", "in_flight", "settled", "payment_failed"},
}


@pytest.mark.parametrize("world", list(PHASES))
async def test_a_payment_survives_everything(world: type[PayingWorld]) -> None:
    """L-C5, L-C6, L-P2: a crash at every boundary, the answer lost at each call, and a choice of pairs."""
    report = await sweep(opened, world, has_pairs=False, has_incidents=False, crashes=[CrashKind.EXCEPTION])
    assert report.is_ok, str(report)
    assert PHASES[world] <= {boundary.step for boundary in report.boundaries}
    assert {"lnd.identity", "lnd.track", "lnd.send"} <= {boundary.name for boundary in report.boundaries}
    pairs = await sweep(opened, world, sample=20, seed=7)
    assert pairs.is_ok, str(pairs)
