"""Asks again about a payment that the mint has proven, and believes a later answer that says otherwise."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Failed, Next, Phase, Transition


class Paying(Phase):
    inputs: tuple[str, ...]


class Confirming(Phase):
    inputs: tuple[str, ...]
    preimage: str


class Pay(Action[Wallet, Open | Paying | Confirming, str], kind="pay"):
    """Pay an invoice with coins, and have it confirmed."""

    invoice: str
    amount: int

    @property
    def id(self) -> str:
        return self.invoice

    async def advance(self, wallet: Wallet) -> Transition[Self, str]:
        match self.phase:
            case Open():
                inputs = tuple(coin.id for coin in await wallet.pick(self.amount))
                return Next(self.at(Paying(inputs=inputs)), changes=Changes(reserve=inputs))
            case Paying(inputs=inputs):
                melted = await wallet.mint.melt(self.id, self.invoice, self.amount, await wallet.proofs(inputs))
                return Next(self.at(Confirming(inputs=inputs, preimage=melted.preimage)))
            case Confirming(inputs=inputs, preimage=preimage):
                if await wallet.mint.look_up(self.id) is None:
                    return Failed("the mint knows of no such payment")
                return Done(preimage, changes=Changes(spend=inputs))


class PayWorld(SmallWorld):
    kinds = (Pay,)


PLANTED = Planted(
    bug="a late contradiction believed",
    tool=Tool.FAULTS,
    step="confirming",
    lesson="L-C5",
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
)
