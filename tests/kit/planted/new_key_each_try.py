"""The idempotency key is made where the call is made: each try has another one."""

from __future__ import annotations

from typing import Self
from uuid import uuid4

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Done, Next, Phase, Transition


class Sending(Phase):
    """The bank may have heard of it."""


class Send(Action[Wallet, Open | Sending, str], kind="send"):
    """Send money from the account."""

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
                key = f"{self.payee}-{uuid4()}"
                return Done(await wallet.bank.transfer(key, self.payee, self.amount))


class SendWorld(SmallWorld):
    kinds = (Send,)


PLANTED = Planted(
    bug="a new idempotency key at each try",
    tool=Tool.FAULTS,
    step="sending",
    lesson="L-S6",
    make=lambda: Send(payee="bob", amount=100, phase=Open()),
    world=SendWorld,
)
