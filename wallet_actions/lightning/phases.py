"""The phases of a `LightningSend`, each with what exists by then, and what it ends with."""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, SecretStr

from wallet_actions.action import PERSISTED, Phase


class CoinsReserved(Phase):
    """The coins are held; the node knows nothing of it from here."""


class Dispatched(Phase):
    """The node may have been asked to pay.

    Attributes:
        sender: the life of the wallet that asks (`LightningWallet.life`).
        is_unanswered: whether it was asked in a way whose answer never came, so that a copy may arrive late.
    """

    sender: str
    is_unanswered: bool = False


class InFlight(Phase):
    """The node has said that the payment is under way: from here on it is only looked at, never sent.

    Attributes:
        since: when it said so first.
        is_unanswered: as in `Dispatched`.
    """

    since: AwareDatetime
    is_unanswered: bool = False


class Settled(Phase):
    """It is paid.

    Attributes:
        preimage: the receipt; sensitive.
        fee_msat: what the route cost.
    """

    preimage: SecretStr
    fee_msat: int


class PaymentFailed(Phase):
    """The node has given up: the verdict, written before the coins are let go.

    Attributes:
        reason: for the user.
        is_unanswered: as in `Dispatched`; then the coins stay held until no copy can start it anew.
    """

    reason: str
    is_unanswered: bool = False


class Sent(BaseModel):
    """What a `LightningSend` ends with.

    Attributes:
        amount_msat: what the invoice asked for.
        fee_msat: what the route cost on top.
        preimage: the receipt; sensitive.
    """

    model_config = PERSISTED

    amount_msat: int
    fee_msat: int
    preimage: SecretStr
