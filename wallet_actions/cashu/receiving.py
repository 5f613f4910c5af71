"""The phases of a `Receive`, and what it ends with."""

from __future__ import annotations

from pydantic import BaseModel

from wallet_actions.action import PERSISTED, Phase
from wallet_actions.cashu.doubt import HeldPhase
from wallet_actions.cashu.plan import SwapPlan


class Attempt(BaseModel):
    """What the mint was asked for.

    Attributes:
        plan: the new coins.
        fee: what it was to cost; the sum of both is what the coins that went in are worth.
    """

    model_config = PERSISTED

    plan: SwapPlan
    fee: int

    @property
    def net(self) -> int:
        """What the new coins come to."""
        return sum(self.plan.kept.amounts)


class ProofsPending(Phase):
    """The coins are known; new ones are to be planned.

    Attributes:
        earlier: what the mint was asked for before, and refused.
        spent: the `Y`s of coins that were spent elsewhere.
    """

    earlier: tuple[Attempt, ...] = ()
    spent: tuple[str, ...] = ()


class SwapRequested(HeldPhase):
    """The request may have reached the mint.

    Attributes:
        attempt: what it asks for.
        earlier, spent: as in `ProofsPending`.
        refusals: how often the mint has refused it while all its coins were unspent.
    """

    attempt: Attempt
    earlier: tuple[Attempt, ...] = ()
    spent: tuple[str, ...] = ()
    refusals: int = 0


class Received(BaseModel):
    """What a `Receive` ends with.

    Attributes:
        amount: what came in, in the unit, after the fee: this is what to credit.
        fee: what the mint kept.
        spent: what the coins of the token were worth that had been spent already; 0 for a whole token.
    """

    model_config = PERSISTED

    mint: str
    unit: str
    amount: int
    fee: int
    spent: int = 0
