"""What the tools stand on: names of cases, blame, the oracle of outcomes, hash seeds, steps with tasks of their own."""

from __future__ import annotations

from typing import Self
from uuid import uuid4

import pytest

from tests.kit.planted import deadline_in_a_task, not_found_is_never
from tests.kit.worlds import Open, SmallWorld, Wallet
from wallet_actions import Action, Done, Next, Phase, Transition
from wallet_actions.coins import ActionKey
from wallet_actions.errors import UsageError
from wallet_actions.testing.case import Case
from wallet_actions.testing.life import CrashKind, FaultKind, Incident, Plan
from wallet_actions.testing.seeds import hash_seeds
from wallet_actions.testing.sweep import sweep

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


async def test_done_without_its_effect_is_a_violation() -> None:
    """L-S9."""
    report = await sweep(make, StrictWorld)

    assert report.failures[0].violations == ["send bob is done, and its peer has not done it"]
    assert [(one.kind, one.step) for one in report.suspects] == [("send", "sending")]


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
