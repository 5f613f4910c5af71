"""A 400 counts as "not paid"; after a crash it says that the proofs are spent, by us."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Failed, Next, Phase, RejectedError, Transition


class Paying(Phase):
    inputs: tuple[str, ...]


class Pay(Action[Wallet, Open | Paying], kind="pay"):
    """Pay an invoice with coins at a mint that knows no keys."""

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
                melted = await wallet.mint.melt_once(self.invoice, self.amount, await wallet.proofs(inputs))
                return Done(changes=Changes(spend=inputs, add=melted.coins()))

    async def on_rejection(self, wallet: Wallet, error: RejectedError) -> Transition[Self]:
        return Failed(error)


class PayWorld(SmallWorld):
    kinds = (Pay,)


PLANTED = Planted(
    bug="a 400 taken for a failure",
    tool=Tool.CRASHES,
    step="paying",
    lesson="L-C6",
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
)
