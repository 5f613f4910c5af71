"""A bank and a shop that do each thing once a key, and know what they have done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from wallet_actions.errors import RejectedError
from wallet_actions.testing.clock import FakeClock


class Bank:
    """Knows which coins are worth something. Each of its methods does nothing more when its key comes again."""

    def __init__(self, clock: FakeClock) -> None:
        self.worth: dict[str, int] = {}
        self.effects: Counter[str] = Counter()
        self.refused: set[str] = set()
        self._clock = clock
        self._answers: dict[str, Any] = {}

    async def pay(self, key: str, inputs: Sequence[str], change: str, amount: int) -> int:
        """Take coins, keep an amount, and make a coin of the rest.

        Returns:
            The amount of the change; 0 for none.
        """
        rest: int = self._once(key, lambda: self._take(inputs, change, amount))
        return rest

    async def paid_at(self, quote: str) -> datetime | None:
        """When a quote was paid; it takes its payer 8 seconds from when it is first asked about."""
        since: datetime = self._answers.setdefault(quote, self._clock.now())
        paid_at = since + timedelta(seconds=8)
        return paid_at if paid_at <= self._clock.now() else None

    async def issue(self, quote: str, outputs: Mapping[str, int]) -> dict[str, int]:
        """Make coins for a paid quote; another time only the same ones.

        Raises:
            RejectedError: it was issued, with other coins.
        """
        made: dict[str, int] = self._once(f"issue {quote}", lambda: self._make(outputs))
        if made != outputs:
            raise RejectedError("this quote was issued already, with other coins")
        return made

    async def refund(self, key: str, coin: str, amount: int) -> int:
        """Make a coin of an amount that was taken."""
        made: int = self._once(key, lambda: self._make({coin: amount})[coin])
        return made

    def _once(self, key: str, work: Callable[[], Any]) -> Any:
        if key not in self._answers:
            self._answers[key] = work()
            self.effects[key] += 1
        return self._answers[key]

    def _take(self, inputs: Sequence[str], change: str, amount: int) -> int:
        if not all(coin in self.worth for coin in inputs):
            raise RejectedError("a coin is spent already, or never was one")
        rest = sum(self.worth.pop(coin) for coin in inputs) - amount
        if rest:
            self._make({change: rest})
        return rest

    def _make(self, outputs: Mapping[str, int]) -> dict[str, int]:
        self.worth.update(outputs)
        return dict(outputs)


class Shop:
    """Takes orders, once each; refuses some, and those that were called off before it heard of them."""

    def __init__(self, refused: Sequence[str] = ()) -> None:
        self.taken: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self._refused = set(refused)

    async def order(self, key: str) -> str:
        """Take an order.

        Raises:
            RejectedError: it is refused, now and for ever.
        """
        if key in self._refused:
            raise RejectedError("this order is refused")
        self.taken[key] = 1
        return f"receipt {key}"

    async def call_off(self, key: str) -> bool:
        """Refuse an order from now on, unless it is taken already; whether it is refused."""
        if key not in self.taken:
            self._refused.add(key)
        return key in self._refused

    async def tell(self, key: str) -> str:
        """Be told of something; twice is no matter."""
        self.told[key] = 1
        return "thanks"
