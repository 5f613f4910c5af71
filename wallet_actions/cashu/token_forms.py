"""How a token is written: from text to coins that are not looked at closely yet (NUT-00).

What is read here comes from strangers, so length, depth and count are bounded before anything is made of it, and no
error has anything of the token in it.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wallet_actions.cashu.cbor import read_cbor
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.keysets import Unit
from wallet_actions.cashu.proofs import Amount, PointHex
from wallet_actions.cashu.transport import normalize_mint_url
from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.errors import UsageError

MAX_TOKEN_CHARS: Final = 2 * 1024 * 1024
"""How long a token may be as text. A thousand coins, as many as mints take at once, need about a quarter of it."""

MAX_TOKEN_COINS: Final = 10_000

PREFIX: Final = "cashu"

_SCHEME: Final = "cashu:"
_URL_SAFE: Final = str.maketrans("-_", "+/")
_SHORT_BYTES, _V2_BYTES = 8, 33
_FOREIGN: Final = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)
_Form = TypeVar("_Form", bound=BaseModel)
_Item = TypeVar("_Item")

# Without a limit, a long list of nonsense would become a longer list of complaints.
_Several = Annotated[list[_Item], Field(max_length=MAX_TOKEN_COINS)]


class TokenVersion(StrEnum):
    """How a token is written: the letter after `cashu`."""

    V3 = "A"
    V4 = "B"


class _Dleq(BaseModel):
    model_config = _FOREIGN

    e: str
    s: str
    r: str


class WrittenCoin(BaseModel):
    """A coin in version 3, and what both versions are read into."""

    model_config = _FOREIGN

    amount: Amount
    id: str
    secret: Annotated[str, Field(min_length=1, repr=False)]
    C: Annotated[PointHex, Field(repr=False)]
    dleq: Annotated[_Dleq | None, Field(repr=False)] = None
    witness: Annotated[str | None, Field(repr=False)] = None


class _V3Part(BaseModel):
    model_config = _FOREIGN

    mint: str
    proofs: _Several[WrittenCoin]


class _V3(BaseModel):
    model_config = _FOREIGN

    token: _Several[_V3Part]
    unit: Unit | None = None
    memo: str | None = None


class _V4Dleq(BaseModel):
    model_config = _FOREIGN

    e: bytes
    s: bytes
    r: bytes


class _V4Coin(BaseModel):
    model_config = _FOREIGN

    a: Amount
    s: Annotated[str, Field(min_length=1)]
    c: bytes
    d: _V4Dleq | None = None
    w: str | None = None


class _V4Part(BaseModel):
    model_config = _FOREIGN

    i: bytes
    p: _Several[_V4Coin]


class _V4(BaseModel):
    model_config = _FOREIGN

    m: str
    u: Unit
    t: _Several[_V4Part]
    d: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What stands in a token; it may name keysets by their short ids, and its points and scalars are not checked.

    Attributes:
        unit: None where version 3 leaves it out.
    """

    version: TokenVersion
    mint: str
    unit: str | None
    memo: str | None
    coins: list[WrittenCoin] = field(repr=False)

    @property
    def keyset_ids(self) -> set[str]:
        """The keysets of the coins, as they are written."""
        return {coin.id for coin in self.coins}


def read_token(text: str) -> Written:
    """Read a token of either version.

    Raises:
        MalformedError: see `decode_token`.
    """
    if len(text) > MAX_TOKEN_CHARS:
        raise MalformedError(f"a token of more than {MAX_TOKEN_CHARS} characters")
    body = "".join(text.split())
    if body[: len(_SCHEME)].lower() == _SCHEME:
        body = body[len(_SCHEME) :].removeprefix("//")
    if not body.startswith(PREFIX):
        raise MalformedError("not a Cashu token: it does not begin with cashuA or cashuB")
    letter, data = body[len(PREFIX) : len(PREFIX) + 1], body[len(PREFIX) + 1 :]
    if letter == TokenVersion.V4:
        written = _read_v4(_bytes(data))
    elif letter == TokenVersion.V3:
        written = _read_v3(_bytes(data))
    else:
        raise MalformedError("a Cashu token of a version that is not supported")
    require_sane([(coin.amount, coin.secret) for coin in written.coins])
    return written


def _read_v4(data: bytes) -> Written:
    token = _formed(_V4, read_cbor(data))
    coins: list[WrittenCoin] = []
    for part in token.t:
        if len(part.i) not in {_SHORT_BYTES, _V2_BYTES}:
            raise MalformedError("a token with a keyset id of a wrong length")
        for coin in part.p:
            dleq = None if coin.d is None else {"e": coin.d.e.hex(), "s": coin.d.s.hex(), "r": coin.d.r.hex()}
            fields = {"amount": coin.a, "id": part.i.hex(), "secret": coin.s, "C": coin.c.hex()}
            coins.append(_formed(WrittenCoin, {**fields, "dleq": dleq, "witness": coin.w}))
    return Written(TokenVersion.V4, mint_url(token.m), token.u, token.d, coins)


def _read_v3(data: bytes) -> Written:
    token = _formed(_V3, data)
    mints = {mint_url(part.mint) for part in token.token}
    if len(mints) > 1:
        raise MalformedError("a token of several mints: ask the sender for one token for each mint")
    if not mints:
        raise MalformedError("a token without coins")
    coins = [coin for part in token.token for coin in part.proofs]
    return Written(TokenVersion.V3, mints.pop(), token.unit, token.memo, coins)


def _formed(form: type[_Form], data: object) -> _Form:
    try:
        return form.model_validate_json(data) if isinstance(data, bytes) else form.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        raise MalformedError("a token whose content is not JSON")
    if first["loc"] and first["loc"][-1] in {"a", "amount"}:
        raise MalformedError("a token with an amount that is no integer from 1 to 2^63 - 1")
    raise MalformedError("a token whose content is not in the form of the protocol")


def _bytes(text: str) -> bytes:
    stripped = text.rstrip("=").translate(_URL_SAFE)
    try:
        return binascii.a2b_base64(stripped + "=" * (-len(stripped) % 4), strict_mode=True)
    except ValueError:  # which covers what is not ASCII
        raise MalformedError("a token that is cut off, or not base64") from None


def mint_url(text: str) -> str:
    """The one form of a mint's address.

    Raises:
        MalformedError: it is none.
    """
    try:
        return normalize_mint_url(text)
    except UsageError:
        raise MalformedError("a token without the address of a mint") from None


def require_text(text: str) -> None:
    """Refuse half a surrogate pair, which a string can hold and no token.

    Raises:
        MalformedError: there is one.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedError("text that UTF-8 cannot carry") from None


def require_sane(coins: Sequence[tuple[int, str]]) -> None:
    """Refuse coins that cannot make up a token.

    Args:
        coins: amount and secret of each.

    Raises:
        MalformedError: none, too many, one twice, or more than 2^63 - 1 in all.
    """
    if not coins:
        raise MalformedError("a token without coins")
    if len(coins) > MAX_TOKEN_COINS:
        raise MalformedError(f"a token of more than {MAX_TOKEN_COINS} coins")
    if len({secret for _, secret in coins}) != len(coins):
        raise MalformedError("a token with a coin twice")
    if sum(amount for amount, _ in coins) > MAX_AMOUNT:
        raise MalformedError("a token of more than 2^63 - 1 in all")
    for _, secret in coins:
        require_text(secret)
