"""`Swap`: which coins it takes, and what it makes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.cashu.fake_mint import URL
from tests.unit.cashu.swap_mint import Bench, Sheet
from wallet_actions.cashu import Exchanged, InsufficientFundsError, Swap
from wallet_actions.cashu.swap_choice import MOST_COINS
from wallet_actions.coins import CoinState
from wallet_actions.errors import RejectedError, UsageError, WalletActionError
from wallet_actions.outcome import Outcome
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


@pytest.fixture
def bench(store: MemoryStore) -> Bench:
    return Bench(store)


async def begun(bench: Bench, **wanted: Any) -> Swap:
    swap: Swap = await bench.start(await Swap.of(bench.wallet, URL, **wanted))
    return swap


async def test_coins_are_gathered_into_few(bench: Bench) -> None:
    await bench.fund(3, 3, 3)
    swap = await begun(bench)
    assert await bench.amounts(CoinState.RESERVED) == [1, 1, 2, 2, 2], "one of 1 would come back as it is"
    before = len(bench.mint.requests)
    result = await bench.drive(swap)
    assert bench.mint.requests[before:] == ["POST /v1/swap"]
    assert result.result == Exchanged(mint=URL, unit="sat", amount=8, fee=0, coins=1)
    assert await bench.amounts() == [1, 8]


async def test_coins_that_would_come_back_as_they_are_stay(store: MemoryStore) -> None:
    """Each coin costs a fee. 256 + 16 + ten of 1 become 256 + 16 + 8 + 1: only the small ones are spent."""
    bench = Bench(store, Sheet(1000, fee_ppk=100))
    await bench.fund(256, 16, *[1] * 10)
    swap = await begun(bench)
    assert (len(swap.inputs), swap.input_total, swap.input_fee) == (10, 10, 1)
    assert (await bench.drive(swap)).outcome is Outcome.DONE
    assert await bench.amounts() == [1, 8, 16, 256]


@pytest.mark.parametrize("fee_ppk", [0, 100, 800])
async def test_coins_as_few_as_can_be_are_left_alone(store: MemoryStore, fee_ppk: int) -> None:
    bench = Bench(store, Sheet(1000, fee_ppk=fee_ppk))
    await bench.fund(1 + 4 + 64)
    before = await bench.store.list_actions()
    with pytest.raises(RejectedError, match="as few as they can be"):
        await Swap.of(bench.wallet, URL)
    assert await bench.store.list_actions() == before


async def test_coins_of_retired_keysets_go_first_even_if_they_are_few(bench: Bench) -> None:
    await bench.fund(64, 3)
    bench.mint.rotate()
    await bench.wallet.mint(URL).refresh()
    await bench.fund(1, 1, 2)
    swap = await begun(bench, amount=60)
    taken = await bench.wallet.proofs(swap.inputs)
    assert {proof.id for proof in taken} == {bench.mint.sheets[0].id}
    assert (await bench.drive(swap)).outcome is Outcome.DONE
    left = {coin.amount for coin in await bench.coins() if bench.mint.sheets[0].id in coin.payload}
    assert not left & {64, 1}


async def test_a_keyset_that_was_retired_unnoticed_is_reason_enough(bench: Bench) -> None:
    """What the wallet knew of the mint's keysets is out of date, and the coins are as few as can be."""
    await bench.fund(64, 1)
    bench.mint.rotate()
    swap = await begun(bench)
    assert (await bench.drive(swap)).outcome is Outcome.DONE
    assert {bench.mint.sheets[1].id in coin.payload for coin in await bench.coins()} == {True}


async def test_coins_that_the_wallet_has_are_made_anew_if_their_keyset_was_retired(bench: Bench) -> None:
    await bench.fund(64, 1)
    bench.mint.rotate()
    swap = await begun(bench, denominations=[64, 1])
    assert (await bench.drive(swap)).outcome is Outcome.DONE
    assert {bench.mint.sheets[1].id in coin.payload for coin in await bench.coins()} == {True}


@pytest.mark.parametrize(
    ("denominations", "made"),
    [({1: 3, 8: 1}, [1, 1, 1, 4, 8, 16, 32]), ([8, 1, 1, 1], [1, 1, 1, 4, 8, 16, 32]), ([63 + 1], [64])],
)
async def test_coins_to_be_made_are_named(bench: Bench, denominations: Any, made: list[int]) -> None:
    await bench.fund(*([63] if len(made) > 1 else [32, 32]))
    swap = await begun(bench, denominations=denominations, amount=63 if len(made) > 1 else None)
    result = await bench.drive(swap)
    assert isinstance(result.result, Exchanged)
    assert await bench.amounts() == made
    assert result.result.coins == len(made)


async def test_coins_like_the_wanted_ones_are_not_spent_for_them(bench: Bench) -> None:
    """They are made beside those that there are, as far as the other coins reach."""
    await bench.fund(2, 2, 16)
    for _ in range(3):
        assert (await bench.drive(await begun(bench, denominations={2: 1}))).outcome is Outcome.DONE
    assert await bench.amounts() == [2] * 8 + [4], "they are also what the rest comes in"


