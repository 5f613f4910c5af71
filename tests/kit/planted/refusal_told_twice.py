"""A refusal is written to the journal by a call of its own: a crash right after that has it written again."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Done, Failed, Next, Phase, RejectedError, Transition


class Sending(Phase):
    """The bank may have heard of it."""


class Send(Action[Wallet, Open | Sending, str], kind="send"):
    """Send money from the account, and keep the journal of what is refused."""

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
                return Done(await wallet.bank.transfer(self.id, self.payee, self.amount))

    async def on_rejection(self, wallet: Wallet, error: RejectedError) -> Transition[Self, str]:
        await wallet.desk.append(f"the bank refuses to send to {self.payee}")
        return Failed(error)


class SendWorld(SmallWorld):
    kinds = (Send,)
    refusable = ("bank.transfer",)


PLANTED = Planted(
    bug="a refusal told twice",
    tool=Tool.CRASHES,
    step="sending",
    lesson="L-D10",
    make=lambda: Send(payee="bob", amount=100, phase=Open()),
    world=SendWorld,
)
