"""Allot: book a part of the node's balance, for this wallet to spend."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field

from wallet_actions.action import Action, Phase
from wallet_actions.coins import MAX_AMOUNT, Coin
from wallet_actions.lightning.wallet import UNIT, LightningWallet
from wallet_actions.transition import Changes, Done, Transition


class Booked(Phase):
    """It is to be booked."""


class Allot(Action[LightningWallet, Booked], kind="lightning_allot"):
    """Book a part of the node's balance, once.

    The node is not asked whether it has so much: what it cannot send fails, and stays with the wallet.

    Attributes:
        account: `LightningWallet.identity().account`.
        label: what it is for: a channel's funding outpoint, the id of a deposit. The same label is booked once.
    """

    account: str
    label: str
    amount_msat: Annotated[int, Field(gt=0, le=MAX_AMOUNT)]
    phase: Booked = Booked()

    @property
    def id(self) -> str:
        """The account and the label."""
        return f"{self.account}/{self.label}"

    async def advance(self, wallet: LightningWallet) -> Transition[Self]:
        """Book it."""
        coin = Coin(f"{self.kind}/{self.id}", self.account, UNIT, self.amount_msat)
        return Done(changes=Changes(add=[coin]))
