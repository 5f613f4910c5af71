"""Witnesses: what is put beside a locked coin to spend it, and whether it would be enough (NUT-11, NUT-14).

Signatures are BIP-340 without extra randomness, so the same request is signed with the same bytes (L-S7).

With `SIG_ALL` one witness, in the first coin, covers the whole request. The message was extended while mints were in
use: once the secrets, the `B_` and a melt's quote, now the `C` and the amounts too. A mint does not say which it
expects, and counts keys and not signatures, so both are signed. HTLC preimages stand in every coin, for mints that
look for them one by one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from coincurve import PrivateKey, PublicKeyXOnly
from pydantic import BaseModel, ConfigDict, ValidationError

from wallet_actions.cashu.conditions import Condition, ConditionKind, Lock, SigFlag, lock_of, x_of
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.proofs import BlindedMessage, Proof
from wallet_actions.errors import UsageError

_NO_RANDOMNESS: Final = bytes(32)
_MAX_WITNESS_CHARS: Final = 32_768
_SIGNATURE: Final = re.compile(r"[0-9a-fA-F]{128}")
_LAST_MOMENT: Final = datetime(9999, 1, 1, tzinfo=UTC)


class Keyring:
    """The private keys that a wallet can sign with.

    Args:
        keys: 32 bytes each.

    Raises:
        MalformedError: one of them is no private key.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        try:
            made = [PrivateKey(key) for key in keys]
        except ValueError:
            raise MalformedError("a key that is no private key") from None
        self._keys = {x_of(key.public_key.format().hex()): key for key in made}

    def __repr__(self) -> str:
        return f"Keyring({len(self._keys)} keys)"

    def __contains__(self, pubkey: str) -> bool:
        return x_of(pubkey) in self._keys

    def sign(self, pubkey: str, message: str) -> str:
        """A signature on the SHA-256 of a text: 128 hex characters, the same ones each time.

        Raises:
            UsageError: the key is not among them.
        """
        if pubkey not in self:
            raise UsageError("a signature by a key that the wallet does not have")
        return self._keys[x_of(pubkey)].sign_schnorr(_digest(message), _NO_RANDOMNESS).hex()


@dataclass(frozen=True, slots=True)
class Unlock:
    """How a condition can be met.

    Attributes:
        signers: the public keys to sign with, beside those that have signed; none where none is missing.
        preimage: to be shown; sensitive until it is.
    """

    signers: tuple[str, ...] = ()
    preimage: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Locked:
    """Why a condition cannot be met.

    Attributes:
        reason: a sentence for the wallet's user.
        opens_at: when it can be, with the keys at hand; None for never.
    """

    reason: str
    opens_at: datetime | None = None


def plan_unlock(
    condition: Condition,
    keys: Keyring,
    *,
    now: datetime,
    preimages: Collection[str] = (),
    signed: Collection[str] = (),
) -> Unlock | Locked:
    """Decide whether and how a condition can be met.

    The pathway that is always open comes before the refund, so that a token is taken in the same way before and after
    its locktime by those it is meant for.

    Args:
        now: by our clock; the mint goes by its own.
        preimages: the ones that are known, 64 hex characters each.
        signed: the x-coordinates of the keys that have signed already (`x_of`).
    """
    preimage = next((known for known in preimages if condition.matches(known)), None)
    is_open = condition.kind is ConditionKind.P2PK or preimage is not None
    signers = _missing(condition.signers, condition.n_sigs, keys, signed)
    if is_open and signers is not None:
        return Unlock(signers=signers, preimage=preimage)
    refund = _missing(condition.refund, condition.n_sigs_refund, keys, signed)
    if condition.is_expired(now) and refund is not None:
        return Unlock(signers=refund)
    opens_at = None
    if refund is not None and condition.locktime is not None and not condition.is_expired(now):
        opens_at = datetime.fromtimestamp(min(condition.locktime + 1, int(_LAST_MOMENT.timestamp())), UTC)
    if not is_open:
        return Locked("the coins are locked to a preimage that this wallet does not know", opens_at)
    if any(key in keys for key in condition.signers):
        return Locked("the coins are locked to several keys, and too few of them have signed", opens_at)
    return Locked("the coins are locked to a key that this wallet does not have", opens_at)


