"""The desk's record of an order is set to what this driver believes, whatever it says by then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Done, Next, Phase, Transition


class Sending(Phase):
    """The bank may have heard of it."""


class Send(Action[Wallet, Open | Sending, str], kind="send"):
    """Send money from the account; the desk shows how far it is."""

    payee: str
    amount: int

    @property
    def id(self) -> str:
        return self.payee

    async def advance(self, wallet: Wallet) -> Transition[Self, str]:
        match self.phase:
            case Open():
                await wallet.desk.set_state(self.id, "sending")
                return Next(self.at(Sending()))
            case Sending():
                reference = await wallet.bank.transfer(self.id, self.payee, self.amount)
                await wallet.desk.set_state(self.id, "sent")
                return Done(reference)


class SendWorld(SmallWorld):
    kinds = (Send,)

    async def check(self, said: Iterable[str] = ()) -> list[str]:
        found = await super().check(said)
        late = [order for order, states in self.desk.states.items() if "sent" in states[:-1] and states[-1] != "sent"]
        return found + [f"order {order} was sent, and the desk shows something else" for order in late]


PLANTED = Planted(
    bug="an unversioned update",
    tool=Tool.INTERLEAVINGS,
    step="open",
    lesson="L-S2",
    make=lambda: Send(payee="bob", amount=100, phase=Open()),
    world=SendWorld,
)
