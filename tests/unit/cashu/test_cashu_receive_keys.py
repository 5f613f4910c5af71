"""The wallet's own keys: the seed's, by a durable counter, and those that the app brings along."""

from __future__ import annotations

import pytest
from coincurve import PrivateKey

from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.cashu import CashuWallet, Seed
from wallet_actions.cashu.keys import COUNTER, LOOK_AHEAD, OwnKeys
from wallet_actions.errors import UsageError
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

SEED = Seed.from_mnemonic(MNEMONIC)
PUBLIC = [
    "021693d45f4fdf610ae641fedb0944fb460fbb8264f21c19d2626c3da755fcbbcb",
    "0395461ab678058c0ed6aa39f38dda490eaa163e9ad27070b23ec3d06b41e07535",
    "02a05e4e593a633e9b4405f01c9632c8afde24cb613017a1aee56fd76291ad26d1",
    "033addea25c3873b93d67d536c61c9d9c993f6efd8b9dfa657951b66b5001e51dd",
    "03c964bdf42fc82b6c574615746eeca37527a24f1fdfc1b34a732c53843b5744a5",
]
"""The protocol's own test vectors, NUT-11."""


def public(key: bytes) -> str:
    return PrivateKey(key).public_key.format().hex()


def test_the_published_vectors() -> None:
    assert [public(key) for key in SEED.receiving_keys(0, 5)] == PUBLIC
    assert [public(key) for key in SEED.receiving_keys(3, 2)] == PUBLIC[3:]
    assert SEED.receiving_keys(2**31, 0) == ()
    assert len(SEED.receiving_keys(2**31 - 1, 1)) == 1


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, -1), (2**31, 1), (2**31 - 1, 2)])
def test_counters_out_of_range(first: int, count: int) -> None:
    with pytest.raises(UsageError):
        SEED.receiving_keys(first, count)


async def test_each_receiving_key_is_a_new_one_also_in_another_process() -> None:
    """L-C12: the counter is on disk before the key is shown."""
    async with MemoryStore() as store:
        wallet = CashuWallet(store, SEED)
        assert [await wallet.receiving_key() for _ in range(2)] == PUBLIC[:2]
        assert (await store.counters())[COUNTER] == 2
        assert await CashuWallet(store, SEED).receiving_key() == PUBLIC[2]


async def test_the_keyring_has_all_that_were_shown_and_some_more() -> None:
    async with MemoryStore() as store:
        imported = bytes([9]) * 32
        wallet = CashuWallet(store, SEED, keys=[imported])
        for shown in (0, 1, 40):
            if shown:
                await store.allocate(COUNTER, shown - (await store.counters()).get(COUNTER, 0))
            ring = await wallet.keyring()
            keys = SEED.receiving_keys(0, shown + LOOK_AHEAD)
            assert all(public(key) in ring for key in keys)
            assert public(imported) in ring
        assert public(SEED.receiving_keys(1000, 1)[0]) not in ring
        assert "keys" in repr(ring)
        assert imported.hex() not in repr(wallet.keys)


async def test_the_counter_follows_keys_that_are_in_use() -> None:
    async with MemoryStore() as store:
        keys = OwnKeys(store, SEED)
        assert await keys.counter_after([]) is None
        assert await keys.counter_after([public(bytes([9]) * 32)]) is None
        assert await keys.counter_after([PUBLIC[1], PUBLIC[3].upper(), PUBLIC[0]]) == 4
        # A signature does not know the other half of a key.
        assert await keys.counter_after(["02" + PUBLIC[3][2:]]) == 4
        await store.allocate(COUNTER, 4)
        assert await keys.counter_after([PUBLIC[3]]) is None
        assert await keys.counter_after([PUBLIC[4]]) == 5


async def test_an_imported_key_that_is_none_is_refused() -> None:
    async with MemoryStore() as store:
        for key in (b"", bytes(32), b"\xff" * 32, b"\1" * 31, b"\1" * 33):
            with pytest.raises(UsageError, match="no private key"):
                CashuWallet(store, SEED, keys=[key])
