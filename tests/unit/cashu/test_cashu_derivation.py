"""NUT-13: the published vectors for both versions of keysets, BIP-32's own, and bad mnemonics."""

from __future__ import annotations

import pytest

from tests.unit.cashu.vectors import MNEMONIC, V1_KEYSET_ID, V1_PAIRS, V2_KEYSET_ID, V2_PAIRS
from wallet_actions.cashu.derivation import MAX_COUNTER, Seed, _Node
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.keyset_ids import KeysetVersion
from wallet_actions.errors import UsageError


@pytest.fixture(scope="module")
def seed() -> Seed:
    return Seed.from_mnemonic(MNEMONIC)


@pytest.mark.parametrize(("keyset_id", "pairs"), [(V1_KEYSET_ID, V1_PAIRS), (V2_KEYSET_ID, V2_PAIRS)])
def test_secret_vectors(seed: Seed, keyset_id: str, pairs: tuple[tuple[str, str], ...]) -> None:
    derived = [seed.derive(keyset_id, counter) for counter in range(len(pairs))]
    assert [(pair.secret, pair.blinding_factor.hex()) for pair in derived] == list(pairs)


def test_the_order_of_derivations_does_not_matter() -> None:
    """L-S7: a pair depends on nothing but seed, keyset and counter."""
    forward, backward = Seed.from_mnemonic(MNEMONIC), Seed.from_mnemonic(MNEMONIC)
    places = [(keyset_id, counter) for keyset_id in (V1_KEYSET_ID, V2_KEYSET_ID) for counter in (0, 1, 7)]
    first = {place: forward.derive(*place) for place in places}
    second = {place: backward.derive(*place) for place in reversed(places)}
    assert first == second
    assert len({pair.secret for pair in first.values()}) == len(places)


def test_bip32_vector_1() -> None:
    """BIP-32, test vector 1: m/0'/1/2'."""
    master = _Node.of(b"Bitcoin seed", bytes.fromhex("000102030405060708090a0b0c0d0e0f"))
    assert master.key.hex() == "e8f32e723decf4051aefac8e2c93c9c5b214313817cdb01a1494b917c8436b35"
    assert master.chain_code.hex() == "873dff81c02f525623fd1fe5167eac3a55a049de3d314bb42ee227ffed37d508"
    child = master.hardened(0)
    assert child.key.hex() == "edb2e14f9ee77d26dd93b4ecede8d16ed408ce149b6cd80b0715a2d911a0afea"
    assert child.plain_keys(1)[0].hex() == "3c6cb8d0f6a264c91ea8b5030fadaa8e538b020f0a387421a12de9319dc93368"


def test_a_passphrase_makes_another_wallet(seed: Seed) -> None:
    other = Seed.from_mnemonic(MNEMONIC, passphrase="x")
    assert other.derive(V2_KEYSET_ID, 0) != seed.derive(V2_KEYSET_ID, 0)


def test_case_and_white_space_do_not_matter(seed: Seed) -> None:
    spread = "  " + MNEMONIC.upper().replace(" ", " \n\t") + " "
    assert Seed.from_mnemonic(spread).derive(V1_KEYSET_ID, 3) == seed.derive(V1_KEYSET_ID, 3)


@pytest.mark.parametrize(
    "words",
    [
        "",
        MNEMONIC.rsplit(" ", 1)[0],
        MNEMONIC.replace("half", "halfway"),
        MNEMONIC.replace("humble", "sugar"),
        " ".join(reversed(MNEMONIC.split())),
        MNEMONIC + " half",
        "ä " * 12,
    ],
)
def test_a_wrong_mnemonic_is_refused_without_repeating_it(words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Seed.from_mnemonic(words)
    told = str(caught.value).split()
    assert not {word for word in words.lower().split() if len(word) > 4} & set(told)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("length", [0, 15, 65])
def test_a_seed_of_a_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(UsageError):
        Seed(bytes(length))


@pytest.mark.parametrize("keyset_id", [V1_KEYSET_ID, V2_KEYSET_ID])
def test_a_counter_out_of_range_is_refused(seed: Seed, keyset_id: str) -> None:
    """L-C12: a counter that wraps would be used twice."""
    last = MAX_COUNTER[KeysetVersion(keyset_id[:2])]
    assert seed.derive(keyset_id, last) != seed.derive(keyset_id, last - 1)
    for counter in (-1, last + 1, True):
        with pytest.raises(UsageError):
            seed.derive(keyset_id, counter)


@pytest.mark.parametrize(
    "keyset_id", ["", "L3zxxRB/I8uE", "02" + "00" * 32, "01" + "00" * 7, "00" + "AB" * 7, "009a1f29"]
)
def test_an_unsupported_keyset_is_refused(seed: Seed, keyset_id: str) -> None:
    with pytest.raises(MalformedError):
        seed.derive(keyset_id, 0)


def test_nothing_secret_in_a_repr(seed: Seed) -> None:
    seed.derive(V1_KEYSET_ID, 0)
    pair = seed.derive(V2_KEYSET_ID, 0)
    shown = f"{seed!r} {pair!r} {seed._keysets!r}"
    assert pair.secret not in shown
    assert pair.blinding_factor.hex() not in shown
    assert repr(pair.blinding_factor) not in shown
    assert repr(seed._seed) not in shown
    assert repr(seed._keysets[V1_KEYSET_ID].key) not in shown


def test_a_fingerprint_tells_seeds_apart_and_nothing_else(seed: Seed) -> None:
    """Kept in files for good, so it must never change."""
    assert seed.fingerprint == Seed.from_mnemonic(MNEMONIC).fingerprint == "3e51df64c85650ea"
    assert Seed.from_mnemonic(MNEMONIC, "another").fingerprint != seed.fingerprint
