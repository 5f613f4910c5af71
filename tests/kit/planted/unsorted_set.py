"""The inputs go through a set, and are stored in whatever order it has in this process."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Next, Phase, Transition


class Paying(Phase):
    inputs: tuple[str, ...]


class Pay(Action[Wallet, Open | Paying], kind="pay"):
    """Pay an invoice with coins."""

    invoice: str
    amount: int

    @property
    def id(self) -> str:
        return self.invoice

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                inputs = {coin.id for coin in await wallet.pick(self.amount)}
                return Next(self.at(Paying(inputs=tuple(inputs))), changes=Changes(reserve=tuple(inputs)))
            case Paying(inputs=inputs):
                melted = await wallet.mint.melt(self.id, self.invoice, self.amount, await wallet.proofs(inputs))
                return Done(changes=Changes(spend=inputs, add=melted.coins()))


class PayWorld(SmallWorld):
    kinds = (Pay,)
    funds = (20, 20, 20, 20, 20)


def make() -> Pay:
    return Pay(invoice="i-1", amount=100, phase=Open())


PLANTED = Planted(
    bug="an unsorted set in the state",
    tool=Tool.SEEDS,
    step="open",
    lesson="L-S8",
    make=make,
    world=PayWorld,
)
