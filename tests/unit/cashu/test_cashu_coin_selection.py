"""Which coins are chosen: always enough, never better by brute force, soon, and the same ones each time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import chain, combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallet_actions.cashu import coin_selection
from wallet_actions.cashu.coin_selection import MOST_EXACT_COINS, MOST_EXTRA_COINS, exact, input_fee, select
from wallet_actions.cashu.errors import InsufficientFundsError
from wallet_actions.coins import Coin

FEES = {"free": 0, "cheap": 100, "dear": 250, "odd": 1, "old": 100, "older": 0}
RETIRED = {"old", "older"}
MOST_CALLS = 100_000


def coins_of(amounts: Sequence[int], keyset: str = "free", start: int = 0) -> list[Coin]:
    """The keyset stands in the coin's account here."""
    return [
        Coin(id=f"{number:06d}", account=keyset, unit="sat", amount=amount)
        for number, amount in enumerate(amounts, start=start)
    ]


def fee_of(coin: Coin) -> int:
    return FEES[coin.account]


def is_retired(coin: Coin) -> bool:
    return coin.account in RETIRED


def left_over(coins: Sequence[Coin], amount: int) -> int:
    return sum(coin.amount for coin in coins) - input_fee(map(fee_of, coins)) - amount


def worth(coins: Sequence[Coin]) -> int:
    return sum(1000 * coin.amount - fee_of(coin) for coin in coins)


def chosen(coins: Sequence[Coin], amount: int) -> tuple[Coin, ...]:
    return select(coins, amount, fee_of, is_retired=is_retired)


def amounts_of(coins: Sequence[Coin]) -> list[int]:
    return sorted(coin.amount for coin in coins)


powers = st.sampled_from([1, 2, 4, 8, 16, 32, 64])
some_coins = st.lists(st.tuples(powers | st.integers(1, 70), st.sampled_from(list(FEES))), min_size=1, max_size=9).map(
    lambda drawn: [
        Coin(id=f"{number:06d}", account=keyset, unit="sat", amount=amount)
        for number, (amount, keyset) in enumerate(drawn)
    ]
)


def sets_of(coins: Sequence[Coin]) -> list[tuple[Coin, ...]]:
    worthwhile = [coin for coin in coins if 1000 * coin.amount > fee_of(coin)]
    return list(chain.from_iterable(combinations(worthwhile, size) for size in range(1, len(worthwhile) + 1)))


@settings(deadline=None, max_examples=300)
@given(coins=some_coins, amount=st.integers(1, 200))
def test_nothing_is_better_by_brute_force(coins: list[Coin], amount: int) -> None:
    """L-C9. A match of few coins first; else the fewest, then the most retired, then the least left over."""
    covering = [some for some in sets_of(coins) if left_over(some, amount) >= 0]
    if not covering:
        with pytest.raises(InsufficientFundsError):
            chosen(coins, amount)
        return
    result = chosen(coins, amount)
    needed = min(map(len, covering))
    matches = [some for some in covering if left_over(some, amount) == 0 and len(some) <= needed + MOST_EXTRA_COINS]
    if matches:
        assert left_over(result, amount) == 0
        assert len(result) == min(map(len, matches))
        return
    fewest = [some for some in covering if len(some) == needed]

    def score(some: Sequence[Coin]) -> tuple[int, int]:
        return sum(not is_retired(coin) for coin in some), worth(some)

    assert score(result) == min(map(score, fewest))
    assert len(result) == len(fewest[0])


@settings(deadline=None, max_examples=300)
@given(coins=some_coins, amount=st.integers(1, 200), free=st.booleans())
def test_exact_coins_are_found_where_there_are_any(coins: list[Coin], amount: int, free: bool) -> None:
    fee: Callable[[Coin], int] = (lambda _: 0) if free else fee_of
    sets = sets_of(coins)
    if free:
        sets = list(chain.from_iterable(combinations(coins, size) for size in range(1, len(coins) + 1)))
    worths = [(len(some), sum(coin.amount for coin in some) - input_fee(map(fee, some))) for some in sets]
    needed = min((size for size, left in worths if left >= amount), default=0)
    most = max(needed, amount.bit_count()) + MOST_EXTRA_COINS
    matches = [some for some, (size, left) in zip(sets, worths, strict=True) if left == amount and size <= most]
    result = exact(coins, amount, fee)
    if not matches:
        assert result is None
        return
    assert result is not None
    assert sum(coin.amount for coin in result) - input_fee(map(fee, result)) == amount
    assert len(result) == min(map(len, matches))


