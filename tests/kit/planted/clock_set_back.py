"""How long it took is told by the wall clock, and may not be negative."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from pydantic import BaseModel, NonNegativeInt

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Next, Park, Phase, Transition


class Submitting(Phase):
    inputs: tuple[str, ...]


class Settling(Phase):
    inputs: tuple[str, ...]
    since: datetime


class Receipt(BaseModel):
    took_s: NonNegativeInt


class Pay(Action[Wallet, Open | Submitting | Settling, Receipt], kind="pay"):
    """Pay an invoice with coins; the mint takes its time."""

    invoice: str
    amount: int

    @property
    def id(self) -> str:
        return self.invoice

    async def advance(self, wallet: Wallet) -> Transition[Self, Receipt]:
        match self.phase:
            case Open():
                inputs = tuple(coin.id for coin in await wallet.pick(self.amount))
                return Next(self.at(Submitting(inputs=inputs)), changes=Changes(reserve=inputs))
            case Submitting(inputs=inputs):
                await wallet.mint.submit(self.id, self.invoice, self.amount, await wallet.proofs(inputs))
                return Next(self.at(Settling(inputs=inputs, since=wallet.clock.now())))
            case Settling(inputs=inputs, since=since):
                melted = await wallet.mint.settled(self.id)
                if melted is None:
                    return Park(self, wake_after=timedelta(seconds=5))
                receipt = Receipt(took_s=int((wallet.clock.now() - since).total_seconds()))
                return Done(receipt, changes=Changes(spend=inputs, add=melted.coins()))


class PayWorld(SmallWorld):
    kinds = (Pay,)


PLANTED = Planted(
    bug="the wall clock steps back",
    tool=Tool.CLOCK,
    step="settling",
    lesson="L-B5",
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
)
