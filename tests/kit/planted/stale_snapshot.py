"""The coins are listed once, and from then on chosen from that list."""

from __future__ import annotations

from typing import Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Next, Phase, Transition


class Paying(Phase):
    inputs: tuple[str, ...]


class Pay(Action[Wallet, Open | Paying], kind="pay"):
    """Pay an invoice with one coin."""

    invoice: str
    amount: int

    @property
    def id(self) -> str:
        return self.invoice

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        match self.phase:
            case Open():
                if "coins" not in wallet.memory:  # reading them all takes long on a phone
                    wallet.memory["coins"] = await wallet.store.coins()
                coin = next(coin for coin in wallet.memory["coins"] if coin.amount >= self.amount)
                return Next(self.at(Paying(inputs=(coin.id,))), changes=Changes(reserve=[coin]))
            case Paying(inputs=inputs):
                melted = await wallet.mint.melt(self.id, self.invoice, self.amount, await wallet.proofs(inputs))
                return Done(changes=Changes(spend=inputs, add=melted.coins()))


class PayWorld(SmallWorld):
    kinds = (Pay,)
    funds = (100, 100)


PLANTED = Planted(
    bug="a cached, stale snapshot",
    tool=Tool.PEACE,
    step="open",
    lesson="L-S3",
    make=lambda: [Pay(invoice=invoice, amount=100, phase=Open()) for invoice in ("i-1", "i-2")],
    world=PayWorld,
)