@settings(deadline=None, max_examples=200)
@given(
    amounts=st.lists(st.integers(0, 30).map(lambda power: 2**power), min_size=1, max_size=200),
    keysets=st.lists(st.sampled_from(list(FEES)), min_size=1, max_size=3),
    part=st.floats(0.0001, 1.2),
    seed=st.integers(0, 2**32),
)
def test_what_is_chosen_covers_amount_and_fees(amounts: list[int], keysets: list[str], part: float, seed: int) -> None:
    rng = random.Random(seed)
    coins = [
        Coin(id=f"{number:06d}", account=rng.choice(keysets), unit="sat", amount=amount)
        for number, amount in enumerate(amounts)
    ]
    amount = max(1, int(sum(amounts) * part))
    worthwhile = [coin for coin in coins if 1000 * coin.amount > fee_of(coin)]
    if left_over(worthwhile, amount) < 0:
        with pytest.raises(InsufficientFundsError):
            chosen(coins, amount)
        return
    result = chosen(coins, amount)
    assert left_over(result, amount) >= 0
    assert len(set(result)) == len(result)
    assert set(result) <= set(coins)
    assert list(result) == sorted(result, key=lambda coin: coin.id), "L-S8"
    if left_over(result, amount) > 0:
        smallest = min(result, key=lambda coin: worth([coin]))
        assert left_over([coin for coin in result if coin is not smallest], amount) < 0, "none to spare"
    rng.shuffle(coins)
    assert chosen(coins, amount) == result, "the order in which coins are listed does not matter"


def test_a_match_comes_before_fewer_coins() -> None:
    coins = coins_of([1, 2, 4, 8, 16])
    assert amounts_of(chosen(coins, 11)) == [1, 2, 8]
    assert amounts_of(chosen(coins[1:], 11)) == [16]


def test_a_match_that_begins_with_smaller_coins_may_take_fewer() -> None:
    assert amounts_of(chosen(coins_of([60, 50, 30, 10, 10, 4]), 84)) == [4, 30, 50]


@pytest.mark.parametrize("extra", [0, MOST_EXTRA_COINS])
def test_a_match_is_worth_a_few_coins_more(extra: int) -> None:
    """One coin covers it with change; a match of a handful does without, one of more is not worth it."""
    ones = 1 + extra
    coins = [*coins_of([1] * 10), *coins_of([64], start=500)]
    assert amounts_of(chosen(coins, ones)) == [1] * ones
    assert amounts_of(chosen(coins, 1 + MOST_EXTRA_COINS + 1)) == [64]


def test_a_match_is_held_against_the_fewest_coins_that_cover_it() -> None:
    coins = [*coins_of([64] * 12), *coins_of([1] * 10, start=500)]
    assert amounts_of(chosen(coins, 64 * 9 + 5)) == [1] * 5 + [64] * 9
    assert amounts_of(chosen(coins, 64 * 9 + 6)) == [64] * 10


def test_coins_that_are_all_small_are_sent_as_they_are() -> None:
    coins = coins_of([1] * 200)
    assert len(exact(coins, 40, fee_of) or ()) == 40
    assert len(exact(coins, MOST_EXACT_COINS, fee_of) or ()) == MOST_EXACT_COINS
    assert exact(coins, MOST_EXACT_COINS + 1, fee_of) is None, "no token of hundreds of coins"
    assert len(chosen(coins, 100)) == 100


