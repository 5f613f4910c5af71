"""Executor and store against a model, through crashes, faults of the peer, and steps of the clock.

A bank keeps gold. An `Exchange` takes coins of the wallet to the bank and gets others for them; it may split into a
child. The bank keeps, by key, what it did: an answer may be lost after the effect. The wallet's process may be killed
at any point of a drive: what it had in memory is gone, and another one goes on over the same store.

What holds after every step: value is conserved between wallet and bank; no coin has two holders, and a held coin's
holder is under way (G4, L-C1, L-C10); the bank did nothing twice; a row's version is one below the length of its
history, which has no gap (L-S2); what has ended stays as it is (L-S9); an id that was started once is never started
again (G6). In the end, once faults stop, everything ends (G8).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self, TypeVar, assert_never

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pydantic import BaseModel

from wallet_actions.action import Action, Phase
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey, Coin, CoinState, Fact
from wallet_actions.errors import (
    ConfigurationError,
    InvariantError,
    RejectedError,
    ReservationError,
    TransientError,
    UsageError,
)
from wallet_actions.executor import Executor
from wallet_actions.operator import Operator
from wallet_actions.outcome import DriveMode, DriveResult, Outcome
from wallet_actions.recovery import RecoveryReport, recover
from wallet_actions.registry import Registry
from wallet_actions.retry import RetryPolicy
from wallet_actions.testing.clock import FakeClock
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Transition
from wallet_actions_storage.memory import MemoryStore

T = TypeVar("T")

NEVER = timedelta(days=365)
COINS = 12
AMOUNTS = (1, 2, 4)
NAMES = [f"x{number}" for number in range(8)]
LAGS = st.lists(st.sampled_from([0, 1, 5, 15]), max_size=6)
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
    pass


class Asked(Phase):
    coins: tuple[str, ...]
    amount: int


class Slip(BaseModel):
    amount: int


class Exchange(Action[tuple[Bank, MemoryStore], Ready | Asked, Slip], kind="exchange"):
    """Choose coins and hold them; take them to the bank; keep what it gives."""

    retry = RetryPolicy(fault_budget=2)
    name: str
    has_child: bool = False

    @property
    def id(self) -> str:
        return self.name

    async def advance(self, wallet: tuple[Bank, MemoryStore]) -> Transition[Self, Slip]:
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

    async def on_cancel(self, wallet: tuple[Bank, MemoryStore]) -> Transition[Self, Slip] | None:
        if isinstance(self.phase, Ready):
            return Failed("cancelled in time")
        return None


class ExecutorMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.clock = FakeClock()
        self.bank = Bank()
        self.memory = MemoryStore()
        self.started: dict[ActionKey, str] = {}
        self.ended: dict[ActionKey, tuple[Status, str | None, int]] = {}
        self.past: dict[ActionKey, list[Any]] = {}
        self.pruned: set[ActionKey] = set()
        self.executor = self._process()
        self._run(self._fund())

    def teardown(self) -> None:
        self._run(self._finish())
        self.loop.close()

    # Moving

    @rule(name=st.sampled_from(NAMES), has_child=st.booleans(), faults=st.lists(st.sampled_from(FAULTS), max_size=5))
    def start(self, name: str, has_child: bool, faults: list[str]) -> None:
        action = Exchange(name=name, has_child=has_child, phase=Ready())
        started = self._run(self.executor.start(action))
        assert started.is_new == (action.key not in self.started)
        if started.is_new:
            self.started[action.key] = name
            self.bank.plans[name] = faults
        elif started.status is Status.DONE:
            assert started.result is not None

    @rule(name=st.sampled_from(NAMES), faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=3), lags=LAGS)
    def start_and_race(self, name: str, faults: list[str], lags: list[int]) -> None:
        """Two processes go for a new action, and one of them is slow."""
        self.start(f"{name}-race", False, faults)
        key = ActionKey("exchange", f"{name}-race")
        self.bank.lags = list(lags)
        for result in self._run(self._both(self.executor.drive(key), self._process().drive(key))):
            self._told(result)

    @rule(name=st.sampled_from(NAMES))
    def start_with_coins(self, name: str) -> None:
        """Coins are reserved in the same transaction, or nothing is written."""
        action = Exchange(name=f"{name}-held", phase=Asked(coins=("c0",), amount=AMOUNTS[0]))
        is_known = action.key in self.started
        try:
            started = self._run(self.executor.start(action, Changes(reserve=["c0"])))
        except ReservationError:
            assert not is_known
            assert self._run(self.memory.load(action.key)) is None
        else:
            assert started.is_new is not is_known
            self.started[action.key] = name

    @rule(data=st.data(), mode=st.sampled_from(["now", "if due", "two at once", "two processes"]))
    @precondition(lambda self: self.started)
    def drive(self, data: st.DataObject, mode: str) -> None:
        key = self._one(data)
        self.bank.lags = data.draw(LAGS) if mode.startswith("two") else []
        match mode:
            case "now":
                self._told(self._run(self.executor.drive(key)))
            case "if due":
                self._told(self._run(self.executor.drive(key, only_if_due=True)))
            case "two at once":
                for result in self._run(self._both(self.executor.drive(key), self.executor.drive(key, wait=True))):
                    self._told(result)
            case "two processes":
                other = self._process()
                for result in self._run(self._both(self.executor.drive(key), other.drive(key))):
                    self._told(result)

    @rule(data=st.data(), turns=st.integers(min_value=0, max_value=12), is_until_done=st.booleans())
    @precondition(lambda self: self.started)
    def crash(self, data: st.DataObject, turns: int, is_until_done: bool) -> None:
        """Kill the process in the middle of a drive; start another one."""
        key = self._one(data)
        mode = DriveMode.UNTIL_DONE if is_until_done else DriveMode.UNTIL_PARK
        self._run(self._cut(self.executor.drive(key, mode), turns))
        self.executor = self._process()

    @rule(turns=st.integers(min_value=0, max_value=40))
    def crash_in_recovery(self, turns: int) -> None:
        self.executor = self._process()
        self._run(self._cut(recover(self.executor, concurrency=3), turns))
        self.executor = self._process()

    @rule()
    def recover(self) -> None:
        self.executor = self._process()
        before = {wake.key for wake in self._run(self.memory.running(before=self.clock.now() + NEVER))}
        report: RecoveryReport = self._run(recover(self.executor, concurrency=3))
        assert report.orphans == ()
        assert report.quarantined == 0
        assert report.deferred == 0
        after = {wake.key for wake in self._run(self.memory.running(before=self.clock.now() + NEVER))}
        assert not before & after  # children that were born meanwhile may run

    @rule(seconds=st.sampled_from([1, 10, 100, 4000, -10, -4000]))
    def move_clock(self, seconds: int) -> None:
        """Also back, as a machine does while no process runs."""
        self.clock.set_wall(self.clock.now() + timedelta(seconds=seconds))
        self.executor = self._process()

    @rule(data=st.data(), what=st.sampled_from(["request_cancel", "pause", "resume", "retry", "stop"]))
    @precondition(lambda self: self.started)
    def steer(self, data: st.DataObject, what: str) -> None:
        key = self._one(data)
        row = self._run(self.memory.load(key))
        assert row is not None
        if what == "stop" and row.phase == "asked":
            return  # a person who stops what has reached the bank gives money away, and is told so
        try:
            self._run(getattr(Operator(self.memory, clock=self.clock), what)(key))
        except UsageError:
            assert row.status.is_terminal or what in ("resume", "retry")

    @rule(data=st.data(), turns=st.integers(0, 12), what=st.sampled_from(["request_cancel", "pause", "retry"]))
    @precondition(lambda self: self.started)
    def steer_while_driving(self, data: st.DataObject, turns: int, what: str) -> None:
        key = self._one(data)

        async def race() -> DriveResult[Any]:
            driver = asyncio.ensure_future(self.executor.drive(key))
            for _ in range(turns):
                await asyncio.sleep(0)
            with contextlib.suppress(UsageError):  # it has ended
                await getattr(Operator(self.memory, clock=self.clock), what)(key)
            return await driver

        self._told(self._run(race()))

    @rule(data=st.data())
    @precondition(lambda self: self.started)
    def pause_kind(self, data: st.DataObject) -> None:
        """Nothing moves meanwhile."""
        operator = Operator(self.memory, clock=self.clock, on_kind_change=lambda kind: self.executor.forget_pauses())
        key = self._one(data)
        before = self._run(self.memory.load(key))
        self._run(operator.pause_kind("exchange"))
        self._run(self.executor.drive(key))
        self._run(recover(self.executor))
        assert self._run(self.memory.load(key)) == before
        self._run(operator.resume_kind("exchange"))

    @rule(seconds=st.sampled_from([0, 50]))
    def prune(self, seconds: int) -> None:
        self._run(Operator(self.memory, clock=self.clock).prune(timedelta(seconds=seconds)))

    # What always holds

    @invariant()
    def value_is_conserved(self) -> None:
        """G4: what the wallet owns is what the bank owes; a coin that the bank took and the wallet does not know yet
        is worth what the bank gave for it."""
        coins = self._run(self.memory.coins())
        owned = sum(coin.amount for coin in coins if coin.state is not CoinState.SPENT)
        assert owned == self.bank.owed
        for key, ids in self.bank.taken.items():
            states = {coin.state for coin in coins if coin.id in ids}
            is_known = any(coin.id == f"{key}-out" for coin in coins)
            assert states == ({CoinState.SPENT} if is_known else {CoinState.RESERVED}), key

    @invariant()
    def every_action_holds_what_its_state_says(self) -> None:
        """And so no coin has two holders, or one that has ended; whoever lost a race left nothing held (G2)."""
        assert self._run(self.memory.orphans()) == []
        held: dict[ActionKey | None, set[str]] = {}
        for coin in self._run(self.memory.coins(state=CoinState.RESERVED)):
            held.setdefault(coin.holder, set()).add(coin.id)
        wanted = {
            row.key: set(json.loads(row.state or "")["phase"]["coins"])
            for row in self._run(self.memory.list_actions(limit=1000))
            if row.phase == "asked" and not row.status.is_terminal
        }
        assert held == wanted

    @invariant()
    def history_is_complete_and_the_end_is_final(self) -> None:
        for row in self._run(self.memory.list_actions(limit=1000)):
            self.started.setdefault(row.key, row.id)
            self._check_past(row)
            if row.status.is_terminal:
                told = (row.status, row.result, row.version)
                assert self.ended.setdefault(row.key, told) == told
            assert row.status is not Status.QUARANTINED

    def _check_past(self, row: Checkpoint) -> None:
        past = list(self._run(self.memory.history(row.key)))
        if row.status.is_terminal and row.state is None and not past:
            return
        assert [entry.version for entry in past] == list(range(row.version + 1))
        assert past[: len(self.past.get(row.key, []))] == self.past.get(row.key, [])
        assert [entry.at for entry in past] == sorted(entry.at for entry in past)
        assert past[-1].status is row.status
        self.past[row.key] = past

    def _one(self, data: st.DataObject) -> ActionKey:
        """An action that was started; mostly one that has not ended."""
        live = sorted(self.started.keys() - self.ended.keys())
        return data.draw(st.sampled_from(live or sorted(self.started)))

    def _told(self, result: DriveResult[Any]) -> None:
        """What a driver is told is what is stored, unless somebody else was there."""
        if result.outcome in (Outcome.BUSY, Outcome.SUPERSEDED):
            return
        row = self._run(self.memory.load(result.key))
        assert row is not None
        if result.outcome is Outcome.DONE:
            assert row.status is Status.DONE
            assert result.result == Slip.model_validate_json(row.result or "")
        elif result.outcome is Outcome.FAILED:
            assert row.status in (Status.FAILED, Status.CANCELLED)

    # Doing

    def _process(self) -> Executor:
        """What a new process has: nothing but the store."""
        registry = Registry([Exchange])
        return Executor(self._run(self._opened()), (self.bank, self.memory), registry, clock=self.clock)

    async def _opened(self) -> MemoryStore:
        if not self.memory._is_open:
            await self.memory.__aenter__()
        return await self.memory.peer().__aenter__()

    async def _fund(self) -> None:
        coins = [Coin(f"c{number}", "bank", "sat", AMOUNTS[number % 3]) for number in range(COINS)]
        source = Exchange(name="source", phase=Ready())
        await self.executor.start(source, Changes(add=coins))
        await Operator(self.memory, clock=self.clock).stop(source.key)
        self.started[source.key] = "source"

    async def _both(self, *drives: Coroutine[Any, Any, DriveResult[Any]]) -> list[DriveResult[Any]]:
        return list(await asyncio.gather(*drives))

    async def _cut(self, work: Coroutine[Any, Any, Any], turns: int) -> None:
        task = asyncio.ensure_future(work)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _finish(self) -> None:
        """Once faults stop, every action ends (G8), and the whole value is there to spend."""
        self.bank.is_moody = False
        operator = Operator(self.memory, clock=self.clock)
        await operator.resume_kind("exchange")
        for row in await operator.list_actions(statuses=[Status.PAUSED], limit=1000):
            await operator.resume(row.key)
        for _ in range(40):
            self.executor = Executor(
                await self._opened(), (self.bank, self.memory), Registry([Exchange]), clock=self.clock
            )
            await recover(self.executor)
            self.clock.set_wall(self.clock.now() + timedelta(hours=1, seconds=1))
        left = [row for row in await operator.list_actions(limit=1000) if not row.status.is_terminal]
        assert left == []
        assert await self.memory.coins(state=CoinState.RESERVED) == []

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(work)


TestExecutorMachine: Callable[[], None] = ExecutorMachine.TestCase  # type: ignore[assignment]
ExecutorMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
