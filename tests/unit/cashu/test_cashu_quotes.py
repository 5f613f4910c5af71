"""Quotes as mints of different ages send them, and signatures for locked ones (NUT-20)."""

from __future__ import annotations

import json

import pytest
from coincurve import PrivateKey
from pydantic import ValidationError

from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.proofs import BlindedMessage
from wallet_actions.cashu.quotes import (
    MeltQuote,
    MintQuote,
    MintQuoteState,
    MintRequestForm,
    _mint_request_digest,
    sign_mint_request,
    verify_mint_request,
)

QUOTE = "9d745270-1405-46de-b5c5-e2762b4f5e00"
PUBKEY = "03d56ce4e446a85bbdaa547b4ec2b073d40ff802831352b8272b7dd7a4de5a7cac"
OUTPUTS = [
    BlindedMessage(amount=1, id="00456a94ab4e1c46", B_=point)
    for point in (
        "0342e5bcc77f5b2a3c2afb40bb591a1e27da83cddc968abdc0ec4904201a201834",
        "032fd3c4dc49a2844a89998d5e9d5b0f0b00dde9310063acb8a92e2fdafa4126d4",
        "033b6fde50b6a0dfe61ad148fff167ad9cf8308ded5f6f6b2fe000a036c464c311",
        "02be5a55f03e5c0aaea77595d574bce92c6d57a2a0fb2b5955c0b87e4520e06b53",
        "02209fc2873f28521cbdde7f7b3bb1521002463f5979686fd156f23fe6a8aa2b79",
    )
]
VALID = (
    "d4b386f21f7aa7172f0994ee6e4dd966539484247ea71c99b81b8e09b1bb2acb"
    "c0026a43c221fd773471dc30d6a32b04692e6837ddaccf0830a63128308e4ee0"
)
INVALID = (
    "cb2b8e7ea69362dfe2a07093f2bbc319226db33db2ef686c940b5ec976bcbfc7"
    "8df0cd35b3e998adf437b09ee2c950bd66dfe9eb64abd706e43ebc7c669c36c3"
)


def test_mint_request_signature_vectors() -> None:
    """NUT-20: the published valid and invalid signature."""
    assert verify_mint_request(QUOTE, OUTPUTS, PUBKEY, VALID)
    assert not verify_mint_request(QUOTE, OUTPUTS, PUBKEY, INVALID)
    assert not verify_mint_request(QUOTE, OUTPUTS[::-1], PUBKEY, VALID)
    assert not verify_mint_request(QUOTE + "x", OUTPUTS, PUBKEY, VALID)


def test_mint_request_signature_vector_of_the_framed_form() -> None:
    """NUT-20: the published request, signed with the key 1, of mints that frame what is signed."""
    quote = "0192d3c0-7e8a-7c3d-8e9f-1a2b3c4d5e6f"
    outputs = [
        BlindedMessage(amount=1, id="009a1f293253e41e", B_=point)
        for point in (
            "036d6caac248af96f6afa7f904f550253a0f3ef3f5aa2fe6838a95b216691468e2",
            "021f8a566c205633d029094747d2e18f44e05993dda7a5f88f496078205f656e59",
        )
    ]
    expected = (
        "4881093a332ff7c79f3e598ce5b249d64978b47165a0b19c18adf0ced0246228"
        "e61e702f0abaf1bf27b92be4336bdbabacfbe4c914076386b3c66fdcd0b3480e"
    )
    framed = MintRequestForm.FRAMED
    assert _mint_request_digest(quote, outputs, framed).hex() == (
        "c164fd384879f74ab6ea2e7cf13d90ed42e6df9d5de607eeb5c9cc7d36fb1c21"
    )
    assert sign_mint_request(quote, outputs, bytes(31) + b"\x01", framed) == expected
    pubkey = PrivateKey(bytes(31) + b"\x01").public_key.format().hex()
    assert verify_mint_request(quote, outputs, pubkey, expected, framed)
    assert not verify_mint_request(quote, outputs, pubkey, expected)
    other = [outputs[0].model_copy(update={"amount": 256}), outputs[1]]
    assert not verify_mint_request(quote, other, pubkey, expected, framed)