def unlock(
    inputs: Sequence[Proof],
    keys: Keyring,
    *,
    now: datetime,
    preimages: Collection[str] = (),
    outputs: Sequence[BlindedMessage] = (),
    quote_id: str = "",
) -> tuple[Proof, ...] | Locked:
    """Put witnesses beside the coins of a request, where they are locked; the others are given back without any.

    Args:
        inputs: in the order of the request. What a witness shows already, a preimage or signatures by others, counts.
        outputs: of the request, in order; they are signed with `SIG_ALL`.
        quote_id: of a melt.

    Returns:
        The coins in order, the same bytes each time; or why one of them cannot be unlocked.

    Raises:
        MalformedError: a condition that nobody can meet, or one with `SIG_ALL` beside coins on other terms: these
            have to be spent by themselves (see `Lock.terms`).
    """
    request = _Request.of(inputs, outputs, quote_id)
    unlocked: list[Proof] = []
    for place, (proof, lock) in enumerate(zip(inputs, request.locks, strict=True)):
        if lock is None:
            unlocked.append(_with_witness(proof, None))
            continue
        shown = _shown(inputs[0] if request.is_whole else proof) or _Witness()
        messages = request.messages(proof)
        known = [*preimages, *([] if shown.preimage is None else [shown.preimage])]
        plan, theirs = plan_unlock(lock.condition, keys, now=now, preimages=known), shown.signatures or ()
        if not isinstance(plan, Locked):
            theirs = ()
        elif theirs:
            signed = _signers(lock.condition, messages, shown)
            plan = plan_unlock(lock.condition, keys, now=now, preimages=known, signed=signed)
        if isinstance(plan, Locked):
            return plan
        signatures: list[str] = []
        if not (request.is_whole and place):
            made = [keys.sign(signer, message) for message in messages for signer in plan.signers]
            signatures = list(dict.fromkeys([*theirs, *made]))
        unlocked.append(_with_witness(proof, _witness(lock.condition, signatures, plan.preimage)))
    return tuple(unlocked)


def cosign(
    inputs: Sequence[Proof], keys: Keyring, *, outputs: Sequence[BlindedMessage] = (), quote_id: str = ""
) -> tuple[Proof, ...]:
    """Sign with every key of ours that a condition names, for others to add theirs; see `unlock` for the arguments.

    Raises:
        MalformedError: as `unlock`.
    """
    request = _Request.of(inputs, outputs, quote_id)
    signed: list[Proof] = []
    for place, (proof, lock) in enumerate(zip(inputs, request.locks, strict=True)):
        if lock is None or (request.is_whole and place):
            signed.append(proof)
            continue
        shown = _shown(proof) or _Witness()
        messages = request.messages(proof)
        done = _signers(lock.condition, messages, shown)
        named = dict.fromkeys(map(x_of, (*lock.condition.signers, *lock.condition.refund)))
        ours = [f"02{x}" for x in named if f"02{x}" in keys and x not in done]
        made = [keys.sign(signer, message) for message in messages for signer in ours]
        signatures = list(dict.fromkeys([*(shown.signatures or ()), *made]))
        signed.append(_with_witness(proof, _witness(lock.condition, signatures, shown.preimage)))
    return tuple(signed)


def is_unlocked(
    inputs: Sequence[Proof], *, now: datetime, outputs: Sequence[BlindedMessage] = (), quote_id: str = ""
) -> bool:
    """Whether the witnesses of a request are enough, as a mint decides it. False for whatever is malformed.

    Args:
        inputs, outputs, quote_id: as for `unlock`.
    Cost: 0.2 s a coin at the very most, whatever stands in its witness.
    """
    try:
        request = _Request.of(inputs, outputs, quote_id)
    except MalformedError:
        return False
    for proof, lock in zip(inputs[:1] if request.is_whole else inputs, request.locks, strict=False):
        shown = _shown(proof)
        if lock is None:
            if proof.witness is not None:
                return False
        elif shown is None or not any(
            _is_met(lock.condition, message, shown, now=now) for message in request.messages(proof)
        ):
            return False
    return True


