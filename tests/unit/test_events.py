"""Observers."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from tests.actions import SECRET, key_of
from wallet_actions.checkpoint import Status
from wallet_actions.events import Event, EventKind, Observer, tell

EVENT = Event(EventKind.STEPPED, key_of("a"), datetime(2030, 1, 1, tzinfo=UTC), 1, "open", Status.RUNNING)


def test_each_observer_is_told() -> None:
    seen: list[Event] = []

    tell([seen.append, seen.append], EVENT)

    assert seen == [EVENT, EVENT]


def test_an_observer_that_raises_disturbs_nobody_and_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Event] = []

    def bad(event: Event) -> None:
        raise ValueError(SECRET)

    with caplog.at_level(logging.DEBUG):
        tell([bad, seen.append], EVENT)

    assert seen == [EVENT]
    (record,) = caplog.records
    assert (record.message, record.__dict__["error_type"]) == ("an observer raised", "ValueError")
    assert SECRET not in repr(record.__dict__)


def test_an_observer_that_takes_itself_away_leaves_no_other_out() -> None:
    seen: list[str] = []
    observers: list[Observer] = []

    def once(event: Event) -> None:
        seen.append("once")
        observers.remove(once)

    observers += [once, lambda event: seen.append("always")]
    tell(observers, EVENT)
    tell(observers, EVENT)

    assert seen == ["once", "always", "always"]
