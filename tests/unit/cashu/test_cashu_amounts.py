"""Splitting amounts, and the number of blank outputs (NUT-08)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet_actions.cashu.amounts import blank_output_count, split
from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.errors import UsageError

POWERS = [2**power for power in range(63)]


@settings(deadline=None)
@given(st.integers(1, MAX_AMOUNT))
def test_powers_of_two_give_the_fewest_coins_in_ascending_order(amount: int) -> None:
    coins = split(amount, POWERS)
    assert sum(coins) == amount
    assert len(coins) == amount.bit_count()
    assert list(coins) == sorted(coins)


@settings(deadline=None)
@given(st.integers(1, 500), st.sets(st.sampled_from([2, 5, 10, 50, 100]), max_size=5))
def test_whatever_the_denominations_the_sum_is_right(amount: int, denominations: set[int]) -> None:
    assert sum(split(amount, denominations | {1})) == amount


def test_few_denominations_are_repeated() -> None:
    assert split(13, [1, 2, 4]) == (1, 4, 4, 4)
    assert split(13, [10, 1]) == (1, 1, 1, 10)


@pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT + 1, True, 1.0])
def test_an_amount_out_of_range_is_refused(amount: int) -> None:
    with pytest.raises(UsageError):
        split(amount, POWERS)


@pytest.mark.parametrize(("amount", "denominations"), [(5, [2, 4]), (1, []), (MAX_AMOUNT, [1])])
def test_an_amount_that_does_not_come_out_is_refused(amount: int, denominations: list[int]) -> None:
    with pytest.raises(UsageError):
        split(amount, denominations)


@pytest.mark.parametrize(
    ("reserve", "count"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (1000, 10), (2**62 + 1, 63)]
)
def test_blank_output_counts(reserve: int, count: int) -> None:
    """NUT-08: max(ceil(log2(fee_reserve)), 1), and none for no reserve; 1000 is its own example."""
    assert blank_output_count(reserve) == count


@settings(deadline=None)
@given(st.integers(1, 2**40))
def test_blank_outputs_follow_the_formula_and_hold_any_smaller_change(reserve: int) -> None:
    count = blank_output_count(reserve)
    assert count == max(math.ceil(math.log2(reserve)), 1)
    assert all(len(split(change, POWERS)) <= count for change in {reserve, reserve - 1, reserve // 2} - {0})


def test_negative_change_is_refused() -> None:
    with pytest.raises(UsageError):
        blank_output_count(-1)
