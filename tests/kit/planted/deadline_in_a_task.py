"""A call gets a deadline of its own, and what passes it counts as not done; the call runs in a task of its own."""

from __future__ import annotations

import asyncio
from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Failed, Next, Phase, Transition


class Paying(Phase):
    inputs: tuple[str, ...]


class Pay(Action[Wallet, Open | Paying], kind="pay"):
    """Pay an invoice with coins, in ten seconds or not at all."""

    invoice: str
    amount: int

    @property
    def id(self) -> str:
        return self.invoice

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                inputs = tuple(coin.id for coin in await wallet.pick(self.amount))
                return Next(self.at(Paying(inputs=inputs)), changes=Changes(reserve=inputs))
            case Paying(inputs=inputs):
                proofs = await wallet.proofs(inputs)
                try:
                    melting = asyncio.create_task(wallet.mint.melt(self.id, self.invoice, self.amount, proofs))
                    melted = await asyncio.wait_for(melting, timeout=10)
                except (TimeoutError, ConnectionError):
                    return Failed("the mint did not answer in time")
                return Done(changes=Changes(spend=inputs, add=melted.coins()))


class PayWorld(SmallWorld):
    kinds = (Pay,)


PLANTED = Planted(
    bug="a deadline taken for a failure",
    tool=Tool.FAULTS,
    step="paying",
    lesson="L-P4",
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
)
