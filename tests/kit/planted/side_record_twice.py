"""The line in the journal is written by a call of its own, so a second try writes it a second time."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Done, Next, Phase, Transition


class Sending(Phase):
    """The bank may have heard of it."""


class Sent(Phase):
    reference: str


class Send(Action[Wallet, Open | Sending | Sent, str], kind="send"):
    """Send money from the account, and keep the journal."""

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
                return Next(self.at(Sent(reference=await wallet.bank.transfer(self.id, self.payee, self.amount))))
            case Sent(reference=reference):
                await wallet.desk.append(f"sent {self.amount} to {self.payee}, {reference}")
                return Done(reference)


class SendWorld(SmallWorld):
    kinds = (Send,)


PLANTED = Planted(
    bug="a side record written twice",
    tool=Tool.CRASHES,
    step="sent",
    lesson="L-S11",
    make=lambda: Send(payee="bob", amount=100, phase=Open()),
    world=SendWorld,
)
