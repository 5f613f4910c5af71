"""Coins are reserved in one write, and which ones they are is written down in the next."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Failed, Next, Phase, Transition


class Reserved(Phase):
    """The coins are held."""


class Paying(Phase):
    inputs: tuple[str, ...]


class Pay(Action[Wallet, Open | Reserved | Paying], kind="pay"):
    """Pay an invoice with coins."""

    invoice: str
    amount: int

    @property
    def id(self) -> str:
        return self.invoice

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                coins = await wallet.pick(self.amount)
                wallet.memory[self.id] = tuple(coin.id for coin in coins)
                return Next(self.at(Reserved()), changes=Changes(reserve=coins))
            case Reserved():
                inputs = wallet.memory.get(self.id)
                if inputs is None:
                    inputs = tuple(coin.id for coin in await wallet.pick(self.amount))
                if not inputs:
                    return Failed("there is not enough money")
                return Next(self.at(Paying(inputs=inputs)), changes=Changes(reserve=inputs))
            case Paying(inputs=inputs):
                melted = await wallet.mint.melt(self.id, self.invoice, self.amount, await wallet.proofs(inputs))
                return Done(changes=Changes(spend=inputs, add=melted.coins()))


class PayWorld(SmallWorld):
    kinds = (Pay,)


PLANTED = Planted(
    bug="reserve, then write, in two steps",
    tool=Tool.CRASHES,
    step="reserved",
    lesson="L-S1",
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
)
