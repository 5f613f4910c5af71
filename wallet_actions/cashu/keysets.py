"""Keysets: which ones a mint has, their keys, and what it costs to spend their coins (NUT-01, NUT-02)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Self

from coincurve import PublicKey
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from wallet_actions.cashu.crypto import parse_point
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.keyset_ids import KeysetVersion, derive_v1, derive_v2, is_supported, keyset_version
from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.errors import RejectedError, UsageError

Unit = Annotated[str, StringConstraints(min_length=1, max_length=64)]
FeePpk = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]


class KeysetInfo(BaseModel):
    """One line of the mint's list of keysets.

    Attributes:
        id: of any version, also ones that this code cannot use; see `is_usable`.
        active: whether the mint signs new outputs with it. Coins of an inactive keyset can still be spent.
        input_fee_ppk: what each input costs, in thousandths of the unit.
        final_expiry: when the mint stops taking its coins, Unix seconds; None for never.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    unit: Unit
    active: bool
    input_fee_ppk: Annotated[FeePpk, BeforeValidator(lambda value: 0 if value is None else value)] = 0
    final_expiry: Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None = None

    def is_usable(self, now: datetime) -> bool:
        """Whether new coins may be taken of it: active, of a known version, not expired."""
        expired = bool(self.final_expiry) and now.timestamp() >= (self.final_expiry or 0)
        return self.active and is_supported(self.id) and not expired


class Keyset(BaseModel):
    """The public keys of one keyset. That they hash to its id is checked whenever one is made, also from storage.

    Attributes:
        keys: amount → public key, 66 hex characters. May hold amounts over 2^63 - 1, which no coin here can have.

    Raises:
        pydantic.ValidationError: an id of an unsupported version, a key that is no point, or an id that is not theirs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str
    unit: Unit
    keys: dict[Annotated[int, Field(gt=0, lt=2**64)], str]
    input_fee_ppk: FeePpk = 0
    final_expiry: Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None = None

    @model_validator(mode="after")
    def _id_is_theirs(self) -> Self:
        try:
            version = keyset_version(self.id)
            for key in self.keys.values():
                parse_point(key)
        except MalformedError as error:
            raise ValueError(str(error)) from None
        if version is KeysetVersion.V1:
            derived = derive_v1(self.keys)
        else:
            derived = derive_v2(
                self.keys, unit=self.unit, input_fee_ppk=self.input_fee_ppk, final_expiry=self.final_expiry
            )
        if not self.keys or derived != self.id:
            raise ValueError("the keys do not hash to the keyset's id")
        return self

    @property
    def denominations(self) -> tuple[int, ...]:
        """The amounts that a coin can have, ascending."""
        return tuple(sorted(amount for amount in self.keys if amount <= MAX_AMOUNT))

    def key(self, amount: int) -> PublicKey:
        """The mint's public key for an amount.

        Raises:
            MalformedError: there is none.
        """
        if amount not in self.keys:
            raise MalformedError("the keyset has no key for this amount")
        return parse_point(self.keys[amount])


def choose_keyset(keysets: Iterable[KeysetInfo], unit: str, *, now: datetime) -> KeysetInfo:
    """The keyset to take new coins of: usable, of the unit, with the lowest input fee.

    Between equal fees version 2 wins, since its id covers the fee; then the smallest id, so that the choice is stable.

    Raises:
        RejectedError: the mint has none.
    """
    usable = [keyset for keyset in keysets if keyset.unit == unit and keyset.is_usable(now)]
    if not usable:
        raise RejectedError(f"the mint has no keyset in use for the unit {unit!r} that this wallet knows how to use")
    return min(
        usable, key=lambda keyset: (keyset.input_fee_ppk, keyset_version(keyset.id) is KeysetVersion.V1, keyset.id)
    )


def input_fee(keyset_ids: Iterable[str], keysets: Mapping[str, KeysetInfo]) -> int:
    """What it costs to spend some coins together: the sum of their fees, rounded up to the next whole unit.

    Args:
        keyset_ids: the full keyset id of each input, with repetitions.
        keysets: by full id.

    Raises:
        UsageError: a keyset that is not among them.
    """
    try:
        total_ppk = sum(keysets[keyset_id].input_fee_ppk for keyset_id in keyset_ids)
    except KeyError:
        raise UsageError("the fee of a coin's keyset is not known") from None
    return (total_ppk + 999) // 1000
