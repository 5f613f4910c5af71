"""Which coins to spend, so that few are spent, little is left over, and old keysets are emptied.

Spending a coin costs its keyset's fee; the fees of a request are added up and rounded up once (NUT-02). Counted in
thousandths of the unit, a coin is therefore worth its amount less its fee, and coins cover an amount exactly when
their worths add up to it: rounding the fee up is rounding down what is left. A match leaves less than one unit over.

The search is a bounded one. It works on classes of coins that are worth the same, of which a wallet has few however
many coins it holds, and ends after a fixed number of steps with the best that it has found; on small wallets it ends
by itself, and nothing is better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Final

from wallet_actions.cashu.errors import InsufficientFundsError
from wallet_actions.coins import Coin

FeeOf = Callable[[Coin], int]
"""What it costs to spend a coin, in thousandths of the unit."""

MOST_EXTRA_COINS: Final = 4
"""A match may take so many coins more than are needed: with more, it costs more to handle than the change it saves."""

MOST_EXACT_COINS: Final = 64
"""Coins that are sent as they are, are at most so many: a token has to be carried, and shown as a QR code."""

MOST_INPUTS: Final = 1_000
"""How many coins mints take in one request."""

_UNIT: Final = 1000
_STEPS: Final = 2_000
_MOST_CLASSES: Final = 250  # each may take one level of recursion


def input_fee(fees_ppk: Iterable[int]) -> int:
    """What it costs to spend some coins together: the sum of their fees, rounded up to the next whole unit (NUT-02).

    Args:
        fees_ppk: of each coin, in thousandths of the unit.
    """
    return (sum(fees_ppk) + 999) // 1000


def select(
    coins: Iterable[Coin], amount: int, fee_of: FeeOf, *, is_retired: Callable[[Coin], bool] = lambda _: False
) -> tuple[Coin, ...]:
    """Choose coins that cover an amount and their own input fees (L-C9).

    A match without change comes first, of as few coins as possible, if it takes at most `MOST_EXTRA_COINS` more than
    the fewest that cover the amount. Failing that, the fewest; among those sets, the one with the most coins of retired
    keysets; among those, the one with the least left over.

    Args:
        coins: those that are free. Ones that cost as much to spend as they are worth are left alone.
        amount: > 0, without input fees.
        is_retired: whether the mint no longer signs with a coin's keyset: such coins are better spent than kept.

    Returns:
        The coins, by id (L-S8).

    Raises:
        InsufficientFundsError: all of them together do not cover it.
    Cost: a sort of the coins, and a bounded search: some 30 ms for 10,000 coins.
    """
    pool = list(coins)
    classes = _classes(pool, fee_of, is_retired)
    target = amount * _UNIT
    fewest = _fewest(classes, target)
    if fewest is None:
        worthwhile = (coin for kind in classes for coin in kind.coins)
        fee = input_fee(fee_of(coin) for coin in worthwhile)
        raise InsufficientFundsError(amount + fee, sum(coin.amount for coin in pool))
    taken = _match(classes, target, fewest + MOST_EXTRA_COINS) or _least_left_over(classes, target, fewest)
    return _coins(classes, taken)


def exact(
    coins: Iterable[Coin], amount: int, fee_of: FeeOf, *, is_retired: Callable[[Coin], bool] = lambda _: False
) -> tuple[Coin, ...] | None:
    """Find coins that come to exactly an amount, to be sent as they are, without a swap.

    Args:
        amount: > 0: what the coins shall be worth after the fees that `fee_of` tells. With `lambda _: 0` their face
            value counts, and whoever receives them bears the fees.

    Returns:
        The coins, by id, as few as possible; None where no match was found, or only one of too many coins: more than
        `MOST_EXTRA_COINS` beyond what a swap would make of the amount, and beyond the fewest that cover it; or more
        than `MOST_EXACT_COINS`.
    """
    classes = _classes(coins, fee_of, is_retired)
    target = amount * _UNIT
    fewest = _fewest(classes, target)
    if fewest is None:
        return None
    swapped = amount.bit_count()  # denominations are powers of two
    taken = _match(classes, target, min(max(fewest, swapped) + MOST_EXTRA_COINS, MOST_EXACT_COINS))
    return None if taken is None else _coins(classes, taken)


@dataclass(frozen=True, slots=True)
class _Class:
    """Coins that are worth the same, in thousandths of the unit, by id."""

    worth: int
    is_retired: bool
    coins: list[Coin]


_Taken = Sequence[int]
"""How many coins of each class."""


def _classes(coins: Iterable[Coin], fee_of: FeeOf, is_retired: Callable[[Coin], bool]) -> list[_Class]:
    """The classes by falling worth, retired ones first among equals."""
    found: dict[tuple[int, bool], _Class] = {}
    for coin in coins:
        key = (coin.amount * _UNIT - fee_of(coin), is_retired(coin))
        if key in found:
            found[key].coins.append(coin)
        elif key[0] > 0:
            found[key] = _Class(*key, [coin])
    classes = sorted(found.values(), key=lambda kind: (-kind.worth, not kind.is_retired))
    for kind in classes:
        kind.coins.sort(key=lambda coin: coin.id)
    return classes


def _coins(classes: Sequence[_Class], taken: _Taken) -> tuple[Coin, ...]:
    chosen = [coin for kind, count in zip(classes, taken, strict=True) for coin in kind.coins[:count]]
    return tuple(sorted(chosen, key=lambda coin: coin.id))


def _fewest(classes: Sequence[_Class], target: int) -> int | None:
    """How many coins it takes to cover the target: as many of the largest as are needed."""
    count = 0
    for kind in classes:
        needed = -(-target // kind.worth)
        if needed <= len(kind.coins):
            return count + needed
        count += len(kind.coins)
        target -= kind.worth * len(kind.coins)
    return None


def _match(classes: Sequence[_Class], target: int, most: int) -> _Taken | None:
    """The fewest coins, and no more than some, that leave less than one unit over."""
    if len(classes) > _MOST_CLASSES:
        return None
    search = _Match(classes, most)
    search.descend(0, target, 0)
    return search.best


class _Match:
    """Takes as many as fit of each class, from the largest down, and steps back where that leads nowhere."""

    def __init__(self, classes: Sequence[_Class], most: int) -> None:
        self.best: _Taken | None = None
        self._classes = [(kind.worth, min(len(kind.coins), most)) for kind in classes]
        self._most = most
        self._steps = _STEPS
        self._taken = [0] * len(classes)
        self._failed: dict[tuple[int, int], int] = {}
        self._sums = [0] * (len(classes) + 1)
        self._divisors = [0] * (len(classes) + 1)
        for place in reversed(range(len(classes))):
            worth, size = self._classes[place]
            self._sums[place] = self._sums[place + 1] + worth * size
            self._divisors[place] = gcd(self._divisors[place + 1], worth)

    def descend(self, place: int, missing: int, used: int) -> None:
        if missing <= 0:
            self.best, self._most = tuple(self._taken), used - 1
            return
        if self._is_hopeless(place, missing, used):
            return
        self._steps -= 1
        self._failed[place, missing] = used
        worth, size = self._classes[place]
        most = min(size, (missing + _UNIT - 1) // worth, self._most - used)
        for count in range(most, -1, -1):
            self._taken[place] = count
            self.descend(place + 1, missing - count * worth, used + count)
        self._taken[place] = 0

    def _is_hopeless(self, place: int, missing: int, used: int) -> bool:
        if place == len(self._classes) or self._steps <= 0 or self._sums[place] < missing:
            return True
        if used + -(-missing // self._classes[place][0]) > self._most:
            return True
        # What is left comes to a multiple of this: one of them has to lie within the unit.
        divisor = self._divisors[place]
        if -(-missing // divisor) * divisor >= missing + _UNIT:
            return True
        return self._failed.get((place, missing), used + 1) <= used


def _least_left_over(classes: Sequence[_Class], target: int, count: int) -> _Taken:
    """So many coins that cover the target: the most of them retired, then the least left over."""
    search = _Cover(classes, target, count)
    if len(classes) <= _MOST_CLASSES:
        search.descend(0, target, count, 0)
    return search.best


class _Cover:
    """Begins with the largest coins and the smallest that completes them, and looks for something better.

    A score is the smaller the better: coins that are not retired, then what is left over.
    """

    def __init__(self, classes: Sequence[_Class], target: int, count: int) -> None:
        self._classes = [(kind.worth, kind.is_retired, min(len(kind.coins), count)) for kind in classes]
        self._steps = _STEPS
        self._taken = [0] * len(classes)
        self._sizes = [0] * (len(classes) + 1)
        self._retired = [0] * (len(classes) + 1)
        for place in reversed(range(len(classes))):
            _, is_retired, size = self._classes[place]
            self._sizes[place] = self._sizes[place + 1] + size
            self._retired[place] = self._retired[place + 1] + size * is_retired
        self.best: _Taken = self._start(target, count)
        chosen = [(worth, is_retired, n) for (worth, is_retired, _), n in zip(self._classes, self.best, strict=True)]
        left_over = sum(worth * n for worth, _, n in chosen) - target
        self._score = (sum(n for _, is_retired, n in chosen if not is_retired), left_over)

    def _start(self, target: int, count: int) -> list[int]:
        taken = [0] * len(self._classes)
        left = count - 1
        for place, (worth, _, size) in enumerate(self._classes):
            taken[place] = min(size, left)
            left -= taken[place]
            target -= taken[place] * worth
            if not left:
                break
        last = max(
            place for place, (worth, _, size) in enumerate(self._classes) if worth >= target and taken[place] < size
        )
        taken[last] += 1
        return taken

    def descend(self, place: int, missing: int, left: int, active: int) -> None:
        """Choose of the classes from a place on.

        Args:
            missing: of the target; left: coins to choose; active: chosen coins that are not retired.
        """
        if left == 0:
            if missing <= 0 and (active, -missing) < self._score:
                self.best, self._score = tuple(self._taken), (active, -missing)
            return
        if self._steps <= 0 or self._sizes[place] < left or self._is_hopeless(place, missing, left, active):
            return
        self._steps -= 1
        worth, is_retired, size = self._classes[place]
        for count in range(min(size, left), -1, -1):
            self._taken[place] = count
            self.descend(place + 1, missing - count * worth, left - count, active + count * (not is_retired))
        self._taken[place] = 0

    def _is_hopeless(self, place: int, missing: int, left: int, active: int) -> bool:
        if self._sum(range(place, len(self._classes)), left) < missing:
            return True
        least = self._sum(range(len(self._classes) - 1, place - 1, -1), left) - missing
        return (active + max(0, left - self._retired[place]), max(0, least)) >= self._score

    def _sum(self, places: range, count: int) -> int:
        """What that many coins come to, taken in the order of the places."""
        total = 0
        for place in places:
            worth, _, size = self._classes[place]
            total += worth * min(size, count)
            count -= size
            if count <= 0:
                break
        return total
