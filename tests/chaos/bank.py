"""The peer: a bank that keeps a ledger of its own, answers late, or twice, or never, and refuses some payments.

It speaks one line of JSON a connection, and one in return. A payment is done once a key, however often it is asked for.
What it is about (`about`) is only noted, as an invoice's number would be: by that the judge sees what was done twice.
What goes wrong is drawn from the seed, what a request is about and how often that was asked for.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

UNIT = "sat"
BUSY, LOST_BEFORE, LOST_AFTER, SILENT, SLOW = 0.02, 0.03, 0.05, 0.01, 0.03
REFUSED, PENDING, PENDING_FAILS = 0.08, 0.15, 0.3
USUAL_DELAY_S, LONGEST_DELAY_S = 0.02, 0.3
SLOW_S, HOLD_S, PENDING_S, UNPAID_S = (1.0, 3.0), (0.05, 0.25), (0.2, 2.5), (0.0, 1.0)
LARGEST_COIN = 64

Answer = dict[str, Any]


def account(tenant: str) -> str:
    """Where a tenant's coins are."""
    return f"bank/{tenant}"


@dataclass(slots=True)
class BankCoin:
    """A coin as the bank knows it; `used_by` is the key of the payment that spends it, or has it locked."""

    id: str
    tenant: str
    amount: int
    used_by: str = ""
    is_spent: bool = False


@dataclass(slots=True)
class Payment:
    """A payment, by its key. `state` is paid, refused, pending or cancelled."""

    key: str
    about: str
    state: str
    inputs: list[str] = field(default_factory=list)
    change: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Call:
    """A request while it was in the bank's hands, in seconds of the monotonic clock.

    Attributes:
        op, about: what was asked for.
        by: who drove which action, in which version; see `desk.Driver`.
        began_s, ended_s: `ended_s` is None as long as nobody has gone.
    """

    op: str
    about: str
    by: dict[str, Any]
    began_s: float
    ended_s: float | None = None


