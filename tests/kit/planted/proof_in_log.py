"""What cannot be read of an answer is logged, and the answer quotes the proof."""

from __future__ import annotations

import logging
from typing import Any, Self

from tests.kit.cases import Planted, Tool
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Changes, Done, Next, Phase, TransientError, Transition

logger = logging.getLogger(__name__)


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
                melted = await wallet.mint.melt(self.id, self.invoice, self.amount, proofs)
                try:
                    return Done(changes=Changes(spend=inputs, add=melted.coins()))
                except AttributeError as error:
                    logger.warning("unreadable answer: %s", melted)
                    raise TransientError("the mint's answer could not be read") from error


class PayWorld(SmallWorld):
    kinds = (Pay,)

    def garbage(self, name: str, answer: Any) -> Any:
        return f"<html>bad request: {sorted(self.secrets())[1]} …</html>"


PLANTED = Planted(
    bug="an exception's text with a proof in the log",
    tool=Tool.SECRETS,
    step="paying",
    lesson="security",
    make=lambda: Pay(invoice="i-1", amount=100, phase=Open()),
    world=PayWorld,
)
