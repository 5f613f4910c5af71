"""The label of a transfer comes from a counter that only the process remembers."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Done, Next, Phase, Transition


class Sending(Phase):
    label: str


class Send(Action[Wallet, Open | Sending, str], kind="send"):
    """Send money from the account, under a label."""

    payee: str
    amount: int

    @property
    def id(self) -> str:
        return self.payee

    async def advance(self, wallet: Wallet) -> Transition[Self, str]:
        match self.phase:
            case Open():
                number = wallet.memory.get("number", 0) + 1
                wallet.memory["number"] = number
                return Next(self.at(Sending(label=f"transfer {number}")))
            case Sending(label=label):
                return Done(await wallet.bank.transfer(label, self.payee, self.amount))


class SendWorld(SmallWorld):
    kinds = (Send,)


PLANTED = Planted(
    bug="a label from the process's memory",
    tool=Tool.DOUBLE,
    step="open",
    lesson="L-S6",
    make=lambda: Send(payee="bob", amount=100, phase=Open()),
    world=SendWorld,
)
