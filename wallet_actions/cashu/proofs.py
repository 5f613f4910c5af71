"""The pieces of ecash as they travel and as they are kept: blinded messages, blind signatures and proofs (NUT-00).

What comes from the mint is read strictly in what is known (types, ranges, hex) and leniently in what is not: unknown
fields are passed over. What was stored is read strictly throughout, since a field that this code does not know may
matter.

A proof is money to whoever knows it. Its secret, its signature and its blinding factor stay out of every repr and of
every validation error.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from wallet_actions.cashu.crypto import parse_point, parse_scalar, verify_proof_dleq, y_of
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.keysets import Keyset
from wallet_actions.coins import MAX_AMOUNT, Coin
from wallet_actions.errors import InvariantError

Amount = Annotated[int, Field(gt=0, le=MAX_AMOUNT)]
"""An amount of ecash in the smallest unit, 1 … 2^63 - 1."""

PointHex = Annotated[str, StringConstraints(pattern=r"^0[23][0-9a-fA-F]{64}$", to_lower=True)]
"""Text that has the form of a compressed point; whether it lies on the curve is only known once it is parsed."""

ScalarHex = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]
KeysetId = Annotated[str, StringConstraints(pattern=r"^(00[0-9a-f]{14}|01[0-9a-f]{64})$")]

_FROM_MINT: Final = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)
_STORED: Final = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class BlindedMessage(BaseModel):
    """What the mint is asked to sign; also called an output.

    Attributes:
        amount: what it shall be worth. A blank output carries 1, and the mint decides (NUT-08).
        id: the full keyset id.
        B_: the blinded secret.
    """

    model_config = _FROM_MINT

    amount: Annotated[int, Field(ge=0, le=MAX_AMOUNT)]
    id: KeysetId
    B_: PointHex


class BlindDleq(BaseModel):
    """The mint's proof that it signed with its published key (NUT-12)."""

    model_config = _FROM_MINT

    e: ScalarHex
    s: ScalarHex


class BlindSignature(BaseModel):
    """The mint's signature on a blinded message; also called a promise. Worth nothing without the blinding factor."""

    model_config = _FROM_MINT

    amount: Amount
    id: KeysetId
    C_: PointHex
    dleq: BlindDleq | None = None


class ProofDleq(BaseModel):
    """A DLEQ proof that its holder can hand on: with the blinding factor `r`, which the mint must never see."""

    model_config = _STORED

    e: ScalarHex
    s: ScalarHex
    r: Annotated[ScalarHex, Field(repr=False)]


class Proof(BaseModel):
    """One coin of ecash; also called an input.

    Attributes:
        amount: 1 … 2^63 - 1, in the keyset's unit.
        id: the full keyset id.
        secret: what the mint marks as spent; sensitive.
        C: the mint's signature on it; sensitive.
        dleq: shows to anybody that the mint signed; None for a coin that came without.
        witness: what unlocks a secret with a spending condition (NUT-10), as JSON text.
    """

    model_config = _STORED

    amount: Amount
    id: KeysetId
    secret: Annotated[str, Field(min_length=1, repr=False)]
    C: Annotated[PointHex, Field(repr=False)]
    dleq: Annotated[ProofDleq | None, Field(repr=False)] = None
    witness: Annotated[str | None, Field(repr=False)] = None

    @property
    def y(self) -> str:
        """The coin's public name: `Y` as hex."""
        return y_of(self.secret)

    def has_valid_dleq(self, keyset: Keyset) -> bool:
        """Whether it carries a DLEQ proof that holds: the mint did sign it, though it may have been spent since."""
        if self.dleq is None or self.id != keyset.id:
            return False
        try:
            return verify_proof_dleq(
                self.secret,
                parse_point(self.C),
                parse_scalar(self.dleq.e),
                parse_scalar(self.dleq.s),
                parse_scalar(self.dleq.r),
                keyset.key(self.amount),
            )
        except MalformedError:
            return False

    def to_input(self) -> dict[str, object]:
        """What the mint is given to spend it: without the DLEQ proof, whose `r` would undo the blinding."""
        return self.model_dump(exclude={"dleq"}, exclude_none=True)


def coin_of(proof: Proof, *, mint_url: str, unit: str) -> Coin:
    """The proof as the ledger keeps it: named by its `Y`, in the mint's account.

    Args:
        mint_url: as `normalize_mint_url` gives it.
    """
    return Coin(
        id=proof.y,
        account=mint_url,
        unit=unit,
        amount=proof.amount,
        payload=proof.model_dump_json(exclude_none=True),
    )


def proof_of(coin: Coin) -> Proof:
    """The proof that a coin of the ledger holds.

    Raises:
        InvariantError: its payload is no proof, or another one than its id and amount say. The message has no payload.
    """
    try:
        proof = Proof.model_validate_json(coin.payload)
        is_same = (proof.y, proof.amount) == (coin.id, coin.amount)
    except (ValidationError, MalformedError):
        raise InvariantError(
            f"coin {coin.id} does not hold a proof", rule="a coin holds the proof it is named by"
        ) from None
    if not is_same:
        raise InvariantError(f"coin {coin.id} holds another proof", rule="a coin holds the proof it is named by")
    return proof
