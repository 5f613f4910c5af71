"""The key got another name, and the upgrade builds the phase anew without it: a payment under way gets another key."""

from __future__ import annotations

from typing import Any, Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Next, Phase, Transition


class OldPhases:
    class Paying(Phase):
        inputs: tuple[str, ...]
        key: str


class OldPay(Action[Wallet, Open | OldPhases.Paying], kind="pay"):
    """As it was: pay an invoice with coins, under a key of its own."""

    invoice: str
    amount: int

    @property
    def id(self) -> str:
        return self.invoice

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                inputs = tuple(coin.id for coin in await wallet.pick(self.amount))
                paying = OldPhases.Paying(inputs=inputs, key=f"pay-{self.invoice}")
                return Next(self.at(paying), changes=Changes(reserve=inputs))
            case OldPhases.Paying(inputs=inputs, key=key):
                melted = await wallet.mint.melt(key, self.invoice, self.amount, await wallet.proofs(inputs))
                return Done(changes=Changes(spend=inputs, add=melted.coins()))


class Paying(Phase):
    inputs: tuple[str, ...]
    label: str = ""


def name_the_label(state: dict[str, Any]) -> dict[str, Any]:
    phase = state["phase"]
    if phase["tag"] == "paying":
        phase = {"tag": "paying", "inputs": phase["inputs"]}
    return {**state, "phase": phase}


class Pay(Action[Wallet, Open | Paying], kind="pay", schema_version=2):
    """Pay an invoice with coins, under a label."""

    upgrades = {1: name_the_label}  # noqa: RUF012
    invoice: str
    amount: int

    @property
    def id(self) -> str:
        return self.invoice

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                inputs = tuple(coin.id for coin in await wallet.pick(self.amount))
                paying = Paying(inputs=inputs, label=f"pay-{self.invoice}")
                return Next(self.at(paying), changes=Changes(reserve=inputs))
            case Paying(inputs=inputs, label=label):
                key = label or self.invoice
                melted = await wallet.mint.melt(key, self.invoice, self.amount, await wallet.proofs(inputs))
                return Done(changes=Changes(spend=inputs, add=melted.coins()))


class OldWorld(SmallWorld):
    kinds = (OldPay,)


class PayWorld(SmallWorld):
    kinds = (Pay,)


PLANTED = Planted(
    bug="an upgrade that drops a field",
    tool=Tool.CORPUS,
    step="paying",
    lesson="L-U1",
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
    older=(lambda: OldPay(invoice="i-1", amount=100, phase=Open()), OldWorld),
)
