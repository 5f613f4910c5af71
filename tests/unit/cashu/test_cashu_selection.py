"""Which coins are chosen: enough, few, and always the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet_actions.cashu.selection import InsufficientFundsError, input_fee, select
from wallet_actions.coins import Coin

AMOUNTS = st.one_of(st.sampled_from([2**power for power in range(12)]), st.integers(1, 3000))
WALLETS = st.lists(st.tuples(AMOUNTS, st.sampled_from([0, 100, 999, 1000, 2500])), max_size=25)


def wallet(*amounts: int, fee_ppk: int = 0) -> dict[Coin, int]:
    return {coin(index, amount): fee_ppk for index, amount in enumerate(amounts)}


def coin(index: int, amount: int) -> Coin:
    return Coin(f"coin-{index:03}", "http://mint.test", "sat", amount)


def chosen(coins: dict[Coin, int], amount: int) -> list[int]:
    return sorted(coin.amount for coin in select(coins, amount))


def test_one_coin_that_fits_best_is_preferred() -> None:
    assert chosen(wallet(64, 32, 16, 8), 10) == [16]
    assert chosen(wallet(64, 32, 16, 8), 16) == [16]
    assert chosen(wallet(64, 32, 16, 8), 17) == [32]


def test_several_coins_come_as_close_as_they_can() -> None:
    assert chosen(wallet(64, 32, 16, 8), 100) == [8, 32, 64]
    assert chosen(wallet(64, 32, 16, 8), 120) == [8, 16, 32, 64]
    assert chosen(wallet(*[1] * 20), 5) == [1] * 5


def test_fees_of_the_coins_are_covered_too() -> None:
    assert chosen(wallet(16, 1, fee_ppk=100), 16) == [1, 16]
    assert chosen(wallet(16, 1, 1, fee_ppk=500), 16) == [1, 16]
    with pytest.raises(InsufficientFundsError, match="17 needed, 16 available"):
        select(wallet(16, fee_ppk=100), 16)


def test_coins_that_cost_more_than_they_are_worth_stay_where_they_are() -> None:
    coins = wallet(*[1] * 100, fee_ppk=2000) | {coin(200, 50): 0}
    assert chosen(coins, 50) == [50]
    with pytest.raises(InsufficientFundsError):
        select(coins, 51)


def test_what_is_missing_is_told() -> None:
    with pytest.raises(InsufficientFundsError) as caught:
        select(wallet(4, 2, fee_ppk=100), 10)
    assert (caught.value.needed, caught.value.available) == (11, 6)
    with pytest.raises(InsufficientFundsError) as caught:
        select({}, 10)
    assert (caught.value.needed, caught.value.available) == (10, 0)


@given(WALLETS, st.integers(1, 10_000))
def test_the_choice_covers_and_holds_nothing_superfluous(amounts: list[tuple[int, int]], amount: int) -> None:
    """L-C9."""
    coins = {coin(index, value): fee for index, (value, fee) in enumerate(amounts)}

    def left(some: list[Coin]) -> int:
        return sum(one.amount for one in some) - amount - input_fee(coins[one] for one in some)

    try:
        found = select(coins, amount)
    except InsufficientFundsError:
        assert left([one for one, fee in coins.items() if one.amount * 1000 > fee]) < 0
        return
    assert list(found) == sorted(found, key=lambda one: one.id)
    assert len(set(found)) == len(found)
    assert left(list(found)) >= 0
    for superfluous in found:
        assert left([one for one in found if one is not superfluous]) < 0


@given(WALLETS, st.integers(1, 3000), st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order(
    amounts: list[tuple[int, int]], amount: int, chance: random.Random
) -> None:
    """L-S8."""
    coins = [(coin(index, value), fee) for index, (value, fee) in enumerate(amounts)]
    shuffled = chance.sample(coins, len(coins))
    try:
        first = select(dict(coins), amount)
    except InsufficientFundsError:
        with pytest.raises(InsufficientFundsError):
            select(dict(shuffled), amount)
        return
    assert select(dict(shuffled), amount) == first


def test_a_wallet_of_many_small_coins_does_not_stop_the_world() -> None:
    """With a search of all coins for each that is chosen, this would take minutes."""
    coins = wallet(*[1] * 20_000)
    assert len(select(coins, 19_000)) == 19_000
