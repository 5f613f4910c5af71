"""A mint of a few lines, for tests: it signs, proves and answers as the protocol says, and holds no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from coincurve import PrivateKey, PublicKey

from wallet_actions.cashu.crypto import ORDER, hash_e, parse_point
from wallet_actions.cashu.keyset_ids import derive_v2
from wallet_actions.cashu.keysets import Keyset, KeysetInfo
from wallet_actions.cashu.proofs import BlindDleq, BlindedMessage, BlindSignature

NONCE = 7


def scalar(value: int) -> bytes:
    return value.to_bytes(32, "big")


def sign(point: PublicKey, key: PrivateKey) -> PublicKey:
    return point.multiply(key.secret)


def prove(point: PublicKey, key: PrivateKey, nonce: int = NONCE) -> tuple[bytes, bytes]:
    """The DLEQ proof (e, s) for a signature on a point."""
    r1 = PrivateKey(scalar(nonce)).public_key
    e = hash_e(r1, point.multiply(scalar(nonce)), key.public_key, sign(point, key))
    s = (nonce + int.from_bytes(e, "big") * int.from_bytes(key.secret, "big")) % ORDER
    return e, scalar(s)


@dataclass(frozen=True)
class TinyMint:
    private_keys: dict[int, PrivateKey] = field(
        default_factory=lambda: {2**power: PrivateKey(scalar(1000 + power)) for power in range(8)}
    )

    @property
    def keyset(self) -> Keyset:
        keys = {amount: key.public_key.format().hex() for amount, key in self.private_keys.items()}
        return Keyset(id=derive_v2(keys, unit="sat"), unit="sat", keys=keys)

    @property
    def info(self) -> KeysetInfo:
        return KeysetInfo(id=self.keyset.id, unit="sat", active=True)

    def sign(self, messages: Sequence[BlindedMessage]) -> tuple[BlindSignature, ...]:
        return tuple(self.sign_one(message, message.amount) for message in messages)

    def sign_one(self, message: BlindedMessage, amount: int) -> BlindSignature:
        point, key = parse_point(message.B_), self.private_keys[amount]
        e, s = prove(point, key)
        return BlindSignature(
            amount=amount,
            id=message.id,
            C_=sign(point, key).format().hex(),
            dleq=BlindDleq(e=e.hex(), s=s.hex()),
        )
