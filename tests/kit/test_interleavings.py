"""Every interleaving of two drivers: the engine stands them, what is planted is found (T7)."""

from __future__ import annotations

import pytest

from tests.kit.test_simulation import (
    SCENARIO,
    OddWorld,
    QuickPay,
    TwoStepWorld,
    UnfencedWorld,
    UnversionedWorld,
)
from wallet_actions.testing.interleavings import driving_limits, interleavings
from wallet_actions.testing.runs import Run
from wallet_actions.testing.scenarios import Scenario
from wallet_actions.testing.scenarios.actions import Issue, Paid, Planned
from wallet_actions.testing.schedules import replay


def test_two_drivers_of_a_payment_can_meet_in_any_way() -> None:
    """G2, L-S4: all interleavings there are."""
    scenario, runs = SCENARIO["pay"], set[str]()
    report = interleavings(scenario.make, scenario.world, depth=100, on_run=lambda run: runs.add(run.fingerprint()))
    assert report.is_ok, report
    assert report.is_complete
    assert report.explored == len(runs) > 100, "each of them is another one"


@pytest.mark.parametrize("name", ["issue", "order", "refund", "contend"])
def test_two_drivers_can_meet_in_any_way_at_first(name: str) -> None:
    """G2: as far as the depth goes."""
    scenario = SCENARIO[name]
    report = interleavings(scenario.make, scenario.world, depth=13)
    assert report.is_ok, report
    assert not report.is_complete
    assert "to a depth of 13" in str(report)


def test_one_of_the_drivers_may_die() -> None:
    """G2, G3: at each moment, and come back at each later one."""
    scenario, crashes = SCENARIO["pay"], set[int]()
    report = interleavings(
        scenario.make, scenario.world, depth=18, crashes=1, on_run=lambda run: crashes.add(run.crashes)
    )
    assert report.is_ok, report
    assert crashes == {0, 1}


def test_what_is_left_out_comes_to_the_same() -> None:
    """T7: leaving out orders that cannot matter loses no outcome."""

    def outcomes(*, is_reduced: bool) -> tuple[int, set[str]]:
        seen: set[str] = set()

        def on_run(run: Run) -> None:
            order = [(turn.process, turn.what, turn.is_answered) for turn in run.turns if "→" in turn.what]
            seen.add(f"{order} {run.states}")

        make = lambda: QuickPay(payment="p-1", amount=1, phase=Planned())  # noqa: E731
        report = interleavings(make, OddWorld, depth=100, is_reduced=is_reduced, on_run=on_run)
        assert report.is_ok, report
        assert report.is_complete
        return report.explored, seen

    every, all_seen = outcomes(is_reduced=False)
    few, few_seen = outcomes(is_reduced=True)
    assert few_seen == all_seen
    assert few < every / 4


@pytest.mark.parametrize(
    "planted",
    [
        Scenario("pay", SCENARIO["pay"].make, UnversionedWorld),
        Scenario("pay", SCENARIO["pay"].make, TwoStepWorld),
        Scenario("issue", lambda: [Issue(quote="q-1", amounts=(4, 1), phase=Paid())], UnfencedWorld),
    ],
    ids=["no version check", "check and write apart", "no fencing"],
)
def test_what_is_planted_is_found(planted: Scenario) -> None:
    """L-S2, L-S4: with the choices that lead to it, which give the same run again."""
    report = interleavings(planted.make, planted.world, depth=24)
    assert not report.is_ok
    assert report.failure is not None
    assert "violated: " in str(report)
    again = replay(report.failure.schedule, planted.make, planted.world, limits=driving_limits())
    assert again.violations == report.failure.run.violations


def test_it_stops_when_told() -> None:
    scenario = SCENARIO["order"]
    report = interleavings(scenario.make, scenario.world, depth=100, most=20)
    assert (report.explored, report.is_complete) == (20, False)
