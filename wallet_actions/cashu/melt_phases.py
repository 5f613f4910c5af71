"""The phases of a `Melt`, each with what exists by then, and what it ends with."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, SecretStr

from wallet_actions.action import PERSISTED, Phase
from wallet_actions.cashu.doubt import HeldPhase
from wallet_actions.cashu.outputs import BLANK_AMOUNT, Output
from wallet_actions.cashu.plan import OutputPlan, SwapPlan
from wallet_actions.cashu.wallet import CashuWallet


class ProofsReserved(Phase):
    """The coins are held; the mint knows nothing yet."""


class SentPhase(HeldPhase):
    """A phase in which the request may have reached the mint.

    Attributes:
        keyset_id, first_counter, blanks: the blank outputs for the change; no change is possible where `blanks` is 0.
        earlier: blank outputs of requests that the mint refused; a late copy may still have them signed.
        is_unanswered: whether a copy of the request went out whose answer never came, so that it may arrive late.
    """

    keyset_id: str
    first_counter: int
    blanks: int
    earlier: tuple[OutputPlan, ...] = ()
    is_unanswered: bool = False

    @property
    def plan(self) -> OutputPlan:
        """The blank outputs."""
        amounts = (BLANK_AMOUNT,) * self.blanks
        return OutputPlan(keyset_id=self.keyset_id, first_counter=self.first_counter, amounts=amounts)

    @property
    def sent(self) -> dict[str, Any]:
        """What is carried on from one such phase to the next."""
        names = ("keyset_id", "first_counter", "blanks", "earlier", "is_unanswered")
        return {name: getattr(self, name) for name in names}

    def outputs(self, wallet: CashuWallet) -> tuple[Output, ...]:
        """The blank outputs of the last request."""
        return self.plan.outputs(wallet)

    def all_outputs(self, wallet: CashuWallet) -> list[tuple[Output, ...]]:
        """Those of each request, the last one's first."""
        return [plan.outputs(wallet) for plan in (self.plan, *self.earlier)]


class MeltRequested(SentPhase):
    """The request may have reached the mint.

    Attributes:
        sender: the life of the wallet that settled the outputs and sends the request first (`CashuWallet.life`).
    """

    sender: str = ""


class PaymentPending(SentPhase):
    """The mint said that the payment is under way.

    Attributes:
        since: when it said so first.
    """

    since: AwareDatetime


class Reclaiming(SentPhase):
    """The payment has failed, but a copy of its request may yet arrive: the coins are swapped, so that it finds none.

    Attributes:
        reason: why the payment failed, for the user.
        swap: the outputs for the coins' worth.
        earlier_swaps: ones that the mint refused.
    """

    reason: str
    swap: SwapPlan
    earlier_swaps: tuple[SwapPlan, ...] = ()


class Paid(BaseModel):
    """What a `Melt` ends with.

    Attributes:
        amount: what the invoice asked for, in the unit; of a part, that part.
        fee: what was paid on top: for the payment and for spending the coins; negative where the mint gave more change
            than was due.
        preimage: the receipt, where the mint gave one; sensitive.
    """

    model_config = PERSISTED

    amount: int
    fee: int
    preimage: SecretStr | None = None
