"""The fact is named by the mint, not by the payment: the second payment cannot write it."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Fact, Next, Phase, Transition


class Paying(Phase):
    inputs: tuple[str, ...]


class Pay(Action[Wallet, Open | Paying], kind="pay"):
    """Pay an invoice with coins, and keep the preimage of the last one."""

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
                last = Fact("last_payment", "mint", f'{{"preimage": "{melted.preimage}"}}')
                return Done(changes=Changes(spend=inputs, add=melted.coins(), facts=[last]))


class PayWorld(SmallWorld):
    kinds = (Pay,)
    funds = (100, 100)


PLANTED = Planted(
    bug="a fact written by two actions",
    tool=Tool.PEACE,
    step="paying",
    lesson="L-S11",
    make=lambda: [Pay(invoice=invoice, amount=100, phase=Open()) for invoice in ("i-1", "i-2")],
    world=PayWorld,
)
