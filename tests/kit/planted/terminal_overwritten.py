"""A refusal of the desk, which comes after the payment was made, ends the payment as failed."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Fact, Failed, Next, Phase, RejectedError, Transition


class Paying(Phase):
    inputs: tuple[str, ...]


class Telling(Phase):
    """Paid; the desk is to know."""


class Pay(Action[Wallet, Open | Paying | Telling], kind="pay"):
    """Pay an invoice with coins, and tell the desk."""

    invoice: str
    amount: int

    @property
    def id(self) -> str:
        return self.invoice

    def outcome(self, state: str) -> Fact:
        return Fact("payment", self.invoice, f'{{"state": "{state}"}}')

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                inputs = tuple(coin.id for coin in await wallet.pick(self.amount))
                return Next(self.at(Paying(inputs=inputs)), changes=Changes(reserve=inputs))
            case Paying(inputs=inputs):
                melted = await wallet.mint.melt(self.id, self.invoice, self.amount, await wallet.proofs(inputs))
                paid = Changes(spend=inputs, add=melted.coins(), facts=[self.outcome("paid")])
                return Next(self.at(Telling()), changes=paid)
            case Telling():
                await wallet.desk.set_state(self.invoice, "paid")
                return Done()

    async def on_rejection(self, wallet: Wallet, error: RejectedError) -> Transition[Self]:
        return Failed(error, changes=Changes(facts=[self.outcome("failed")]))


class PayWorld(SmallWorld):
    kinds = (Pay,)
    refusable = ("mint.melt", "desk.set_state")


PLANTED = Planted(
    bug="a success that is overwritten by a late failure",
    tool=Tool.FAULTS,
    step="telling",
    lesson="L-S9",
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
)
