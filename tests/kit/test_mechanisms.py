"""What the tools stand on: names of cases, blame, the oracle of outcomes, hash seeds, steps with tasks of their own."""

from __future__ import annotations

import re
from typing import Any, Self
from uuid import uuid4

import pytest

from tests.kit.planted import deadline_in_a_task, effect_before_checkpoint, not_found_is_never
from tests.kit.twins import pay_with_change
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Done, Next, Phase, RejectedError, Store, Transition
from wallet_actions.coins import ActionKey
from wallet_actions.errors import UsageError
from wallet_actions.testing.case import Case
from wallet_actions.testing.life import CrashKind, FaultKind, Incident, Life, Plan
from wallet_actions.testing.report import page_of
from wallet_actions.testing.seeds import hash_seeds
from wallet_actions.testing.sweep import CASE_VARIABLE, sweep
from wallet_actions.testing.world import World

pytestmark = pytest.mark.anyio


class Sending(Phase):
    key: str


class Send(Action[Wallet, Open | Sending], kind="send"):
    """Says that it is done, and has done nothing; its key is chance."""

    async def advance(self, wallet: Wallet) -> Transition[Self]:
        return Next(self.at(Sending(key=str(uuid4())))) if isinstance(self.phase, Open) else Done()

    @property
    def id(self) -> str:
        return "bob"


class SendWorld(SmallWorld):
    kinds = (Send,)


class StrictWorld(SendWorld):
    def outcomes(self) -> dict[ActionKey, bool]:
        return {ActionKey("send", "bob"): bool(self.bank.sent["bob"])}


def make() -> Send:
    return Send(phase=Open())


def test_a_case_is_its_name() -> None:
    """T10: what a report names can be run again."""
    both = Plan(fault_at=2, fault=FaultKind.OVERTAKEN, crash_at=9, crash=CrashKind.CANCELLATION)
    case = Case((both, Plan(incident_at=3, incident=Incident.CLOCK_BACK), Plan(crash_at=1)))

    assert str(case) == "overtaken@2,cancellation@9+clock_back@3+exception@1"
    assert Case.parse(str(case)) == case
    with pytest.raises(UsageError):
        Case.parse("overtaken@2,")


async def test_a_report_tells_what_stood_there_at_that_moment() -> None:
    """Before and after, also of a process that lived on; on the page as well."""
    bug = effect_before_checkpoint.PLANTED
    report = await sweep(bug.make, bug.world, only="cancellation@4")

    (failure,) = report.failures
    (moment,) = failure.moments
    assert [line for line in moment if line.startswith("send")] == ["send bob: running in open, version 0"]
    lines = str(report).splitlines()
    then = lines.index("  at that moment:")
    assert lines[then - 1].startswith("  was cancelled after call 1 (bank.")
    assert "    send bob: running in open, version 0" in lines[then:]
    assert any(line.startswith("    send bob: done in ") for line in lines[lines.index("  at the end:") :])
    assert page_of(report).count("In the store at that moment") == 1


async def test_a_case_that_does_not_happen_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """T10: after a mend the boundaries are others, and a number may mean nothing any more."""
    for case in ("exception@99", "answer_lost@1", "clock_back@2,exception@7", "exception@2+exception@99"):
        with pytest.raises(UsageError, match=rf"case {re.escape(case)} did not happen: process 1 came to"):
            await sweep(make, SendWorld, only=case)
    monkeypatch.setenv(CASE_VARIABLE, "clock_back@2,exception@6+exception@1")
    report = await sweep(make, SendWorld)
    assert (report.cases, report.is_ok) == (1, True)


async def test_a_sweep_that_met_no_peer_says_so() -> None:
    """A peer that was forgotten to be wrapped would otherwise be one that stood everything."""
    bug = deadline_in_a_task.PLANTED
    alone = await sweep(make, SendWorld, only="exception@1")
    met = await sweep(bug.make, bug.world, only="exception@1")

    assert str(alone) == "send: 1 cases over 6 boundaries (no call to a peer was seen: is it wrapped?), 0 failed"
    assert "no call" not in str(met)


async def test_done_without_its_effect_is_a_violation() -> None:
    """L-S9."""
    report = await sweep(make, StrictWorld)

    assert report.failures[0].violations == ["send bob is done, and its peer has not done it"]
    assert [(one.kind, one.step) for one in report.suspects] == [("send", "sending")]


class FleetPayWorld(pay_with_change.PayWorld):
    is_shared = True


async def test_a_fleet_stands_what_a_process_stands() -> None:
    """G3, L-D15: what a dead worker held is left alone until its lease has lapsed, and then driven to its end."""
    report = await sweep(pay_with_change.TWIN.make, FleetPayWorld, sample=300, seed=7)

    assert report.is_ok, str(report)
    assert any(boundary.name == "claim" for boundary in report.boundaries)


class CredulousWorld(World[Wallet]):
    faults = (FaultKind.CONTRADICTION, FaultKind.REFUSED, FaultKind.SLOW, FaultKind.GARBAGE)

    def wallet(self, life: Life, store: Store) -> Wallet:
        raise NotImplementedError

    def exempt(self, fault: FaultKind, name: str) -> bool:
        return fault is FaultKind.GARBAGE and name == "bank.transfer"


class DoubtedWorld(CredulousWorld):
    def contradict(self, name: str, answer: Any) -> Any:
        return None

    def refusal(self, name: str) -> Exception | None:
        return RejectedError("no") if name == "bank.find" else None


def test_only_what_a_world_can_show_is_tried() -> None:
    """T3: a case in which nothing happens would be counted as one that was stood."""
    here, there = CredulousWorld(), DoubtedWorld()

    assert here.faults_of("bank.find") == [FaultKind.SLOW, FaultKind.GARBAGE]
    assert there.faults_of("bank.transfer") == [FaultKind.CONTRADICTION, FaultKind.SLOW]
    assert there.faults_of("bank.find") == list(CredulousWorld.faults)


async def test_what_differs_by_chance_does_not_depend_on_hashes() -> None:
    """L-S8."""
    report = await hash_seeds(f"{__name__}:make", f"{__name__}:SendWorld")

    assert report.writes == 3
    assert report.is_ok, report


async def test_a_call_in_a_task_of_its_own_belongs_to_its_step() -> None:
    bug = deadline_in_a_task.PLANTED
    report = await sweep(bug.make, bug.world, has_faults=False, has_pairs=False)

    calls = [boundary for boundary in report.boundaries if boundary.site == "peer"]
    assert calls
    assert {(str(boundary.key), boundary.step) for boundary in calls} == {("pay i-1", "paying")}


async def test_a_report_says_since_when() -> None:
    """The step that is blamed is the one that let go, not the one whose request was late."""
    bug = not_found_is_never.PLANTED
    report = await sweep(bug.make, bug.world, crashes=(), has_pairs=False, has_incidents=False)

    (failure,) = report.failures
    assert str(failure.case) == "overtaken@1"
    assert "look at pay in checking (not_found_is_never.py:" in str(report)
    assert "    since after write 4 (finish → checking) in checking" in str(report)
