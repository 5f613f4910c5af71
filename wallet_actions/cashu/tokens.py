"""Tokens: coins as text that one person hands to another (NUT-00).

Version 4 (`cashuB…`, CBOR) is what is written unless version 3 (`cashuA…`, JSON) is asked for; both are read, with or
without the scheme `cashu:`, with or without padding. A token is money to whoever reads it: nothing of it gets into an
error, and the proofs stay out of the repr.

Keyset ids are written in full, since a short one can become ambiguous later. Whether the coins are good is not known
from a token: check their DLEQ proofs (`Proof.has_valid_dleq`), and swap them.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import cbor2
from pydantic import ValidationError

from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.keyset_ids import full_id, is_supported
from wallet_actions.cashu.keysets import KeysetInfo
from wallet_actions.cashu.proofs import Proof, ProofDleq
from wallet_actions.cashu.token_forms import PREFIX, TokenVersion, mint_url, read_token, require_sane, require_text

__all__ = ["Token", "TokenSummary", "TokenVersion", "decode_token", "encode_token", "inspect_token"]

_DEFAULT_UNIT: Final = "sat"


@dataclass(frozen=True, slots=True)
class Token:
    """Coins of one mint and one unit, ready to be handed over.

    Attributes:
        mint: its address, in the one form that names its account.
        unit: of all the coins.
        memo: the sender's words; from a stranger, to be cleaned before it is shown.
        proofs: at least one, in the order in which they stand in the token.

    Raises:
        MalformedError: no coins or too many, one twice, more than 2^63 - 1 in all, or no mint's address.
    """

    mint: str
    unit: str
    memo: str | None
    proofs: tuple[Proof, ...] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mint", mint_url(self.mint))
        if not 0 < len(self.unit) <= 64:
            raise MalformedError("a token needs a unit of at most 64 characters")
        for text in (self.unit, self.memo or ""):
            require_text(text)
        require_sane([(proof.amount, proof.secret) for proof in self.proofs])

    @property
    def amount(self) -> int:
        """What the coins come to, in the unit, before anybody's input fees."""
        return sum(proof.amount for proof in self.proofs)


@dataclass(frozen=True, slots=True)
class TokenSummary:
    """What a token says of itself, without what makes it money.

    Attributes:
        mint, unit, memo: see `Token`.
        amount: what the coins come to, as the token says.
        coins: how many there are.
        keyset_ids: as they are written, short ones too; sorted.
        version: how it is written.
    """

    mint: str
    unit: str
    memo: str | None
    amount: int
    coins: int
    keyset_ids: tuple[str, ...]
    version: TokenVersion


def encode_token(token: Token, version: TokenVersion = TokenVersion.V4) -> str:
    """Write a token; equal tokens give equal text.

    Returns:
        Text without padding and without a scheme; sensitive.
    """
    match version:
        case TokenVersion.V4:
            data = cbor2.dumps(_as_v4(token))
        case TokenVersion.V3:
            data = json.dumps(_as_v3(token), separators=(",", ":"), ensure_ascii=False).encode()
    return f"{PREFIX}{version}{_base64(data)}"


def decode_token(text: str, keysets: Iterable[KeysetInfo] | None = None) -> Token:
    """Read a token.

    Args:
        text: as it was received; white space in it is passed over.
        keysets: those of the token's mint, which `inspect_token` names: short keyset ids are looked up among them, and
            every coin must be of one of them, in the token's unit. None where the mint cannot be asked: then each id
            must be a full one, and the unit is the token's word.

    Raises:
        MalformedError: not a token, of another version, of several mints, or its coins do not fit together. One
            sentence that may be shown, with nothing of the token in it.
    """
    written = read_token(text)
    units = None if keysets is None else {keyset.id: keyset.unit for keyset in keysets}
    ids = {keyset_id: _resolved(keyset_id, units) for keyset_id in written.keyset_ids}
    unit = written.unit
    if units is not None:
        found = {units[keyset_id] for keyset_id in ids.values()}
        if len(found) != 1 or unit not in {None, *found}:
            raise MalformedError("the token's coins are of another unit than it says, or of several")
        (unit,) = found
    try:
        proofs = tuple(
            Proof(
                amount=coin.amount,
                id=ids[coin.id],
                secret=coin.secret,
                C=coin.C,
                dleq=None if coin.dleq is None else ProofDleq(e=coin.dleq.e, s=coin.dleq.s, r=coin.dleq.r),
                witness=coin.witness or None,
            )
            for coin in written.coins
        )
    except ValidationError:
        raise MalformedError("a token with a coin that is not in the form of the protocol") from None
    return Token(mint=written.mint, unit=unit or _DEFAULT_UNIT, memo=written.memo, proofs=proofs)


def inspect_token(text: str) -> TokenSummary:
    """Read what a token says of itself: whose it is, before the mint is asked for its keysets.

    Raises:
        MalformedError: as `decode_token`, as far as it can be told without keysets.
    """
    written = read_token(text)
    return TokenSummary(
        mint=written.mint,
        unit=written.unit or _DEFAULT_UNIT,
        memo=written.memo,
        amount=sum(coin.amount for coin in written.coins),
        coins=len(written.coins),
        keyset_ids=tuple(sorted(written.keyset_ids)),
        version=written.version,
    )


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode().rstrip("=").replace("+", "-").replace("/", "_")


def _resolved(keyset_id: str, units: dict[str, str] | None) -> str:
    resolved = keyset_id if units is None else full_id(keyset_id, units)
    if not is_supported(resolved):
        raise MalformedError("a token with a keyset id that is short, or of a version that is not supported")
    return resolved


def _grouped(token: Token) -> dict[str, list[Proof]]:
    groups: dict[str, list[Proof]] = {}
    for proof in token.proofs:
        groups.setdefault(proof.id, []).append(proof)
    return groups


def _as_v4(token: Token) -> dict[str, object]:
    def coin(proof: Proof) -> dict[str, object]:
        fields: dict[str, object] = {"a": proof.amount, "s": proof.secret, "c": bytes.fromhex(proof.C)}
        if proof.dleq is not None:
            fields["d"] = {name: bytes.fromhex(value) for name, value in proof.dleq.model_dump().items()}
        return fields if proof.witness is None else {**fields, "w": proof.witness}

    parts = [
        {"i": bytes.fromhex(keyset_id), "p": [coin(proof) for proof in proofs]}
        for keyset_id, proofs in _grouped(token).items()
    ]
    memo = {} if token.memo is None else {"d": token.memo}
    return {"t": parts, **memo, "m": token.mint, "u": token.unit}


def _as_v3(token: Token) -> dict[str, object]:
    part = {"mint": token.mint, "proofs": [proof.model_dump(exclude_none=True) for proof in token.proofs]}
    memo = {} if token.memo is None else {"memo": token.memo}
    return {"token": [part], "unit": token.unit, **memo}