def test_a_signature_of_ours_holds() -> None:
    key = PrivateKey(bytes(31) + b"\x05")
    pubkey = key.public_key.format().hex()
    signature = sign_mint_request(QUOTE, OUTPUTS, key.secret)
    assert verify_mint_request(QUOTE, OUTPUTS, pubkey, signature)
    assert not verify_mint_request(QUOTE, OUTPUTS[1:], pubkey, signature)
    assert signature == sign_mint_request(QUOTE, OUTPUTS, key.secret), "a repeated request is the same bytes (L-S7)"


@pytest.mark.parametrize(
    ("pubkey", "signature"), [("", VALID), ("02zz", VALID), (PUBKEY, ""), (PUBKEY, "zz"), (PUBKEY, VALID[2:])]
)
def test_what_is_no_signature_does_not_hold(pubkey: str, signature: str) -> None:
    assert not verify_mint_request(QUOTE, OUTPUTS, pubkey, signature)


@pytest.mark.parametrize("key", [b"", bytes(32), b"\xff" * 32])
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(MalformedError):
        sign_mint_request(QUOTE, OUTPUTS, key)


def mint_quote(**fields: object) -> MintQuote:
    return MintQuote.model_validate_json(json.dumps({"quote": QUOTE, "request": "lnbc1", **fields}))


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"state": "UNPAID", "amount": 8, "unit": "sat", "expiry": None}, MintQuoteState.UNPAID),
        ({"state": "PAID", "amount_paid": 8, "amount_issued": 8}, MintQuoteState.PAID),
        ({"amount_paid": 0, "amount_issued": 0}, MintQuoteState.UNPAID),
        ({"state": None, "amount_paid": 8, "amount_issued": 0}, MintQuoteState.PAID),
        ({"amount_paid": 8, "amount_issued": 8, "updated_at": 1, "method": "bolt11"}, MintQuoteState.ISSUED),
    ],
)
def test_states_of_older_and_newer_mints(fields: dict[str, object], state: MintQuoteState) -> None:
    assert mint_quote(**fields).state is state


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"amount_paid": 8},
        {"state": "EXPIRED"},
        {"state": "UNPAID", "amount": -8},
        {"state": "UNPAID", "amount": 0},
        {"state": "UNPAID", "amount": "8"},
        {"state": "UNPAID", "amount": 2**63},
        {"state": "UNPAID", "quote": ""},
        {"state": "UNPAID", "quote": ".."},
        {"state": "UNPAID", "quote": "a b"},
        {"state": "UNPAID", "quote": "x" * 257},
        {"state": "UNPAID", "quote": "é1"},
        {"state": "UNPAID", "request": ""},
        {"amount_paid": -1, "amount_issued": 0},
    ],
)
def test_a_mint_quote_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        mint_quote(**fields)
    assert QUOTE not in str(caught.value)


MELT = {"quote": QUOTE, "amount": 100, "fee_reserve": 2, "state": "PENDING", "unit": "sat", "request": "lnbc1"}


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": 0},
        {"fee_reserve": -1},
        {"fee_reserve": 2**63},
        {"state": "paid"},
        {"state": None},
        {"change": [{}]},
        {"amount": 1.5},
    ],
)
def test_a_melt_quote_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MeltQuote.model_validate_json(json.dumps({**MELT, **fields}))


def test_ids_and_receipts_stay_out_of_a_repr() -> None:
    quote = MeltQuote.model_validate_json(json.dumps({**MELT, "payment_preimage": "ab" * 32, "paid": False}))
    shown = f"{quote!r} {mint_quote(state='PAID')!r}"
    assert QUOTE not in shown
    assert "ab" * 32 not in shown
