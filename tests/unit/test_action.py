"""Actions and phases."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Self

import pytest
from pydantic import SecretStr, ValidationError

from tests.actions import SECRET, Desk, Job, Open, Sent, job
from wallet_actions.action import Action, Phase
from wallet_actions.coins import ActionKey
from wallet_actions.errors import RejectedError, TransientError
from wallet_actions.retry import RetryPolicy
from wallet_actions.transition import Done, Failed, Failure, Park, Transition


class HTTPAnswerSeen(Phase):
    pass


class Paid(Phase):
    at: datetime
    token: SecretStr


class Minimal(Action[None, Open], kind="minimal"):
    @property
    def id(self) -> str:
        return "one"

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


class Sum(Action[None, Open | Sent], kind="sum"):
    """Works something out once, and keeps it beside its fields."""

    parts: tuple[int, ...]

    @property
    def id(self) -> str:
        return "sum"

    @cached_property
    def total(self) -> int:
        return sum(self.parts)

    async def advance(self, wallet: None) -> Transition[Self]:
        return Done()


@pytest.mark.parametrize(
    ("phase", "tag"), [(Open, "open"), (HTTPAnswerSeen, "http_answer_seen"), (Paid, "paid"), (Phase, "phase")]
)
def test_a_tag_is_the_class_name_in_snake_case(phase: type[Phase], tag: str) -> None:
    assert phase.tag == tag


def test_a_leading_underscore_is_no_part_of_the_tag() -> None:
    class _TwoWords(Phase):
        pass

    assert _TwoWords.tag == "two_words"


def test_a_phase_refuses_the_tag_of_another_one() -> None:
    assert Open.model_validate({"tag": "open"}) == Open()
    with pytest.raises(ValidationError, match="this is the phase 'sent'"):
        Open.model_validate({"tag": "sent"})


def test_key_is_kind_and_id() -> None:
    assert job("a").key == ActionKey("job", "a")


def test_moving_gives_a_new_action_with_the_same_parameters() -> None:
    before = job("a", amount=5)
    after = before.at(Sent(note="n"))

    assert before.phase == Open()
    assert (after.name, after.amount, after.phase) == ("a", 5, Sent(note="n"))


@pytest.mark.parametrize("phase", [HTTPAnswerSeen(), "sent", None, 3, {"tag": "nowhere"}])
def test_moving_to_what_is_no_phase_of_it_is_refused(phase: Any) -> None:
    with pytest.raises(ValidationError):
        job().at(phase)


def test_moving_leaves_behind_what_was_worked_out() -> None:
    action = Sum(parts=(1, 2), phase=Open())
    assert action.total == 3

    assert action.at(Sent()).total == 3


def test_actions_and_phases_are_immutable_and_closed() -> None:
    action = job()

    with pytest.raises(ValidationError, match="frozen"):
        action.name = "b"
    with pytest.raises(ValidationError, match="frozen"):
        action.phase.note = "x"  # type: ignore[union-attr]
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Job.model_validate({"name": "a", "phase": Open(), "colour": "red"})


def test_secrets_are_in_no_repr_and_in_no_message() -> None:
    action = job().at(Sent(token=SecretStr(SECRET)))
    assert SECRET not in repr(action) + str(action)

    for wrong in ({"at": SECRET, "token": SECRET}, {"at": datetime(2030, 1, 1, tzinfo=UTC), "token": [SECRET]}):
        with pytest.raises(ValidationError) as caught:
            Paid.model_validate(wrong)
        assert SECRET not in str(caught.value) + repr(caught.value)
    with pytest.raises(ValidationError) as caught:
        job().at(SECRET)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


def test_the_class_line_says_kind_and_schema_and_a_child_class_inherits_them() -> None:
    class Second(Minimal, schema_version=2):
        retry = RetryPolicy(fault_budget=0)

    assert (Minimal.kind, Minimal.schema_version) == ("minimal", 1)
    assert (Second.kind, Second.schema_version) == ("minimal", 2)
    assert (Minimal.retry.fault_budget, Second.retry.fault_budget) == (5, 0)


@pytest.mark.anyio
async def test_by_default_a_rejection_fails_a_failure_parks_and_a_cancel_is_refused() -> None:
    action = Minimal(phase=Open())
    rejection = RejectedError("no")
    failure = Failure(TransientError("later"), attempts=3, delay=RetryPolicy().delay(3))

    assert await action.on_rejection(None, rejection) == Failed(rejection)
    assert await action.on_retry(None, failure) == Park(action, wake_after=failure.delay, error=failure.error)
    assert await action.on_cancel(None) is None


def test_an_action_without_id_or_advance_cannot_be_made() -> None:
    class Half(Action[Desk, Open], kind="half"):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Half(phase=Open())  # type: ignore[abstract]
