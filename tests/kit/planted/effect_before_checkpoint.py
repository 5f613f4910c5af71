"""The transfer is made first, and what it is called is written down afterwards."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Done, Next, Park, Phase, Transition


class Sent(Phase):
    reference: str


class Send(Action[Wallet, Open | Sent, str], kind="send"):
    """Send money from the account, and wait until the bank lists it."""

    payee: str
    amount: int

    @property
    def id(self) -> str:
        return self.payee

    async def advance(self, wallet: Wallet) -> Transition[Self, str]:
        match self.phase:
            case Open():
                reference = await wallet.bank.open_transfer(self.payee, self.amount)
                return Next(self.at(Sent(reference=reference)))
            case Sent(reference=reference):
                if await wallet.bank.find(self.payee) is None:
                    return Park(self, wake_after=timedelta(seconds=5))
                return Done(reference)


class SendWorld(SmallWorld):
    kinds = (Send,)


PLANTED = Planted(
    bug="the effect before the checkpoint",
    tool=Tool.CRASHES,
    step="open",
    lesson="L-P1",
    make=lambda: Send(payee="bob", amount=100, phase=Open()),
    world=SendWorld,
)
