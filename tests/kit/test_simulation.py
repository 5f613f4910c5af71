"""The simulator finds what is planted, says it shortly, and says the same each time (T7, T10)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Self

import pytest

from wallet_actions.checkpoint import Checkpoint
from wallet_actions.coins import ActionKey
from wallet_actions.events import EventKind, Observer
from wallet_actions.executor import Executor
from wallet_actions.registry import AnyAction, Kind, Registry, StateWriter
from wallet_actions.retry import RetryPolicy
from wallet_actions.step import Decision
from wallet_actions.store import Saved, Store, Write
from wallet_actions.testing import simulate as command
from wallet_actions.testing.fates import Lot
from wallet_actions.testing.interleavings import interleavings
from wallet_actions.testing.life import Life
from wallet_actions.testing.runs import Limits, Run
from wallet_actions.testing.scenarios import SCENARIOS, BankWorld, Scenario
from wallet_actions.testing.scenarios.actions import Held, Issue, Paid, Pay, Planned, Wallet
from wallet_actions.testing.schedules import Schedule, SimulationReport, replay, simulate
from wallet_actions.testing.turns import pause
from wallet_actions.transition import Done, Failed, Failure, Next, Park, Transition
from wallet_actions_storage.memory import MemoryStore

SCENARIO = {scenario.name: scenario for scenario in SCENARIOS}
SAMPLE = 60


class UnversionedStore(MemoryStore):
    """Planted: whoever saves, saves."""

    def _write(self, write: Write) -> Saved:
        record = self._tables.records.get((write.checkpoint.kind, write.checkpoint.id))
        if record is not None and not record.status.is_terminal:
            record.version = write.expected_version
        return super()._write(write)


class TwoStepStore(MemoryStore):
    """Planted: checks the version, and writes when it has its turn again."""

    async def save(self, write: Write) -> Saved:
        record = self._tables.records[write.checkpoint.key]
        if record.version == write.expected_version and not record.status.is_terminal:
            await pause("writes what it has checked")
            if not record.status.is_terminal:
                record.version = write.expected_version
        return await super().save(write)


class UnversionedWorld(BankWorld):
    def __init__(self) -> None:
        super().__init__()
        self._memory = UnversionedStore()


class TwoStepWorld(BankWorld):
    def __init__(self) -> None:
        super().__init__()
        self._memory = TwoStepStore()


class UnfencedExecutor(Executor):
    """Planted: saves under the latest version, not under the one that it has read (L-S4)."""

    latest: Mapping[ActionKey, int] = {}

    async def decide(self, action: AnyAction, checkpoint: Checkpoint, policy: RetryPolicy) -> Decision:
        decision = await super().decide(action, checkpoint, policy)
        found = await self.store.load(checkpoint.key)
        assert found is not None
        self.latest = {**self.latest, checkpoint.key: found.version}
        return decision

    def _writing(
        self, kind: Kind, checkpoint: Checkpoint, decision: Decision, writer: StateWriter
    ) -> tuple[Write, EventKind]:
        latest = self.latest.get(checkpoint.key, checkpoint.version)
        return super()._writing(kind, replace(checkpoint, version=latest), decision, writer)


class UnfencedWorld(BankWorld):
    def executor(self, store: Store, wallet: Wallet, observers: Sequence[Observer] = ()) -> Executor:
        return UnfencedExecutor(store, wallet, Registry(self.kinds), clock=self.clock, observers=observers)


class HastyPay(Pay, kind="hasty_pay"):
    """Planted: takes a lost answer for a refusal, and so frees its coins (L-C5)."""

    async def on_retry(self, wallet: Wallet, failure: Failure) -> Transition[Self, int]:
        return Failed("timed out")


class EternalPay(Pay, kind="eternal_pay"):
    """Planted: parks for ever."""

    async def advance(self, wallet: Wallet) -> Transition[Self, int]:
        return Park(self, wake_after=timedelta(seconds=1))


class HotPay(Pay, kind="hot_pay"):
    """Planted: goes on and on, and waits for nothing that takes time (L-D8)."""

    async def advance(self, wallet: Wallet) -> Transition[Self, int]:
        match self.phase:
            case Planned():
                return Next(self.at(Held(inputs=(), total=0)))
            case Held():
                return Next(self.at(Planned()))


class QuickPay(Pay, kind="quick_pay"):
    async def advance(self, wallet: Wallet) -> Transition[Self, int]:
        return Done(0)


class OddWorld(BankWorld):
    kinds = (*BankWorld.kinds, HastyPay, EternalPay, HotPay, QuickPay)


HASTY = Scenario("hasty", lambda: [HastyPay(payment="p-1", amount=5, phase=Planned())], OddWorld)
PLANTED = (HASTY,)


def found(scenario: Scenario, *, limits: Limits | None = None, count: int = 400) -> SimulationReport:
    return simulate(scenario.make, scenario.world, seed=1, count=count, limits=limits, scenario=scenario.name)


def size(run: Run) -> tuple[int, int, int]:
    return run.processes, run.lots, run.switches


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_engine_stands_a_sample(scenario: Scenario) -> None:
    """G1–G5, G8, T7: whatever the order, and whatever befalls the processes."""
    lots: Counter[Lot] = Counter()

    def on_run(run: Run) -> None:
        lots.update(turn.fate.lot for turn in run.turns)

    report = simulate(scenario.make, scenario.world, seed=20, count=SAMPLE, scenario=scenario.name, on_run=on_run)
    assert report.is_ok, report
    assert report.schedules == SAMPLE
    assert lots[Lot.CRASH_BEFORE] + lots[Lot.CRASH_AFTER] > SAMPLE / 4
    assert len(lots) > 8, "most of what can happen has happened"


def test_processes_really_race() -> None:
    """L-S4: some writes are refused because another process was first, and that does no harm."""
    refused = 0

    def on_run(run: Run) -> None:
        nonlocal refused
        refused += sum(turn.what.startswith(("save", "finish")) and not turn.is_answered for turn in run.turns)

    scenario = SCENARIO["pay"]
    simulate(scenario.make, scenario.world, seed=3, count=40, limits=Limits(lots=frozenset()), on_run=on_run)
    assert refused > 10


def test_the_same_seed_gives_the_same_trace() -> None:
    """T10: a seed is all that is needed to see it again."""

    def traces(seed: int) -> list[str]:
        told: list[str] = []

        def on_run(run: Run) -> None:
            told.append(run.fingerprint())

        for scenario in SCENARIOS:
            simulate(
                scenario.make, scenario.world, seed=seed, count=8, on_run=lambda run: told.append(run.fingerprint())
            )
        return told

    first = traces(5)
    assert traces(5) == first
    assert len(set(first)) == len(first)
    assert not set(traces(6)) & set(first)


def test_another_interpreter_gives_the_same_trace() -> None:
    """T10: nothing hangs on the order of sets or on addresses."""
    program = (
        "from wallet_actions.testing.scenarios import SCENARIOS\n"
        "from wallet_actions.testing.schedules import simulate\n"
        "for s in SCENARIOS:\n"
        "    simulate(s.make, s.world, seed=9, count=20, on_run=lambda run: print(run.fingerprint()))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().splitlines()) == 20 * len(SCENARIOS)


def test_a_lost_version_check_is_found() -> None:
    """L-S2: two processes and one switch are enough to show it."""
    report = found(Scenario("pay", SCENARIO["pay"].make, UnversionedWorld), limits=Limits(lots=frozenset()))
    assert not report.is_ok
    run = report.failures[0].run
    assert size(run) <= (2, 0, 2), report
    assert "history" in " ".join(run.violations)


def test_a_check_and_a_write_in_two_steps_are_found() -> None:
    """L-S1: a store of one's own shows its steps by `pause`."""
    report = found(Scenario("pay", SCENARIO["pay"].make, TwoStepWorld), limits=Limits(lots=frozenset()))
    assert not report.is_ok
    assert size(report.failures[0].run) <= (2, 0, 3), report


