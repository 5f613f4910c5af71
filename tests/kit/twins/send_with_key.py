"""Sends money under a key that is in the checkpoint, parks when the bank is away, and lets cancellations through."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from tests.kit.cases import Twin
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Fact, Next, Park, Phase, Transition


class Sending(Phase):
    key: str


class Send(Action[Wallet, Open | Sending, str], kind="send"):
    """Send money from the account, and keep its reference as a fact."""

    payee: str
    amount: int

    @property
    def id(self) -> str:
        return self.payee

    async def advance(self, wallet: Wallet) -> Transition[Self, str]:
        match self.phase:
            case Open():
                return Next(self.at(Sending(key=f"send-{self.id}")))
            case Sending(key=key):
                try:
                    reference = await wallet.bank.transfer(key, self.payee, self.amount)
                except ConnectionError as error:
                    return Park(self, wake_after=timedelta(seconds=30), error=error)
                return Done(reference, changes=Changes(facts=[Fact("transfer", self.payee)]))


class SendWorld(SmallWorld):
    kinds = (Send,)


TWIN = Twin(
    of=(
        "new_key_each_try",
        "effect_before_checkpoint",
        "label_from_memory",
        "retry_without_park",
        "swallowed_cancellation",
        "two_drivers",
        "fact_of_two_actions",
    ),
    make=lambda: [Send(payee=payee, amount=100, phase=Open()) for payee in ("bob", "eve")],
    world=SendWorld,
)
