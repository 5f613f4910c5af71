"""Tokens: the published vectors, every coin there and back, and whatever else people paste."""

from __future__ import annotations

import base64
import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.cashu.kit import TinyMint
from tests.unit.cashu.token_vectors import V3, V3_PADDED, V3_UNPADDED, V4_MULTIPLE, V4_SINGLE, V4_SINGLE_RAW
from tests.unit.cashu.vectors import MNEMONIC, V1_KEYSET_ID, V2_KEYSET_ID
from wallet_actions.cashu.cbor import MAX_ITEMS
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.keysets import KeysetInfo
from wallet_actions.cashu.outputs import outputs_for, unblind_all
from wallet_actions.cashu.proofs import Proof, ProofDleq
from wallet_actions.cashu.token_forms import MAX_TOKEN_CHARS, MAX_TOKEN_COINS
from wallet_actions.cashu.tokens import Token, TokenVersion, decode_token, encode_token, inspect_token
from wallet_actions.coins import MAX_AMOUNT

MINT = TinyMint()
KEYSET = MINT.keyset
SEED = Seed.from_mnemonic(MNEMONIC)
URL = "https://mint.example"
POINT = "02" + "ab" * 32

versions = pytest.mark.parametrize("version", list(TokenVersion))


def info(keyset_id: str, unit: str = "sat") -> KeysetInfo:
    return KeysetInfo(id=keyset_id, unit=unit, active=True)


def proof(number: int = 1, *, keyset_id: str = V1_KEYSET_ID, amount: int = 1, witness: str | None = None) -> Proof:
    dleq = ProofDleq(e=f"{number:064x}", s="11" * 32, r="22" * 32) if number % 2 else None
    return Proof(amount=amount, id=keyset_id, secret=f"secret-{number}", C=POINT, dleq=dleq, witness=witness)


def token(*proofs: Proof, memo: str | None = None, unit: str = "sat") -> Token:
    return Token(mint=URL, unit=unit, memo=memo, proofs=proofs or (proof(),))


def v4(data: object) -> str:
    return "cashuB" + base64.urlsafe_b64encode(cbor2.dumps(data)).decode().rstrip("=")


def v3(data: object) -> str:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return "cashuA" + base64.urlsafe_b64encode(text).decode()


# Published vectors.


@pytest.mark.parametrize("text", [V3, V3_PADDED, V3_UNPADDED, V4_SINGLE, V4_MULTIPLE])
def test_published_tokens_are_read_and_written_again_byte_for_byte(text: str) -> None:
    read = decode_token(text)
    assert encode_token(read, TokenVersion(text[5])) == text.rstrip("=")


def test_what_the_published_tokens_hold() -> None:
    third = decode_token(V3)
    assert (third.mint, third.unit, third.memo) == ("https://8333.space:3338", "sat", "Thank you.")
    assert [(proof.amount, proof.id) for proof in third.proofs] == [(2, V1_KEYSET_ID), (8, V1_KEYSET_ID)]
    assert third.proofs[0].secret == "407915bc212be61a77e3e6d2aeb4c727980bda51cd06a6afc29e2861768a7837"
    assert third.proofs[1].C == "029e8e5050b890a7d6c0968db16bc1d5d5fa040ea1de284f6ec69d61299f671059"
    single = decode_token(V4_SINGLE)
    assert (single.mint, single.unit, single.memo, single.amount) == ("http://localhost:3338", "sat", "Thank you", 1)
    assert single.proofs[0].secret == "9a6dbb847bd232ba76db0df197216b29d3b8cc14553cd27827fc1cc942fedb4e"
    multiple = decode_token(V4_MULTIPLE)
    assert [(proof.amount, proof.id) for proof in multiple.proofs] == [
        (1, "00ffd48b8f5ecf80"),
        (2, "00ad268c4d1f5826"),
        (1, "00ad268c4d1f5826"),
    ]
    assert multiple.memo is None


def test_the_published_bytes_are_what_the_text_carries() -> None:
    text = encode_token(decode_token(V4_SINGLE))
    assert b"crawB" + base64.urlsafe_b64decode(text[6:] + "=" * (-len(text[6:]) % 4)) == V4_SINGLE_RAW


@pytest.mark.parametrize("text", ["casshuA" + V3[6:], V3[6:]])
def test_published_tokens_that_are_none(text: str) -> None:
    with pytest.raises(MalformedError, match="not a Cashu token"):
        decode_token(text)


# There and back.

