"""Pays with coins and keeps its change; what was chosen is stored with the reservation; nothing is freed on hope."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Twin
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Failed, Next, Phase, RejectedError, Transition


class Paying(Phase):
    inputs: tuple[str, ...]


class Pay(Action[Wallet, Open | Paying], kind="pay"):
    """Pay an invoice with coins, and get change."""

    invoice: str
    amount: int

    @property
    def id(self) -> str:
        return self.invoice

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                inputs = tuple(sorted({coin.id for coin in await wallet.pick(self.amount)}))
                return Next(self.at(Paying(inputs=inputs)), changes=Changes(reserve=inputs))
            case Paying(inputs=inputs):
                melted = await wallet.mint.look_up(self.id)
                if melted is None:
                    melted = await wallet.mint.melt(self.id, self.invoice, self.amount, await wallet.proofs(inputs))
                return Done(changes=Changes(spend=inputs, add=melted.coins()))

    async def on_rejection(self, wallet: Wallet, error: RejectedError) -> Transition[Self]:
        return Failed(error)  # the key is in the request: what is refused was not paid


class PayWorld(SmallWorld):
    kinds = (Pay,)
    funds = (20, 20, 20, 20, 20)
    refusable = ("mint.melt",)


TWIN = Twin(
    of=(
        "reserve_in_two_steps",
        "release_on_timeout",
        "forgotten_output",
        "spent_before_paid",
        "unsorted_set",
        "trusted_400",
        "not_found_is_never",
        "proof_doubted",
    ),
    make=lambda: Pay(invoice="i-1", amount=90, phase=Open()),
    world=PayWorld,
)
