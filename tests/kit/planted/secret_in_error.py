"""The error that is kept for the user tells which proofs could not be spent, in full."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Next, Phase, TransientError, Transition


class Paying(Phase):
    inputs: tuple[str, ...]


class Pay(Action[Wallet, Open | Paying], kind="pay"):
    """Pay an invoice with coins."""

    invoice: str
    amount: int

    @property
    def id(self) -> str:
        return self.invoice

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                inputs = tuple(coin.id for coin in await wallet.pick(self.amount))
                return Next(self.at(Paying(inputs=inputs)), changes=Changes(reserve=inputs))
            case Paying(inputs=inputs):
                proofs = await wallet.proofs(inputs)
                try:
                    melted = await wallet.mint.melt(self.id, self.invoice, self.amount, proofs)
                except ConnectionError as error:
                    raise TransientError(f"could not melt {proofs}: {error}") from error
                return Done(changes=Changes(spend=inputs, add=melted.coins()))


class PayWorld(SmallWorld):
    kinds = (Pay,)


PLANTED = Planted(
    bug="a secret in an error message",
    tool=Tool.SECRETS,
    step="paying",
    lesson="security",
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
)