class _Witness(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)

    preimage: str | None = None
    signatures: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    """What is signed: each coin by itself, or the request as a whole."""

    locks: tuple[Lock | None, ...]
    whole: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, inputs: Sequence[Proof], outputs: Sequence[BlindedMessage], quote_id: str) -> _Request:
        locks = tuple(lock_of(proof.secret) for proof in inputs)
        if not any(lock is not None and lock.condition.sigflag is SigFlag.SIG_ALL for lock in locks):
            return cls(locks, ())
        if len({None if lock is None else lock.terms for lock in locks}) > 1:
            raise MalformedError("coins that have to be signed as a whole cannot be spent with coins on other terms")
        now = [proof.secret + proof.C for proof in inputs] + [f"{output.amount}{output.B_}" for output in outputs]
        once = [proof.secret for proof in inputs] + [output.B_ for output in outputs]
        return cls(locks, ("".join(now) + quote_id, "".join(once) + quote_id))

    @property
    def is_whole(self) -> bool:
        return bool(self.whole)

    def messages(self, proof: Proof) -> tuple[str, ...]:
        return self.whole or (proof.secret,)


def _witness(condition: Condition, signatures: Sequence[str], preimage: str | None) -> str | None:
    """What is shown. Some mints look for it even where nothing has to be: with a hash, or for a whole request."""
    is_looked_for = condition.kind is ConditionKind.HTLC or condition.sigflag is SigFlag.SIG_ALL
    shown: dict[str, object] = {} if preimage is None else {"preimage": preimage}
    return _json({**shown, "signatures": list(signatures)}) if signatures or is_looked_for else None


def _with_witness(proof: Proof, witness: str | None) -> Proof:
    return Proof(amount=proof.amount, id=proof.id, secret=proof.secret, C=proof.C, dleq=proof.dleq, witness=witness)


def _shown(proof: Proof) -> _Witness | None:
    """What a witness shows; None where it is none that a mint would read."""
    if proof.witness is None:
        return _Witness()
    if len(proof.witness) > _MAX_WITNESS_CHARS:
        return None
    try:
        return _Witness.model_validate_json(proof.witness.encode("utf-8", "replace"))
    except ValidationError:
        return None


def _is_met(condition: Condition, message: str, shown: _Witness, *, now: datetime) -> bool:
    signed = _signers(condition, (message,), shown)
    is_open = condition.kind is ConditionKind.P2PK or condition.matches(shown.preimage or "")
    if is_open and _missing(condition.signers, condition.n_sigs, Keyring(), signed) == ():
        return True
    return condition.is_expired(now) and _missing(condition.refund, condition.n_sigs_refund, Keyring(), signed) == ()


def _signers(condition: Condition, messages: Sequence[str], shown: _Witness) -> set[str]:
    """The x-coordinates of the condition's keys that have signed one of the messages."""
    signatures = shown.signatures or ()
    named = dict.fromkeys(map(x_of, (*condition.signers, *condition.refund)))
    if len(signatures) > 2 * len(named):
        return set()
    read = {bytes.fromhex(text) for text in signatures if _SIGNATURE.fullmatch(text)}
    digests = [_digest(message) for message in messages]
    found: set[str] = set()
    for x in named:
        point = PublicKeyXOnly(bytes.fromhex(x))
        if any(point.verify(signature, digest) for signature in read for digest in digests):
            found.add(x)
    return found


def _missing(pubkeys: Sequence[str], needed: int, keys: Keyring, signed: Collection[str]) -> tuple[str, ...] | None:
    """The keys of ours that still have to sign; None where there are too few."""
    needed = min(needed, len(pubkeys)) - sum(x_of(pubkey) in signed for pubkey in pubkeys)
    ours = tuple(pubkey for pubkey in pubkeys if pubkey in keys and x_of(pubkey) not in signed)
    return ours[: max(needed, 0)] if len(ours) >= needed else None


def _digest(message: str) -> bytes:
    return hashlib.sha256(message.encode("utf-8", "replace")).digest()


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
