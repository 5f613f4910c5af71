"""Spending conditions: ecash that takes more than its secret to spend (NUT-10, NUT-11, NUT-14).

A locked coin's secret is JSON text that names its condition. P2PK asks for signatures by `n_sigs` of some keys; HTLC
for the preimage of a hash, and for signatures where it names keys. Once `locktime` has passed, either may also be
spent by `n_sigs_refund` of the refund keys, or by anybody where there are none; what held before holds on.

Whether a locktime has passed is decided by the mint's clock, not by ours. Keys are equal where their x-coordinates are:
a signature (BIP-340) does not know the other half.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, model_validator

from wallet_actions.cashu.crypto import parse_point
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.proofs import PointHex, ScalarHex
from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.errors import UsageError

MAX_KEYS: Final = 16
"""How many keys a pathway may name; mints take secrets of about a thousand characters, which hold fewer."""

MAX_SECRET_CHARS: Final = 16_384

Keys = Annotated[tuple[PointHex, ...], Field(max_length=MAX_KEYS)]
_Count = Annotated[int, Field(ge=1, le=MAX_KEYS)]
_Digits: Final = re.compile(r"[0-9]{1,19}")
_Tag = Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_KEYS + 1)]


class ConditionKind(StrEnum):
    """What a locked coin asks for: signatures, or the preimage of a hash."""

    P2PK = "P2PK"
    HTLC = "HTLC"


class SigFlag(StrEnum):
    """What a signature covers: its own coin, or the whole request with all coins and outputs."""

    SIG_INPUTS = "SIG_INPUTS"
    SIG_ALL = "SIG_ALL"


class Condition(BaseModel):
    """What it takes to spend a coin. It holds no secret, and may stand in a checkpoint.

    Attributes:
        kind: P2PK or HTLC.
        data: the first key (P2PK), or the SHA-256 of the preimage (HTLC); hex.
        pubkeys: further keys; for HTLC, all keys.
        n_sigs: how many of `data` (P2PK) and `pubkeys` have to sign.
        locktime: Unix seconds; None locks for ever.
        refund: the keys that may sign after `locktime`.
        n_sigs_refund: how many of them have to.
        sigflag: what a signature covers.

    Raises:
        pydantic.ValidationError: a key that is none or stands twice in a pathway, or more signatures than keys.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: ConditionKind
    data: str
    pubkeys: Keys = ()
    n_sigs: _Count = 1
    locktime: Annotated[int, Field(gt=0, le=MAX_AMOUNT)] | None = None
    refund: Keys = ()
    n_sigs_refund: _Count = 1
    sigflag: SigFlag = SigFlag.SIG_INPUTS

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.kind is ConditionKind.HTLC:
            TypeAdapter(ScalarHex).validate_python(self.data)
        for path, needed in ((self.signers, self.n_sigs), (self.refund, self.n_sigs_refund)):
            try:
                for key in path:
                    parse_point(key)
            except MalformedError as error:
                raise ValueError(str(error)) from None
            if len({x_of(key) for key in path}) != len(path):
                raise ValueError("a key stands twice")
            if needed > max(len(path), 1):
                raise ValueError("more signatures are asked for than there are keys")
        return self

    @property
    def signers(self) -> tuple[str, ...]:
        """The keys of the pathway that is always open, hex; none where the preimage is enough."""
        return (self.data, *self.pubkeys) if self.kind is ConditionKind.P2PK else self.pubkeys

    def is_expired(self, now: datetime) -> bool:
        """Whether the locktime has passed, as far as our clock tells."""
        return self.locktime is not None and now.timestamp() > self.locktime

    def matches(self, preimage: str) -> bool:
        """Whether a preimage (64 hex characters) opens the hash. False also for other text, and for P2PK."""
        if self.kind is not ConditionKind.HTLC or not re.fullmatch(r"[0-9a-fA-F]{64}", preimage):
            return False
        return hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == self.data.lower()


def pay_to_key(
    pubkey: str,
    *,
    pubkeys: tuple[str, ...] = (),
    n_sigs: int = 1,
    locktime: datetime | None = None,
    refund: tuple[str, ...] = (),
    n_sigs_refund: int = 1,
    sigflag: SigFlag = SigFlag.SIG_INPUTS,
) -> Condition:
    """Lock coins to a key, or to several of which some have to sign. Source: NUT-11.

    Args:
        pubkey, pubkeys: compressed, 66 hex characters each.
        locktime: from then on `refund` may spend too, or anybody where it is empty.

    Raises:
        UsageError: not keys, a key twice, more signatures than keys, or refund keys without a locktime.
    """
    return _built(ConditionKind.P2PK, pubkey, pubkeys, n_sigs, locktime, refund, n_sigs_refund, sigflag)


def hash_lock(
    digest: str,
    *,
    pubkeys: tuple[str, ...] = (),
    n_sigs: int = 1,
    locktime: datetime | None = None,
    refund: tuple[str, ...] = (),
    n_sigs_refund: int = 1,
    sigflag: SigFlag = SigFlag.SIG_INPUTS,
) -> Condition:
    """Lock coins to the preimage of a hash and, where keys are given, to them too. Source: NUT-14.

    Args:
        digest: the SHA-256 of 32 bytes, 64 hex characters.
        locktime: see `pay_to_key`.

    Raises:
        UsageError: as `pay_to_key`, or not a hash.
    """
    return _built(ConditionKind.HTLC, digest, pubkeys, n_sigs, locktime, refund, n_sigs_refund, sigflag)


