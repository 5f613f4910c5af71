"""Secrets and blinding factors that can be made again from the seed (NUT-13).

A wallet never stores what it sends to be signed: keyset id and counter name an output for ever, and the same seed
gives the same bytes, after a crash as after the loss of the device. Version 1 keysets take the pair from a BIP-32
path, `m/129372'/0'/keyset'/counter'/0` and `…/1`; version 2 keysets from HMAC-SHA256 over the keyset id and the
counter.

BIP-32 is written out here: the maintained package (`bip32`) pins a coincurve that is older than the one we need, and
this is its private half only, with the node of each keyset kept, which halves the work for an output.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from coincurve import PublicKey
from mnemonic import Mnemonic

from wallet_actions.cashu.crypto import ORDER
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.keyset_ids import KeysetVersion, keyset_version
from wallet_actions.errors import UsageError

MAX_COUNTER: Final = {KeysetVersion.V1: 2**31 - 1, KeysetVersion.V2: 2**63 - 1}
"""The last counter that a keyset of each version can have."""

_HARDENED: Final = 2**31
_PURPOSE: Final = 129372
_KEY_PURPOSE: Final = 129373
_RECEIVING, _QUOTE = 10, 20
_LOCKED_DOMAIN: Final = b"wallet_actions/cashu/locked"
_SALT: Final = re.compile(r"[0-9a-f]{32,128}")
_FINGERPRINT_DOMAIN: Final = b"wallet_actions/cashu/fingerprint"
_KDF_DOMAIN: Final = b"Cashu_KDF_HMAC_SHA256"


@dataclass(frozen=True, slots=True)
class SecretPair:
    """What one output is made of. Both halves are as good as money.

    Attributes:
        secret: 64 hex characters; as text, it is what the mint will see spent.
        blinding_factor: a scalar, 32 bytes.
    """

    secret: str = field(repr=False)
    blinding_factor: bytes = field(repr=False)


class Seed:
    """A wallet's root secret.

    Args:
        seed: 16 … 64 bytes; 64 where it comes from a mnemonic.

    Raises:
        UsageError: of another length.
    """

    __slots__ = ("_keysets", "_seed")

    def __init__(self, seed: bytes) -> None:
        if not 16 <= len(seed) <= 64:
            raise UsageError("a seed must be 16 to 64 bytes long")
        self._seed = bytes(seed)
        self._keysets: dict[str, _Node] = {}

    @classmethod
    def from_mnemonic(cls, words: str, passphrase: str = "") -> Self:
        """Read a BIP-39 mnemonic: 12, 15, 18, 21 or 24 English words.

        Case and the white space between the words do not matter. Takes some milliseconds, by design.

        Raises:
            UsageError: a wrong count, an unknown word, or a checksum that does not hold. The words are not repeated.
        """
        normal = " ".join(words.lower().split())
        mnemonic = Mnemonic("english")
        if not mnemonic.check(normal):
            raise UsageError(
                "the recovery phrase is not valid: check the number, the spelling and the order of its words"
            )
        return cls(mnemonic.to_seed(normal, passphrase))

    def __repr__(self) -> str:
        return "Seed(…)"

    @property
    def fingerprint(self) -> str:
        """Tells seeds apart and may be shown: 16 hex characters of a hash over the public key of `m/129372'`."""
        node = _Node.of(b"Bitcoin seed", self._seed).hardened(_PURPOSE)
        public_key = PublicKey.from_valid_secret(node.key).format()
        return hashlib.sha256(_FINGERPRINT_DOMAIN + public_key).hexdigest()[:16]

    def derive(self, keyset_id: str, counter: int) -> SecretPair:
        """The pair of one output.

        Args:
            keyset_id: the full id; its version decides how.
            counter: 0 … `MAX_COUNTER`. One counter makes one output, ever (L-C12).

        Raises:
            MalformedError: the keyset's version is not supported; or, once in 2^127, the counter has no pair: skip it.
            UsageError: a counter out of range.
        """
        version = keyset_version(keyset_id)
        if type(counter) is not int or not 0 <= counter <= MAX_COUNTER[version]:
            raise UsageError(f"a counter of this keyset must be an integer from 0 to {MAX_COUNTER[version]}")
        if version is KeysetVersion.V1:
            coin = self._keyset_node(keyset_id).hardened(counter)
            secret, blinding_factor = coin.plain_keys(0, 1)
            return SecretPair(secret.hex(), blinding_factor)
        message = _KDF_DOMAIN + bytes.fromhex(keyset_id) + counter.to_bytes(8, "big")
        secret = hmac.digest(self._seed, message + b"\x00", "sha256")
        reduced = int.from_bytes(hmac.digest(self._seed, message + b"\x01", "sha256"), "big") % ORDER
        return SecretPair(secret.hex(), _scalar(reduced))

    def derive_locked(self, keyset_id: str, salt: str, index: int, terms: str) -> SecretPair:
        """The pair of an output with a spending condition: its first half is the nonce that goes into the secret.

        These stand apart from the counters of NUT-13: nobody could look such outputs up with the seed alone, since
        their secrets hold the condition, and a row of them would look like the end of what the seed was used for.

        Args:
            salt: random, 32 hex characters or more, drawn for one request and stored with it.
            index: which output of the request, ≥ 0.
            terms: the condition as text.

        Raises:
            UsageError: a salt of another form.
            MalformedError: the keyset's version is not supported; or, once in 2^256, there is no pair: draw another
                salt.
        """
        keyset_version(keyset_id)
        if not _SALT.fullmatch(salt) or index < 0:
            raise UsageError("the salt of locked outputs must be at least 32 hex characters in lower case")
        message = "\0".join((keyset_id, salt, str(index), terms)).encode()
        nonce = hmac.digest(self._seed, _LOCKED_DOMAIN + message + b"\x00\x00", "sha256")
        reduced = (
            int.from_bytes(hmac.digest(self._seed, _LOCKED_DOMAIN + message + b"\x00\x01", "sha256"), "big") % ORDER
        )
        return SecretPair(nonce.hex(), _scalar(reduced))

    def quote_key(self, counter: int) -> bytes:
        """The private key that locks one mint quote to this wallet: `m/129373'/20'/0'/0'/counter`.

        Args:
            counter: 0 … 2^31 - 1, another one for each quote: a key used twice would tie the quotes together.

        Returns:
            32 bytes.

        Raises:
            UsageError: a counter out of range.
        Source: NUT-20.
        """
        if type(counter) is not int or not 0 <= counter < _HARDENED:
            raise UsageError("the counter of a quote's key must be an integer from 0 to 2^31 - 1")
        (key,) = self._key_node(_QUOTE).plain_keys(counter)
        return key

    def receiving_keys(self, first: int, count: int) -> tuple[bytes, ...]:
        """The private keys that senders lock coins to for this wallet: `m/129373'/10'/0'/0'/counter`.

        Args:
            first: the first counter, 0 … 2^31 - 1; another one for each payment, since a key that is shown twice ties
                the payments together.
            count: how many, one after another, ≥ 0.

        Returns:
            32 bytes each.

        Raises:
            UsageError: a counter out of range.
        Source: NUT-11.
        """
        if not 0 <= first <= first + count <= _HARDENED:
            raise UsageError("the counter of a receiving key must be an integer from 0 to 2^31 - 1")
        return self._key_node(_RECEIVING).plain_keys(*range(first, first + count))

    def _key_node(self, use: int) -> _Node:
        node = _Node.of(b"Bitcoin seed", self._seed)
        for step in (_KEY_PURPOSE, use, 0, 0):
            node = node.hardened(step)
        return node

    def _keyset_node(self, keyset_id: str) -> _Node:
        if keyset_id not in self._keysets:
            number = int(keyset_id, 16) % (2**31 - 1)
            root = _Node.of(b"Bitcoin seed", self._seed)
            self._keysets[keyset_id] = root.hardened(_PURPOSE).hardened(0).hardened(number)
        return self._keysets[keyset_id]


class _Node(NamedTuple):
    """A private key of BIP-32 with its chain code, 32 bytes each."""

    key: bytes
    chain_code: bytes

    @classmethod
    def of(cls, chain_code: bytes, data: bytes, parent: int = 0) -> _Node:
        digest = hmac.digest(chain_code, data, hashlib.sha512)
        left = int.from_bytes(digest[:32], "big")
        if left >= ORDER:
            raise MalformedError("a derivation step without a key: skip this counter")
        return cls(_scalar((left + parent) % ORDER), digest[32:])

    def hardened(self, index: int) -> _Node:
        data = b"\x00" + self.key + (_HARDENED + index).to_bytes(4, "big")
        return self.of(self.chain_code, data, int.from_bytes(self.key, "big"))

    def plain_keys(self, *indexes: int) -> tuple[bytes, ...]:
        """The keys of children that are not hardened; the point is computed once for all."""
        point = PublicKey.from_valid_secret(self.key).format()
        parent = int.from_bytes(self.key, "big")
        return tuple(self.of(self.chain_code, point + index.to_bytes(4, "big"), parent).key for index in indexes)

    def __repr__(self) -> str:
        return "_Node(…)"


def _scalar(value: int) -> bytes:
    if value == 0:
        raise MalformedError("a derivation step without a key: skip this counter")
    return value.to_bytes(32, "big")
