"""The ledger's records."""

from __future__ import annotations

from typing import Any

import pytest

from tests.actions import SECRET
from wallet_actions.coins import MAX_AMOUNT, ActionKey, Coin, CoinState, Fact
from wallet_actions.errors import UsageError


@pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT + 1, True, 1.0, "1", None])
def test_an_amount_is_a_positive_64_bit_integer(amount: Any) -> None:
    with pytest.raises(UsageError, match="amount"):
        Coin("c", "bank", "sat", amount)


@pytest.mark.parametrize("amount", [1, MAX_AMOUNT])
def test_the_smallest_and_the_largest_amount_are_allowed(amount: int) -> None:
    assert Coin("c", "bank", "sat", amount).amount == amount


@pytest.mark.parametrize("fields", [("", "bank", "sat"), ("c", "", "sat"), ("c", "bank", "")])
def test_a_coin_has_an_id_an_account_and_a_unit(fields: tuple[str, str, str]) -> None:
    with pytest.raises(UsageError, match="needs an id"):
        Coin(*fields, 1)


def test_a_new_coin_is_free() -> None:
    new = Coin("c", "bank", "sat", 1)

    assert new.state is CoinState.SPENDABLE
    assert new.holder is None


def test_what_spends_a_coin_and_what_a_fact_says_are_not_shown() -> None:
    shown = repr((Coin("c", "bank", "sat", 1, payload=SECRET), Fact("payment", "hash", body=SECRET)))

    assert SECRET not in shown
    assert "'c'" in shown
    assert "'hash'" in shown


def test_a_key_reads_as_kind_and_id() -> None:
    assert str(ActionKey("melt", "q-1")) == "melt q-1"
