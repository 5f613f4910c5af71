"""To cancel is to send the money back, without a key: a crash in between sends it back twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Done, Failed, Next, Park, Phase, Transition


class Holding(Phase):
    """The customer's money is here, until the goods are out."""

    rounds: int = 0


class Escrow(Action[Wallet, Open | Holding], kind="escrow"):
    """Hold a customer's money for a while; it goes back where the customer cancels."""

    customer: str
    amount: int

    @property
    def id(self) -> str:
        return self.customer

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                return Next(self.at(Holding()))
            case Holding(rounds=rounds) if rounds < 2:
                return Park(self.at(Holding(rounds=rounds + 1)), wake_after=timedelta(minutes=1))
            case Holding():
                return Done()

    async def on_cancel(self, wallet: Wallet) -> Transition[Self]:
        await wallet.bank.open_transfer(self.customer, self.amount)
        return Failed("cancelled by the customer")


class EscrowWorld(SmallWorld):
    kinds = (Escrow,)


PLANTED = Planted(
    bug="a refund sent twice",
    tool=Tool.CRASHES,
    step="holding",
    lesson="L-D10",
    make=lambda: Escrow(customer="bob", amount=100, phase=Open()),
    world=EscrowWorld,
)