def locked_secret(condition: Condition, nonce: str) -> str:
    """The secret of a coin with a condition; equal arguments give equal text.

    Args:
        nonce: 64 hex characters; as unforeseeable as a secret, and never used twice.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", nonce):
        raise UsageError("the nonce of a locked secret must be 64 hex characters in lower case")
    tags: list[list[str]] = [["sigflag", condition.sigflag]]
    if condition.pubkeys:
        tags.append(["pubkeys", *condition.pubkeys])
    if condition.n_sigs > 1:
        tags.append(["n_sigs", str(condition.n_sigs)])
    if condition.locktime is not None:
        tags.append(["locktime", str(condition.locktime)])
    if condition.refund:
        tags.append(["refund", *condition.refund])
    if condition.n_sigs_refund > 1:
        tags.append(["n_sigs_refund", str(condition.n_sigs_refund)])
    body = {"nonce": nonce, "data": condition.data, "tags": tags}
    return json.dumps([condition.kind, body], separators=(",", ":"))


def condition_of(secret: str) -> Condition | None:
    """The condition that a secret names.

    Returns:
        None for a plain secret.

    Raises:
        MalformedError: a condition of a kind that is not supported, or one that a mint has to refuse for ever: a tag
            or a key twice, more signatures than keys, an unknown flag.
    """
    return None if (lock := lock_of(secret)) is None else lock.condition


class Lock(BaseModel):
    """A locked secret, read.

    Attributes:
        condition: what it asks for.
        terms: kind, data and tags as they are written: what coins must have in common to be spent with `SIG_ALL`.
    """

    model_config = ConfigDict(frozen=True)

    condition: Condition
    terms: tuple[str, str, tuple[tuple[str, ...], ...]]


def lock_of(secret: str) -> Lock | None:
    """As `condition_of`, with the terms as they are written."""
    if not secret.lstrip().startswith("["):
        return None
    if len(secret) > MAX_SECRET_CHARS:
        raise MalformedError("a locked secret that is too long")
    try:
        kind, fields = _WELL_KNOWN.validate_json(secret.encode("utf-8", "replace"))
    except ValidationError:
        return None
    if kind not in set(ConditionKind):
        raise MalformedError("a spending condition of a kind that is not supported")
    try:
        body = _Body.model_validate(fields)
        tags = {tag[0]: tag[1:] for tag in body.tags}
        if len(tags) != len(body.tags):
            raise MalformedError("a spending condition with a tag twice")
        condition = Condition(
            kind=ConditionKind(kind),
            data=body.data,
            pubkeys=tags.get("pubkeys", ()),
            n_sigs=_count(tags, "n_sigs"),
            locktime=_locktime(tags),
            refund=tags.get("refund", ()),
            n_sigs_refund=_count(tags, "n_sigs_refund"),
            sigflag=SigFlag(_only(tags, "sigflag") or SigFlag.SIG_INPUTS),
        )
    except ValueError:
        raise MalformedError("a spending condition that no mint can see fulfilled") from None
    return Lock(condition=condition, terms=(kind, body.data, body.tags))


def x_of(pubkey: str) -> str:
    """What makes keys equal: the x-coordinate, 64 hex characters in lower case."""
    return pubkey[2:].lower()


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    nonce: str
    data: str
    tags: Annotated[tuple[_Tag, ...], Field(max_length=64)] = ()


_WELL_KNOWN: Final[TypeAdapter[tuple[str, dict[str, JsonValue]]]] = TypeAdapter(
    tuple[str, dict[str, JsonValue]], config=ConfigDict(strict=True, hide_input_in_errors=True)
)


def _built(
    kind: ConditionKind,
    data: str,
    pubkeys: tuple[str, ...],
    n_sigs: int,
    locktime: datetime | None,
    refund: tuple[str, ...],
    n_sigs_refund: int,
    sigflag: SigFlag,
) -> Condition:
    if refund and locktime is None:
        raise UsageError("refund keys are of no use without a locktime")
    try:
        return Condition(
            kind=kind,
            data=data.lower(),
            pubkeys=pubkeys,
            n_sigs=n_sigs,
            locktime=None if locktime is None else int(locktime.timestamp()),
            refund=refund,
            n_sigs_refund=n_sigs_refund,
            sigflag=sigflag,
        )
    except ValidationError:
        raise UsageError(
            "a lock needs public keys of 66 hex characters or a hash of 64, no key twice in one pathway, a locktime "
            "after 1970, and no more signatures than keys"
        ) from None


def _only(tags: dict[str, tuple[str, ...]], name: str) -> str | None:
    values = tags.get(name)
    if values is None:
        return None
    if len(values) != 1:
        raise ValueError(name)
    return values[0]


def _count(tags: dict[str, tuple[str, ...]], name: str) -> int:
    text = _only(tags, name)
    if text is not None and not _Digits.fullmatch(text):
        raise ValueError(name)
    return 1 if text is None else int(text)


def _locktime(tags: dict[str, tuple[str, ...]]) -> int | None:
    """None also for what is no time: such a lock is permanent (NUT-11)."""
    values = tags.get("locktime", ())
    if len(values) != 1 or not _Digits.fullmatch(values[0]):
        return None
    return int(values[0]) if 0 < int(values[0]) <= MAX_AMOUNT else None
