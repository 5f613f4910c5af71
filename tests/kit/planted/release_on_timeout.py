"""After three time-outs the payment counts as failed, and its coins are free again."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Failed, Next, Phase, Transition
from wallet_actions.transition import Failure


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
                coins = await wallet.pick(self.amount)
                inputs = tuple(coin.id for coin in coins)
                return Next(self.at(Paying(inputs=inputs)), changes=Changes(reserve=inputs))
            case Paying(inputs=inputs):
                melted = await wallet.mint.melt(self.id, self.invoice, self.amount, await wallet.proofs(inputs))
                return Done(changes=Changes(spend=inputs, add=melted.coins()))

    async def on_retry(self, wallet: Wallet, failure: Failure) -> Transition[Self]:
        if failure.attempts >= 3:
            return Failed("the mint does not answer")
        return await super().on_retry(wallet, failure)


class PayWorld(SmallWorld):
    kinds = (Pay,)


PLANTED = Planted(
    bug="release on time-out",
    tool=Tool.FAULTS,
    step="paying",
    lesson="L-C5",
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
)
