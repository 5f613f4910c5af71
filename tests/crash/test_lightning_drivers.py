"""Two drivers meet over one payment, steps are taken twice, processes come and go: it is paid once (G2, L-S4)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.lightning.worlds import FailingWorld, PayingWorld, opened
from wallet_actions.lightning import Payment
from wallet_actions.lightning.sandbox import DirectNode
from wallet_actions.testing.double import double_drive
from wallet_actions.testing.interleavings import interleavings
from wallet_actions.testing.life import Life
from wallet_actions.testing.schedules import simulate

pytestmark = pytest.mark.timeout(300)

WORLDS = [PayingWorld, FailingWorld]


class SoonForgottenWorld(FailingWorld):
    """No copy can arrive after an hour and a minute."""

    expiry = timedelta(minutes=1)


class PromptNode(DirectNode):
    """Payments have ended when their sending is answered, so that a second look sees what the first one saw."""

    async def send(self, invoice: str, *, fee_limit_msat: int, timeout_s: int) -> Payment | None:
        begun = await super().send(invoice, fee_limit_msat=fee_limit_msat, timeout_s=timeout_s)
        return begun and await self.track(begun.payment_hash)


class PromptWorld(PayingWorld):
    def peer(self, life: Life) -> Any:
        return life.peer(PromptNode(self.node), "lnd")


class PromptFailingWorld(PromptWorld, FailingWorld):
    pass


@pytest.mark.parametrize("world", WORLDS)
def test_two_drivers_may_meet_in_any_way(world: type[PayingWorld]) -> None:
    """T7: whoever is late with a sending starts a failed payment anew; its coins are held until that is over."""
    report = interleavings(opened, world, depth=12)
    assert report.is_ok, str(report)
    assert report.explored > 20


@pytest.mark.parametrize("world", [PayingWorld, SoonForgottenWorld])
def test_processes_come_and_go(world: type[PayingWorld]) -> None:
    report = simulate(opened, world, seed=11, count=25)
    assert report.is_ok, str(report)


@pytest.mark.anyio
@pytest.mark.parametrize("world", [PromptWorld, PromptFailingWorld])
async def test_every_step_may_be_taken_twice(world: type[PayingWorld]) -> None:
    """T6."""
    report = await double_drive(opened, world)
    assert report.is_ok, str(report)
