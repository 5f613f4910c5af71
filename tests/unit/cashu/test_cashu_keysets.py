"""NUT-01 and NUT-02: ids, keys, fees, and the choice of a keyset."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.cashu.vectors import KEYS_4, KEYS_64
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.keyset_ids import (
    KeysetVersion,
    derive_v1,
    derive_v2,
    full_id,
    is_supported,
    keyset_version,
    short_id,
)
from wallet_actions.cashu.keysets import Keyset, KeysetInfo, choose_keyset, input_fee
from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.errors import RejectedError, UsageError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXPIRY = 2059210353
V1_4, V1_64 = "00456a94ab4e1c46", "000f01df73ea149a"
V2_VECTORS = [
    ("015ba18a8adcd02e715a58358eb618da4a4b3791151a4bee5e968bb88406ccf76a", KEYS_4, 100, EXPIRY),
    ("01ab6aa4ff30390da34986d84be5274b48ad7a74265d791095bfc39f4098d9764f", KEYS_64, 0, EXPIRY),
    ("012fbb01a4e200c76df911eeba3b8fe1831202914b24664f4bccbd25852a6708f8", KEYS_64, 0, None),
]


@pytest.mark.parametrize(("keyset_id", "keys"), [(V1_4, KEYS_4), (V1_64, KEYS_64)])
def test_version_1_id_vectors(keyset_id: str, keys: Mapping[int, str]) -> None:
    assert derive_v1(keys) == keyset_id
    assert Keyset(id=keyset_id, unit="sat", keys=dict(keys)).key(1)


@pytest.mark.parametrize(("keyset_id", "keys", "fee", "expiry"), V2_VECTORS)
def test_version_2_id_vectors(keyset_id: str, keys: Mapping[int, str], fee: int, expiry: int | None) -> None:
    assert derive_v2(keys, unit="sat", input_fee_ppk=fee, final_expiry=expiry) == keyset_id
    keyset = Keyset(id=keyset_id, unit="sat", keys=dict(keys), input_fee_ppk=fee, final_expiry=expiry)
    assert Keyset.model_validate_json(keyset.model_dump_json()) == keyset


@pytest.mark.parametrize(
    "change",
    [
        {"unit": "usd"},
        {"input_fee_ppk": 1000},
        {"final_expiry": None},
        {"final_expiry": EXPIRY + 1},
        {"keys": KEYS_64},
        {"keys": {1: KEYS_4[2], 2: KEYS_4[1], 4: KEYS_4[4], 8: KEYS_4[8]}},
        {"keys": {}},
        {"id": V1_64},
        {"id": "01" + "00" * 32},
        {"id": "02" + "5b" * 32},
        {"id": "015ba18a8adcd02e"},
    ],
)
def test_a_keyset_that_is_not_the_one_of_its_id_cannot_be_made(change: dict[str, object]) -> None:
    keyset_id, keys, fee, expiry = V2_VECTORS[0]
    honest: dict[str, object] = {
        "id": keyset_id,
        "unit": "sat",
        "keys": dict(keys),
        "input_fee_ppk": fee,
        "final_expiry": expiry,
    }
    Keyset.model_validate(honest)
    with pytest.raises(ValidationError):
        Keyset.model_validate(honest | change)


@pytest.mark.parametrize(
    "bad",
    [
        "03a40f20667ed53513075dc51e715ff2046cad64eb68960632269ba7f0210e38",
        "04fd4ce5a16b65576145949e6f99f445f8249fee17c606b688b504a849cdc452de" + "3625246c" * 8,
        "02" + "ff" * 32,
        "",
    ],
)
def test_a_keyset_with_a_bad_key_cannot_be_made(bad: str) -> None:
    """NUT-01: the keysets that wallets are to reject, each under the id that its keys would have."""
    keys = KEYS_4 | {2: bad}
    with pytest.raises(ValidationError):
        Keyset(id=derive_v1(keys), unit="sat", keys=keys)


@pytest.mark.parametrize("amount", [0, -1, 2**64])
def test_a_keyset_with_a_bad_amount_cannot_be_made(amount: int) -> None:
    keys = {amount: KEYS_4[1]}
    with pytest.raises(ValidationError):
        Keyset(id=derive_v1(keys), unit="sat", keys=keys)


def test_denominations_leave_out_what_no_coin_can_be_worth() -> None:
    keyset = Keyset(id=V1_64, unit="sat", keys=KEYS_64)
    assert keyset.denominations == tuple(2**power for power in range(63))
    assert max(keyset.denominations) <= MAX_AMOUNT
    with pytest.raises(MalformedError):
        keyset.key(3)


def test_versions_and_short_ids() -> None:
    v2 = [vector[0] for vector in V2_VECTORS]
    assert keyset_version(V1_4) is KeysetVersion.V1
    assert keyset_version(v2[0]) is KeysetVersion.V2
    assert short_id(V1_4) == V1_4
    assert short_id(v2[0]) == "015ba18a8adcd02e"
    assert full_id(short_id(v2[0]), [V1_4, *v2]) == v2[0]
    assert full_id(V1_4, [V1_4, *v2]) == V1_4
    assert full_id(v2[1], v2) == v2[1]


@pytest.mark.parametrize("unknown", ["01" + "ff" * 7, V1_64, "015b", "", "01" + "ff" * 32])
def test_an_id_that_names_no_keyset_is_refused(unknown: str) -> None:
    with pytest.raises(MalformedError):
        full_id(unknown, [V1_4, V2_VECTORS[0][0]])


def test_an_ambiguous_short_id_is_refused() -> None:
    stem = "01" + "ab" * 7
    with pytest.raises(MalformedError):
        full_id(stem, [stem + "00" * 25, stem + "11" * 25])


@pytest.mark.parametrize("keyset_id", ["L3zxxRB/I8uE", "02" + "00" * 32, "0", V1_4 + "\n", V1_4.upper() + "0"])
def test_other_versions_are_listed_but_not_used(keyset_id: str) -> None:
    assert not is_supported(keyset_id)
    info = KeysetInfo(id=keyset_id, unit="sat", active=True)
    assert not info.is_usable(NOW)


def info(
    keyset_id: str, fee: int = 0, *, active: bool = True, unit: str = "sat", expiry: int | None = None
) -> KeysetInfo:
    return KeysetInfo(id=keyset_id, unit=unit, active=active, input_fee_ppk=fee, final_expiry=expiry)


def test_the_cheapest_usable_keyset_is_chosen() -> None:
    a, b, c = "01" + "aa" * 32, "01" + "bb" * 32, "00" + "00" * 7
    past = int(NOW.timestamp())
    listed = [
        info(b, 100),
        info(a, 200),
        info("01" + "cc" * 32, 0, active=False),
        info("01" + "dd" * 32, 0, unit="usd"),
        info("01" + "ee" * 32, 0, expiry=past),
        info("02" + "ff" * 32, 0),
    ]
    assert choose_keyset(listed, "sat", now=NOW).id == b
    assert choose_keyset([info(b), info(a), info(c)], "sat", now=NOW).id == a
    assert choose_keyset([info(c), info(b, 1)], "sat", now=NOW).id == c
    assert choose_keyset([info(b, expiry=past + 1)], "sat", now=NOW).id == b
    with pytest.raises(RejectedError, match="for the unit 'eur'"):
        choose_keyset(listed, "eur", now=NOW)


@pytest.mark.parametrize(
    ("fees", "expected"), [([], 0), ([0] * 9, 0), ([1], 1), ([100] * 10, 1), ([100] * 11, 2), ([999, 1, 1], 2)]
)
def test_input_fees_are_summed_before_they_are_rounded(fees: list[int], expected: int) -> None:
    keysets = {str(number): info(str(number), fee) for number, fee in enumerate(fees)}
    assert input_fee(keysets, keysets) == expected


def test_the_fee_of_an_unknown_keyset_is_refused() -> None:
    with pytest.raises(UsageError):
        input_fee([V1_4], {})


@settings(deadline=None)
@given(st.dictionaries(st.integers(1, 2**63), st.sampled_from(sorted(KEYS_64.values())), min_size=1, max_size=8))
def test_an_id_does_not_depend_on_the_order_of_the_keys(keys: dict[int, str]) -> None:
    backward = dict(reversed(keys.items()))
    assert derive_v1(keys) == derive_v1(backward)
    assert derive_v2(keys, unit="sat") == derive_v2(backward, unit="sat")


def test_a_listed_fee_of_null_is_none() -> None:
    listed = KeysetInfo.model_validate_json(
        '{"id": "x", "unit": "sat", "active": true, "input_fee_ppk": null, "new": 1}'
    )
    assert listed.input_fee_ppk == 0
    for bad in ("-1", "1.5", '"1"', "true", str(2**63)):
        with pytest.raises(ValidationError):
            KeysetInfo.model_validate_json(f'{{"id": "x", "unit": "sat", "active": true, "input_fee_ppk": {bad}}}')
