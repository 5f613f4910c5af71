"""Which coins to spend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def select(coins: Sequence[Coin], amount: int, fee_of: Callable[[Sequence[Coin]], int]) -> tuple[Coin, ...]:
    """Choose few coins that cover an amount and their own input fees (L-C9).

    The largest coins are taken until they cover it; then each is exchanged for the smallest that still will do, and
    what became superfluous is left out. Few coins keep fees low; small overshoot keeps change low.

    Args:
        amount: > 0, without input fees.
        fee_of: the input fee of a set of coins; does not fall when a coin is added.
    Returns:
        The coins, by id (L-S8).
    Raises:
        InsufficientFundsError: all of them together do not cover it.
    """

    def covers(chosen: Sequence[Coin]) -> bool:
        return sum(coin.amount for coin in chosen) >= amount + fee_of(chosen)

    ranked = sorted(coins, key=lambda coin: (-coin.amount, coin.id))
    chosen: list[Coin] = []
    for coin in ranked:
        if covers(chosen) and chosen:
            break
        chosen.append(coin)
    if not chosen or not covers(chosen):
        raise InsufficientFundsError(amount + fee_of(chosen), sum(coin.amount for coin in coins))
    for index in range(len(chosen)):
        others = chosen[:index] + chosen[index + 1 :]
        taken = {coin.id for coin in chosen}
        for coin in reversed(ranked):
            if coin.id not in taken and covers([*others, coin]):
                chosen[index] = coin
                break
    for coin in sorted(chosen, key=lambda coin: coin.amount):
        rest = [other for other in chosen if other.id != coin.id]
        if rest and covers(rest):
            chosen = rest
    return tuple(sorted(chosen, key=lambda coin: coin.id))
