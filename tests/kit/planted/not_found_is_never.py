"""After a lost answer the payment is looked up; not found counts as never, though it may still be on its way."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Failed, Next, Phase, Transition


class Paying(Phase):
    inputs: tuple[str, ...]


class Checking(Phase):
    inputs: tuple[str, ...]


class Pay(Action[Wallet, Open | Paying | Checking], kind="pay"):
    """Pay an invoice with coins."""

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
                try:
                    melted = await wallet.mint.melt(self.id, self.invoice, self.amount, await wallet.proofs(inputs))
                except ConnectionError:
                    return Next(self.at(Checking(inputs=inputs)))
                return Done(changes=Changes(spend=inputs, add=melted.coins()))
            case Checking(inputs=inputs):
                found = await wallet.mint.look_up(self.id)
                if found is None:
                    return Failed("the mint knows nothing of the payment")
                return Done(changes=Changes(spend=inputs, add=found.coins()))


class PayWorld(SmallWorld):
    kinds = (Pay,)


PLANTED = Planted(
    bug="not found taken for never",
    tool=Tool.FAULTS,
    step="checking",
    lesson="L-P2",
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
)
