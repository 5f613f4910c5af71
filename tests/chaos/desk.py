"""What the workers drive: deposits, payments of three kinds and batches of these, and their client of the bank."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from pydantic import BaseModel

from tests.chaos.bank import UNIT, Answer, account
from wallet_actions.action import PERSISTED, Action, Phase
from wallet_actions.coins import ActionKey, Coin, CoinState, Fact
from wallet_actions.errors import RejectedError, TransientError
from wallet_actions.fleet import Limit
from wallet_actions.retry import QuadraticWait, RetryPolicy
from wallet_actions.store import Store
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Transition

RECEIPT = "receipt"
TIMEOUT_S = 1.5
PATIENCE = RetryPolicy(wait=QuadraticWait(timedelta(milliseconds=100), timedelta(seconds=2), jitter=0.3))
POOR_AFTER = 8
BUSY_FOR = timedelta(milliseconds=200)
UNPAID_FOR, POOR_FOR, PENDING_FOR, CHILDREN_FOR = (timedelta(seconds=one) for one in (0.4, 1.0, 0.6, 0.7))


@dataclass(frozen=True, slots=True)
class Driver:
    """Who drives what: the worker's life and incarnation, the action and its version."""

    life: str
    owner: str
    kind: str
    id: str
    version: int


driver: ContextVar[Driver | None] = ContextVar("driver", default=None)


class Desk:
    """A worker's client of the bank; what the steps act on.

    Args:
        is_keyless: a planted bug: each request has a key of its own.
    """

    def __init__(self, store: Store, port: int, *, is_keyless: bool = False) -> None:
        self.store = store
        self._port = port
        self._is_keyless = is_keyless

    async def ask(self, op: str, key: str, **fields: Any) -> Answer:
        """Ask the bank for something.

        Raises:
            TransientError: no answer, or none yet.
        """
        by = driver.get()
        told = {} if by is None else {name: getattr(by, name) for name in by.__slots__}
        wire = secrets.token_hex(8) if self._is_keyless and op != "lookup" else key
        line = json.dumps({"op": op, "key": wire, "about": key, "by": told, **fields}).encode() + b"\n"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._exchange(line)
        except (OSError, TimeoutError, ValueError) as error:
            raise TransientError(f"the bank did not answer ({type(error).__name__})") from None
        if answer["state"] == "busy":
            raise TransientError("the bank is busy", retry_after=BUSY_FOR)
        return answer

    async def _exchange(self, line: bytes) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(line)
            await writer.drain()
            answer: Answer = json.loads(await reader.readline())
        finally:
            writer.close()
        return answer


async def choose(store: Store, tenant: str, amount: int) -> list[str] | None:
    """Coins that are worth an amount, at random; None where there are not enough."""
    free = list(await store.coins(account=account(tenant), unit=UNIT, state=CoinState.SPENDABLE, limit=300))
    random.shuffle(free)
    chosen: list[str] = []
    for coin in free:
        chosen.append(coin.id)
        amount -= coin.amount
        if amount <= 0:
            return chosen
    return None


class Receipt(BaseModel):
    """What became of an action."""

    model_config = PERSISTED

    amount: int


class Asked(Phase):
    """The bank is asked for coins."""


class Collected(Phase):
    """They are here."""


class Choosing(Phase):
    """Coins are looked for."""

    tries: int = 0


class Reserved(Phase):
    """These coins are paid with; the bank may have been asked."""

    inputs: tuple[str, ...]


class Pending(Phase):
    """The bank says that it does not know yet."""

    inputs: tuple[str, ...]


class Ordered(Phase):
    """The children are to be started."""


class Waiting(Phase):
    """The children are under way."""


class Deposit(Action[Desk, Asked | Collected, Receipt], kind="deposit"):
    """Coins that the bank gives for what somebody paid in."""

    retry = PATIENCE
    name: str
    owner: str
    amount: int

    @property
    def id(self) -> str:
        """The order's name."""
        return self.name

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.owner

    async def advance(self, wallet: Desk) -> Transition[Self, Receipt]:
        """See `Action`."""
        match self.phase:
            case Asked():
                answer = await wallet.ask("collect", self.id, tenant=self.owner, amount=self.amount)
                if answer["state"] == "unpaid":
                    return Park(self, wake_after=UNPAID_FOR)
                return Next(self.at(Collected()), changes=Changes(add=_coins(self.owner, answer["coins"])))
            case Collected():
                return Done(Receipt(amount=self.amount), changes=Changes(facts=[_receipt(self.id, self.amount)]))


