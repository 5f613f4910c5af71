"""The receipt is written where the bank answers, and not where the transfer is found to be made already."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Fact, Next, Phase, Transition


class Sending(Phase):
    """The bank may have heard of it."""


class Send(Action[Wallet, Open | Sending, str], kind="send"):
    """Send money from the account, and keep a receipt."""

    payee: str
    amount: int

    @property
    def id(self) -> str:
        return self.payee

    async def advance(self, wallet: Wallet) -> Transition[Self, str]:
        match self.phase:
            case Open():
                return Next(self.at(Sending()))
            case Sending():
                made = await wallet.bank.find(self.payee)
                if made is not None:
                    return Done(made)
                reference = await wallet.bank.transfer(self.id, self.payee, self.amount)
                return Done(reference, changes=Changes(facts=[Fact("receipt", self.payee)]))


class SendWorld(SmallWorld):
    kinds = (Send,)


PLANTED = Planted(
    bug="a record on the happy way only",
    tool=Tool.CRASHES,
    step="sending",
    lesson="L-S11",
    make=lambda: Send(payee="bob", amount=100, phase=Open()),
    world=SendWorld,
)
