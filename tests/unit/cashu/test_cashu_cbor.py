"""The reader of CBOR: agrees with a general decoder on what a token can hold, and survives everything else."""

from __future__ import annotations

import math
import random

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet_actions.cashu.cbor import MAX_DEPTH, MAX_ITEMS, read_cbor
from wallet_actions.cashu.errors import MalformedError

leaves = st.one_of(
    st.integers(-(2**64), 2**64 - 1), st.text(), st.binary(), st.booleans(), st.none(), st.floats(allow_nan=False)
)
items = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.one_of(st.text(), st.binary(), st.integers(-(2**64), 2**64 - 1)), inner, max_size=5),
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(item=items, indefinite=st.booleans())
def test_reads_what_a_general_encoder_writes(item: object, indefinite: bool) -> None:
    assert read_cbor(cbor2.dumps(item, indefinite_containers=indefinite)) == item


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_and_never_read_otherwise_than_by_a_general_decoder(data: bytes) -> None:
    try:
        read = read_cbor(data)
    except MalformedError:
        return
    if any(first >> 5 == 6 or first >> 5 == 7 for first in data):
        return  # tags and simple values are passed over here, and mean something there
    assert read == cbor2.loads(data)


@pytest.mark.parametrize(
    ("hexed", "read"),
    [
        ("5f42010243030405ff", b"\x01\x02\x03\x04\x05"),
        ("7f657374726561646d696e67ff", "streaming"),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("f93c00", 1.0),
        ("f97c00", math.inf),
        ("f7", None),
        ("f0", None),
        ("c11a514b67b0", 1363896240),
        ("d81c80", []),
    ],
)
def test_forms_of_the_standard(hexed: str, read: object) -> None:
    """RFC 8949, appendix A; tags are passed over."""
    assert read_cbor(bytes.fromhex(hexed)) == read


@pytest.mark.parametrize(
    "hexed",
    [
        "",  # nothing
        "0102",  # something behind
        "ff",  # a break alone
        "81ff",  # a break for an item
        "bf6161ff",  # a break for a value
        "61ff",  # not UTF-8
        "62c3",  # cut off
        "7f61c361a9ff",  # a character in two parts
        "9bffffffffffffffff",  # counts that nothing backs
        "bb7fffffffffffffff",
        "5bffffffffffffffff",
        "7a7fffffff",
        "a2616101616102",  # a key twice
        "a18001",  # a list as a key
        "a1a001",
        "1c",  # lengths of no known form
        "1f",
        "3f",
        "df",
        "5f6161ff",  # a string of other parts
        "5f5f4101ffff",
        "5f4101",
        "f8",
    ],
)
def test_what_is_not_well_formed_is_refused(hexed: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read_cbor(bytes.fromhex(hexed))
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("head", [b"\x81", b"\x9f", b"\xa1\x00", b"\xbf\x00", b"\xc1", b"\xd8\x1c"])
def test_depth_is_bounded(head: bytes) -> None:
    with pytest.raises(MalformedError, match="deep"):
        read_cbor(head * 100_000)
    assert read_cbor(b"\x81" * MAX_DEPTH + b"\x00") is not None
    with pytest.raises(MalformedError, match="deep"):
        read_cbor(b"\x81" * (MAX_DEPTH + 1) + b"\x00")


def test_the_count_of_items_is_bounded() -> None:
    with pytest.raises(MalformedError, match="items"):
        read_cbor(b"\x9a" + (2 * MAX_ITEMS).to_bytes(4, "big") + bytes(2 * MAX_ITEMS))
    with pytest.raises(MalformedError, match="items"):
        read_cbor(b"\x9f" + bytes(2 * MAX_ITEMS) + b"\xff")


def test_bytes_changed_at_random_are_read_or_refused() -> None:
    rng = random.Random(4)
    good = cbor2.dumps({"t": [{"i": b"\x00" * 8, "p": [{"a": 1, "s": "x" * 64, "c": b"\x02" * 33}]}], "m": "http://m"})
    for _ in range(3_000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            read_cbor(bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data))
        except MalformedError:
            continue
