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


class MintRequestForm(StrEnum):
    """What is signed for the ecash of a locked quote: mints of different ages verify different messages (NUT-20).

    PLAIN: the quote's id and each `B_` as hex, one after another. Older mints know no other, newer ones still take it.
    FRAMED: with a tag, lengths and amounts; there may come mints that take no other.
    """

    PLAIN = "plain"
    FRAMED = "framed"


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

    @property
    def receipt(self) -> str | None:
        """The preimage, where it is one: some mints show zeros for a payment within their own books. Sensitive."""
        return None if self.payment_preimage in {None, "", "0" * 64} else self.payment_preimage


def sign_mint_request(
    quote_id: str, outputs: Sequence[BlindedMessage], key: bytes, form: MintRequestForm = MintRequestForm.PLAIN
) -> str:
    """Sign for the ecash of a quote that was locked to a public key.

    Args:
        outputs: as they are sent, in order.
        key: the private key, 32 bytes.
        form: of the message that is signed.

    Returns:
        A BIP-340 signature, 128 hex characters; the same each time, so that a repeated request is the same bytes.

    Raises:
        MalformedError: not a private key.
    Source: NUT-20.
    """
    try:
        return PrivateKey(key).sign_schnorr(_mint_request_digest(quote_id, outputs, form), bytes(32)).hex()
    except ValueError:
        raise MalformedError("the key of a quote is no private key") from None


def verify_mint_request(
    quote_id: str,
    outputs: Sequence[BlindedMessage],
    pubkey: str,
    signature: str,
    form: MintRequestForm = MintRequestForm.PLAIN,
) -> bool:
    """Whether a signature of `sign_mint_request` holds for a public key (66 hex characters). False also for non-hex."""
    try:
        x_only = PublicKeyXOnly(bytes.fromhex(pubkey)[1:])
        return x_only.verify(bytes.fromhex(signature), _mint_request_digest(quote_id, outputs, form))
    except ValueError:
        return False


def _mint_request_digest(quote_id: str, outputs: Sequence[BlindedMessage], form: MintRequestForm) -> bytes:
    if form is MintRequestForm.PLAIN:
        return hashlib.sha256((quote_id + "".join(output.B_ for output in outputs)).encode()).digest()
    message = b"Cashu_MintQuoteSig_v1" + _with_length(quote_id.encode())
    for output in outputs:
        amount = output.amount.to_bytes((output.amount.bit_length() + 7) // 8, "big")
        message += _with_length(amount) + _with_length(bytes.fromhex(output.B_))
    return hashlib.sha256(message).digest()


def _with_length(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
