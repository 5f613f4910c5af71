"""Which coins to spend."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from wallet_actions.coins import Coin
from wallet_actions.errors import RejectedError


class InsufficientFundsError(RejectedError):
    """The coins that are free do not cover the amount and what it costs to spend them.

    Attributes:
        needed: amount and fees, in the smallest unit.
        available: what the free coins come to.
    """

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"not enough funds: {needed} needed, {available} available")
        self.needed = needed
        self.available = available


def input_fee(fees_ppk: Iterable[int]) -> int:
    """What it costs to spend some coins together: the sum of their fees, rounded up to the next whole unit (NUT-02).

    Args:
        fees_ppk: of each coin, in thousandths of the unit.
    """
    return (sum(fees_ppk) + 999) // 1000


def select(fees_ppk: Mapping[Coin, int], amount: int) -> tuple[Coin, ...]:
    """Choose few coins that cover an amount and their own input fees (L-C9).

    The largest coins are taken until they cover it; then each is exchanged for the smallest that still will do, and
    what became superfluous is left out. Few coins keep fees low; small overshoot keeps change low.

    Args:
        fees_ppk: the coins to choose from, and what spending each costs, in thousandths of the unit.
        amount: > 0, without input fees.
    Returns:
        The coins, by id (L-S8).
    Raises:
        InsufficientFundsError: all of them together do not cover it.
    Cost: a sort, and a search for each coin that is chosen.
    """

    def worth(coin: Coin) -> int:
        """In thousandths, less what it costs to spend."""
        return coin.amount * 1000 - fees_ppk[coin]

    # What covers is the sum of these, since rounding up a fee to whole units is rounding down what is left of whole
    # amounts. Coins that cost more than they are worth stay where they are.
    ranked = sorted((coin for coin in fees_ppk if worth(coin) > 0), key=lambda coin: (worth(coin), coin.id))
    chosen: list[Coin] = []
    surplus = -amount * 1000
    free = len(ranked)
    while surplus < 0 and free:
        free -= 1
        chosen.append(ranked[free])
        surplus += worth(ranked[free])
    if surplus < 0:
        raise InsufficientFundsError(
            amount + input_fee(fees_ppk[coin] for coin in chosen), sum(coin.amount for coin in fees_ppk)
        )
    left = ranked[:free]
    for index, coin in enumerate(chosen):
        place = bisect_left(left, worth(coin) - surplus, key=worth)
        if place < len(left):
            surplus -= worth(coin) - worth(left[place])
            chosen[index] = left.pop(place)
    kept: list[Coin] = []
    for coin in sorted(chosen, key=worth):
        if worth(coin) <= surplus:
            surplus -= worth(coin)
        else:
            kept.append(coin)
    return tuple(sorted(kept, key=lambda coin: coin.id))