async def test_no_more_coins_are_spent_than_it_takes(bench: Bench) -> None:
    """L-C9."""
    await bench.fund(128, 16, 2)
    swap = await begun(bench, denominations={4: 3})
    assert [coin.amount for coin in await bench.coins(CoinState.RESERVED)] == [16]
    assert (await bench.drive(swap)).outcome is Outcome.DONE
    assert await bench.amounts() == [2, 4, 4, 4, 4, 128]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"denominations": {3: 1}}, "no coins of 3"),
        ({"denominations": {0: 1}}, "no coins of 0"),
        ({"denominations": {-1: 1}}, "no coins of -1"),
        ({"denominations": {2**40: 1}}, "no coins of 1099511627776"),
        ({"denominations": [True]}, "no coins of True"),
        ({"denominations": "12"}, "no coins of 1"),
        ({"denominations": {1: 0}}, "positive integer"),
        ({"denominations": {1: -1, 2: 5}}, "positive integer"),
        ({"denominations": {1: 1.5}}, "positive integer"),
        ({"denominations": {}}, f"from 1 to {MOST_COINS}"),
        ({"denominations": {1: 10**15}}, f"from 1 to {MOST_COINS}"),
        ({"denominations": {64: 1}, "amount": 63}, "come to 64, more than the amount of 63"),
        ({"denominations": {128: 1}}, "not enough funds: 128 needed, 67 available"),
        ({"amount": 68}, "not enough funds"),
        ({"amount": 0}, "integer from 1"),
        ({"amount": -5}, "integer from 1"),
        ({"amount": 2**63}, "integer from 1"),
        ({"denominations": {64: 1, 2: 1, 1: 1}}, "has these coins already"),
        ({"unit": "eur"}, "no keyset in use for the unit .eur."),
    ],
)
async def test_a_wish_that_cannot_be_met_is_one_clear_error(bench: Bench, wanted: Any, said: str) -> None:
    await bench.fund(67)
    before = await bench.store.list_actions()
    with pytest.raises((UsageError, RejectedError), match=said) as caught:
        await Swap.of(bench.wallet, URL, **wanted)
    assert isinstance(caught.value, WalletActionError)
    assert (await bench.store.list_actions(), await bench.amounts()) == (before, [1, 2, 64])
    assert bench.mint.count("POST /v1/swap") == 0


async def test_an_empty_wallet_has_nothing_to_swap(bench: Bench) -> None:
    with pytest.raises(RejectedError, match="nothing to swap"):
        await Swap.of(bench.wallet, URL)
    with pytest.raises(InsufficientFundsError):
        await Swap.of(bench.wallet, URL, denominations=[1])


async def test_a_coin_that_costs_what_it_is_worth_stays(store: MemoryStore) -> None:
    bench = Bench(store, Sheet(1000, fee_ppk=1000))
    await bench.fund(1, 1, 2, 2, 2, 2)
    swap = await begun(bench)
    assert await bench.amounts(CoinState.RESERVED) == [2, 2, 2, 2]
    assert (await bench.drive(swap)).outcome is Outcome.DONE
    assert await bench.amounts() == [1, 1, 4]


async def test_a_retired_coin_that_its_fee_eats_up_is_not_worth_a_swap(store: MemoryStore) -> None:
    bench = Bench(store, Sheet(1000, fee_ppk=100))
    await bench.fund(1)
    bench.mint.rotate()
    with pytest.raises(RejectedError, match="no more than the fee"):
        await Swap.of(bench.wallet, URL)


async def test_many_coins_take_several_swaps(bench: Bench) -> None:
    """A mint takes only so many in a request; what is left is told."""
    await bench.fund(MOST_COINS + 30)
    for _ in range(2):
        await bench.drive(await begun(bench, denominations={1: MOST_COINS // 2 + 10}))
        bench.mint.requests.clear()
    count = len(await bench.coins())
    assert count > MOST_COINS
    swap = await begun(bench)
    assert (len(swap.inputs), swap.left) == (MOST_COINS, count - MOST_COINS)
    result = await bench.drive(swap)
    assert isinstance(result.result, Exchanged)
    assert result.result.left == count - MOST_COINS
    assert await bench.notes(swap) == [f"{count - MOST_COINS} coins were left for another swap"]
    assert (await bench.drive(await begun(bench))).outcome is Outcome.DONE
    assert len(await bench.coins()) == (MOST_COINS + 30).bit_count()


async def test_a_wish_that_takes_too_many_coins_is_refused(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wallet_actions.cashu.swap_choice.MOST_COINS", 20)
    bench = Bench(store, Sheet(1000, powers=2))
    await bench.fund(50)
    with pytest.raises(RejectedError, match="more than 20 coins"):
        await Swap.of(bench.wallet, URL, denominations=[1], amount=45)


async def test_one_spoilt_coin_does_not_keep_the_others_from_being_swapped(bench: Bench) -> None:
    """L-C13: a keyset that the mint does not list any more. It is not asked for it again and again either."""
    await bench.fund(3)
    bench.mint.rotate()
    bench.mint.sheets[0].is_listed = False
    await bench.wallet.mint(URL).refresh()
    await bench.fund(5, 5)
    assert (await bench.drive(await begun(bench))).outcome is Outcome.DONE
    before = bench.mint.count("GET /v1/keysets")
    for _ in range(5):
        await bench.wallet.select(URL, "sat", 1)
    assert bench.mint.count("GET /v1/keysets") - before <= 1
    assert await bench.amounts() == [1, 2, 2, 8]
