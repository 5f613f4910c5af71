"""What a step answers."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta

import pytest

from tests.actions import SECRET, coin, job
from wallet_actions.coins import Fact
from wallet_actions.errors import TransientError
from wallet_actions.store import Statement
from wallet_actions.transition import NO_CHANGES, Changes, Done, Failed, Failure, Next, Park, Start


def test_nothing_is_changed_unless_it_is_said() -> None:
    for transition in (Next(job()), Park(job()), Done(), Failed("no")):
        assert transition.changes is NO_CHANGES
    assert Changes() == NO_CHANGES
    assert Start(job()).changes == NO_CHANGES


def test_parking_has_neither_time_nor_cause_unless_it_is_said() -> None:
    assert (Park(job()).wake_after, Park(job()).error) == (None, None)


def test_done_carries_nothing_unless_it_is_said() -> None:
    assert Done().result is None


def test_transitions_are_values() -> None:
    assert Next(job()) == Next(job())
    assert Park(job(), wake_after=timedelta(seconds=1)) != Park(job())
    with pytest.raises(FrozenInstanceError):
        Next(job()).action = job("b")  # type: ignore[misc]


def test_no_secret_is_in_a_repr() -> None:
    foreign = ValueError(SECRET)
    values = [
        Done(SECRET),
        Failed(foreign),
        Park(job(), error=foreign),
        Failure(foreign, attempts=1, delay=timedelta(0)),
        Changes(add=[coin("c")], facts=[Fact("payment", "k", SECRET)], statements=[Statement("INSERT", (SECRET,))]),
        Start(job(), Changes(add=[coin("c")])),
    ]

    assert [value for value in values if SECRET in repr(value)] == []


def test_what_caused_a_failure_is_at_hand() -> None:
    error = TransientError("later")

    assert Park(job(), error=error).error is error
    assert Failure(error, attempts=2, delay=timedelta(seconds=4)).error is error
