"""What a mint answers, read strictly: the envelopes of each request's answer.

An answer that is not JSON is a fault of the way, one that is JSON of another form a fault of the mint. Neither error
repeats what was in it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue, RootModel, ValidationError

from wallet_actions.cashu.errors import MintLiedError
from wallet_actions.cashu.keysets import KeysetInfo
from wallet_actions.cashu.proofs import BlindedMessage, BlindSignature, PointHex
from wallet_actions.cashu.quotes import MintQuote
from wallet_actions.errors import TransientError

_FROM_MINT: Final = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)
_Answer = TypeVar("_Answer", bound=BaseModel)

_FIELD_NAME: Final = re.compile(r"[A-Za-z_]{1,16}")
"""What an error repeats of where a fault lies; other keys of an answer may be any text."""


class SpendState(StrEnum):
    """Where a coin stands at the mint (NUT-07). PENDING: an operation under way has it."""

    UNSPENT = "UNSPENT"
    PENDING = "PENDING"
    SPENT = "SPENT"


class MintInfo(BaseModel):
    """What the mint says of itself (NUT-06).

    Attributes:
        nuts: the protocol's optional parts, by number, with their settings.
    """

    model_config = _FROM_MINT

    name: str | None = None
    version: str | None = None
    nuts: dict[str, JsonValue] | None = None

    def supports(self, nut: int) -> bool:
        """Whether the mint says that it has a part of the protocol, and has not switched it off."""
        settings = (self.nuts or {}).get(str(nut))
        if not isinstance(settings, dict):
            return bool(settings)
        return bool(settings.get("supported", not settings.get("disabled", False)))

    def offers(self, nut: int, unit: str, *, method: str = "bolt11") -> bool:
        """Whether the mint lists a way to pay and a unit under a part of the protocol, as it does for NUT-15."""
        return any(entry.get("unit") == unit and entry.get("method") == method for entry in self._entries(nut))

    def announces(self, topic: str) -> bool:
        """Whether the mint tells of changes of a kind over a websocket, in any unit (NUT-17).

        Args:
            topic: `proof_state`, `bolt11_mint_quote` or `bolt11_melt_quote`.
        """
        commands = [entry.get("commands") for entry in self._entries(17)]
        return any(isinstance(listed, list) and topic in listed for listed in commands)

    @property
    def most_quotes(self) -> int:
        """How many quotes may be minted in one request: 1 where the mint has no batches (NUT-29) or gives no number."""
        settings = (self.nuts or {}).get("29")
        most = settings.get("max_batch_size") if isinstance(settings, dict) and self.supports(29) else None
        return most if type(most) is int and most > 0 else 1

    def _entries(self, nut: int) -> list[dict[str, JsonValue]]:
        settings = (self.nuts or {}).get(str(nut))
        listed = [settings.get("methods"), settings.get("supported")] if isinstance(settings, dict) else [settings]
        return [
            entry for entries in listed if isinstance(entries, list) for entry in entries if isinstance(entry, dict)
        ]


class Keysets(BaseModel):
    """The answer to `GET /v1/keysets`."""

    model_config = _FROM_MINT

    keysets: tuple[KeysetInfo, ...]


class KeySheet(BaseModel):
    """The keys of one keyset as the mint sends them, not yet checked against its id."""

    model_config = _FROM_MINT

    id: str
    unit: str
    keys: dict[int, str]
    input_fee_ppk: int | None = None
    final_expiry: int | None = None


class KeySheets(BaseModel):
    """The answer to `GET /v1/keys/…`."""

    model_config = _FROM_MINT

    keysets: tuple[KeySheet, ...]


class Signatures(BaseModel):
    """The answer to a mint or a swap."""

    model_config = _FROM_MINT

    signatures: tuple[BlindSignature, ...]


class State(BaseModel):
    """Where one coin stands."""

    model_config = _FROM_MINT

    Y: PointHex
    state: SpendState


class States(BaseModel):
    """The answer to a check."""

    model_config = _FROM_MINT

    states: tuple[State, ...]


class Restored(BaseModel):
    """The answer to a restore: outputs that were signed, and their signatures, pairwise."""

    model_config = _FROM_MINT

    outputs: tuple[BlindedMessage, ...]
    signatures: tuple[BlindSignature, ...]


def _known(quotes: object) -> object:
    """Some mints leave out what they do not know, others say so."""
    if not isinstance(quotes, list):
        return quotes
    return tuple(quote for quote in quotes if not (isinstance(quote, dict) and quote.get("unknown") is True))


class MintQuotes(RootModel[Annotated[tuple[MintQuote, ...], BeforeValidator(_known)]]):
    """The answer to a check of several mint quotes: of those that the mint knows."""

    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)


def decoded(what: str, model: type[_Answer], body: bytes) -> _Answer:
    """Read an answer.

    Args:
        what: the request's name, for the message.

    Raises:
        TransientError: not JSON.
        MintLiedError: of another form.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        raise TransientError(f"the answer to a {what} is not JSON; a proxy may have answered for the mint")
    where = ".".join(str(step) for step in first["loc"] if isinstance(step, int) or _FIELD_NAME.fullmatch(step))
    raise MintLiedError(f"the answer to a {what} is not in the form of the protocol (at {where or 'its top'})")
