"""A call that fails is made again at once, inside the step, for as long as it takes."""

from __future__ import annotations

from typing import Self

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
                while True:
                    try:
                        return Done(await wallet.bank.transfer(self.id, self.payee, self.amount))
                    except ConnectionError:
                        continue


class SendWorld(SmallWorld):
    kinds = (Send,)


PLANTED = Planted(
    bug="a retry loop without a park",
    tool=Tool.FAULTS,
    step="sending",
    lesson="L-D8",
    make=lambda: Send(payee="bob", amount=100, phase=Open()),
    world=SendWorld,
)
