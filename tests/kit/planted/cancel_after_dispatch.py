"""A payment can be cancelled also when the mint has taken the order already."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Failed, Next, Park, Phase, Transition


class Submitting(Phase):
    inputs: tuple[str, ...]


class Settling(Phase):
    inputs: tuple[str, ...]


class Pay(Action[Wallet, Open | Submitting | Settling], kind="pay"):
    """Pay an invoice with coins; the mint takes its time."""

    invoice: str
    amount: int

    @property
    def id(self) -> str:
        return self.invoice

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                inputs = tuple(coin.id for coin in await wallet.pick(self.amount))
                return Next(self.at(Submitting(inputs=inputs)), changes=Changes(reserve=inputs))
            case Submitting(inputs=inputs):
                await wallet.mint.submit(self.id, self.invoice, self.amount, await wallet.proofs(inputs))
                return Next(self.at(Settling(inputs=inputs)))
            case Settling(inputs=inputs):
                melted = await wallet.mint.settled(self.id)
                if melted is None:
                    return Park(self, wake_after=timedelta(seconds=5))
                return Done(changes=Changes(spend=inputs, add=melted.coins()))

    async def on_cancel(self, wallet: Wallet) -> Transition[Self]:
        return Failed("cancelled by the user")


class PayWorld(SmallWorld):
    kinds = (Pay,)


PLANTED = Planted(
    bug="cancel after dispatch",
    tool=Tool.CANCEL,
    step="settling",
    lesson="L-C8",
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
)
