"""The wallet's own keys: what senders lock coins to, and what such coins are unlocked with (NUT-11, NUT-14).

A receiving key follows from the seed and a durable counter, so that no private key is ever stored. After a restore
from the mnemonic alone nobody knows how far the counter was; so some keys beyond it count as ours too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from coincurve import PublicKey

from wallet_actions.cashu.conditions import x_of
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.witnesses import Keyring
from wallet_actions.errors import UsageError
from wallet_actions.store import Store

COUNTER: Final = "cashu-receiving-key"
LOOK_AHEAD: Final = 25

_KEY_BYTES: Final = 32


class OwnKeys:
    """The keys of one wallet.

    Args:
        store: has the counter.
        imported: private keys that the app brings along, 32 bytes each; never stored.

    Raises:
        UsageError: one of them is no private key.
    """

    def __init__(self, store: Store, seed: Seed, imported: Iterable[bytes] = ()) -> None:
        self._store = store
        self._seed = seed
        self._imported = tuple(imported)
        self._derived: list[bytes] = []
        self._places: dict[str, int] = {}
        try:
            if any(len(key) != _KEY_BYTES for key in self._imported):
                raise MalformedError("a key of another length")
            self._ring = Keyring(self._imported)
        except MalformedError:
            raise UsageError("one of the imported keys is no private key; they are 32 bytes each") from None

    def __repr__(self) -> str:
        return f"OwnKeys(imported={len(self._imported)})"

    async def new(self) -> str:
        """A public key that was never shown before: 66 hex characters.

        Durability: its counter is taken for good when it returns. Idempotent: no, each call gives another one.
        """
        counter = await self._store.allocate(COUNTER)
        (key,) = self._seed.receiving_keys(counter, 1)
        return PublicKey.from_valid_secret(key).format().hex()

    async def keyring(self) -> Keyring:
        """All of them: up to the counter, `LOOK_AHEAD` beyond it, and the imported ones."""
        count = await self._next() + LOOK_AHEAD
        if count > len(self._derived):
            self._derive(max(count, len(self._derived) * 5 // 4))  # each time costs as much as all of them
        return self._ring

    async def counter_after(self, pubkeys: Iterable[str]) -> int | None:
        """Where the counter has to be, now that some keys are seen to be in use.

        Args:
            pubkeys: anybody's.
        Returns:
            None where none of them is ours, or the counter is past them.
        """
        await self.keyring()
        following = max((self._places.get(x_of(pubkey), -1) + 1 for pubkey in pubkeys), default=0)
        return following if following > await self._next() else None

    async def _next(self) -> int:
        return (await self._store.counters()).get(COUNTER, 0)

    def _derive(self, count: int) -> None:
        first = len(self._derived)
        for place, key in enumerate(self._seed.receiving_keys(first, count - first), start=first):
            self._derived.append(key)
            self._places[x_of(PublicKey.from_valid_secret(key).format().hex())] = place
        self._ring = Keyring([*self._derived, *self._imported])
