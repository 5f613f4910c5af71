"""What `--json` may hold, and what it must not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, Field, SecretBytes, SecretStr

from tests.unit.ops.kit import SECRET, Pay, Ready, Sent
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.ops.records import (
    MASK,
    action_record,
    coin_record,
    field_names,
    masked,
    masked_action,
    phase_field_names,
    time_record,
)

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


class Color(StrEnum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: SecretStr


class Inner(BaseModel):
    seed: SecretBytes
    private: str = Field(repr=False)
    day: datetime


@dataclass
class Piece:
    id: str
    payload: str = field(repr=False)


class Opaque:
    def __repr__(self) -> str:
        return SECRET


def test_secrets_are_masked_at_any_depth() -> None:
    coin = Coin("c", "mint", "sat", 3, payload=SECRET)
    value: dict[str, Any] = {
        "inner": Inner(seed=SecretBytes(SECRET.encode()), private=SECRET, day=NOW),
        "list": [SecretStr(SECRET), (Piece("p", SECRET), coin)],
        "set": {SecretStr(SECRET)},
        "pair": Pair(1, SecretStr(SECRET)),
        "opaque": Opaque(),
    }
    text = json.dumps(masked(value))
    assert SECRET not in text
    shown = json.loads(text)
    assert shown["inner"] == {"seed": MASK, "private": MASK, "day": "2026-05-04T03:02:01+00:00"}
    assert shown["list"][1][0] == {"id": "p", "payload": MASK}
    assert shown["list"][1][1]["amount"] == 3
    assert shown["pair"] == {"left": 1, "right": MASK}


def test_what_is_no_secret_is_plain_json() -> None:
    assert masked({"a": [1, 2.5, None, True, "x"], Color.RED: Color.RED}) == {
        "a": [1, 2.5, None, True, "x"],
        "red": "red",
    }
    assert masked({3, 1}) == [1, 3]
    assert masked(b"\x00\x01") == "AAE="
    assert masked(timedelta(seconds=2)) == "PT2S"


def test_an_action_is_shown_with_its_tag_and_without_its_secrets() -> None:
    action = Pay(order="1", amount=5, password=SecretStr(SECRET), phase=Sent(token=SecretStr(SECRET), hint="by post"))
    assert masked_action(action) == {
        "order": "1",
        "amount": 5,
        "password": MASK,
        "phase": {"tag": "sent", "token": MASK, "hint": "by post"},
    }
    assert masked_action(action.at(Ready()))["phase"] == {"tag": "ready"}


def test_rows_and_coins_have_no_content() -> None:
    checkpoint = Checkpoint(
        kind="pay",
        id="1",
        version=1,
        schema_version=1,
        state=json.dumps({"a": SECRET}),
        phase="sent",
        status=Status.DONE,
        created_at=NOW,
        updated_at=NOW,
        result=json.dumps({"b": SECRET}),
    )
    assert SECRET not in json.dumps(action_record(checkpoint))
    coin = Coin("c", "mint", "sat", 3, SECRET, CoinState.RESERVED, ActionKey("pay", "1"))
    assert coin_record(coin) == {
        "id": "c",
        "account": "mint",
        "unit": "sat",
        "amount": 3,
        "state": "reserved",
        "holder": {"kind": "pay", "id": "1"},
    }
    assert coin_record(replace(coin, state=CoinState.SPENDABLE, holder=None))["holder"] is None


def test_times_are_utc() -> None:
    assert time_record(None) is None
    assert time_record(NOW.astimezone(timezone(timedelta(hours=5)))) == "2026-05-04T03:02:01+00:00"


@pytest.mark.parametrize("text", [None, "", "{", "3", "null", "[1]", '"x"', "[" * 100_000])
def test_names_of_what_is_no_object_are_none(text: str | None) -> None:
    assert field_names(text) is None
    assert phase_field_names(text) == []


def test_names_are_told_without_values() -> None:
    text = json.dumps({"phase": {"tag": "sent", "token": SECRET}, "amount": 5})
    assert field_names(text) == ["amount", "phase"]
    assert phase_field_names(text) == ["token"]
