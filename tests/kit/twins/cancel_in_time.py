"""Can be cancelled as long as the mint has not heard of it, and measures time so that a clock may be set back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from pydantic import BaseModel, NonNegativeInt

from tests.kit.cases import Twin
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Failed, Next, Park, Phase, Transition


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
                took = max(timedelta(0), wallet.clock.now() - since)
                return Done(
                    Receipt(took_s=int(took.total_seconds())), changes=Changes(spend=inputs, add=melted.coins())
                )

    async def on_cancel(self, wallet: Wallet) -> Transition[Self, Receipt] | None:
        return Failed("cancelled by the user") if isinstance(self.phase, Open) else None


class PayWorld(SmallWorld):
    kinds = (Pay,)


TWIN = Twin(
    of=("cancel_after_dispatch", "clock_set_back"),
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
)
