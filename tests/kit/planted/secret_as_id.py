"""The change is kept under its proof as its id, and ids are shown to everybody."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Coin, Done, Next, Phase, Transition


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
                melted = await wallet.mint.melt(self.id, self.invoice, self.amount, await wallet.proofs(inputs))
                change = [Coin(proof, "mint", "sat", amount, payload=proof) for proof, amount in melted.change]
                return Done(changes=Changes(spend=inputs, add=change))


class PayWorld(SmallWorld):
    kinds = (Pay,)


PLANTED = Planted(
    bug="a secret as a coin's id",
    tool=Tool.SECRETS,
    step="paying",
    lesson="security",
    make=lambda: Pay(invoice="i-1", amount=60, phase=Open()),
    world=PayWorld,
)
