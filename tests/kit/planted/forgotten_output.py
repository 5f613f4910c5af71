"""A payment that is found to be made already is taken over, but its change is not."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Next, Phase, Transition


class Paying(Phase):
    inputs: tuple[str, ...]


class Pay(Action[Wallet, Open | Paying], kind="pay"):
    """Pay an invoice with coins, and get change."""

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
                if await wallet.mint.look_up(self.id) is not None:
                    return Done(changes=Changes(spend=inputs))
                melted = await wallet.mint.melt(self.id, self.invoice, self.amount, await wallet.proofs(inputs))
                return Done(changes=Changes(spend=inputs, add=melted.coins()))


class PayWorld(SmallWorld):
    kinds = (Pay,)


PLANTED = Planted(
    bug="a forgotten output",
    tool=Tool.CRASHES,
    step="paying",
    lesson="L-C7",
    make=lambda: Pay(invoice="i-1", amount=60, phase=Open()),
    world=PayWorld,
)
