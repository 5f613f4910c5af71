"""Outputs with a spending condition: rebuilt byte for byte, and as well proved as all others."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.cashu.kit import TinyMint, scalar
from tests.unit.cashu.vectors import MNEMONIC, V1_KEYSET_ID, V2_KEYSET_ID
from wallet_actions.cashu.conditions import Condition, condition_of, hash_lock, pay_to_key
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.outputs import locked_outputs_for, outputs_for, unblind_all
from wallet_actions.cashu.tokens import Token, decode_token, encode_token
from wallet_actions.cashu.witnesses import Keyring, Locked, is_unlocked, unlock
from wallet_actions.errors import UsageError

MINT = TinyMint()
KEYSET = MINT.keyset
SEED = Seed.from_mnemonic(MNEMONIC)
SALT = "5a" * 16
KEY = scalar(100)
PUBKEY = PrivateKey(KEY).public_key.format().hex()
NOW = datetime(2026, 1, 1, tzinfo=UTC)

PINNED = {
    V1_KEYSET_ID: [
        (
            "03411e529c4be5b7a34fb7cbe752581ff40d5742dd04aa32ea90c3f293e07641b8",
            "04786c4ecc93e1bb08fb10d5442b86aa77c1ad1d2f363a0d022a02add8282f06",
        ),
        (
            "0390539bac49d33ee252395587d6ea300dd1d1c77ed312a1cf6d07571052d3c01d",
            "6f8e68ef0bb235c3c08c7b8bc8aace2bcf4f6f6120bcef3d2cb65a14c11b4487",
        ),
    ],
    V2_KEYSET_ID: [
        (
            "03a5592f944a2e96358022e3077187ba33fc406d1853c421e91d74f7183bf77702",
            "9281aad14095785ebfa2b76d442ae0e14bd692df51802a10861a2aebf02eb516",
        ),
        (
            "02cfa531020cb6c3b123ca4e237d212f4a522bf05caf01afdfe34cf89408126ca8",
            "7974bf6e0243dd78b544b849ac7ce5396056ed22ace18123cf90fa0675589562",
        ),
    ],
}


@pytest.mark.parametrize("keyset_id", PINNED)
def test_outputs_stay_what_they_are_for_ever(keyset_id: str) -> None:
    """L-S7: a checkpoint of an earlier release makes the same request."""
    made = locked_outputs_for(SEED, keyset_id, SALT, (1, 64), pay_to_key(PUBKEY))
    assert [(output.blinded_message, output.blinding_factor.hex()) for output in made] == PINNED[keyset_id]
    assert [output.amount for output in made] == [1, 64]


@settings(deadline=None, max_examples=50)
@given(
    salt=st.binary(min_size=16, max_size=64).map(bytes.hex),
    amounts=st.lists(st.sampled_from([1, 2, 4]), max_size=4),
    sigs=st.integers(1, 2),
)
def test_outputs_are_rebuilt_from_what_a_checkpoint_holds(salt: str, amounts: list[int], sigs: int) -> None:
    other = PrivateKey(scalar(101)).public_key.format().hex()
    condition = pay_to_key(PUBKEY, pubkeys=(other,), n_sigs=sigs)
    before = locked_outputs_for(SEED, KEYSET.id, salt, amounts, condition)
    stored = Condition.model_validate_json(condition.model_dump_json())
    assert locked_outputs_for(Seed.from_mnemonic(MNEMONIC), KEYSET.id, salt, tuple(amounts), stored) == before
    assert locked_outputs_for(SEED, KEYSET.id, salt, [*amounts, 8], condition)[: len(amounts)] == before
    assert all(condition_of(output.secret) == condition for output in before)


def test_no_two_outputs_have_anything_in_common() -> None:
    """L-C12: other requests, conditions, keysets and seeds make other nonces and blinding factors."""
    lock, hashed = pay_to_key(PUBKEY), hash_lock("00" * 32)
    made = [
        *locked_outputs_for(SEED, KEYSET.id, SALT, (1, 1), lock),
        *locked_outputs_for(SEED, KEYSET.id, SALT + "00", (1, 1), lock),
        *locked_outputs_for(SEED, KEYSET.id, SALT, (1, 1), hashed),
        *locked_outputs_for(SEED, V2_KEYSET_ID, SALT, (1, 1), lock),
        *locked_outputs_for(Seed(b"another seed, of its own"), KEYSET.id, SALT, (1, 1), lock),
        *outputs_for(SEED, KEYSET.id, 0, (1, 1)),
    ]
    assert len({output.blinding_factor for output in made}) == len(made)
    assert len({output.secret for output in made}) == len(made)
    assert len({output.blinded_message for output in made}) == len(made)


@pytest.mark.parametrize("salt", ["", "5a" * 15, "5A" * 16, "xy" * 16, "5a" * 65, SALT + "\n"])
def test_a_salt_that_is_none(salt: str) -> None:
    with pytest.raises(UsageError):
        locked_outputs_for(SEED, KEYSET.id, salt, (1,), pay_to_key(PUBKEY))


def test_a_keyset_that_is_not_supported() -> None:
    with pytest.raises(MalformedError):
        locked_outputs_for(SEED, "02" + "00" * 32, SALT, (1,), pay_to_key(PUBKEY))


def test_locked_coins_go_from_hand_to_hand() -> None:
    """From the sender's request over a token to the payee's witness; the sender cannot take them back."""
    outputs = locked_outputs_for(SEED, KEYSET.id, SALT, (2, 64), pay_to_key(PUBKEY))
    coins = unblind_all(outputs, MINT.sign([output.to_message() for output in outputs]), KEYSET)
    text = encode_token(Token(mint="https://mint.example", unit="sat", memo=None, proofs=coins))
    received = decode_token(text, [MINT.info]).proofs
    assert received == coins
    assert all(coin.has_valid_dleq(KEYSET) for coin in received)
    assert isinstance(unlock(received, Keyring(), now=NOW), Locked)
    result = unlock(received, Keyring([KEY]), now=NOW)
    assert not isinstance(result, Locked)
    assert is_unlocked(result, now=NOW)
    assert result[0].to_input()["witness"]


def test_nothing_secret_in_a_repr() -> None:
    (output,) = locked_outputs_for(SEED, KEYSET.id, SALT, (2,), pay_to_key(PUBKEY))
    assert "nonce" not in repr(output)
    assert repr(output.blinding_factor) not in repr(output)


@pytest.mark.parametrize(
    ("counter", "key"),
    [
        (0, "a9a0bcb1b7b1d69541678e4a61f65090cf59b7231d77ff87d675dde3fc272bf1"),
        (1, "f495f0e10703bb8eacdd75757b8ff50ee36efb99191903f39f8cfcb120746e52"),
        (2**31 - 1, "d0c34c433a1f3e4c231324dc8660ee935c9dde0cbf1e31ca352e5c2e26e7a6e3"),
    ],
)
def test_keys_of_quotes(counter: int, key: str) -> None:
    """NUT-20, `m/129373'/20'/0'/0'/counter`; the keys were computed with the package `bip32`."""
    assert SEED.quote_key(counter).hex() == key


@pytest.mark.parametrize("counter", [-1, 2**31, True, 1.0])
def test_counters_of_quotes_out_of_range(counter: int) -> None:
    with pytest.raises(UsageError):
        SEED.quote_key(counter)
