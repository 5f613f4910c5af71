"""`cancel`, `stop`, `pause`, `resume`, `retry`, `prune`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ops.kit import (
    MAIN,
    ORDERS,
    ROOT,
    assert_one_line,
    assert_silent_about_secrets,
    cli,
    contents,
    make,
    operate,
    row,
)
from wallet_actions.coins import ActionKey
from wallet_actions.ops import terminal


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return make(tmp_path / "shop.db", *ORDERS)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a person before the terminal, who answers after something has happened behind the prompt."""

    def sit(text: str, meanwhile: Any = lambda: None) -> None:
        def type_it() -> str:
            meanwhile()
            return text

        monkeypatch.setattr(terminal, "is_interactive", lambda: True)
        monkeypatch.setattr(terminal, "read_answer", type_it)

    return sit


def test_cancel_is_durable_and_says_who_answers(db: Path) -> None:
    """L-D11."""
    ran = cli("cancel", "pay", "park-1", "--db", str(db), "--json")
    assert ran.json["action"]["cancel"] == "requested"
    assert "the running app answers within seconds" in ran.json["answered_by"]
    shown = row(db, "park-1")
    assert (shown["cancel"], shown["version"]) == ("requested", 2)
    told = cli("cancel", "pay", "stuck-1", "--db", str(db))
    assert told.status == 0
    assert "it is stuck: it answers at the app's next start, or after `retry`" in told.out


def test_cancel_names_what_stands_in_the_way_of_an_answer(db: Path) -> None:
    cli("pause", "pay", "park-1", "--db", str(db))
    assert "once it is resumed" in cli("cancel", "pay", "park-1", "--db", str(db)).out
    cli("pause", "--kind", "pay", "--db", str(db))
    assert "after `resume --kind pay`" in cli("cancel", "pay", "wait-1", "--db", str(db)).out


def test_an_action_that_has_ended_is_left_alone(db: Path) -> None:
    for command in ("cancel", "stop", "pause", "retry", "resume"):
        assert_one_line(cli(command, "pay", "done-1", "--db", str(db)), "pay done-1 has already ended: done")


def test_stop_refuses_where_there_is_nobody_to_ask(db: Path) -> None:
    before = contents(db.parent)
    ran = cli("stop", "pay", "park-1", "--db", str(db))
    assert ran.status == 2
    assert "add --yes to mean it" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert contents(db.parent) == before
    assert row(db, "park-1")["status"] == "parked"


def test_stop_shows_what_it_would_free_and_takes_a_no(db: Path, answer: Any) -> None:
    answer("n\n")
    ran = cli("stop", "pay", "park-1", "--db", str(db))
    assert ran.status == 2
    assert "Stopping it would free 1 coin:" in ran.out
    assert "coin-park-1" in ran.out
    assert "spent twice" in ran.out
    assert "nothing was changed" in ran.err
    assert row(db, "park-1")["status"] == "parked"
    assert_silent_about_secrets(ran)


def test_stop_frees_the_coins_at_a_persons_word(db: Path, answer: Any) -> None:
    """G5, L-C8."""
    answer("yes\n")
    ran = cli("stop", "pay", "park-1", "--db", str(db))
    assert ran.status == 0
    assert ran.out.endswith("pay park-1: stopped; 1 coin freed\n")
    shown = row(db, "park-1")
    assert (shown["status"], shown["coins"], shown["state_fields"]) == ("cancelled", [], None)
    assert row(db, "stuck-1")["coins"][0]["holder"] == {"kind": "pay", "id": "stuck-1"}


def test_stop_does_nothing_where_the_action_moved_behind_the_prompt(db: Path, answer: Any) -> None:
    key = ActionKey("pay", "park-1")
    answer("y\n", lambda: operate(db, lambda operator: operator.pause(key)))
    ran = cli("stop", "pay", "park-1", "--db", str(db))
    assert ran.status == 2
    assert "has moved on meanwhile" in ran.err
    assert row(db, "park-1")["status"] == "paused"


def test_ctrl_c_at_the_prompt_changes_nothing(db: Path, answer: Any) -> None:
    def press() -> None:
        raise KeyboardInterrupt

    answer("", press)
    ran = cli("stop", "pay", "park-1", "--db", str(db))
    assert ran.status == 130
    assert "Traceback" not in ran.err
    assert row(db, "park-1")["status"] == "parked"


def test_stop_with_yes_asks_nobody(db: Path) -> None:
    ran = cli("stop", "pay", "config-1", "--yes", "--db", str(db), "--json")
    assert ran.json["action"]["status"] == "cancelled"
    assert [coin["id"] for coin in ran.json["freed"]] == ["coin-config-1"]


