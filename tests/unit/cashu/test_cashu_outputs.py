"""Outputs, proofs and coins: rebuilt byte for byte, and never accepted unverified."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.cashu.kit import TinyMint, scalar, sign
from tests.unit.cashu.vectors import MNEMONIC, V1_KEYSET_ID, V2_KEYSET_ID
from wallet_actions.cashu.crypto import hash_to_curve
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import MintLiedError
from wallet_actions.cashu.outputs import BLANK_AMOUNT, outputs_for, unblind_all, unblind_change
from wallet_actions.cashu.proofs import BlindDleq, BlindedMessage, BlindSignature, Proof, coin_of, proof_of
from wallet_actions.coins import MAX_AMOUNT, Coin
from wallet_actions.errors import InvariantError, UsageError

MINT = TinyMint()
KEYSET = MINT.keyset
SEED = Seed.from_mnemonic(MNEMONIC)
AMOUNTS = (1, 2, 64)


@settings(deadline=None)
@given(
    keyset_id=st.sampled_from([V1_KEYSET_ID, V2_KEYSET_ID, KEYSET.id]),
    first=st.integers(0, 2**31 - 20),
    amounts=st.lists(st.sampled_from([1, 2, 4, 8]), max_size=4),
)
def test_outputs_are_rebuilt_byte_for_byte(keyset_id: str, first: int, amounts: list[int]) -> None:
    """L-S6, L-S7: keyset id, first counter and amounts are all that a checkpoint needs."""
    before = outputs_for(Seed.from_mnemonic(MNEMONIC) if first % 7 == 0 else SEED, keyset_id, first, amounts)
    after = outputs_for(SEED, keyset_id, first, tuple(amounts))
    assert before == after
    requests = [json.dumps([output.to_message().model_dump() for output in made]) for made in (before, after)]
    assert requests[0] == requests[1]
    assert [output.counter for output in after] == list(range(first, first + len(amounts)))
    # A longer request that begins at the same counter begins with the same outputs.
    assert outputs_for(SEED, keyset_id, first, [*amounts, 1])[: len(amounts)] == after


def test_signatures_become_verified_coins() -> None:
    outputs = outputs_for(SEED, KEYSET.id, 5, AMOUNTS)
    proofs = unblind_all(outputs, MINT.sign([output.to_message() for output in outputs]), KEYSET)
    assert [proof.amount for proof in proofs] == list(AMOUNTS)
    for proof, output in zip(proofs, outputs, strict=True):
        expected = sign(hash_to_curve(output.secret.encode()), MINT.private_keys[proof.amount])
        assert expected.format().hex() == proof.C
        assert proof.has_valid_dleq(KEYSET)


Lie = Callable[[BlindSignature], BlindSignature]


def but(**changes: object) -> Lie:
    return lambda signature: BlindSignature.model_validate({**signature.model_dump(), **changes})


LIES: dict[str, Lie] = {
    "amount": but(amount=4),
    "another keyset": but(id=V1_KEYSET_ID),
    "no dleq": but(dleq=None),
    "another e": lambda it: but(dleq={"e": "11" * 32, "s": it.dleq.s if it.dleq else ""})(it),
    "another s": lambda it: but(dleq={"e": it.dleq.e if it.dleq else "", "s": "11" * 32})(it),
    "zero e": but(dleq={"e": "00" * 32, "s": "11" * 32}),
    "huge s": but(dleq={"e": "11" * 32, "s": "ff" * 32}),
    "not a point": but(C_="02" + "ff" * 32),
    "another point": but(C_=hash_to_curve(b"x").format().hex()),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("place", [0, 2])
def test_a_lie_in_one_signature_spoils_the_answer(lie: Lie, place: int) -> None:
    """Not a coin of the answer is accepted; the honest ones can be restored later."""
    outputs = outputs_for(SEED, KEYSET.id, 5, AMOUNTS)
    signatures = list(MINT.sign([output.to_message() for output in outputs]))
    signatures[place] = lie(signatures[place])
    with pytest.raises(MintLiedError) as caught:
        unblind_all(outputs, signatures, KEYSET)
    assert not any(output.secret in str(caught.value) for output in outputs)


def test_signatures_in_another_order_or_number_are_refused() -> None:
    outputs = outputs_for(SEED, KEYSET.id, 5, (2, 2))
    signatures = MINT.sign([output.to_message() for output in outputs])
    for wrong in (signatures[::-1], signatures[:1], (*signatures, signatures[0]), (signatures[0], signatures[0])):
        with pytest.raises(MintLiedError):
            unblind_all(outputs, wrong, KEYSET)


def test_a_key_of_another_amount_is_refused() -> None:
    """A mint that signs a 64 with its key for 1 hands out a coin that it will not take back."""
    (output,) = outputs_for(SEED, KEYSET.id, 5, [64])
    cheap = MINT.sign_one(output.to_message(), 1).model_copy(update={"amount": 64})
    with pytest.raises(MintLiedError):
        unblind_all([output], [cheap], KEYSET)


def test_a_good_signature_for_another_amount_is_refused() -> None:
    (output,) = outputs_for(SEED, KEYSET.id, 5, [64])
    less = MINT.sign_one(output.to_message(), 1)
    assert unblind_change([output], [less], KEYSET, most=64), "for change, that would be all right"
    with pytest.raises(MintLiedError):
        unblind_all([output], [less], KEYSET)


def test_an_amount_without_a_key_is_refused() -> None:
    (output,) = outputs_for(SEED, KEYSET.id, 5, [3])
    forged = BlindSignature(amount=3, id=KEYSET.id, C_=output.blinded_message, dleq=BlindDleq(e="11" * 32, s="11" * 32))
    with pytest.raises(MintLiedError):
        unblind_all([output], [forged], KEYSET)


def test_an_output_of_another_keyset_is_a_mistake_of_the_caller() -> None:
    (output,) = outputs_for(SEED, V1_KEYSET_ID, 5, [1])
    with pytest.raises(UsageError):
        unblind_all([output], [MINT.sign_one(output.to_message(), 1)], KEYSET)


def test_change_is_worth_what_the_signatures_say() -> None:
    """NUT-08: the mint signs the first blank outputs, in order, and sets the amounts."""
    outputs = outputs_for(SEED, KEYSET.id, 5, [BLANK_AMOUNT] * 4)
    messages = [output.to_message() for output in outputs]
    signatures = [MINT.sign_one(message, amount) for message, amount in zip(messages, (4, 16), strict=False)]
    change = unblind_change(outputs, signatures, KEYSET, most=20)
    assert [proof.amount for proof in change] == [4, 16]
    assert all(proof.has_valid_dleq(KEYSET) for proof in change)
    assert unblind_change(outputs, [], KEYSET, most=20) == ()
    # Found again one by one (NUT-09), where only the second was asked for.
    assert unblind_change(outputs[1:2], signatures[1:], KEYSET, most=20)[0] == change[1]


def test_change_beyond_what_was_left_over_or_asked_for_is_refused() -> None:
    outputs = outputs_for(SEED, KEYSET.id, 5, [BLANK_AMOUNT] * 2)
    signatures = [MINT.sign_one(output.to_message(), 8) for output in outputs]
    with pytest.raises(MintLiedError):
        unblind_change(outputs, signatures, KEYSET, most=15)
    with pytest.raises(MintLiedError):
        unblind_change(outputs[:1], signatures, KEYSET, most=16)
    with pytest.raises(MintLiedError):
        unblind_change(outputs, signatures[::-1], KEYSET, most=16)


def proof() -> Proof:
    outputs = outputs_for(SEED, KEYSET.id, 5, [64])
    return unblind_all(outputs, MINT.sign([output.to_message() for output in outputs]), KEYSET)[0]


def test_a_proof_goes_into_a_coin_and_comes_back() -> None:
    made = proof()
    coin = coin_of(made, mint_url="https://mint.example", unit="sat")
    assert (coin.id, coin.account, coin.unit, coin.amount) == (made.y, "https://mint.example", "sat", 64)
    assert made.y == hash_to_curve(made.secret.encode()).format().hex()
    assert proof_of(coin) == made
    assert coin_of(proof_of(coin), mint_url="https://mint.example", unit="sat").payload == coin.payload


@pytest.mark.parametrize("fault", ["id", "amount", "payload", "not json", "extra", "witness type"])
def test_a_coin_that_does_not_hold_its_proof_is_an_error_without_secrets(fault: str) -> None:
    made = proof()
    coin = coin_of(made, mint_url="https://mint.example", unit="sat")
    fields = json.loads(coin.payload)
    payload, coin_id, amount = coin.payload, coin.id, coin.amount
    match fault:
        case "id":
            coin_id = hash_to_curve(b"x").format().hex()
        case "amount":
            amount = 32
        case "payload":
            payload = json.dumps({**fields, "secret": fields["secret"] + "0"})
        case "not json":
            payload = payload[:-1]
        case "extra":
            payload = json.dumps({**fields, "p2pk_e": "02"})
        case _:
            payload = json.dumps({**fields, "witness": 7})
    broken = Coin(id=coin_id, account=coin.account, unit=coin.unit, amount=amount, payload=payload)
    with pytest.raises(InvariantError) as caught:
        proof_of(broken)
    assert made.secret not in f"{caught.value} {caught.value.__cause__}"


def test_a_proof_is_given_to_the_mint_without_what_would_unblind_it() -> None:
    """NUT-12: the blinding factor must not reach the mint."""
    made = proof()
    assert made.dleq is not None
    assert set(made.to_input()) == {"amount", "id", "secret", "C"}
    assert made.dleq.r not in json.dumps(made.to_input())
    with_witness = Proof(**{**made.to_input(), "witness": "{}"})
    assert with_witness.to_input()["witness"] == "{}"


def test_a_tampered_proof_has_no_valid_dleq() -> None:
    """NUT-12, as the receiver of a coin checks it."""
    made = proof()
    assert made.dleq is not None
    fields = made.model_dump()
    changes: list[dict[str, object]] = [
        {"amount": 32},
        {"secret": "another"},
        {"C": hash_to_curve(b"x").format().hex()},
        {"C": "02" + "ff" * 32},
        {"dleq": None},
        {"dleq": {**fields["dleq"], "r": scalar(9).hex()}},
        {"dleq": {**fields["dleq"], "e": "00" * 32}},
        {"id": V1_KEYSET_ID},
        {"amount": 3},
    ]
    assert made.has_valid_dleq(KEYSET)
    for change in changes:
        assert not Proof.model_validate({**fields, **change}).has_valid_dleq(KEYSET), change


def test_nothing_secret_in_a_repr_or_a_validation_error() -> None:
    made = proof()
    (output,) = outputs_for(SEED, KEYSET.id, 5, [64])
    assert made.dleq is not None
    shown = f"{made!r} {made} {made.dleq!r} {output!r} {coin_of(made, mint_url='https://m', unit='sat')!r}"
    for secret in (made.secret, made.C, made.dleq.r, repr(output.blinding_factor)):
        assert secret not in shown
    with pytest.raises(ValidationError) as caught:
        Proof.model_validate({**made.model_dump(), "C": made.C + "00", "dleq": {"r": made.dleq.r}})
    assert made.secret not in str(caught.value)
    assert made.C not in str(caught.value)
    assert made.dleq.r not in str(caught.value)


@pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT + 1, "1", 1.0, True, None])
def test_amounts_are_strict(amount: object) -> None:
    text = json.dumps({**proof().to_input(), "amount": amount})
    with pytest.raises(ValidationError):
        Proof.model_validate_json(text)
    signature = {"amount": amount, "id": KEYSET.id, "C_": "02" + "11" * 32}
    with pytest.raises(ValidationError):
        BlindSignature.model_validate_json(json.dumps(signature))


def test_unknown_fields_of_the_mint_are_passed_over() -> None:
    message = {"amount": 0, "id": KEYSET.id, "B_": "02" + "AB" * 32, "C_": None, "new": {"x": 1}}
    read = BlindedMessage.model_validate_json(json.dumps(message))
    assert read.B_ == "02" + "ab" * 32
