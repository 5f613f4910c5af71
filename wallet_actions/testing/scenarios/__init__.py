"""Three small actions to simulate the engine with, their peers and their worlds.

`Pay` reserves coins, spends them at a bank by its key, and gets change. `Issue` waits until a quote is paid, takes
secrets from a durable counter, and has coins made for them. `Order` withdraws, writes a fact, orders something by it,
starts a child that says so, and is refunded where that is refused or cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from wallet_actions.action import Action
from wallet_actions.coins import Coin
from wallet_actions.store import Store
from wallet_actions.testing.life import Life
from wallet_actions.testing.oracles import Sums
from wallet_actions.testing.scenarios.actions import (
    ACCOUNT,
    SECRET,
    UNIT,
    Issue,
    Notice,
    Order,
    Pay,
    Planned,
    Unpaid,
    Wallet,
)
from wallet_actions.testing.scenarios.peers import Bank, Shop
from wallet_actions.testing.world import World
from wallet_actions.transition import Changes, Start


class BankWorld(World[Wallet]):
    """A bank, a shop, and some coins to begin with."""

    kinds: ClassVar[Sequence[type[Action[Any, Any, Any]]]] = (Pay, Issue, Order, Notice)
    funds: ClassVar[Sequence[int]] = (8, 4, 2)

    def __init__(self) -> None:
        super().__init__()
        self.bank = Bank(self.clock)
        self.shop = Shop(refused=["refused"])

    def wallet(self, life: Life, store: Store) -> Wallet:
        """See `World`."""
        return Wallet(store, life.peer(self.bank, "bank"), life.peer(self.shop, "shop"))

    async def prepare(self, store: Store) -> None:
        """See `World`: the coins are those of a payment that came to nothing."""
        if not self.funds:
            return
        coins = [Coin(f"coin {n}", ACCOUNT, UNIT, amount, f"{SECRET}-{n}") for n, amount in enumerate(self.funds)]
        self.bank.worth.update({coin.id: coin.amount for coin in coins})
        executor = self.executor(store, self.wallet(Life(), store))
        source = Pay(payment="source", amount=10**9, phase=Planned())
        await executor.start(source, Changes(add=coins))
        await executor.drive(source.key)

    async def owed(self) -> Sums:
        """See `World`."""
        total = sum(self.bank.worth.values())
        return {(ACCOUNT, UNIT): total} if total else {}

    def effects(self) -> Mapping[str, int]:
        """See `World`."""
        return self.bank.effects + self.shop.taken

    def secrets(self) -> Sequence[str]:
        """See `World`."""
        return [SECRET]

    async def check(self, said: Sequence[str] = ()) -> list[str]:  # type: ignore[override]
        """See `World`; what was withdrawn was either ordered for or refunded."""
        found = await super().check(said)
        for name in [key.removeprefix("withdraw ") for key in self.bank.effects if key.startswith("withdraw ")]:
            outcomes = (name in self.shop.taken) + (f"refund {name}" in self.bank.effects)
            if outcomes != 1:
                found.append(f"{name} was withdrawn for, and ordered or refunded {outcomes} times")
        return found


@dataclass(frozen=True, slots=True)
class Scenario:
    """What to start, and in which world."""

    name: str
    make: Callable[[], Sequence[Action[Any, Any, Any] | Start]]
    world: Callable[[], World[Any]] = field(default=BankWorld)


SCENARIOS = (
    Scenario("pay", lambda: [Pay(payment="p-1", amount=5, phase=Planned())]),
    Scenario(
        "contend",
        lambda: [Pay(payment="p-1", amount=6, phase=Planned()), Pay(payment="p-2", amount=6, phase=Planned())],
    ),
    Scenario("issue", lambda: [Issue(quote="q-1", amounts=(4, 1), phase=Unpaid())]),
    Scenario("order", lambda: [Order(name="o-1", amount=3, phase=Planned())]),
    Scenario("refund", lambda: [Order(name="refused", amount=3, phase=Planned())]),
)
"""What `make simulate` goes through."""