proofs_made = st.lists(
    st.builds(
        lambda amount, keyset_id, witness, secret, dleq: Proof(
            amount=amount, id=keyset_id, secret=secret, C=POINT, witness=witness, dleq=dleq
        ),
        st.integers(1, 2**50),
        st.sampled_from([V1_KEYSET_ID, V2_KEYSET_ID, KEYSET.id]),
        st.none() | st.text(st.characters(codec="utf-8"), min_size=1),
        st.text(st.characters(codec="utf-8"), min_size=1),
        st.none() | st.just(ProofDleq(e="0a" * 32, s="0b" * 32, r="0c" * 32)),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda proof: proof.secret,
)


@settings(deadline=None)
@given(
    proofs=proofs_made,
    memo=st.none() | st.text(st.characters(codec="utf-8"), min_size=1),
    unit=st.sampled_from(["sat", "msat", "usd", "€"]),
    version=st.sampled_from(TokenVersion),
)
def test_every_token_comes_back_as_it_was(
    proofs: list[Proof], memo: str | None, unit: str, version: TokenVersion
) -> None:
    proofs.sort(key=lambda proof: proof.id)
    made = Token(mint=URL, unit=unit, memo=memo, proofs=tuple(proofs))
    text = encode_token(made, version)
    assert text == encode_token(Token(mint=URL + "/", unit=unit, memo=memo, proofs=tuple(proofs)), version)
    assert text.isascii()
    assert decode_token(text) == made
    ids = {proof.id for proof in proofs}
    assert decode_token(text, [info(keyset_id, unit) for keyset_id in ids]) == made
    summary = inspect_token(text)
    assert (summary.amount, summary.coins, summary.version) == (made.amount, len(proofs), version)
    assert (summary.mint, summary.unit, summary.memo) == (URL, unit, memo)
    assert summary.keyset_ids == tuple(sorted(ids))


@versions
def test_a_real_coin_keeps_a_proof_that_holds(version: TokenVersion) -> None:
    """NUT-12: whoever receives the token can check that the mint signed it."""
    outputs = outputs_for(SEED, KEYSET.id, 0, (1, 64))
    coins = unblind_all(outputs, MINT.sign([output.to_message() for output in outputs]), KEYSET)
    read = decode_token(encode_token(token(*coins), version), [MINT.info])
    assert read.proofs == coins
    assert all(coin.has_valid_dleq(KEYSET) for coin in read.proofs)


@versions
def test_text_is_taken_as_people_paste_it(version: TokenVersion) -> None:
    made = token(proof(1), proof(2, keyset_id=V2_KEYSET_ID), memo="für dich: ☕")
    text = encode_token(made, version)
    plain = text[:6] + text[6:].replace("-", "+").replace("_", "/")
    for variant in (
        f"cashu:{text}",
        f"CASHU:{text}",
        f"cashu://{text}",
        f"  {text}\n",
        "\r\n".join(text[place : place + 60] for place in range(0, len(text), 60)),
        text + "=" * (-len(text[6:]) % 4),
        plain,
    ):
        assert decode_token(variant) == made


def test_short_keyset_ids_are_looked_up() -> None:
    text = v4({"m": URL, "u": "sat", "t": [{"i": bytes.fromhex(V2_KEYSET_ID[:16]), "p": [V4_COIN]}]})
    assert inspect_token(text).keyset_ids == (V2_KEYSET_ID[:16],)
    known = [info(V2_KEYSET_ID), info(V1_KEYSET_ID), info("L3zxxRB/I8uE")]
    assert decode_token(text, known).proofs[0].id == V2_KEYSET_ID
    for unknown in (None, [], [info(V1_KEYSET_ID)], [*known, info(V2_KEYSET_ID[:16] + "00" * 25)]):
        with pytest.raises(MalformedError, match="keyset id"):
            decode_token(text, unknown)
    third = v3({"token": [{"mint": URL, "proofs": [{**V3_COIN, "id": V2_KEYSET_ID[:16]}]}]})
    assert decode_token(third, known).proofs[0].id == V2_KEYSET_ID


@versions
def test_a_keyset_that_the_mint_does_not_have(version: TokenVersion) -> None:
    with pytest.raises(MalformedError, match="names no keyset"):
        decode_token(encode_token(token(), version), [info(V2_KEYSET_ID)])


@versions
def test_units_have_to_agree(version: TokenVersion) -> None:
    text = encode_token(token(proof(1), proof(2, keyset_id=V2_KEYSET_ID)), version)
    assert decode_token(text, [info(V1_KEYSET_ID), info(V2_KEYSET_ID)]).unit == "sat"
    for known in (
        [info(V1_KEYSET_ID), info(V2_KEYSET_ID, "usd")],
        [info(V1_KEYSET_ID, "usd"), info(V2_KEYSET_ID, "usd")],
    ):
        with pytest.raises(MalformedError, match="unit"):
            decode_token(text, known)


def test_version_3_may_leave_the_unit_to_its_keysets() -> None:
    text = v3({"token": [{"mint": URL, "proofs": [V3_COIN]}]})
    assert decode_token(text).unit == "sat"
    assert decode_token(text, [info(V1_KEYSET_ID, "usd")]).unit == "usd"


def test_several_entries_of_one_mint_are_one_token_and_several_mints_none() -> None:
    second = {**V3_COIN, "secret": "other"}
    entries = [{"mint": URL, "proofs": [V3_COIN]}, {"mint": URL + "/", "proofs": [second]}]
    assert decode_token(v3({"token": entries})).amount == 2
    entries[1]["mint"] = "https://other.example"
    with pytest.raises(MalformedError, match="several mints"):
        decode_token(v3({"token": entries}))


def test_unknown_fields_are_passed_over() -> None:
    """Also ones with tags, floats and keys of other types, which newer wallets may add."""
    news: dict[object, object] = {"new": [1.5, True], b"y": {"x": None}, 7: cbor2.CBORTag(4, [1, 2])}
    dleq: dict[object, object] = {"e": b"\1" * 32, "s": b"\2" * 32, "r": b"\3" * 32, **news}
    coin: dict[object, object] = {**V4_COIN, **news, "d": dleq}
    part: dict[object, object] = {"i": V1_ID, "p": [coin], **news}
    whole: dict[object, object] = {"m": URL, "u": "sat", "t": [part], **news}
    text = v4(whole)
    assert decode_token(text).proofs[0].dleq == ProofDleq(e="01" * 32, s="02" * 32, r="03" * 32)
    third: dict[str, object] = {"token": [{"mint": URL, "proofs": [{**V3_COIN, "new": [1]}], "x": 1}], "y": [[]]}
    assert decode_token(v3(third)).amount == 1


# What is no token.

V1_ID = bytes.fromhex(V1_KEYSET_ID)
V4_COIN: dict[object, object] = {"a": 1, "s": "TOPSECRET", "c": bytes.fromhex(POINT)}
V3_COIN: dict[str, object] = {"amount": 1, "id": V1_KEYSET_ID, "secret": "TOPSECRET", "C": POINT}


def coin4(**changes: object) -> str:
    coin = dict(V4_COIN)
    coin.update(changes)
    return v4({"m": URL, "u": "sat", "t": [{"i": V1_ID, "p": [coin]}]})


def coin3(**changes: object) -> str:
    return v3({"token": [{"mint": URL, "proofs": [{**V3_COIN, **changes}]}], "unit": "sat"})


def token4(**changes: object) -> str:
    return v4({"m": URL, "u": "sat", "t": [{"i": V1_ID, "p": [V4_COIN]}], **changes})


def token3(**changes: object) -> str:
    return v3({"token": [{"mint": URL, "proofs": [V3_COIN]}], "unit": "sat", **changes})


BIG = [{**V3_COIN, "secret": f"TOPSECRET{n}", "amount": 2**62} for n in range(2)]
BAD: dict[str, tuple[str, str]] = {
    "empty": ("", "not a Cashu token"),
    "a link": ("https://mint.example", "not a Cashu token"),
    "prefix alone": ("cashu", "version"),
    "version C": ("cashuC" + V4_SINGLE[6:], "version"),
    "no content": ("cashuB", "ends too early"),
    "V4 in V3's clothes": ("cashuA" + V4_SINGLE[6:], "not JSON"),
    "V3 in V4's clothes": ("cashuB" + V3[6:], "CBOR"),
    "not base64": ("cashuB!!!!", "base64"),
    "not ASCII": ("cashuBé☕é☕", "base64"),
    "a letter too few": (V4_SINGLE[:-4], "base64|CBOR"),
    "V4 cut off": (V4_SINGLE[:100], "CBOR"),
    "V3 cut off": (V3[:202], "not JSON"),
    "V3 not UTF-8": (v3(b'{"token":[{"mint":"\xff"}]}'), "not JSON"),
    "V4 not UTF-8": (v4({"m": URL, "u": "sat"})[:6] + base64.urlsafe_b64encode(b"\xa1\x61\xff\x00").decode(), "UTF-8"),
    "V3 half a character": (v3(b'{"token":[],"memo":"\\ud800"}'), "not JSON|form"),
    "V3 deep": (v3(b'{"x":' * 5000), "not JSON|form"),
    "V4 deep": ("cashuB" + base64.urlsafe_b64encode(b"\x81" * 5000).decode(), "deep"),
    "V4 huge count": ("cashuB" + base64.urlsafe_b64encode(b"\x9b" + b"\x7f" * 8).decode(), "too early"),
    "V4 a list": (v4([1, 2]), "form"),
    "V3 a list": (v3([1, 2]), "form"),
    "V3 a number": (v3(b"1" * 5000), "form|JSON"),
    "V4 no mint": (v4({"u": "sat", "t": []}), "form"),
    "V4 a bad mint": (token4(m="ftp://TOPSECRET"), "address of a mint"),
    "V3 a bad mint": (v3({"token": [{"mint": "TOPSECRET", "proofs": [V3_COIN]}]}), "address of a mint"),
    "V3 no mint": (v3({"token": [{"proofs": [V3_COIN]}]}), "form"),
    "V4 no unit": (token4(u=""), "form"),
    "V4 unit of bytes": (token4(u=b"sat"), "form"),
    "V4 no parts": (token4(t=[]), "without coins"),
    "V4 no coins": (token4(t=[{"i": V1_ID, "p": []}]), "without coins"),
    "V3 no parts": (token3(token=[]), "without coins"),
    "V3 no coins": (token3(token=[{"mint": URL, "proofs": []}]), "without coins"),
    "V4 keyset of text": (token4(t=[{"i": V1_KEYSET_ID, "p": [V4_COIN]}]), "form"),
    "V4 keyset too long": (token4(t=[{"i": V1_ID * 2, "p": [V4_COIN]}]), "wrong length"),
    "V4 keyset of version 2": (token4(t=[{"i": b"\2" * 33, "p": [V4_COIN]}]), "not supported"),
    "V3 old keyset": (coin3(id="L3zxxRB/I8uE"), "not supported"),
    "V4 zero": (coin4(a=0), "amount"),
    "V4 negative": (coin4(a=-1), "amount"),
    "V4 too much": (coin4(a=MAX_AMOUNT + 1), "amount"),
    "V4 far too much": (coin4(a=2**200), "amount"),
    "V4 true": (coin4(a=True), "amount"),
    "V4 float": (coin4(a=1.0), "amount"),
    "V4 text": (coin4(a="1"), "amount"),
    "V3 zero": (coin3(amount=0), "amount"),
    "V3 negative": (coin3(amount=-1), "amount"),
    "V3 too much": (coin3(amount=MAX_AMOUNT + 1), "amount"),
    "V3 far too much": (coin3(amount=10**4000), "amount|JSON"),
    "V3 true": (coin3(amount=True), "amount"),
    "V3 float": (coin3(amount=1.0), "amount"),
    "V3 too much in all": (v3({"token": [{"mint": URL, "proofs": BIG}]}), "in all"),
    "V4 twice": (token4(t=[{"i": V1_ID, "p": [V4_COIN]}, {"i": b"\0" * 8, "p": [{**V4_COIN, "a": 2}]}]), "twice"),
    "V3 twice": (v3({"token": [{"mint": URL, "proofs": [V3_COIN, V3_COIN]}]}), "twice"),
    "V4 no secret": (coin4(s=""), "form"),
    "V4 secret of bytes": (coin4(s=b"TOPSECRET"), "form"),
    "V4 short point": (coin4(c=b"\2" * 32), "form"),
    "V4 long point": (coin4(c=b"\4" * 65), "form"),
    "V4 point of text": (coin4(c=POINT), "form"),
    "V3 short point": (coin3(C=POINT[:-2]), "form"),
    "V4 short proof": (coin4(d={"e": b"\1" * 31, "s": b"\2" * 32, "r": b"\3" * 32}), "form"),
    "V4 half a proof": (coin4(d={"e": b"\1" * 32, "s": b"\2" * 32}), "form"),
    "V3 half a proof": (coin3(dleq={"e": "11" * 32, "s": "22" * 32}), "form"),
    "V4 witness of bytes": (coin4(w=b"{}"), "form"),
    "V4 key twice": ("cashuB" + base64.urlsafe_b64encode(bytes.fromhex("a2616101616102")).decode(), "twice"),
}


@pytest.mark.parametrize(("text", "clue"), BAD.values(), ids=BAD)
def test_what_is_no_token_gives_one_clear_error(text: str, clue: str) -> None:
    with pytest.raises(MalformedError, match=clue) as caught:
        decode_token(text)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "TOPSECRET" not in str(caught.value)
    assert len(str(caught.value)) < 120


ONLY_WHEN_DECODED = {"V4 keyset of version 2", "V3 old keyset", "V4 short proof"}


@pytest.mark.parametrize("name", [name for name in BAD if name not in ONLY_WHEN_DECODED])
def test_what_is_no_token_is_not_summed_up_either(name: str) -> None:
    text, clue = BAD[name]
    with pytest.raises(MalformedError, match=clue):
        inspect_token(text)


@dataclass
class Effort:
    """What a reading took: how many calls, of Python's functions and of C's, and how much memory at most."""

    calls: int = 0
    peak: int = 0


@contextmanager
def measured() -> Iterator[Effort]:
    effort = Effort()

    def count(frame: object, event: str, argument: object) -> None:
        effort.calls += event in ("call", "c_call")

    tracemalloc.start()
    sys.setprofile(count)
    try:
        yield effort
    finally:
        sys.setprofile(None)
        effort.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


@pytest.mark.parametrize("filler", ["A", "_", " ", "é", "\0"])
def test_ten_megabytes_are_refused_at_once(filler: str) -> None:
    for head in ("cashuA", "cashuB", ""):
        text = head + filler * 10_000_000
        with measured() as effort, pytest.raises(MalformedError, match="more than"):
            decode_token(text)
        assert effort.calls < 1000
        assert effort.peak < 2**20


WORST = {
    "V4 integers": "cashuB" + base64.urlsafe_b64encode(b"\x9f" + b"\x00" * 1_500_000).decode(),
    "V4 empty maps": v4({"m": URL, "u": "sat", "t": [{}] * 150_000}),
    "V4 empty coins": v4({"m": URL, "u": "sat", "t": [{"i": V1_ID, "p": [{}] * 150_000}]}),
    "V3 empty coins": v3({"token": [{"mint": URL, "proofs": [{}] * 380_000}]}),
    "V3 empty parts": v3({"token": [{}] * 380_000}),
    "V3 long numbers": v3(b'{"token":[' + b"1" * 1_500_000 + b"]}"),
    "V3 unknown": v3(b'{"token":[],"x":[' + b"{}," * 380_000 + b"1]}"),
    "spaces": "cashuA" + " " * 2_000_000,
    "padding": "cashuA" + "=" * 2_000_000,
}


@pytest.mark.parametrize("text", WORST.values(), ids=WORST)
def test_the_worst_of_the_longest_tokens_take_bounded_work_and_memory(text: str) -> None:
    assert len(text) <= MAX_TOKEN_CHARS
    with measured() as effort, pytest.raises(MalformedError):
        decode_token(text)
    assert effort.calls < 10 * MAX_ITEMS
    assert effort.peak < 100 * 2**20


def test_many_coins_are_read_and_more_than_the_limit_refused() -> None:
    coins = [{"amount": 1, "id": V1_KEYSET_ID, "secret": f"{number}", "C": POINT} for number in range(6_000)]
    assert decode_token(v3({"token": [{"mint": URL, "proofs": coins}]})).amount == 6_000
    few = [{"a": 1, "s": f"{number}", "c": bytes.fromhex(POINT)} for number in range(MAX_TOKEN_COINS + 1)]
    with pytest.raises(MalformedError):
        decode_token(v4({"m": URL, "u": "sat", "t": [{"i": V1_ID, "p": few}]}))
    halves = [{"i": V1_ID, "p": few[:6000]}, {"i": V1_ID, "p": few[6000:]}]
    with pytest.raises(MalformedError, match="coins"):
        decode_token(v4({"m": URL, "u": "sat", "t": halves}))


def test_a_token_is_checked_when_it_is_made() -> None:
    wrong: list[Callable[[], Token]] = [
        lambda: Token(mint=URL, unit="sat", memo=None, proofs=()),
        lambda: token(proof(), proof()),
        lambda: token(proof(1, amount=2**62), proof(2, amount=2**62)),
        lambda: token(unit=""),
        lambda: token(unit="\ud800"),
        lambda: token(memo="\ud800"),
        lambda: Token(mint="mint.example", unit="sat", memo=None, proofs=(proof(),)),
    ]
    for make in wrong:
        with pytest.raises(MalformedError):
            make()


def test_nothing_secret_in_a_repr() -> None:
    made = token(proof(1, witness="WITNESS"), memo="hello")
    shown = f"{made!r} {made} {inspect_token(encode_token(made))!r}"
    assert "secret-1" not in shown
    assert POINT not in shown
    assert "22" * 32 not in shown
    assert "WITNESS" not in shown
    assert "hello" in shown