def test_coins_released_on_a_time_out_are_found() -> None:
    """L-C5: one process and one lost answer."""
    report = found(HASTY)
    assert not report.is_ok
    run = report.failures[0].run
    assert size(run) == (1, 1, 0), report
    assert any("its peer says" in violation for violation in run.violations)


def test_two_drivers_without_fencing_are_found() -> None:
    """L-S4, L-D15: the second takes other secrets than the first."""
    issue = Scenario("issue", lambda: [Issue(quote="q-1", amounts=(4, 1), phase=Paid())], UnfencedWorld)
    report = found(issue, limits=Limits(lots=frozenset()))
    assert not report.is_ok
    assert size(report.failures[0].run) <= (2, 0, 3), report


def test_what_is_started_may_be_asked_of_the_world() -> None:
    """As for a sweep: by a coroutine, in each world anew; found, shrunk and replayed all the same."""
    worlds = set[int]()

    async def quoted(world: BankWorld) -> list[Pay]:
        await asyncio.sleep(0)
        worlds.add(id(world.bank))
        return [HastyPay(payment=f"p-{sum(world.bank.worth.values())}", amount=5, phase=Planned())]

    report = simulate(quoted, OddWorld, seed=1, count=400)
    assert not report.is_ok
    failure = report.failures[0]
    assert size(failure.run) == (1, 1, 0), report
    assert [(one.kind, one.step) for one in failure.suspects] == [("hasty_pay", "held")], report
    assert "hasty_pay p-14" in str(report)
    assert replay(failure.schedule, quoted, OddWorld).fingerprint() == failure.run.fingerprint()
    assert len(worlds) > 1
    assert not interleavings(quoted, OddWorld, depth=3, most=5).failure


