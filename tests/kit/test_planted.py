"""The kit finds what was planted, names the step, and is silent where all is well. Every case can fail by itself."""

from __future__ import annotations

import pytest

from tests.kit.cases import Planted, Twin
from tests.kit.check import alarms, judge, planted, twins

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("name", "bug"), [pytest.param(name, bug, id=name) for name, bug in planted()])
async def test_a_planted_bug_is_caught_and_its_step_is_named(name: str, bug: Planted) -> None:
    verdict = await judge(name, bug)

    assert verdict.finding is not None, f"{bug.tool.value} found nothing"
    assert verdict.finding.steps == (bug.step,), verdict.finding.text


@pytest.mark.parametrize(("name", "twin"), [pytest.param(name, twin, id=name) for name, twin in twins()])
async def test_no_tool_says_anything_against_a_correct_twin(name: str, twin: Twin) -> None:
    said = await alarms(name, twin)

    assert not said, "\n".join(f"{alarm.tool.value}: {alarm.finding.text}" for alarm in said)


def test_there_are_enough_of_both() -> None:
    names = {name for name, _ in planted()}

    assert len(names) >= 20
    assert len(list(twins())) >= 5
    assert {name for _, twin in twins() for name in twin.of} <= names