def test_one_action_is_paused_and_resumed(db: Path) -> None:
    paused = cli("pause", "pay", "park-1", "--db", str(db), "--json").json["action"]
    assert (paused["status"], paused["version"]) == ("paused", 3)
    resumed = cli("resume", "pay", "park-1", "--db", str(db), "--json").json["action"]
    assert (resumed["status"], resumed["wake_at"]) == ("parked", paused["wake_at"])
    assert_one_line(cli("resume", "pay", "park-1", "--db", str(db)), "pay park-1 is parked, not paused")


def test_a_kind_is_paused_and_resumed(db: Path) -> None:
    assert cli("pause", "--kind", "pay", "--db", str(db), "--json").json == {"kind": "pay", "paused": True}
    assert row(db, "park-1")["kind_paused"] is True
    assert "kind paused" in cli("list", "--db", str(db)).out
    assert cli("resume", "--kind", "pay", "--db", str(db)).out == "kind pay: resumed\n"
    assert row(db, "park-1")["kind_paused"] is False


@pytest.mark.parametrize("arguments", [[], ["pay"], ["pay", "park-1", "--kind", "pay"], ["pay", "--kind", "pay"]])
def test_pause_wants_an_action_or_a_kind(db: Path, arguments: list[str]) -> None:
    assert_one_line(cli("pause", *arguments, "--db", str(db)), "either KIND and ID, or --kind KIND")


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_kind_that_nobody_uses_is_not_paused_by_mistake(db: Path, command: str) -> None:
    before = contents(db.parent)
    for blank in ("", "  "):
        assert_one_line(cli(command, "--kind", blank, "--db", str(db)), "--kind is blank")
        assert_one_line(cli(command, "--kind", blank, "--force", "--db", str(db)), "--kind is blank")
    told = f"no action of the kind pya is stored; `--force` will {command} it all the same"
    assert_one_line(cli(command, "--kind", "pya", "--db", str(db)), told)
    assert cli(command, "--kind", "pya", "--db", str(db), "--json").error["exit_status"] == 2
    assert_one_line(cli(command, "pay", "park-1", "--force", "--db", str(db)), "--force with it")
    assert contents(db.parent) == before


def test_a_kind_of_later_actions_is_paused_by_force(db: Path) -> None:
    forced = cli("pause", "--kind", "later", "--force", "--db", str(db), "--json")
    assert forced.json == {"kind": "later", "paused": True}
    assert cli("resume", "--kind", "later", "--force", "--db", str(db)).out == "kind later: resumed\n"


def test_retry_forgives_the_failures(db: Path) -> None:
    retried = cli("retry", "pay", "stuck-1", "--db", str(db), "--json").json["action"]
    assert (retried["status"], retried["attempts"], retried["faults"]) == ("parked", 0, 0)
    assert retried["wake_at"] <= retried["updated_at"]
    cli("pause", "pay", "park-1", "--db", str(db))
    assert_one_line(cli("retry", "pay", "park-1", "--db", str(db)), "only a stuck or parked action can be retried")


@pytest.mark.parametrize("age", ["", "30", "3w", "-1d", "99999999d"])
def test_prune_wants_an_age(db: Path, age: str) -> None:
    before = contents(db.parent)
    assert_one_line(cli("prune", "--older-than", age, "--db", str(db)), "--older-than", "an age is")
    assert contents(db.parent) == before


def test_prune_says_how_many(db: Path) -> None:
    assert cli("prune", "--older-than", "30d", "--db", str(db)).out == "pruned 0 actions\n"
    assert cli("prune", "--older-than", "0s", "--db", str(db)).out == "pruned 2 actions\n"
    assert len(cli("list", "--db", str(db), "--json").json["actions"]) == len(ORDERS)


@pytest.mark.parametrize(("typed", "status"), [(b"y\n", 0), (b"\n", 2), (b"\x04", 2)])
def test_the_prompt_on_a_real_terminal(db: Path, typed: bytes, status: int) -> None:
    terminal_end, person_end = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, "stop", "pay", "park-1", "--db", str(db)],
        cwd=ROOT,
        stdin=person_end,
        stdout=subprocess.DEVNULL,
        stderr=person_end,
    ) as child:
        os.close(person_end)
        asked = b""
        while b"[y/N]" not in asked:
            asked += os.read(terminal_end, 1000)
        assert b"Stop pay park-1 and free 1 coin?" in asked
        os.write(terminal_end, typed)
        assert child.wait(timeout=60) == status
    os.close(terminal_end)
    assert row(db, "park-1")["status"] == ("parked" if status else "cancelled")