class Bank:
    """The bank, on loopback, for as long as `async with` lasts.

    Args:
        on_settled: told what a payment is about that was pending, and is not any more.

    Attributes:
        coins: all that it has made, by id.
        payments: by key.
        effects: how many times something was done, by what it is about.
        calls: all requests, in the order of their arrival.
        anomalies: what no wallet that is whole asks for.
        counts: what happened, for people.
    """

    def __init__(self, seed: int, on_settled: Callable[[str], None] = lambda about: None) -> None:
        self._seed = seed
        self._on_settled = on_settled
        self._asked: Counter[tuple[str, str]] = Counter()
        self._collected: dict[str, list[str]] = {}
        self._unpaid_until_s: dict[str, float] = {}
        self._server: asyncio.Server
        self._open: set[asyncio.Task[None]] = set()
        self.coins: dict[str, BankCoin] = {}
        self.payments: dict[str, Payment] = {}
        self.effects: Counter[str] = Counter()
        self.calls: list[Call] = []
        self.anomalies: list[str] = []
        self.counts: Counter[str] = Counter()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def owed(self) -> dict[tuple[str, str], int]:
        """What is not spent, by account and unit."""
        sums: Counter[tuple[str, str]] = Counter()
        for coin in self.coins.values():
            sums[account(coin.tenant), UNIT] += 0 if coin.is_spent else coin.amount
        return dict(sums)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        call: Call | None = None
        try:
            line = await reader.readline()
            if line.endswith(b"\n"):
                request = json.loads(line)
                call = Call(request["op"], request["about"], request["by"], time.monotonic())
                self.calls.append(call)
                await self._treat(request, call, reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # whoever asked is gone, or all of it is over
        finally:
            if call is not None and call.ended_s is None:
                call.ended_s = time.monotonic()
            writer.close()
            self._open.discard(task)

    async def _treat(
        self, request: dict[str, Any], call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        op, about = request["op"], request["about"]
        self._asked[op, about] += 1
        chance = random.Random(f"{self._seed}:{op}:{about}:{self._asked[op, about]}")
        fate = chance.random()
        before_s, after_s = (min(LONGEST_DELAY_S, chance.expovariate(1 / USUAL_DELAY_S)) for _ in range(2))
        if request.get("holds"):
            after_s += chance.uniform(*HOLD_S)
        if chance.random() < SLOW:
            after_s += chance.uniform(*SLOW_S)
            self.counts["late"] += 1
        if chance.random() < SLOW:
            before_s += chance.uniform(*SLOW_S)
            self.counts["late"] += 1
        await self._pass(before_s, call, reader)
        if fate < BUSY:
            self.counts["busy"] += 1
            await self._answer(writer, {"state": "busy"})
            return
        if fate < BUSY + LOST_BEFORE:
            self.counts["lost requests"] += 1
            return
        answer = self._do(request)
        if fate < BUSY + LOST_BEFORE + LOST_AFTER:
            self.counts["lost answers"] += 1
            return
        if fate < BUSY + LOST_BEFORE + LOST_AFTER + SILENT:
            self.counts["silence"] += 1
            await self._pass(60, call, reader, is_all=False)
            return
        await self._pass(after_s, call, reader)
        await self._answer(writer, answer)

    async def _pass(self, seconds: float, call: Call, reader: asyncio.StreamReader, *, is_all: bool = True) -> None:
        """Let time pass; it is noted when the other side goes meanwhile."""
        until_s = time.monotonic() + seconds
        if call.ended_s is None:
            with suppress(TimeoutError, OSError):
                await asyncio.wait_for(reader.read(1), seconds)
                call.ended_s = time.monotonic()
        if is_all:
            await asyncio.sleep(max(0.0, until_s - time.monotonic()))

    async def _answer(self, writer: asyncio.StreamWriter, answer: Answer) -> None:
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()

    # What it does

    def _do(self, request: dict[str, Any]) -> Answer:
        match request["op"]:
            case "collect":
                return self._collect(request["key"], request["about"], request["tenant"], request["amount"])
            case "pay":
                if request["key"] not in self.payments:
                    self._pay(request)
                return self._look_up(request["key"])
            case "cancel":
                self.payments.setdefault(request["key"], Payment(request["key"], request["about"], "cancelled"))
                return self._look_up(request["key"])
            case _:
                return self._look_up(request["key"])

    def _look_up(self, key: str) -> Answer:
        payment = self.payments.get(key)
        if payment is None:
            return {"state": "none"}
        return {"state": payment.state, "change": [(one, self.coins[one].amount) for one in payment.change]}

    def _collect(self, key: str, about: str, tenant: str, amount: int) -> Answer:
        now_s = time.monotonic()
        chance = random.Random(f"{self._seed}:{about}")
        if now_s < self._unpaid_until_s.setdefault(about, now_s + max(0.0, chance.uniform(-UNPAID_S[1], UNPAID_S[1]))):
            return {"state": "unpaid"}
        if key not in self._collected:
            self.effects[about] += 1
            made = []
            while amount > 0:
                part = min(amount, chance.randint(1, LARGEST_COIN))
                amount -= part
                made.append(self._make(tenant, part))
            self._collected[key] = made
        return {"state": "paid", "coins": [(one, self.coins[one].amount) for one in self._collected[key]]}

    def _pay(self, request: dict[str, Any]) -> None:
        payment = Payment(request["key"], request["about"], "refused", request["inputs"])
        self.payments[payment.key] = payment
        inputs = [self.coins.get(one) for one in payment.inputs]
        if any(one is None or one.tenant != request["tenant"] for one in inputs):
            self.anomalies.append(f"{payment.about} was to be paid with a coin that is not its tenant's")
            return
        known = [one for one in inputs if one is not None]
        if used := [one for one in known if one.used_by]:
            self.anomalies.append(f"{payment.about} was to be paid with a coin of {used[0].used_by}")
            return
        left = sum(one.amount for one in known) - request["amount"]
        if left < 0:
            self.anomalies.append(f"{payment.about} was to be paid with less than it costs")
            return
        chance = random.Random(f"{self._seed}:{payment.about}")
        fate = chance.random()
        if fate < REFUSED:
            return
        for one in known:
            one.used_by = payment.key
        if fate < REFUSED + PENDING:
            payment.state = "pending"
            is_paid = chance.random() >= PENDING_FAILS
            asyncio.get_running_loop().call_later(
                chance.uniform(*PENDING_S), self._settle, payment, request["tenant"], left, is_paid
            )
        else:
            self._execute(payment, request["tenant"], left)

    def _settle(self, payment: Payment, tenant: str, left: int, is_paid: bool) -> None:
        if is_paid:
            self._execute(payment, tenant, left)
        else:
            payment.state = "refused"
            for one in payment.inputs:
                self.coins[one].used_by = ""
        self._on_settled(payment.about)

    def _execute(self, payment: Payment, tenant: str, left: int) -> None:
        self.effects[payment.about] += 1
        payment.state = "paid"
        for one in payment.inputs:
            self.coins[one].is_spent = True
        if left:
            payment.change = [self._make(tenant, left)]

    def _make(self, tenant: str, amount: int) -> str:
        coin = BankCoin(f"coin-{len(self.coins) + 1:06}", tenant, amount)
        self.coins[coin.id] = coin
        return coin.id