def test_what_never_ends_is_found() -> None:
    """T4: once the faults have stopped, everything ends; also where it does not wait for anything (L-D8)."""
    limits = Limits(processes=1, most_turns=300)
    eternal = Scenario("eternal", lambda: [EternalPay(payment="p-1", amount=5, phase=Planned())], OddWorld)
    hot = Scenario("hot", lambda: [HotPay(payment="p-1", amount=5, phase=Planned())], OddWorld)
    for scenario in (eternal, hot):
        report = found(scenario, limits=limits, count=1)
        assert any("not ended after 300 turns" in violation for violation in report.failures[0].run.violations)


def test_a_deadlock_is_found() -> None:
    """T4: everybody waits, and not for time."""

    class Mute(BankWorld):
        def wallet(self, life: Life, store: Store) -> Wallet:
            wallet = super().wallet(life, store)

            async def never(key: str, inputs: Sequence[str], change: str, amount: int) -> int:
                await asyncio.Event().wait()
                return 0

            self.bank.pay = never  # type: ignore[method-assign]
            return wallet

    report = found(Scenario("pay", SCENARIO["pay"].make, Mute), limits=Limits(processes=1, lots=frozenset()), count=1)
    assert "everybody waits" in str(report)


def test_a_failure_can_be_replayed() -> None:
    """T10: the smallest schedule, as JSON, gives the same run; so does the one that was found."""
    failure = found(HASTY).failures[0]
    again = Schedule.from_json(failure.schedule.to_json())
    assert again == failure.schedule
    run = replay(again, HASTY.make, HASTY.world)
    assert run.fingerprint() == failure.run.fingerprint()
    assert replay(failure.found, HASTY.make, HASTY.world).violations
    assert len(failure.run.turns) <= len(replay(failure.found, HASTY.make, HASTY.world).turns)


def test_a_failure_is_told_as_a_timeline() -> None:
    """T10: a column a process, a line a turn, what befell it, what is wrong, and how to see it again."""
    report = found(Scenario("pay", SCENARIO["pay"].make, UnversionedWorld), limits=Limits(lots=frozenset()))
    lines = str(report).splitlines()
    assert any("process 1" in line and "process 2" in line for line in lines)
    assert any(line.startswith("violated: ") for line in lines)
    told = next(line for line in lines if line.startswith("replay: "))
    assert json.loads(told.removeprefix("replay: "))["scenario"] == "pay"
    assert lines[-1] == f"simulate: {report.schedules} schedules, 1 violations, seed 1"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"choices":[-1]}', '{"choices":["1"]}', '{"choices":[true]}'])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Schedule.from_json(text)


def test_a_schedule_of_another_world_is_harmless() -> None:
    """A choice that there is not becomes one that there is."""
    scenario = SCENARIO["order"]
    run = replay(Schedule((99,) * 30), scenario.make, scenario.world)
    assert run.turns


def test_the_command_counts_and_succeeds(capfd: pytest.CaptureFixture[str]) -> None:
    """`make simulate`: the last line, and the exit status."""
    assert command.main(["--seed", "11", "--count", "30", "--workers", "1"]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "simulate: 30 schedules, 0 violations, seed 11"


def test_the_command_fails_and_replays(capfd: pytest.CaptureFixture[str]) -> None:
    """`make simulate`: exit status 1, the schedule above the last line; `--replay` shows it again."""
    ours = ["--scenarios", f"{__name__}:PLANTED"]
    assert command.main([*ours, "--seed", "11", "--count", "200", "--workers", "1"]) == 1
    lines = capfd.readouterr().out.splitlines()
    assert re.fullmatch(r"simulate: \d+ schedules, [12] violations, seed 11", lines[-1]), "two were under way"
    schedule = next(line for line in lines if line.startswith("replay: ")).removeprefix("replay: ")
    assert command.main([*ours, "--replay", schedule]) == 1
    assert "violated: " in capfd.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["--count", "0"], ["--scenarios", "json:nothing"], ["--scenarios", "nowhere:X"], ["--replay", "{}"]],
    ids=" ".join,
)
def test_the_command_refuses_what_it_cannot_do(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert "error: " in capfd.readouterr().err


# A fleet


class FleetWorld(BankWorld):
    """The same bank, and processes that claim what they drive, each by its own clock."""

    is_shared = True


@pytest.mark.parametrize("name", sorted(SCENARIO))
def test_a_fleet_stands_all_that_processes_stand(name: str) -> None:
    """G2 to G5 with claims, leases and takeovers: crashes, lost answers, clocks that jump by thrice a lease."""
    limits = Limits(most_turns=40_000)  # each look for what is due is a turn
    report = simulate(SCENARIO[name].make, FleetWorld, seed=11, count=SAMPLE // 3, limits=limits)
    assert report.is_ok, str(report)
