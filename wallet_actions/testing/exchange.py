"""The small world of the executor's state machine: a bank that keeps gold, and an action that exchanges coins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self, assert_never

from pydantic import BaseModel

from wallet_actions.action import Action, Phase
from wallet_actions.coins import Coin, CoinState, Fact
from wallet_actions.errors import ConfigurationError, InvariantError, RejectedError, TransientError
from wallet_actions.retry import RetryPolicy
from wallet_actions.store import Store
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Transition

COINS = 12
AMOUNTS = (1, 2, 4)
FAULTS = ("lost", "answer lost", "refused", "busy", "bug", "own bug", "no key", "cut off")


@dataclass
class Bank:
    """The peer. What it did, and what it refused, is kept by key, so the same request again changes nothing."""

    owed: int = sum(AMOUNTS[number % 3] for number in range(COINS))
    taken: dict[str, list[str]] = field(default_factory=dict)
    given: dict[str, list[Coin]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    plans: dict[str, list[str]] = field(default_factory=dict)
    lags: list[int] = field(default_factory=list)
    is_moody: bool = True

    async def lag(self) -> None:
        """Let others run, for as many turns as are planned."""
        for _ in range(self.lags.pop(0) if self.lags else 1):
            await asyncio.sleep(0)

    async def exchange(self, key: str, ids: list[str], amount: int) -> list[Coin]:
        """Take coins and give as much in other ones. Raises what is planned for the key."""
        fault = self.plans.get(key, []).pop(0) if self.is_moody and self.plans.get(key) else ""
        await self.lag()
        match fault:
            case "lost":
                raise TransientError("no answer")
            case "busy":
                raise TransientError("busy", retry_after=timedelta(seconds=3))
            case "refused" if key not in self.taken:
                self.refused.add(key)
            case "bug":
                raise ValueError("the author's")
            case "own bug":
                raise InvariantError(f"exchange {key}: the author knows")
            case "no key":
                raise ConfigurationError("the key was revoked")
            case "cut off":
                inner = asyncio.ensure_future(asyncio.Event().wait())
                asyncio.get_running_loop().call_soon(inner.cancel)
                await inner
        if key in self.refused:
            raise RejectedError("never")
        if key not in self.taken:
            assert not {coin for coins in self.taken.values() for coin in coins} & set(ids), "a coin was spent twice"
            self.taken[key] = ids
            self.given[key] = [Coin(f"{key}-out", "bank", "sat", amount, f"secret of {key}")]
        await self.lag()
        if fault == "answer lost":
            raise TransientError("no answer")
        return self.given[key]


class Ready(Phase):
    """No coins are chosen yet."""


class Asked(Phase):
    """These coins are held, and the bank may have been asked."""

    coins: tuple[str, ...]
    amount: int


class Slip(BaseModel):
    """What an exchange ends with."""

    amount: int


class Exchange(Action[tuple[Bank, Store], Ready | Asked, Slip], kind="exchange"):
    """Choose coins and hold them; take them to the bank; keep what it gives."""

    retry = RetryPolicy(fault_budget=2)
    name: str
    has_child: bool = False

    @property
    def id(self) -> str:
        """The name is the key at the bank, too."""
        return self.name

    async def advance(self, wallet: tuple[Bank, Store]) -> Transition[Self, Slip]:
        """Choose coins, then exchange them."""
        bank, store = wallet
        match self.phase:
            case Ready():
                await bank.lag()
                free = await store.coins(state=CoinState.SPENDABLE, limit=2)
                if not free:
                    return Park(self, wake_after=timedelta(seconds=20))
                await bank.lag()
                ids, amount = tuple(coin.id for coin in free), sum(coin.amount for coin in free)
                return Next(self.at(Asked(coins=ids, amount=amount)), Changes(reserve=ids))
            case Asked(coins=ids, amount=amount):
                coins = await bank.exchange(self.name, list(ids), amount)
                children = [Exchange(name=f"{self.name}-child", phase=Ready())] if self.has_child else []
                facts = [Fact("exchange", self.name, str(amount))]
                return Done(Slip(amount=amount), Changes(add=coins, spend=ids, facts=facts, start=children))
            case _ as unreachable:
                assert_never(unreachable)

    async def on_cancel(self, wallet: tuple[Bank, Store]) -> Transition[Self, Slip] | None:
        """Possible until coins are held."""
        if isinstance(self.phase, Ready):
            return Failed("cancelled in time")
        return None
