"""A hypothesis state machine over the executor and a store, against a model (T10).

    class OnMyStore(ExecutorMachine):
        def make_store(self) -> Store:
            return MyStore(self.folder)

    TestOnMyStore = OnMyStore.TestCase

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
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.errors import ReservationError, UsageError
from wallet_actions.executor import Executor
from wallet_actions.operator import Operator
from wallet_actions.outcome import DriveMode, DriveResult, Outcome
from wallet_actions.recovery import RecoveryReport, recover
from wallet_actions.registry import Registry
from wallet_actions.store import Store
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.exchange import AMOUNTS, COINS, FAULTS, Asked, Bank, Exchange, Ready, Slip
from wallet_actions.transition import Changes
from wallet_actions_storage import MemoryStore

T = TypeVar("T")

NEVER = timedelta(days=365)
MOST_OPEN = 4
NAMES = [f"x{number}" for number in range(8)]
LAGS = st.lists(st.sampled_from([0, 1, 5, 15]), max_size=6)


class ExecutorMachine(RuleBasedStateMachine):
    """The machine. Subclass it with a `make_store` of your own, and give its `TestCase` to pytest."""

    _memory: MemoryStore | None = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.clock = FakeClock()
        self.bank = Bank()
        self.made: list[Store] = []
        self.store = self._run(self._opened())
        self.started: dict[ActionKey, str] = {}
        self.ended: dict[ActionKey, tuple[Status, str | None, int]] = {}
        self.past: dict[ActionKey, list[Any]] = {}
        self.pruned: set[ActionKey] = set()
        self.executor = self._process()
        self._run(self._fund())

    def teardown(self) -> None:
        """Let everything end, and close."""
        try:
            self._run(self._finish())
        finally:
            self._run(self._close())
            self.loop.close()
            self.forget_store()

    def make_store(self) -> Store:
        """A store, not open: an empty one at first, then more on the same data. To be overridden; here in memory."""
        if self._memory is None:
            self._memory = MemoryStore()
        return self._memory.peer()

    def forget_store(self) -> None:
        """Remove what `make_store` made. To be overridden."""

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
            assert self._run(self.store.load(action.key)) is None
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
        before = {wake.key for wake in self._run(self.store.running(before=self.clock.now() + NEVER))}
        report: RecoveryReport = self._run(recover(self.executor, concurrency=3))
        assert report.orphans == ()
        assert report.quarantined == 0
        assert report.deferred == 0
        after = {wake.key for wake in self._run(self.store.running(before=self.clock.now() + NEVER))}
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
        row = self._run(self.store.load(key))
        assert row is not None
        if what == "stop" and row.phase == "asked":
            return  # a person who stops what has reached the bank gives money away, and is told so
        try:
            self._run(getattr(Operator(self.store, clock=self.clock), what)(key))
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
                await getattr(Operator(self.store, clock=self.clock), what)(key)
            return await driver

        self._told(self._run(race()))

    @rule(data=st.data())
    @precondition(lambda self: self.started)
    def pause_kind(self, data: st.DataObject) -> None:
        """Nothing moves meanwhile."""
        operator = Operator(self.store, clock=self.clock, on_kind_change=lambda kind: self.executor.forget_pauses())
        key = self._one(data)
        before = self._run(self.store.load(key))
        self._run(operator.pause_kind("exchange"))
        self._run(self.executor.drive(key))
        self._run(recover(self.executor))
        assert self._run(self.store.load(key)) == before
        self._run(operator.resume_kind("exchange"))

    @rule(seconds=st.sampled_from([0, 50]))
    def prune(self, seconds: int) -> None:
        self._run(Operator(self.store, clock=self.clock).prune(timedelta(seconds=seconds)))

    # What always holds

    @invariant()
    def value_is_conserved(self) -> None:
        """What the wallet owns is what the bank owes (G4).

        A coin that the bank took and the wallet does not know yet is worth what the bank gave for it.
        """
        coins = self._run(self.store.coins())
        owned = sum(coin.amount for coin in coins if coin.state is not CoinState.SPENT)
        assert owned == self.bank.owed
        for key, ids in self.bank.taken.items():
            states = {coin.state for coin in coins if coin.id in ids}
            is_known = any(coin.id == f"{key}-out" for coin in coins)
            assert states == ({CoinState.SPENT} if is_known else {CoinState.RESERVED}), key

    @invariant()
    def every_action_holds_what_its_state_says(self) -> None:
        """And so no coin has two holders, or one that has ended; whoever lost a race left nothing held (G2)."""
        assert self._run(self.store.orphans()) == []
        held: dict[ActionKey | None, set[str]] = {}
        for coin in self._run(self.store.coins(state=CoinState.RESERVED)):
            held.setdefault(coin.holder, set()).add(coin.id)
        wanted = {
            row.key: set(json.loads(row.state or "")["phase"]["coins"])
            for row in self._run(self.store.list_actions(limit=1000))
            if row.phase == "asked" and not row.status.is_terminal
        }
        assert held == wanted

    @invariant()
    def history_is_complete_and_the_end_is_final(self) -> None:
        for row in self._run(self.store.list_actions(limit=1000)):
            self.started.setdefault(row.key, row.id)
            self._check_past(row)
            if row.status.is_terminal:
                told = (row.status, row.result, row.version)
                assert self.ended.setdefault(row.key, told) == told
            assert row.status is not Status.QUARANTINED

    def _check_past(self, row: Checkpoint) -> None:
        past = list(self._run(self.store.history(row.key)))
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
        row = self._run(self.store.load(result.key))
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
        return Executor(self._run(self._opened()), (self.bank, self.store), registry, clock=self.clock)

    async def _opened(self) -> Store:
        """One more store on the same data; those of processes that are long dead are closed."""
        in_use = [self.store, self.executor.store] if len(self.made) > 1 else self.made
        for store in [store for store in self.made if store not in in_use][:-MOST_OPEN]:
            self.made.remove(store)
            await store.__aexit__(None, None, None)
        store = await self.make_store().__aenter__()
        self.made.append(store)
        return store

    async def _close(self) -> None:
        while self.made:
            await self.made.pop().__aexit__(None, None, None)

    async def _fund(self) -> None:
        coins = [Coin(f"c{number}", "bank", "sat", AMOUNTS[number % 3]) for number in range(COINS)]
        source = Exchange(name="source", phase=Ready())
        await self.executor.start(source, Changes(add=coins))
        await Operator(self.store, clock=self.clock).stop(source.key)
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
        operator = Operator(self.store, clock=self.clock)
        await operator.resume_kind("exchange")
        for row in await operator.list_actions(statuses=[Status.PAUSED], limit=1000):
            await operator.resume(row.key)
        for _ in range(40):
            self.executor = Executor(
                await self._opened(), (self.bank, self.store), Registry([Exchange]), clock=self.clock
            )
            await recover(self.executor)
            self.clock.set_wall(self.clock.now() + timedelta(hours=1, seconds=1))
        left = [row for row in await operator.list_actions(limit=1000) if not row.status.is_terminal]
        assert left == []
        assert await self.store.coins(state=CoinState.RESERVED) == []

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(work)
