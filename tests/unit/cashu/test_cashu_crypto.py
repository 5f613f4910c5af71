"""NUT-00 and NUT-12: the published vectors, round trips, and everything that must not verify."""

from __future__ import annotations

import pytest
from coincurve import PrivateKey, PublicKey
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.cashu.kit import prove, scalar, sign
from wallet_actions.cashu.crypto import (
    ORDER,
    blind,
    hash_e,
    hash_to_curve,
    parse_point,
    parse_scalar,
    unblind,
    verify_dleq,
    verify_proof_dleq,
    y_of,
)
from wallet_actions.cashu.errors import MalformedError

scalars = st.integers(min_value=1, max_value=ORDER - 1).map(scalar)
secrets = st.text(min_size=1, max_size=80)

GENERATOR = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
B_ = "02a9acc1e48c25eeeb9289b5031cc57da9fe72f3fe2861d264bdc074209b107ba2"


def hex_of(point: PublicKey) -> str:
    return point.format().hex()


@pytest.mark.parametrize(
    ("message", "point"),
    [
        ("00" * 32, "024cce997d3b518f739663b757deaec95bcd9473c30a14ac2fd04023a739d1a725"),
        ("00" * 31 + "01", "022e7158e11c9506f1aa4248bf531298daa7febd6194f003edcd9b93ade6253acf"),
        ("00" * 31 + "02", "026cdbe15362df59cd1dd3c9c11de8aedac2106eca69236ecd9fbe117af897be4f"),
    ],
)
def test_hash_to_curve_vectors(message: str, point: str) -> None:
    assert hex_of(hash_to_curve(bytes.fromhex(message))) == point


@pytest.mark.parametrize(
    ("x", "r", "point"),
    [
        (
            "d341ee4871f1f889041e63cf0d3823c713eea6aff01e80f1719f08f9e5be98f6",
            "99fce58439fc37412ab3468b73db0569322588f62fb3a49182d67e23d877824a",
            "033b1a9737a40cc3fd9b6af4b723632b76a67a36782596304612a6c2bfb5197e6d",
        ),
        (
            "f1aaf16c2239746f369572c0784d9dd3d032d952c2d992175873fb58fae31a60",
            "f78476ea7cc9ade20f9e05e58a804cf19533f03ea805ece5fee88c8e2874ba50",
            "029bdf2d716ee366eddf599ba252786c1033f47e230248a4612a5670ab931f1763",
        ),
    ],
)
def test_blinded_message_vectors(x: str, r: str, point: str) -> None:
    """The vectors blind raw bytes; secrets of proofs are text, so the sum is made here from the same parts."""
    assert hex_of(hash_to_curve(bytes.fromhex(x)).add(parse_scalar(r))) == point


@pytest.mark.parametrize(
    ("key", "signature"),
    [
        ("00" * 31 + "01", B_),
        ("7f" * 32, "0398bc70ce8184d27ba89834d19f5199c84443c31131e48d3c1214db24247d005d"),
    ],
)
def test_blind_signature_vectors(key: str, signature: str) -> None:
    assert hex_of(sign(parse_point(B_), PrivateKey(bytes.fromhex(key)))) == signature


def test_hash_e_vector() -> None:
    point = parse_point("02" + "00" * 31 + "01")
    assert (
        hash_e(point, point, point, parse_point(B_)).hex()
        == "a4dc034b74338c28c6bc3ea49731f2a24440fc7c4affc08b31a93fc9fbe6401e"
    )


def test_dleq_vectors_for_a_blind_signature() -> None:
    e = "9818e061ee51d5c8edc3342369a554998ff7b4381c8652d724cdf46429be73d9"
    s = "9818e061ee51d5c8edc3342369a554998ff7b4381c8652d724cdf46429be73da"
    assert verify_dleq(parse_point(B_), parse_point(B_), parse_scalar(e), parse_scalar(s), parse_point(GENERATOR))
    # NUT-12, deterministic nonce: a = 2.
    assert verify_dleq(
        parse_point(B_),
        parse_point("0244eccfc7a348274458bb38044c7f3c389b3c2086c7ec18b5812d2877ab937787"),
        parse_scalar("2a16ffee280aff3c429045607f9b8e0bf8b35910c44c1b20b9dfaf01b263d7b3"),
        parse_scalar("9df27731238334718d120d4f74611a7c668233f988e687ac3fb188f0a34a2dab"),
        parse_point("02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5"),
    )


def test_dleq_vector_for_a_proof() -> None:
    arguments = {
        "secret": "daf4dd00a2b68a0858a80450f52c8a7d2ccf87d375e43e216e0c571f089f63e9",
        "signature": parse_point("024369d2d22a80ecf78f3937da9d5f30c1b9f74f0c32684d583cca0fa6a61cdcfc"),
        "e": parse_scalar("b31e58ac6527f34975ffab13e70a48b6d2b0d35abc4b03f0151f09ee1a9763d4"),
        "s": parse_scalar("8fbae004c59e754d71df67e392b6ae4e29293113ddc2ec86592a0431d16306d8"),
        "blinding_factor": parse_scalar("a6d13fcd7a18442e6076f5e1e7c887ad5de40a019824bdfa9fe740d302e8d861"),
        "key": parse_point(GENERATOR),
    }
    assert verify_proof_dleq(**arguments)  # type: ignore[arg-type]
    assert not verify_proof_dleq(**{**arguments, "secret": "another"})  # type: ignore[arg-type]