class Payment(Action[Desk, Choosing | Reserved | Pending, Receipt], kind="payment"):
    """Something that is paid for with coins.

    Attributes:
        looks: it looks the payment up before it asks for it.
        waits: while it is pending it waits to be told.
        holds: the bank takes its time over it.
    """

    retry = PATIENCE
    name: str
    owner: str
    amount: int
    looks: bool = False
    waits: bool = False
    holds: bool = False

    @property
    def id(self) -> str:
        """The order's name."""
        return self.name

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.owner

    async def advance(self, wallet: Desk) -> Transition[Self, Receipt]:
        """See `Action`."""
        match self.phase:
            case Choosing(tries=tries):
                inputs = await choose(wallet.store, self.owner, self.amount)
                if inputs is not None:
                    return Next(self.at(Reserved(inputs=tuple(inputs))), changes=Changes(reserve=inputs))
                if tries >= POOR_AFTER:
                    return Failed("there is not enough")
                return Park(self.at(Choosing(tries=tries + 1)), wake_after=POOR_FOR)
            case Reserved(inputs=inputs):
                answer = await wallet.ask("lookup", self.id) if self.looks else {"state": "none"}
                if answer["state"] == "none":
                    answer = await wallet.ask(
                        *("pay", self.id),
                        tenant=self.owner,
                        amount=self.amount,
                        inputs=list(inputs),
                        holds=self.holds,
                    )
                return self._heed(answer, inputs)
            case Pending(inputs=inputs):
                return self._heed(await wallet.ask("lookup", self.id), inputs)

    async def on_cancel(self, wallet: Desk) -> Transition[Self, Receipt] | None:
        """See `Action`."""
        if isinstance(self.phase, Choosing):
            return Failed("called off")
        answer = await wallet.ask("cancel", self.id)
        return Failed("called off") if answer["state"] in ("cancelled", "refused") else None

    def _heed(self, answer: Answer, inputs: tuple[str, ...]) -> Transition[Self, Receipt]:
        match answer["state"]:
            case "paid":
                changes = Changes(
                    spend=inputs,
                    add=_coins(self.owner, answer["change"]),
                    facts=[_receipt(self.id, self.amount)],
                )
                return Done(Receipt(amount=self.amount), changes=changes)
            case "pending":
                return Park(self.at(Pending(inputs=inputs)), wake_after=None if self.waits else PENDING_FOR)
            case "refused":
                raise RejectedError("the bank refused")
            case "cancelled":
                return Failed("called off")
        raise TransientError("the bank does not know the payment")


class Express(Payment, kind="express"):
    """A payment of which only so many are driven at once."""


class Metered(Payment, kind="metered"):
    """A payment of which only so many are claimed a second."""


class Batch(Action[Desk, Ordered | Waiting, Receipt], kind="batch"):
    """Deposits and payments that are started together."""

    retry = PATIENCE
    name: str
    owner: str
    deposits: tuple[int, ...]
    payments: tuple[int, ...]

    @property
    def id(self) -> str:
        """The order's name."""
        return self.name

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.owner

    @property
    def children(self) -> list[Deposit | Payment]:
        """What it starts."""
        deposits = [
            Deposit(name=f"{self.name}.d{n}", owner=self.owner, amount=amount, phase=Asked())
            for n, amount in enumerate(self.deposits)
        ]
        payments = [
            Payment(name=f"{self.name}.p{n}", owner=self.owner, amount=amount, phase=Choosing())
            for n, amount in enumerate(self.payments)
        ]
        return [*deposits, *payments]

    async def advance(self, wallet: Desk) -> Transition[Self, Receipt]:
        """See `Action`."""
        match self.phase:
            case Ordered():
                return Next(self.at(Waiting()), changes=Changes(start=self.children))
            case Waiting():
                rows = [await wallet.store.load(child.key) for child in self.children]
                if all(row is not None and row.status.is_terminal for row in rows):
                    return Done(Receipt(amount=sum(self.payments)))
                return Park(self, wake_after=CHILDREN_FOR)


KINDS: tuple[type[Action[Any, Any, Any]], ...] = (Deposit, Payment, Express, Metered, Batch)
LIMITS = {Express.kind: Limit(concurrency=3), Metered.kind: Limit(per_second=10)}


def make(task: dict[str, Any]) -> Deposit | Payment | Batch:
    """The action that a task of the plan asks for."""
    fields = {name: value for name, value in task.items() if name not in ("kind", "reserves")}
    match task["kind"]:
        case Deposit.kind:
            return Deposit(**fields, phase=Asked())
        case Batch.kind:
            return Batch(**fields, phase=Ordered())
        case Express.kind:
            return Express(**fields, phase=Choosing())
        case Metered.kind:
            return Metered(**fields, phase=Choosing())
    return Payment(**fields, phase=Choosing())


def key_of(task: dict[str, Any]) -> ActionKey:
    """What names the action of a task."""
    return ActionKey(task["kind"], task["name"])


def _coins(tenant: str, told: list[tuple[str, int]]) -> list[Coin]:
    return [Coin(name, account(tenant), UNIT, amount) for name, amount in told]


def _receipt(about: str, amount: int) -> Fact:
    return Fact(RECEIPT, about, json.dumps({"amount": amount}))
