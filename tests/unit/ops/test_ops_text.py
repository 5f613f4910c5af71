"""Ages, times, and text that a terminal must not obey."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from wallet_actions.checkpoint import Checkpoint, ErrorRecord, Status
from wallet_actions.ops.text import clean, counted, error_text, local, parse_age, span, wake_text

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
PARKED = Checkpoint(
    kind="pay",
    id="1",
    version=1,
    schema_version=1,
    state=None,
    phase="sent",
    status=Status.PARKED,
    created_at=NOW,
    updated_at=NOW,
)


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("45s", timedelta(seconds=45)),
        (" 0s ", timedelta(0)),
        ("36500d", timedelta(days=36500)),
    ],
)
def test_an_age_is_a_number_and_a_unit(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize(
    "text", ["", "30", "d", "-3d", "1.5h", "3w", "3 d", "3dd", "36501d", "9999999999d", "9" * 400 + "s", "٣d"]
)
def test_anything_else_is_no_age(text: str) -> None:
    with pytest.raises(ValueError, match="an age is"):
        parse_age(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (-300, "5 min"), (7200, "2 h"), (47 * 3600, "47 h"), (86400 * 3, "3 d")],
)
def test_a_span_is_told_in_its_largest_unit(seconds: int, text: str) -> None:
    assert span(timedelta(seconds=seconds)) == text


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert clean("\x1b[31mred\x1b]0;title\x07") == "\\x1b[31mred\\x1b]0;title\\x07"
    assert clean("a\nb\rc") == "a\\nb\\rc"
    assert clean("\u202eabc") == "\\u202eabc"
    assert clean("\udcff") == "\\udcff"
    assert clean("grün [red]") == "grün [red]"


def test_wake_times_are_told_in_human_terms() -> None:
    nobody: frozenset[str] = frozenset()
    assert wake_text(PARKED, NOW, nobody) == "when notified"
    assert wake_text(replace(PARKED, wake_at=NOW + timedelta(minutes=5)), NOW, nobody) == "in 5 min"
    assert wake_text(replace(PARKED, wake_at=NOW - timedelta(hours=3)), NOW, nobody) == "due 3 h ago"
    assert wake_text(replace(PARKED, wake_at=NOW), NOW, frozenset({"pay"})) == "kind paused"
    assert wake_text(replace(PARKED, status=Status.RUNNING), NOW, nobody) == ""


def test_times_at_the_ends_of_the_calendar_do_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-9")
    time.tzset()
    try:
        assert local(NOW) == "2026-05-04 12:02:01 XYZ"
        assert local(datetime.max.replace(tzinfo=UTC)) == "9999-12-31 23:59:59+00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_errors_and_counts_are_one_phrase() -> None:
    assert error_text(None) == ""
    assert error_text(ErrorRecord("TransientError", "the mint\x1b is away")) == "TransientError: the mint\\x1b is away"
    assert counted(1, "coin") == "1 coin"
    assert counted(0, "coin") == "0 coins"
