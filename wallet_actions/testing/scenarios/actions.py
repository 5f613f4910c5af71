"""Three small actions, and a child."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self, assert_never

from wallet_actions.action import Action, Phase
from wallet_actions.coins import Coin, CoinState, Fact
from wallet_actions.errors import RejectedError, TransientError
from wallet_actions.store import Store
from wallet_actions.testing.scenarios.peers import Bank, Shop
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Transition

ACCOUNT, UNIT = "bank", "sat"
SECRET = "bearer-money"  # noqa: S105 a mark to look for in logs


@dataclass(frozen=True, slots=True)
class Wallet:
    """What the actions work with."""

    store: Store
    bank: Bank
    shop: Shop


async def choose(wallet: Wallet, amount: int) -> list[Coin]:
    """Coins worth at least an amount, the first ones there are; fewer where there is not enough."""
    chosen: list[Coin] = []
    for coin in await wallet.store.coins(account=ACCOUNT, unit=UNIT, state=CoinState.SPENDABLE):
        if sum(one.amount for one in chosen) >= amount:
            break
        chosen.append(coin)
    return chosen


def coin_of(coin_id: str, amount: object, most: int) -> Coin:
    """A coin that a bank made.

    Raises:
        TransientError: what the bank said makes no sense; ask again.
    """
    if type(amount) is not int or not 0 < amount <= most:
        raise TransientError("the bank's answer makes no sense")
    return Coin(coin_id, ACCOUNT, UNIT, amount, payload=f"{SECRET}-{coin_id}")


class Planned(Phase):
    """Nothing is done yet."""


class Held(Phase):
    """The inputs are reserved; the bank may have heard of it."""

    inputs: tuple[str, ...]
    total: int


class Pay(Action[Wallet, Planned | Held, int], kind="pay"):
    """Pay an amount at the bank."""

    payment: str
    amount: int

    @property
    def id(self) -> str:
        """See `Action`."""
        return self.payment

    async def advance(self, wallet: Wallet) -> Transition[Self, int]:
        """See `Action`."""
        match self.phase:
            case Planned():
                coins = await choose(wallet, self.amount)
                total = sum(coin.amount for coin in coins)
                if total < self.amount:
                    return Failed("not enough coins")
                return Next(
                    self.at(Held(inputs=tuple(coin.id for coin in coins), total=total)), changes=Changes(reserve=coins)
                )
            case Held(inputs=inputs, total=total):
                change, rest = f"change of {self.payment}", total - self.amount
                returned = await wallet.bank.pay(f"pay {self.payment}", inputs, change, self.amount)
                if returned != rest:
                    raise TransientError("the bank's answer makes no sense")
                made = [coin_of(change, rest, rest)] if rest else []
                return Done(rest, Changes(spend=inputs, add=made, notes=["paid"]))
            case _:
                assert_never(self.phase)

    async def on_cancel(self, wallet: Wallet) -> Transition[Self, int] | None:
        """See `Action`."""
        return Failed("cancelled") if isinstance(self.phase, Planned) else None


class Unpaid(Phase):
    """The payer has not paid yet, as far as is known."""


class Paid(Phase):
    """The quote is paid."""


class Prepared(Phase):
    """The secrets are chosen; the bank may have heard of them."""

    first: int


class Issue(Action[Wallet, Unpaid | Paid | Prepared, int], kind="issue"):
    """Turn a paid quote into coins."""

    quote: str
    amounts: tuple[int, ...]

    @property
    def id(self) -> str:
        """See `Action`."""
        return self.quote

    async def advance(self, wallet: Wallet) -> Transition[Self, int]:
        """See `Action`."""
        match self.phase:
            case Unpaid():
                paid_at = await wallet.bank.paid_at(self.quote)
                if not isinstance(paid_at, datetime):
                    return Park(self, wake_after=timedelta(seconds=5))
                return Next(self.at(Paid()), changes=Changes(notes=["paid"]))
            case Paid():
                first = await wallet.store.allocate("secrets", len(self.amounts))
                return Next(self.at(Prepared(first=first)))
            case Prepared(first=first):
                outputs = {f"secret {first + place}": amount for place, amount in enumerate(self.amounts)}
                made = await wallet.bank.issue(self.quote, outputs)
                if made != outputs:
                    raise TransientError("the bank's answer makes no sense")
                coins = [coin_of(secret, amount, amount) for secret, amount in made.items()]
                return Done(sum(self.amounts), Changes(add=coins, facts=[Fact("issued", self.quote)]))
            case _:
                assert_never(self.phase)


class Told(Phase):
    """The only phase there is."""


class Notice(Action[Wallet, Told], kind="notice"):
    """Tell the shop of an order."""

    order: str

    @property
    def id(self) -> str:
        """See `Action`."""
        return self.order

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        """See `Action`."""
        if await wallet.shop.tell(self.order) != "thanks":
            raise TransientError("the shop's answer makes no sense")
        return Done()


class Withdrawn(Phase):
    """The coins are spent; the shop may have heard of the order."""

    total: int


class Refunding(Phase):
    """The shop will never take the order."""

    total: int
    reason: str


class Order(Action[Wallet, Planned | Held | Withdrawn | Refunding, str], kind="order"):
    """Withdraw and order; a refund where that comes to nothing."""

    name: str
    amount: int

    @property
    def id(self) -> str:
        """See `Action`."""
        return self.name

    async def advance(self, wallet: Wallet) -> Transition[Self, str]:
        """See `Action`."""
        match self.phase:
            case Planned():
                coins = await choose(wallet, self.amount)
                total = sum(coin.amount for coin in coins)
                if total < self.amount:
                    return Failed("not enough coins")
                held = Held(inputs=tuple(coin.id for coin in coins), total=total)
                return Next(self.at(held), changes=Changes(reserve=coins))
            case Held(inputs=inputs, total=total):
                if await wallet.bank.pay(f"withdraw {self.name}", inputs, "", total) != 0:
                    raise TransientError("the bank's answer makes no sense")
                fact = Fact("withdrawn", self.name, f'{{"total":{total}}}')
                return Next(self.at(Withdrawn(total=total)), changes=Changes(spend=inputs, facts=[fact]))
            case Withdrawn():
                if await wallet.shop.order(self.name) != f"receipt {self.name}":
                    raise TransientError("the shop's answer makes no sense")
                child = Notice(order=self.name, phase=Told())
                return Done(f"receipt {self.name}", Changes(facts=[Fact("ordered", self.name)], start=[child]))
            case Refunding(total=total, reason=reason):
                coin = f"refund of {self.name}"
                amount = await wallet.bank.refund(f"refund {self.name}", coin, total)
                if amount != total:
                    raise TransientError("the bank's answer makes no sense")
                return Failed(reason, Changes(add=[coin_of(coin, total, total)]))
            case _:
                assert_never(self.phase)

    async def on_rejection(self, wallet: Wallet, error: RejectedError) -> Transition[Self, str]:
        """See `Action`: only the shop's refusal is one that money has to come back for."""
        if isinstance(self.phase, Withdrawn):
            return Next(self.at(Refunding(total=self.phase.total, reason=str(error))))
        return Failed(error)

    async def on_cancel(self, wallet: Wallet) -> Transition[Self, str] | None:
        """See `Action`: once the shop may have heard of the order, it is the shop who knows."""
        match self.phase:
            case Planned():
                return Failed("cancelled")
            case Withdrawn(total=total):
                if await wallet.shop.call_off(self.name) is True:
                    return Next(self.at(Refunding(total=total, reason="cancelled")))
                return None
            case _:
                return None