def test_coins_to_send_are_held_against_what_a_swap_would_make() -> None:
    """1023 takes ten coins in any case; there is no point in swapping a larger one for them."""
    coins = [*coins_of([2**power for power in range(11)]), *coins_of([1] * 200, start=500)]
    assert amounts_of(exact(coins, 1023, fee_of) or ()) == [2**power for power in range(10)]
    assert amounts_of(chosen(coins, 1023)) == [1024]
    many = [*coins_of([1] * 200), *coins_of([128], start=500)]
    assert exact(many, 100, fee_of) is None, "three coins after a swap, in place of a hundred"
    assert amounts_of(exact(many, 130, fee_of) or ()) == [1, 1, 128]
    assert exact(many, 500, fee_of) is None, "they do not cover it"


def test_fees_are_rounded_up_once() -> None:
    """NUT-02: ten coins at 100 ppk cost one together, eleven two."""
    coins = coins_of([1] * 12, "cheap")
    assert len(chosen(coins, 9)) == 10
    assert len(chosen(coins, 10)) == 12
    assert exact(coins, 9, fee_of) == tuple(coins[:10])


def test_coins_that_cost_more_than_they_are_worth_stay_where_they_are() -> None:
    coins = [*coins_of([1] * 5, "ruinous"), *coins_of([2, 2], start=10)]

    def ruinous(coin: Coin) -> int:
        return 1000 if coin.account == "ruinous" else 0

    assert amounts_of(select(coins, 3, ruinous)) == [2, 2]
    with pytest.raises(InsufficientFundsError) as caught:
        select(coins, 5, ruinous)
    assert (caught.value.needed, caught.value.available) == (5, 9)


@pytest.mark.parametrize("amount", [64, 60])
def test_retired_keysets_are_emptied_first(amount: int) -> None:
    coins = [*coins_of([64] * 3), *coins_of([64], "older", start=10)]
    assert [coin.account for coin in chosen(coins, amount)] == ["older"]
    assert [coin.account for coin in chosen(coins, 2 * amount)].count("older") == 1
    found = exact(coins, 64, fee_of, is_retired=is_retired)
    assert found is not None
    assert found[0].account == "older"


def test_among_equal_counts_the_least_is_left_over() -> None:
    coins = coins_of([64, 50, 40, 30])
    assert amounts_of(chosen(coins, 45)) == [50]
    assert amounts_of(chosen(coins, 75)) == [30, 50]
    assert amounts_of(chosen(coins, 100)) == [40, 64]


def test_nothing_covers_nothing() -> None:
    with pytest.raises(InsufficientFundsError) as caught:
        chosen([], 5)
    assert (caught.value.needed, caught.value.available) == (5, 0)
    assert exact([], 5, fee_of) is None


@pytest.mark.parametrize("denominations", ["powers", "any"])
def test_the_search_among_ten_thousand_coins_is_bounded(denominations: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are counted, since others share the machine; for the time that they take, see the benchmarks."""
    steps = 0
    for search in (coin_selection._Match, coin_selection._Cover):

        def counted(*args: Any, descend: Callable[..., None] = search.descend) -> None:
            nonlocal steps
            steps += 1
            descend(*args)

        monkeypatch.setattr(search, "descend", counted)
    rng = random.Random(7)
    amounts = [2 ** rng.randrange(20) if denominations == "powers" else rng.randrange(1, 10**6) for _ in range(10_000)]
    coins = [
        Coin(id=f"{number:06d}", account=rng.choice(list(FEES)), unit="sat", amount=amount)
        for number, amount in enumerate(amounts)
    ]
    for amount in (1, 77, 12_345, 10**6 + 1, sum(amounts) // 2, sum(amounts) - sum(amounts) // 100):
        steps = 0
        assert left_over(chosen(coins, amount), amount) >= 0
        assert steps < MOST_CALLS


def test_many_kinds_of_coins_at_once_do_not_exhaust_the_stack() -> None:
    coins = coins_of([10_000 + number for number in range(3_000)])
    assert len(chosen(coins, 25_000)) == 2
    assert exact(coins, 25_000, fee_of) is None
