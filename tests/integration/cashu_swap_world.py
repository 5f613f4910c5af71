"""Worlds for sweeps of `Swap`: a wallet with coins of a real mint, to be made fewer or smaller."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.integration.cashu_worlds import CashuWorld
from wallet_actions.action import Action
from wallet_actions.cashu import KINDS, CashuWallet, Issue, Swap
from wallet_actions.executor import Executor
from wallet_actions.outcome import Outcome
from wallet_actions.registry import Registry
from wallet_actions.store import Store
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.transition import Start

FUNDS = (7, 3)


class SwapWorld(CashuWorld):
    """All coins are made few."""

    wanted: ClassVar[dict[int, int] | None] = None

    async def order(self, store: Store, wallet: CashuWallet, mint: NutshellMint) -> Action[CashuWallet, Any, Any]:
        executor = Executor(store, wallet, Registry(KINDS), clock=self.clock)
        for amount in FUNDS:
            issue = await Issue.of(wallet, mint.url, amount)
            await executor.start(issue, issue.opening)
            assert (await executor.drive(issue.key)).outcome is Outcome.DONE
        return await Swap.of(wallet, mint.url, denominations=self.wanted)


class SplitWorld(SwapWorld):
    """A coin is broken into given ones."""

    wanted: ClassVar[dict[int, int] | None] = {1: 3}


class RotatedWorld(SwapWorld):
    """The keyset is retired between the choice of the coins and the request: the first plan is refused."""

    async def order(self, store: Store, wallet: CashuWallet, mint: NutshellMint) -> Action[CashuWallet, Any, Any]:
        swap = await super().order(store, wallet, mint)
        await mint.rotate_keyset(mint.config.input_fee_ppk)
        return swap


def swap(world: CashuWorld) -> Start:
    action = Swap.model_validate_json(world.setting("action.json"))
    return Start(action, action.opening)
