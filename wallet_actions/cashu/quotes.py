"""Quotes: a mint's offer to issue ecash for a payment (NUT-04), or to make a payment for ecash (NUT-05).

A quote's id is a secret between wallet and mint where no key locks the quote (NUT-20): whoever knows it can mint what
was paid. It stays out of messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final, Self

from coincurve import PrivateKey, PublicKeyXOnly
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.keysets import Unit
from wallet_actions.cashu.proofs import Amount, BlindedMessage, BlindSignature
from wallet_actions.coins import MAX_AMOUNT

QuoteId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]*[0-9A-Za-z][\x21-\x7e]*$", max_length=256)]
"""Printable ASCII without spaces, and more than dots: it becomes a step of a path."""

_Sum = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]
_FROM_MINT: Final = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)


class MintQuoteState(StrEnum):
    """Where the payment for new ecash stands. PENDING: the mint is signing just now."""

    UNPAID = "UNPAID"
    PAID = "PAID"
    PENDING = "PENDING"
    ISSUED = "ISSUED"


class MeltQuoteState(StrEnum):
    """Where a payment that the mint makes stands. UNPAID again after one that failed."""

    UNPAID = "UNPAID"
    PENDING = "PENDING"
    PAID = "PAID"


class MintQuote(BaseModel):
    """An offer to issue ecash.

    Attributes:
        quote: the quote's id; sensitive.
        request: the payment request, a bolt11 invoice.
        amount, unit, pubkey: as asked for; older mints leave some out.
        state: as the mint says, or as follows from `amount_paid` and `amount_issued`, which newer mints send instead.
        expiry: until when the request can be paid, Unix seconds.
    """

    model_config = _FROM_MINT

    quote: Annotated[QuoteId, Field(repr=False)]
    request: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
    amount: Amount | None = None
    unit: Unit | None = None
    pubkey: str | None = None
    stated: Annotated[MintQuoteState | None, Field(alias="state")] = None
    amount_paid: _Sum | None = None
    amount_issued: _Sum | None = None
    expiry: _Sum | None = None

    @model_validator(mode="after")
    def _has_a_state(self) -> Self:
        if self.stated is None and (self.amount_paid is None or self.amount_issued is None):
            raise ValueError("a quote without a state")
        return self

    @property
    def state(self) -> MintQuoteState:
        """Where the payment stands."""
        if self.stated is not None:
            return self.stated
        if not self.amount_paid:
            return MintQuoteState.UNPAID
        return MintQuoteState.PAID if self.amount_paid > (self.amount_issued or 0) else MintQuoteState.ISSUED


class MeltQuote(BaseModel):
    """An offer to pay a request, or how that went.

    Attributes:
        quote: the quote's id; sensitive.
        amount: what the request asks for.
        fee_reserve: what the payment may cost on top.
        unit, request: as asked for; older mints leave them out.
        expiry: until when the offer stands, Unix seconds.
        payment_preimage: the receipt of a payment that was made; sensitive.
        change: signatures on the blank outputs, from the first on.
    """

    model_config = _FROM_MINT

    quote: Annotated[QuoteId, Field(repr=False)]
    amount: Amount
    fee_reserve: _Sum
    state: MeltQuoteState
    unit: Unit | None = None
    request: str | None = None
    expiry: _Sum | None = None
    payment_preimage: Annotated[str | None, Field(repr=False, max_length=1_000)] = None
    change: tuple[BlindSignature, ...] | None = None


def sign_mint_request(quote_id: str, outputs: Sequence[BlindedMessage], key: bytes) -> str:
    """Sign for the ecash of a quote that was locked to a public key.

    The message is the one of the published vectors and of Nutshell: SHA-256 over the quote's id and each `B_` as hex.

    Args:
        outputs: as they are sent, in order.
        key: the private key, 32 bytes.

    Returns:
        A BIP-340 signature, 128 hex characters. Each call makes another one: it is no part of what must stay the same.

    Raises:
        MalformedError: not a private key.
    Source: NUT-20.
    """
    try:
        return PrivateKey(key).sign_schnorr(_mint_request_digest(quote_id, outputs)).hex()
    except ValueError:
        raise MalformedError("the key of a quote is no private key") from None


def verify_mint_request(quote_id: str, outputs: Sequence[BlindedMessage], pubkey: str, signature: str) -> bool:
    """Whether a signature of `sign_mint_request` holds for a public key (66 hex characters). False also for non-hex."""
    try:
        x_only = PublicKeyXOnly(bytes.fromhex(pubkey)[1:])
        return x_only.verify(bytes.fromhex(signature), _mint_request_digest(quote_id, outputs))
    except ValueError:
        return False


def _mint_request_digest(quote_id: str, outputs: Sequence[BlindedMessage]) -> bytes:
    return hashlib.sha256((quote_id + "".join(output.B_ for output in outputs)).encode()).digest()
