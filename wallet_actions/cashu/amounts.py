"""Amounts cut into what a mint can sign."""

from __future__ import annotations

from collections.abc import Collection

from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.errors import UsageError


def split(amount: int, denominations: Collection[int]) -> tuple[int, ...]:
    """Cut an amount into as few coins as possible.

    The largest denomination that fits is taken first, which gives the fewest coins wherever each denomination divides
    the next, as powers of two do.

    Args:
        amount: 1 … 2^63 - 1.
        denominations: the amounts that the keyset has keys for.

    Returns:
        The amounts of the coins in ascending order: any other order tells the mint which coins are change (NUT-03).

    Raises:
        UsageError: the amount is out of range, or does not come out with these denominations.
    """
    if type(amount) is not int or not 0 < amount <= MAX_AMOUNT:
        raise UsageError("an amount must be an integer from 1 to 2^63 - 1")
    coins: list[int] = []
    rest = amount
    for denomination in sorted(denominations, reverse=True):
        count, rest = divmod(rest, denomination)
        if len(coins) + count > _MAX_COINS:
            raise UsageError(f"the amount would take more than {_MAX_COINS} coins of this keyset")
        coins.extend([denomination] * count)
    if rest:
        raise UsageError("the keyset has no coins that add up to this amount")
    return tuple(reversed(coins))


def blank_output_count(most: int) -> int:
    """How many blank outputs hold any change up to an amount (NUT-08).

    Args:
        most: what may come back at most, ≥ 0: the fee reserve, or all that the inputs exceed the amount by.

    Raises:
        UsageError: a negative amount.
    """
    if most < 0:
        raise UsageError("change cannot be negative")
    return max((most - 1).bit_length(), 1) if most else 0


_MAX_COINS = 1000
