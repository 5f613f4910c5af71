"""Worlds for sweeps of `Receive`: a token made by hand at a real mint, and a wallet that is to take it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.integration.cashu_giver import Giver
from tests.integration.cashu_worlds import COUNTERS, CashuWorld
from wallet_actions.action import Action
from wallet_actions.cashu import CashuWallet, Receive
from wallet_actions.cashu.conditions import SigFlag, pay_to_key
from wallet_actions.cashu.proofs import proof_of
from wallet_actions.checkpoint import Status
from wallet_actions.store import Store
from wallet_actions.testing import oracles
from wallet_actions.testing.durable import DurableWorld
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.transition import Start

AMOUNTS = (4, 16, 32)


class ReceiveWorld(CashuWorld):
    """A plain token; all of it is the wallet's in the end, but for the fee.

    Attributes:
        worth: of the coins of the token that are unspent.
        elsewhere: what others have of it.
    """

    worth = sum(AMOUNTS)
    elsewhere = 0

    async def order(self, store: Store, wallet: CashuWallet, mint: NutshellMint) -> Action[CashuWallet, Any, Any]:
        async with Giver.at(mint) as giver:
            return await Receive.of(wallet, await self.token(giver, wallet))

    async def token(self, giver: Giver, wallet: CashuWallet) -> str:
        return giver.token(await giver.coins(AMOUNTS))

    async def owed(self) -> oracles.Sums:
        """Without what is nobody's: a token that was given up is still the giver's."""
        async with self.store() as store:
            is_given_up = any(action.status is Status.CANCELLED for action in await oracles.all_actions(store))
        nobodys = self.elsewhere + (self.worth if is_given_up else 0)
        return {place: amount - nobodys for place, amount in (await super().owed()).items()}

    async def check(self, said: Iterable[str] = ()) -> list[str]:
        order = json.loads(self.setting("action.json"))
        self._told = {self.setting("words")}
        self._told |= {proof[name] for proof in order["proofs"] for name in ("secret", "C")}
        async with self.store() as store:
            keysets = {proof_of(coin).id for coin in await oracles.all_coins(store)}
        for keyset in keysets:
            pairs = [self.seed.derive(keyset, counter) for counter in range(COUNTERS)]
            self._told |= {half for pair in pairs for half in (pair.secret, pair.blinding_factor.hex())}
        return [*await DurableWorld.check(self, said), *await self.bookkeeping()]


class LockedWorld(ReceiveWorld):
    """Coins that are signed as a whole with a receiving key: other outputs want another witness."""

    async def token(self, giver: Giver, wallet: CashuWallet) -> str:
        condition = pay_to_key(await wallet.receiving_key(), sigflag=SigFlag.SIG_ALL)
        return giver.token(await giver.locked(condition, AMOUNTS))


class RestWorld(ReceiveWorld):
    """One of the coins is spent before the wallet comes to it; what it was swapped for is not the wallet's."""

    worth = AMOUNTS[0] + AMOUNTS[2]

    async def token(self, giver: Giver, wallet: CashuWallet) -> str:
        coins = await giver.coins(AMOUNTS)
        self.elsewhere = sum(coin.amount for coin in await giver.spend(coins[1:2]))
        return giver.token(coins)


def receive(world: CashuWorld) -> Start:
    action = Receive.model_validate_json(world.setting("action.json"))
    return Start(action, action.opening)
