"""Blind signatures on secp256k1 (NUT-00) and the proof that the mint signed with its published key (NUT-12).

The wallet maps a secret to a point `Y`, hides it as `B_ = Y + rG`, and the mint answers `C_ = aB_` with its key `a`,
whose public half is `A = aG`. Taking the blinding away, `C = C_ - rA = aY`, leaves a signature that the mint has
never seen. The DLEQ proof `(e, s)` shows that the `a` in `C_` is the `a` in `A`, without which a mint could mark
coins or hand out worthless ones.

Points are coincurve's `PublicKey`, scalars 32 bytes big-endian in 1 … n - 1, and both are lower-case hex on the wire:
66 and 64 characters.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from coincurve import PublicKey

from wallet_actions.cashu.errors import MalformedError

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""How many points the curve's group has: scalars are taken modulo this."""

_DOMAIN: Final = b"Secp256k1_HashToCurve_Cashu_"
_POINT: Final = re.compile(r"0[23][0-9a-fA-F]{64}")
_SCALAR: Final = re.compile(r"[0-9a-fA-F]{64}")
_MAX_TRIES: Final = 2**16


def parse_point(text: str) -> PublicKey:
    """Read a point.

    Args:
        text: 66 hex characters, compressed.

    Raises:
        MalformedError: not that, or not on the curve.
    """
    if not _POINT.fullmatch(text):
        raise MalformedError("a curve point must be 66 hex characters that begin with 02 or 03")
    try:
        return PublicKey(bytes.fromhex(text))
    except ValueError:
        raise MalformedError("66 hex characters that are no point of the curve") from None


def parse_scalar(text: str) -> bytes:
    """Read a scalar.

    Args:
        text: 64 hex characters, big-endian.

    Raises:
        MalformedError: not that, zero, or not below the group's order.
    """
    if not _SCALAR.fullmatch(text):
        raise MalformedError("a scalar must be 64 hex characters")
    scalar = bytes.fromhex(text)
    if not 0 < int.from_bytes(scalar, "big") < ORDER:
        raise MalformedError("a scalar is zero or beyond the group's order")
    return scalar


def hash_to_curve(message: bytes) -> PublicKey:
    """Map a message to a point whose discrete logarithm nobody knows.

    Raises:
        MalformedError: no point was found in 2^16 tries; each has an even chance.
    Source: NUT-00.
    """
    digest = hashlib.sha256(_DOMAIN + message).digest()
    for counter in range(_MAX_TRIES):
        x = hashlib.sha256(digest + counter.to_bytes(4, "little")).digest()
        try:
            return PublicKey(b"\x02" + x)
        except ValueError:
            continue
    raise MalformedError("a message that maps to no point of the curve")


def y_of(secret: str) -> str:
    """The public name of a secret: `hash_to_curve` of its UTF-8 bytes, as hex. It is what NUT-07 asks after.

    Raises:
        MalformedError: the secret is no text that UTF-8 can carry.
    """
    return _point_of(secret).format().hex()


def blind(secret: str, blinding_factor: bytes) -> PublicKey:
    """Hide a secret: `B_ = Y + rG`.

    Raises:
        MalformedError: the blinding factor is no scalar.
    """
    y = _point_of(secret)
    try:
        _negated(blinding_factor)
        return y.add(blinding_factor)
    except ValueError:
        raise MalformedError("the blinding factor is no scalar") from None


def unblind(blind_signature: PublicKey, blinding_factor: bytes, key: PublicKey) -> PublicKey:
    """Take the blinding away: `C = C_ - rA`. Verify the DLEQ proof first: this accepts any point.

    Raises:
        MalformedError: the blinding factor is no scalar, or the signature is nothing but the blinding.
    """
    try:
        return PublicKey.combine_keys([blind_signature, key.multiply(_negated(blinding_factor))])
    except ValueError:
        raise MalformedError("a signature that cannot be unblinded") from None


def hash_e(*points: PublicKey) -> bytes:
    """The challenge of a DLEQ proof: SHA-256 over the hex of the uncompressed points. Source: NUT-12."""
    return hashlib.sha256("".join(point.format(compressed=False).hex() for point in points).encode()).digest()


def verify_dleq(blinded_message: PublicKey, blind_signature: PublicKey, e: bytes, s: bytes, key: PublicKey) -> bool:
    """Whether the mint signed `B_` with the key that it published: what the wallet checks that asked for `C_`.

    Args:
        blinded_message: `B_`.
        blind_signature: `C_`.
        e, s: the proof, 32 bytes each.
        key: `A`, the mint's public key for the amount.

    Returns:
        False also where `e` or `s` is no scalar.
    """
    try:
        minus_e = _negated(e)
        r1 = PublicKey.combine_keys([PublicKey.from_secret(s), key.multiply(minus_e)])
        r2 = PublicKey.combine_keys([blinded_message.multiply(s), blind_signature.multiply(minus_e)])
    except ValueError:
        return False
    return hash_e(r1, r2, key, blind_signature) == e


def verify_proof_dleq(
    secret: str, signature: PublicKey, e: bytes, s: bytes, blinding_factor: bytes, key: PublicKey
) -> bool:
    """Whether the mint signed a secret, for somebody who was given the coin together with its blinding factor.

    Args:
        signature: `C`, unblinded.
        e, s, blinding_factor: the proof, 32 bytes each.
        key: `A`, the mint's public key for the amount.

    Returns:
        False also where one of the three is no scalar.
    """
    try:
        blind_signature = PublicKey.combine_keys([signature, key.multiply(blinding_factor)])
        blinded_message = blind(secret, blinding_factor)
    except (ValueError, MalformedError):
        return False
    return verify_dleq(blinded_message, blind_signature, e, s, key)


def _point_of(secret: str) -> PublicKey:
    try:
        message = secret.encode()
    except UnicodeEncodeError:
        raise MalformedError("a secret that is no UTF-8 text") from None
    return hash_to_curve(message)


def _negated(scalar: bytes) -> bytes:
    """The scalar's negative; ValueError where it is none."""
    value = int.from_bytes(scalar, "big")
    if len(scalar) != 32 or not 0 < value < ORDER:
        raise ValueError("not a scalar")
    return (ORDER - value).to_bytes(32, "big")
