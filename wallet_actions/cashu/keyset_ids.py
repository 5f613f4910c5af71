"""Keyset ids (NUT-02): a hash of the mint's public keys, so that a mint cannot change them unnoticed.

Version 1 ids ("00", 16 hex characters) cover the keys alone. Version 2 ids ("01", 66 characters) cover amounts, unit,
input fee and expiry too, and have a short form of 16 characters that tokens carry.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

from wallet_actions.cashu.errors import MalformedError

_V1: Final = re.compile(r"00[0-9a-f]{14}")
_V2: Final = re.compile(r"01[0-9a-f]{64}")
_SHORT: Final = re.compile(r"01[0-9a-f]{14}")
_SHORT_LENGTH: Final = 16


class KeysetVersion(StrEnum):
    """How a keyset's id is made, and how its secrets are derived (NUT-13)."""

    V1 = "00"
    V2 = "01"


def keyset_version(keyset_id: str) -> KeysetVersion:
    """The version of a full keyset id.

    Raises:
        MalformedError: neither version: a legacy base64 id, a short one, or a version that this code does not know.
    """
    if _V1.fullmatch(keyset_id):
        return KeysetVersion.V1
    if _V2.fullmatch(keyset_id):
        return KeysetVersion.V2
    raise MalformedError("a keyset id of a version that is not supported")


def is_supported(keyset_id: str) -> bool:
    """Whether this code can hold coins of the keyset."""
    return bool(_V1.fullmatch(keyset_id) or _V2.fullmatch(keyset_id))


def derive_v1(keys: Mapping[int, str]) -> str:
    """The version 1 id.

    Args:
        keys: amount → public key, 66 hex characters.
    """
    joined = b"".join(bytes.fromhex(keys[amount]) for amount in sorted(keys))
    return KeysetVersion.V1 + hashlib.sha256(joined).hexdigest()[:14]


def derive_v2(keys: Mapping[int, str], *, unit: str, input_fee_ppk: int = 0, final_expiry: int | None = None) -> str:
    """The version 2 id.

    Args:
        keys: amount → public key, 66 hex characters.
        input_fee_ppk: thousandths of a unit for each input; left out of the hash when 0.
        final_expiry: Unix seconds; left out of the hash when None or 0.
    """
    text = ",".join(f"{amount}:{keys[amount].lower()}" for amount in sorted(keys))
    text += f"|unit:{unit.lower()}"
    if input_fee_ppk:
        text += f"|input_fee_ppk:{input_fee_ppk}"
    if final_expiry:
        text += f"|final_expiry:{final_expiry}"
    return KeysetVersion.V2 + hashlib.sha256(text.encode()).hexdigest()


def short_id(keyset_id: str) -> str:
    """The 16 characters that a token carries: all of a version 1 id, the beginning of a version 2 id.

    Raises:
        MalformedError: not a full id.
    """
    keyset_version(keyset_id)
    return keyset_id[:_SHORT_LENGTH]


def full_id(keyset_id: str, known: Collection[str]) -> str:
    """Find the full id for one that may be short.

    Args:
        keyset_id: full, or the short form of a version 2 id.
        known: the full ids that the mint has.

    Raises:
        MalformedError: none of the known ids fits, or more than one does: such an id names no keyset.
    """
    if keyset_id in known:
        return keyset_id
    fitting = (
        {candidate for candidate in known if candidate.startswith(keyset_id)} if _SHORT.fullmatch(keyset_id) else set()
    )
    if len(fitting) != 1:
        raise MalformedError(
            "a keyset id that names no keyset of the mint" if not fitting else "an ambiguous short keyset id"
        )
    return fitting.pop()
