"""Published test vectors that no other file has: whole messages, whole tokens, and the later editions.

| vectors (cashubtc/nuts, folder tests) | where |
|---|---|
| NUT-00: points, blinding; tokens | `test_cashu_crypto`; `test_cashu_tokens`, and here coin by coin |
| NUT-01, NUT-02: keys, ids of both versions | `test_cashu_keysets`, and here the bad keys to the letter |
| NUT-11, NUT-14: witnesses | `test_cashu_conditions` (NUT-11), here (NUT-14, and what is signed) |
| NUT-12: DLEQ proofs | `test_cashu_crypto` |
| NUT-13: secrets | `test_cashu_derivation`, and here the paths |
| NUT-20, NUT-29: signatures for quotes | `test_cashu_quotes`, and here the messages, keys and batches |
| NUT-28: blinded keys | here: such a token is refused with a reason |
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from pydantic import ValidationError

from tests.unit.cashu.token_vectors import V3, V4_MULTIPLE, V4_SINGLE
from tests.unit.cashu.vectors import KEYS_4, MNEMONIC, V1_KEYSET_ID, V1_PAIRS
from wallet_actions.cashu.derivation import Seed, _Node
from wallet_actions.cashu.keyset_ids import derive_v1
from wallet_actions.cashu.keysets import Keyset
from wallet_actions.cashu.proofs import BlindedMessage, Proof, ProofDleq
from wallet_actions.cashu.quotes import (
    MintRequestForm,
    _mint_request_digest,
    sign_mint_request,
    verify_mint_request,
)
from wallet_actions.cashu.tokens import Token, TokenVersion, decode_token, encode_token
from wallet_actions.cashu.witnesses import Keyring, Locked, _Request, is_unlocked, unlock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY_1 = bytes(31) + b"\x01"
PUBKEY_1 = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


# NUT-00: each coin of the published tokens.

COINS = {
    V3: [
        (
            2,
            "009a1f293253e41e",
            "407915bc212be61a77e3e6d2aeb4c727980bda51cd06a6afc29e2861768a7837",
            "02bc9097997d81afb2cc7346b5e4345a9346bd2a506eb7958598a72f0cf85163ea",
        ),
        (
            8,
            "009a1f293253e41e",
            "fe15109314e61d7756b0f8ee0f23a624acaa3f4e042f61433c728c7057b931be",
            "029e8e5050b890a7d6c0968db16bc1d5d5fa040ea1de284f6ec69d61299f671059",
        ),
    ],
    V4_SINGLE: [
        (
            1,
            "00ad268c4d1f5826",
            "9a6dbb847bd232ba76db0df197216b29d3b8cc14553cd27827fc1cc942fedb4e",
            "038618543ffb6b8695df4ad4babcde92a34a96bdcd97dcee0d7ccf98d472126792",
        )
    ],
    V4_MULTIPLE: [
        (
            1,
            "00ffd48b8f5ecf80",
            "acc12435e7b8484c3cf1850149218af90f716a52bf4a5ed347e48ecc13f77388",
            "0244538319de485d55bed3b29a642bee5879375ab9e7a620e11e48ba482421f3cf",
        ),
        (
            2,
            "00ad268c4d1f5826",
            "1323d3d4707a58ad2e23ada4e9f1f49f5a5b4ac7b708eb0d61f738f48307e8ee",
            "023456aa110d84b4ac747aebd82c3b005aca50bf457ebd5737a4414fac3ae7d94d",
        ),
        (
            1,
            "00ad268c4d1f5826",
            "56bcbcbb7cc6406b3fa5d57d2174f4eff8b4402b176926d3a57d3c3dcbb59d57",
            "0273129c5719e599379a974a626363c333c56cafc0e6d01abe46d5808280789c63",
        ),
    ],
}


@pytest.mark.parametrize("text", COINS)
def test_each_coin_of_a_published_token(text: str) -> None:
    """Read from it, and written into it."""
    read = decode_token(text)
    assert [(proof.amount, proof.id, proof.secret, proof.C) for proof in read.proofs] == COINS[text]
    proofs = tuple(
        Proof(amount=amount, id=keyset, secret=secret, C=point) for amount, keyset, secret, point in COINS[text]
    )
    made = Token(mint=read.mint, unit="sat", memo=read.memo, proofs=proofs)
    assert encode_token(made, TokenVersion(text[5])) == text.rstrip("=")


# NUT-01: the keysets that are to be refused, to the letter.

SHORT = "03a40f20667ed53513075dc51e715ff2046cad64eb68960632269ba7f0210e38"
UNCOMPRESSED = (
    "04fd4ce5a16b65576145949e6f99f445f8249fee17c606b688b504a849cdc452de"
    "3625246cb2c27dac965cb7200a5986467eee92eb7d496bbf1453b074e223e481"
)


@pytest.mark.parametrize("change", [{1: SHORT}, {2: UNCOMPRESSED}])
def test_a_key_that_is_cut_off_or_not_compressed(change: dict[int, str]) -> None:
    keys = KEYS_4 | change
    with pytest.raises(ValidationError):
        Keyset(id=derive_v1(keys), unit="sat", keys=keys)


# NUT-11: what is signed with SIG_ALL.

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "nut11_vectors.json").read_text())
MESSAGES = {
    "SIG_ALL swap": (
        '["P2PK",{"nonce":"c7f280eb55c1e8564e03db06973e94bc9b666d9e1ca42ad278408fe625950303",'
        '"data":"030d8acedfe072c9fa449a1efe0817157403fbec460d8e79f957966056e5dd76c1","tags":[["sigflag","SIG_ALL"]]}]'
        "02c97ee3d1db41cf0a3ddb601724be8711a032950811bf326f8219c50c4808d3cd"
        "2038ec853d65ae1b79b5cdbc2774150b2cb288d6d26e12958a16fb33c32d9a86c39"
    ),
    "SIG_ALL melt": (
        '["P2PK",{"nonce":"bbf9edf441d17097e39f5095a3313ba24d3055ab8a32f758ff41c10d45c4f3de",'
        '"data":"029116d32e7da635c8feeb9f1f4559eb3d9b42d400f9d22a64834d89cde0eb6835","tags":[["sigflag","SIG_ALL"]]}]'
        "02a9d461ff36448469dccf828fa143833ae71c689886ac51b62c8d61ddaa10028b"
        "0038ec853d65ae1b79b5cdbc2774150b2cb288d6d26e12958a16fb33c32d9a86c39"
        "cF8911fzT88aEi1d-6boZZkq5lYxbUSVs-HbJxK0"
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_message_that_a_request_is_signed_with(name: str) -> None:
    (vector,) = (vector for vector in VECTORS if vector["name"] == name)
    request = vector["request"]
    inputs = [Proof.model_validate(fields) for fields in request["inputs"]]
    outputs = [BlindedMessage.model_validate(fields) for fields in request["outputs"]]
    message = _Request.of(inputs, outputs, request.get("quote", "")).whole[0]
    assert message == MESSAGES[name]
    assert hashlib.sha256(message.encode()).hexdigest() == vector["digest"]


# NUT-13: the paths of version 1.


def test_the_paths_of_version_1() -> None:
    """`m/129372'/0'/864559728'/counter'`, then 0 for the secret and 1 for the blinding factor."""
    seed = Seed.from_mnemonic(MNEMONIC)
    keyset = _Node.of(b"Bitcoin seed", seed._seed).hardened(129372).hardened(0).hardened(864559728)
    assert seed._keyset_node(V1_KEYSET_ID) == keyset
    for counter, pair in enumerate(V1_PAIRS):
        secret, factor = keyset.hardened(counter).plain_keys(0, 1)
        assert (secret.hex(), factor.hex()) == pair


# NUT-14.

HASHED = (
    '["HTLC",{"nonce":"5d11913ee0f92fefdc82a6764fd2457a1585d418f0265b5575eb14cd3be76d94",'
    '"data":"ec4916dd28fc4c10d78e287ca5d9cc51ee1ae73cbfde08c6b37324cbfaac8bc5",'
    '"tags":[["pubkeys","0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"],'
    '["sigflag","SIG_INPUTS"]]}]'
)
HASHED_WITHOUT_KEYS = (
    '["HTLC",{"nonce":"09ef07c284bcda9a413723b8bb5d1a4bbee0e9564ba91e0d5e2b2a1071ab5c53",'
    '"data":"ec4916dd28fc4c10d78e287ca5d9cc51ee1ae73cbfde08c6b37324cbfaac8bc5"}]'
)
SIGNED = (
    "8d6da34f529edccdb6a5d2122f16293b01b38263e58733acca0ff6595515224f"
    "69b80c0933f96a729899249bc7c1a5f34efcb7cf4347f1135625449bae51f86b"
)
PREIMAGE, WRONG = KEY_1.hex(), "00" * 31 + "02"


def hashed(secret: str, witness: dict[str, object] | None = None) -> Proof:
    return Proof(
        amount=8,
        id="009a1f293253e41e",
        secret=secret,
        C="02698c4e2b5f9534cd0687d87513c759790cf829aa5739184a3e3735471fbda904",
        witness=None if witness is None else json.dumps(witness),
    )


@pytest.mark.parametrize(
    ("secret", "witness", "is_valid"),
    [
        (HASHED, {"preimage": PREIMAGE, "signatures": [SIGNED]}, True),
        (HASHED, {"preimage": WRONG, "signatures": [SIGNED]}, False),
        (HASHED, {"preimage": PREIMAGE}, False),
        (HASHED_WITHOUT_KEYS, {"preimage": PREIMAGE}, True),
        (HASHED_WITHOUT_KEYS, {"preimage": WRONG}, False),
    ],
)
def test_preimages_and_signatures(secret: str, witness: dict[str, object], is_valid: bool) -> None:
    """Judged as published; and what is published as valid is what we make with the published key and preimage."""
    assert is_unlocked([hashed(secret, witness)], now=NOW) is is_valid
    made = unlock([hashed(secret)], Keyring([KEY_1]), now=NOW, preimages=[str(witness["preimage"])])
    assert isinstance(made, Locked) is (witness["preimage"] == WRONG)
    if not isinstance(made, Locked):
        assert is_unlocked(made, now=NOW)
        assert json.loads(made[0].witness or "")["preimage"] == PREIMAGE


# NUT-20 and NUT-29.

QUOTE_KEYS = (
    "03062837166e56114b59a4d1fd3a5a812bf7aadc1dde758428cf943d80acd41539",
    "02b47d9d41725f5ce6f08c874835cef25376cb1e95f6cb073fef52ca8fd986cf15",
    "029acbd3a46fd75bc05ba0226d0b4d909b2fb6e96c80544a094a1a3567737e44d3",
    "0373e4a42fbe0a4e18aadb57cf500b655f2446b4071ee579121d2ed8905bcc49c2",
    "02b8709bfce17c10f1864f5218844533ae60930d52089669b317d8b5f474eec071",
)


def test_the_keys_that_quotes_are_locked_to() -> None:
    """`m/129373'/20'/0'/0'/counter`, the first five."""
    seed = Seed.from_mnemonic(MNEMONIC)
    made = [PrivateKey(seed.quote_key(counter)).public_key.format().hex() for counter in range(len(QUOTE_KEYS))]
    assert made == list(QUOTE_KEYS)


def messages(keyset_id: str, *points: str) -> list[BlindedMessage]:
    return [BlindedMessage(amount=1, id=keyset_id, B_=point) for point in points]


PLAIN_OUTPUTS = messages(
    "00456a94ab4e1c46",
    "0342e5bcc77f5b2a3c2afb40bb591a1e27da83cddc968abdc0ec4904201a201834",
    "032fd3c4dc49a2844a89998d5e9d5b0f0b00dde9310063acb8a92e2fdafa4126d4",
    "033b6fde50b6a0dfe61ad148fff167ad9cf8308ded5f6f6b2fe000a036c464c311",
    "02be5a55f03e5c0aaea77595d574bce92c6d57a2a0fb2b5955c0b87e4520e06b53",
    "02209fc2873f28521cbdde7f7b3bb1521002463f5979686fd156f23fe6a8aa2b79",
)
PLAIN_MESSAGE = (
    b"9d745270-1405-46de-b5c5-e2762b4f5e00"
    b"0342e5bcc77f5b2a3c2afb40bb591a1e27da83cddc968abdc0ec4904201a201834"
    b"032fd3c4dc49a2844a89998d5e9d5b0f0b00dde9310063acb8a92e2fdafa4126d4"
    b"033b6fde50b6a0dfe61ad148fff167ad9cf8308ded5f6f6b2fe000a036c464c311"
    b"02be5a55f03e5c0aaea77595d574bce92c6d57a2a0fb2b5955c0b87e4520e06b53"
    b"02209fc2873f28521cbdde7f7b3bb1521002463f5979686fd156f23fe6a8aa2b79"
)
"""Published as a list of bytes."""

BATCH_OUTPUTS = messages(
    "01" + "00" * 32,
    "036d6caac248af96f6afa7f904f550253a0f3ef3f5aa2fe6838a95b216691468e2",
    "021f8a566c205633d029094747d2e18f44e05993dda7a5f88f496078205f656e59",
)
BATCH_MESSAGE = bytes.fromhex(
    "43617368755f4d696e7451756f74655369675f76310000002430313965366435612d323334372d373030302d386338312d61316530"
    "6462663332393966000000010100000021036d6caac248af96f6afa7f904f550253a0f3ef3f5aa2fe6838a95b216691468e2000000"
    "010100000021021f8a566c205633d029094747d2e18f44e05993dda7a5f88f496078205f656e59"
)


def test_the_message_that_a_quote_is_signed_with() -> None:
    digest = _mint_request_digest("9d745270-1405-46de-b5c5-e2762b4f5e00", PLAIN_OUTPUTS, MintRequestForm.PLAIN)
    assert digest == hashlib.sha256(PLAIN_MESSAGE).digest()


def test_the_signature_of_a_batch() -> None:
    """NUT-29: each quote is signed for with all outputs of the request."""
    quote, framed = "019e6d5a-2347-7000-8c81-a1e0dbf3299f", MintRequestForm.FRAMED
    signature = (
        "0c39431338a0202568b9a1d4215c99f179cbb8ee5472ac5ae7133fbb8f99cafb"
        "b9e425ad33c60224c96b8f9f984f004379a18e9558468d129b6b03f0da6de162"
    )
    digest = _mint_request_digest(quote, BATCH_OUTPUTS, framed)
    assert digest == hashlib.sha256(BATCH_MESSAGE).digest()
    assert digest.hex() == "dad25acc587637206d73398894d337f983a0ca644746e8673727eaa0b29fa9b4"
    assert verify_mint_request(quote, BATCH_OUTPUTS, PUBKEY_1, signature, framed)
    assert sign_mint_request(quote, BATCH_OUTPUTS, KEY_1, framed) == signature
    assert not verify_mint_request(quote, BATCH_OUTPUTS[:1], PUBKEY_1, signature, framed)


def test_the_signature_of_a_batch_in_its_first_edition() -> None:
    """As first published, for the quote `locked-quote`: later editions named another quote and kept the signature."""
    signature = (
        "9408920d0b94cee5eb6df20f14d2a655e7ce2ce309dc1f1aeb69b219efe76716"
        "933b2206eba3a54f9a953c92edaa922ab3e6912e02383dda42a193409567a0dc"
    )
    assert verify_mint_request("locked-quote", BATCH_OUTPUTS, PUBKEY_1, signature)
    assert not verify_mint_request("019e6d5a-2347-7000-80fe-07ae8fa79774", BATCH_OUTPUTS, PUBKEY_1, signature)


# NUT-28.

BLINDED = {
    "amount": 64,
    "C": "0381855ddcc434a9a90b3564f29ef78e7271f8544d0056763b418b00e88525c0ff",
    "id": "009a1f293253e41e",
    "secret": (
        '["P2PK",{"nonce":"d4a17a88f5d0c09001f7b453c42c1f9d5a87363b1f6637a5a83fc31a6a3b7266",'
        '"data":"03b7c03eb05a0a539cfc438e81bcf38b65b7bb8685e8790f9b853bfe3d77ad5315","tags":[]}]'
    ),
    "dleq": {
        "s": "6178978456c42eee8eefb50830fc3146be27b05619f04e3490dc596005f0cc78",
        "e": "23f2190b18bfd043d3a526103e15f4a938d646a6bf93b017e2bb7c85e1540b32",
        "r": "d26a55aa39ca50957fdaf54036b01053b0de42048b96a6fb2a167e03f00d0a0f",
    },
    "p2pk_e": "02a8cda4cf448bfce9a9e46e588c06ea1780fcb94e3bbdf3277f42995d403a8b0c",
}
RECEIVER_KEY = bytes.fromhex("ad37e8abd800be3e8272b14045873f4353327eedeb702b72ddcc5c5adff5129c")
UNBLINDED_KEY = bytes.fromhex("47051623754422cb04bc24c0cfe2c1ddc8db1fcc18f0aa4b477df4aca2adc20e")


def test_a_coin_that_is_locked_to_a_blinded_key() -> None:
    """It is read, and locked to whoever does not blind keys; with the published key for it, it would be open."""
    entry = {"mint": "https://mint.example", "proofs": [BLINDED]}
    text = json.dumps({"token": [entry], "unit": "sat"}).encode()
    (proof,) = decode_token("cashuA" + base64.urlsafe_b64encode(text).decode()).proofs
    assert proof.dleq == ProofDleq(**BLINDED["dleq"])  # type: ignore[arg-type]
    locked = unlock([proof], Keyring([RECEIVER_KEY]), now=NOW)
    assert locked == Locked("the coins are locked to a key that this wallet does not have")
    opened = unlock([proof], Keyring([UNBLINDED_KEY]), now=NOW)
    assert not isinstance(opened, Locked)
    assert is_unlocked(opened, now=NOW)
