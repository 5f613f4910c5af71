"""A cancellation is taken for one more thing that can go wrong with a call."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Done, Next, Park, Phase, Transition


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
                try:
                    return Done(await wallet.bank.transfer(self.id, self.payee, self.amount))
                except (ConnectionError, asyncio.CancelledError):
                    return Park(self, wake_after=timedelta(seconds=2))


class SendWorld(SmallWorld):
    kinds = (Send,)


PLANTED = Planted(
    bug="a swallowed cancellation",
    tool=Tool.CRASHES,
    step="sending",
    lesson="L-B1",
    make=lambda: Send(payee="bob", amount=100, phase=Open()),
    world=SendWorld,
)
