"""Looks whether the transfer is there before making it: right for one driver, not for two at a time."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Done, Next, Phase, Transition


class Sending(Phase):
    """The bank may have heard of it."""


class Send(Action[Wallet, Open | Sending, str], kind="send"):
    """Send money from the account of a bank that knows no keys."""

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
                reference = await wallet.bank.find(self.payee)
                if reference is None:
                    reference = await wallet.bank.open_transfer(self.payee, self.amount)
                return Done(reference)


class SendWorld(SmallWorld):
    kinds = (Send,)


PLANTED = Planted(
    bug="two drivers without a lock",
    tool=Tool.INTERLEAVINGS,
    step="sending",
    lesson="L-D11",
    make=lambda: Send(payee="bob", amount=100, phase=Open()),
    world=SendWorld,
)