@settings(deadline=None)
@given(secret=secrets, r=scalars, a=scalars, nonce=st.integers(1, ORDER - 1))
def test_a_round_trip_gives_the_mints_own_signature(secret: str, r: bytes, a: bytes, nonce: int) -> None:
    key = PrivateKey(a)
    blinded = blind(secret, r)
    blind_signature = sign(blinded, key)
    e, s = prove(blinded, key, nonce)
    signature = unblind(blind_signature, r, key.public_key)
    assert hex_of(signature) == hex_of(sign(hash_to_curve(secret.encode()), key))
    assert verify_dleq(blinded, blind_signature, e, s, key.public_key)
    assert verify_proof_dleq(secret, signature, e, s, r, key.public_key)


@settings(deadline=None)
@given(secret=secrets, r=scalars, a=scalars, fault=st.integers(0, 4), by=st.integers(1, 2**200))
def test_a_tampered_dleq_never_verifies(secret: str, r: bytes, a: bytes, fault: int, by: int) -> None:
    assume((int.from_bytes(a, "big") + by) % ORDER)
    key = PrivateKey(a)
    blinded = blind(secret, r)
    blind_signature = sign(blinded, key)
    e, s = prove(blinded, key)
    delta = scalar(by)
    if fault == 0:
        e = scalar((int.from_bytes(e, "big") + by) % ORDER)
    elif fault == 1:
        s = scalar((int.from_bytes(s, "big") + by) % ORDER)
    elif fault == 2:
        blind_signature = blind_signature.add(delta)
    elif fault == 3:
        blinded = blinded.add(delta)
    public_key = key.public_key.add(delta) if fault == 4 else key.public_key
    assert not verify_dleq(blinded, blind_signature, e, s, public_key)


@settings(deadline=None)
@given(secret=secrets, r=scalars, a=scalars, other=scalars)
def test_a_signature_with_another_key_never_verifies(secret: str, r: bytes, a: bytes, other: bytes) -> None:
    """A mint that signs with a key of its own for one user marks that user's coins."""
    blinded = blind(secret, r)
    e, s = prove(blinded, PrivateKey(other))
    expected = a == other
    signature = sign(blinded, PrivateKey(other))
    assert verify_dleq(blinded, signature, e, s, PrivateKey(a).public_key) is expected


@settings(deadline=None)
@given(e=st.binary(min_size=32, max_size=32), s=st.binary(min_size=32, max_size=32))
def test_random_proofs_never_verify(e: bytes, s: bytes) -> None:
    point = parse_point(B_)
    assert not verify_dleq(point, point, e, s, parse_point(GENERATOR))


@pytest.mark.parametrize("bad", [b"", b"\x01", bytes(32), scalar(ORDER), b"\xff" * 32, b"\x00" * 31 + b"\x01\x01"])
def test_what_is_no_scalar_never_verifies_or_blinds(bad: bytes) -> None:
    point = parse_point(B_)
    good = scalar(5)
    assert not verify_dleq(point, point, bad, good, point)
    assert not verify_proof_dleq("secret", point, good, good, bad, point)
    with pytest.raises(MalformedError):
        blind("secret", bad)
    with pytest.raises(MalformedError):
        unblind(point, bad, point)


def test_sums_at_infinity_are_errors() -> None:
    key = PrivateKey(scalar(5)).public_key
    with pytest.raises(MalformedError):
        unblind(key.multiply(scalar(3)), scalar(3), key)
    # s*G = e*A: the first sum of the check is the point at infinity.
    assert not verify_dleq(parse_point(B_), parse_point(B_), scalar(3), scalar(15), key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02",
        "04" + "11" * 32,
        "02" + "ff" * 32,
        "05" + B_[2:],
        B_ + "00",
        B_[:-1],
        " " + B_,
        B_[:-2] + " 0",
        B_ + "\n",
        "zz" * 33,
        "02" + "é" * 64,
        # NUT-01: one byte short, and a point that is not compressed.
        "03a40f20667ed53513075dc51e715ff2046cad64eb68960632269ba7f0210e38",
        "04fd4ce5a16b65576145949e6f99f445f8249fee17c606b688b504a849cdc452de" + "3625246c" * 8,
    ],
)
def test_what_is_no_point_is_refused(text: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_point(text)
    assert not text or len(text) < 3 or text not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "00" * 32, f"{ORDER:064x}", "ff" * 32, "01" * 31, "01" * 33, " " + "01" * 31 + "0"]
)
def test_what_is_no_scalar_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_scalar(text)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_point_or_a_clear_error(text: str) -> None:
    for parse in (parse_point, parse_scalar):
        with pytest.raises(MalformedError):
            parse(text[:60])


def test_the_public_name_of_a_secret() -> None:
    secret = "407915bc212be61a77e3e6d2aeb4c727980bda51cd06a6afc29e2861768a7837"
    assert y_of(secret) == hex_of(hash_to_curve(secret.encode()))
    with pytest.raises(MalformedError):
        y_of("\ud800")
