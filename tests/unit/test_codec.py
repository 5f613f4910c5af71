"""Canonical JSON (L-S8), and results."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from tests.actions import SECRET, Receipt
from wallet_actions.action import PERSISTED
from wallet_actions.codec import ResultCodec, canonical_json, fault
from wallet_actions.errors import InvariantError


class Colour(StrEnum):
    RED = "red"


class Size(Enum):
    LARGE = 3


class Inner(BaseModel):
    model_config = PERSISTED
    ids: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": None}, '{"a":null,"b":1}'),
        ({"c", "a", "b"}, '["a","b","c"]'),
        (frozenset({10, 9, 1}), "[1,10,9]"),
        ({(2, "b"), (1, "a")}, '[[1,"a"],[2,"b"]]'),
        ({frozenset({"b", "a"})}, '[["a","b"]]'),
        ({SecretStr("y"), SecretStr("x")}, '["x","y"]'),
        (SecretStr("s"), '"s"'),
        (SecretBytes(b"\xff\x00"), '"_wA="'),
        (b"\xff\x00", '"_wA="'),
        (datetime(2030, 1, 2, 3, 4, 5, 6, UTC), '"2030-01-02T03:04:05.000006Z"'),
        (timedelta(days=1, seconds=1), '"P1DT1S"'),
        (Decimal("1.10"), '"1.10"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        ([Colour.RED, Size.LARGE], '["red",3]'),
        (Inner(ids=frozenset("ba")), '{"ids":["a","b"]}'),
        ("é — ₿", '"é — ₿"'),
    ],
)
def test_values_have_one_text(value: Any, text: str) -> None:
    assert canonical_json(value) == text


def test_equal_values_have_equal_text_however_they_were_built() -> None:
    names = [f"{number:03d}" for number in range(200)]
    backwards: set[str] = set()
    for name in reversed(names):
        backwards.add(name)

    assert canonical_json({"x": set(names), "y": 1}) == canonical_json({"y": 1, "x": backwards})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {object(): 1}, {1: 1, "1": 2}])
def test_what_has_no_json_form_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical_json(value)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (None, None),
        (int, 2**80),
        (str, ""),
        (Receipt, Receipt(amount=1, token=SecretStr(SECRET))),
        (SecretStr, SecretStr(SECRET)),
        (list[Inner], [Inner(), Inner(ids=frozenset("ab"))]),
        (tuple[int, str] | None, (1, "a")),
        (dict[str, Decimal], {"a": Decimal("1.10")}),
        (datetime, datetime(2030, 1, 2, tzinfo=UTC)),
        (bytes, b"\xff\x00"),
        (SecretBytes, SecretBytes(b"\xff\x00")),
    ],
)
def test_a_result_reads_back_as_it_was(type_: Any, value: Any) -> None:
    codec = ResultCodec("job", type_)

    restored = codec.decode(codec.encode(value))

    assert restored == value
    assert type(restored) is type(value)


def test_a_result_that_was_never_there_is_none() -> None:
    assert ResultCodec("job", None).decode(None) is None


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (None, 1),
        (int, "many"),
        (Receipt, None),
        (Receipt, SECRET),
        (Receipt, {"amount": 1, "token": [SECRET]}),
        (float, float("nan")),
        (Any, {SECRET, 1}),
    ],
)
def test_a_result_that_is_not_what_was_declared_or_does_not_survive_is_refused(type_: Any, value: Any) -> None:
    with pytest.raises(InvariantError) as caught:
        ResultCodec("job", type_).encode(value)

    assert "job" in str(caught.value)
    assert SECRET not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("text", ["", "{", '{"amount":"x"}', "null", '{"amount":1,"token":5}'])
def test_a_text_that_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ResultCodec("job", Receipt).decode(text)


def test_a_fault_says_where_and_which_rule_but_not_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Receipt.model_validate({"amount": SECRET})

    assert fault(caught.value) == "amount: int_parsing"
    assert fault(KeyError(SECRET)) == "KeyError"
