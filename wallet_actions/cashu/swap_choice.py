"""Which coins a swap takes, and what it makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from wallet_actions.cashu.amounts import split
from wallet_actions.cashu.coin_selection import input_fee, select
from wallet_actions.cashu.errors import InsufficientFundsError
from wallet_actions.cashu.keysets import Keyset
from wallet_actions.cashu.wallet import Pool
from wallet_actions.coins import Coin
from wallet_actions.errors import RejectedError, UsageError

MOST_COINS: Final = 500
"""How many coins go into one swap, and are named to come out of it. Mints take a thousand or fewer in a request."""


def wanted_amounts(
    denominations: Mapping[int, int] | Sequence[int] | None, amount: int | None, keyset: Keyset
) -> tuple[int, ...]:
    """The coins to have made, ascending.

    Raises:
        UsageError: see `Swap.of`.
    """
    if amount is not None:
        split(amount, keyset.denominations)
    if denominations is None:
        return ()
    counts = denominations if isinstance(denominations, Mapping) else Counter(denominations)
    for denomination, count in counts.items():
        if type(denomination) is not int or denomination not in keyset.denominations:
            raise UsageError(f"the mint has no coins of {denomination}")
        if type(count) is not int or count < 1:
            raise UsageError("the count of each denomination must be a positive integer")
    if not 0 < sum(counts.values()) <= MOST_COINS:
        raise UsageError(f"name from 1 to {MOST_COINS} coins to be made")
    wanted = tuple(sorted(Counter(counts).elements()))
    if amount is not None and amount < sum(wanted):
        raise UsageError(f"the denominations come to {sum(wanted)}, more than the amount of {amount}")
    return wanted


def to_make(wanted: Sequence[int], amount: int | None, pool: Pool) -> tuple[Sequence[Coin], int]:
    """Coins that cover what is to be made, with their fee.

    Raises:
        InsufficientFundsError: there are not enough. RejectedError: it would take too many.
    """
    target = max(sum(wanted), amount or 0)
    others = [coin for coin in pool if coin.amount not in wanted or pool.is_retired(coin)]
    try:
        # Coins like those that are wanted are not spent for them, where others will do.
        chosen = select(others, target, pool.fee_ppk, is_retired=pool.is_retired)
    except InsufficientFundsError:
        chosen = select(pool, target, pool.fee_ppk, is_retired=pool.is_retired)
    if len(chosen) > MOST_COINS:
        raise RejectedError(f"it would take more than {MOST_COINS} coins; swap them into fewer first")
    return chosen, 0


def to_gather(amount: int | None, pool: Pool, keyset: Keyset) -> tuple[Sequence[Coin], int]:
    """Coins to be made fewer, and how many are left for another swap: those of retired keysets first, then small ones.

    Raises:
        InsufficientFundsError: there are not enough.
    """
    worthwhile = [coin for coin in pool if coin.amount * 1000 > pool.fee_ppk(coin)]
    ordered = sorted(worthwhile, key=lambda coin: (not pool.is_retired(coin), coin.amount, coin.id))
    if amount is not None:
        ordered = _covering(ordered, amount, pool)
    chosen, left = ordered[:MOST_COINS], len(ordered[MOST_COINS:])
    net = _net(chosen, pool)
    if net > 0:
        # A coin that would come back as it is stays: it need not be paid for.
        spare = Counter(split(net, keyset.denominations))
        for coin in reversed(chosen):
            if spare[coin.amount] and not pool.is_retired(coin):
                spare[coin.amount] -= 1
                chosen.remove(coin)
    return chosen, left


def _covering(coins: Sequence[Coin], amount: int, pool: Pool) -> list[Coin]:
    total = fees_ppk = 0
    for count, coin in enumerate(coins, start=1):
        total, fees_ppk = total + coin.amount, fees_ppk + pool.fee_ppk(coin)
        if total - input_fee((fees_ppk,)) >= amount:
            return list(coins[:count])
    raise InsufficientFundsError(amount + input_fee((fees_ppk,)), total)


def _net(coins: Sequence[Coin], pool: Pool) -> int:
    return sum(coin.amount for coin in coins) - input_fee(map(pool.fee_ppk, coins))


def is_worthwhile(chosen: Sequence[Coin], net: int, wanted: Sequence[int], pool: Pool, keyset: Keyset) -> bool:
    """Whether a swap of these coins, worth so much after the fee, leaves the wallet with other or fewer ones."""
    if net <= 0:
        return False
    if any(map(pool.is_retired, chosen)):
        return True
    made = in_coins(wanted, net - sum(wanted), keyset)
    if wanted:
        return sorted(made) != sorted(coin.amount for coin in chosen)
    return len(made) < len(chosen)


def in_coins(wanted: Sequence[int], rest: int, keyset: Keyset) -> tuple[int, ...]:
    """The amounts of the new coins, ascending: the wanted ones, and the rest in few."""
    return tuple(sorted((*wanted, *(split(rest, keyset.denominations) if rest else ()))))
