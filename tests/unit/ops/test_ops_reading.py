"""`list`, `show` and `history` on a database that the engine made."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path

import pytest

from tests.unit.ops.kit import (
    ORDERS,
    assert_one_line,
    assert_silent_about_secrets,
    cli,
    contents,
    make,
    operate,
    pay,
    row,
    url_of,
)
from wallet_actions.coins import ActionKey
from wallet_actions.store import open_store

KIT = "tests.unit.ops.kit"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for tests that only read."""
    return str(make(tmp_path_factory.mktemp("shop") / "shop.db", *ORDERS))


def test_list_shows_every_action_with_its_error(db: str) -> None:
    ran = cli("list", "--db", db)
    assert (ran.status, ran.err) == (0, "")
    header, *rows = ran.out.splitlines()
    assert header.split() == ["KIND", "ID", "STATUS", "PHASE", "VER", "TRIES", "WAKE"]
    assert rows[0].split() == ["pay", "done-1", "done", "sent", "2", "0"]
    assert rows[1].split() == ["pay", "park-1", "parked", "sent", "2", "1", "in", "60", "min"]
    assert "pay park-1: TransientError: the mint is away" in rows
    assert max(len(line) for line in ran.out.splitlines()) <= 80
    assert "\x1b" not in ran.out
    assert_silent_about_secrets(ran)


def test_a_wide_terminal_has_the_errors_in_the_table(db: str) -> None:
    header, _, parked, *_ = cli("list", "--db", db, columns=160).out.splitlines()
    assert header.split()[-1] == "ERROR"
    assert parked.rstrip().endswith("TransientError: the mint is away")


def test_long_ids_fold_and_nothing_of_them_is_lost(tmp_path: Path) -> None:
    order = "park-" + "0123456789abcdef" * 10
    ran = cli("list", "--db", str(make(tmp_path / "shop.db", order)))
    lines = ran.out.splitlines()
    assert max(len(line) for line in lines) <= max(80, len(order) + 50)
    column = lines[0].index("ID")
    width = lines[0].index("STATUS") - column
    folded = "".join(line[column : column + width].strip() for line in lines[1 : lines.index("")])
    assert folded == order


def test_list_as_json_has_stable_keys_and_utc_times(db: str) -> None:
    ran = cli("list", "--db", db, "--json")
    actions = ran.json["actions"]
    assert [action["id"] for action in actions] == list(ORDERS)
    assert set(actions[0]) == {
        *("kind", "id", "status", "phase", "version", "schema_version", "attempts", "faults", "wake_at", "error"),
        *("cancel", "owner", "lease_until", "traceparent", "created_at", "updated_at", "row"),
    }
    assert actions[1]["error"] == {"type": "TransientError", "message": "the mint is away"}
    assert actions[1]["wake_at"].endswith("+00:00")
    assert datetime.fromisoformat(actions[1]["wake_at"]) > datetime.fromisoformat(actions[1]["updated_at"])
    assert ran.json["next_after"] is None
    assert_silent_about_secrets(ran)


def test_list_filters_and_pages(db: str) -> None:
    def ids(*options: str) -> list[str]:
        return [action["id"] for action in cli("list", "--db", db, "--json", *options).json["actions"]]

    assert ids("--status", "done") == ["done-1"]
    assert ids("--status", "done", "--status", "failed") == ["done-1", "fail-1"]
    assert ids("--kind", "pay") == list(ORDERS)
    assert ids("--kind", "nobody-knows-it") == []
    first = cli("list", "--db", db, "--json", "--limit", "4").json
    assert len(first["actions"]) == 4
    assert ids("--after", str(first["next_after"])) == list(ORDERS)[4:]
    told = cli("list", "--db", db, "--limit", "4").out.splitlines()[-1]
    assert told == f"There are more: --after {first['next_after']}"
    assert cli("list", "--db", db, "--kind", "none").out == "no actions\n"


def test_show_tells_names_and_coins_but_no_values(db: str) -> None:
    ran = cli("show", "pay", "park-1", "--db", db)
    assert ran.status == 0
    assert "State (values hidden; see --app): amount, order, password, phase" in ran.out
    assert "Phase sent (values hidden): hint, token" in ran.out
    assert "coin-park-1" in ran.out
    assert "in all 64 sat of https://mint.example" in ran.out
    assert "TransientError: the mint is away" in ran.out
    assert "by post" not in ran.out
    assert_silent_about_secrets(ran)


def test_show_as_json_has_no_values_either(db: str) -> None:
    ran = cli("show", "pay", "done-1", "--db", db, "--json")
    shown = ran.json
    assert shown["state_fields"] == ["amount", "order", "password", "phase"]
    assert shown["phase_fields"] == ["hint", "token"]
    assert shown["result_fields"] == ["order", "preimage"]
    assert shown["coins"] == []
    assert [entry["event"] for entry in shown["history"]] == ["start", "next", "done"]
    assert shown["history"][1]["notes"] == ["sent it"]
    assert shown["kind_paused"] is False
    assert "state" not in shown
    assert_silent_about_secrets(ran)
    parked = cli("show", "pay", "park-1", "--db", db, "--json").json
    assert parked["coins"] == [
        {
            "id": "coin-park-1",
            "account": "https://mint.example",
            "unit": "sat",
            "amount": 64,
            "state": "reserved",
            "holder": {"kind": "pay", "id": "park-1"},
        }
    ]


def test_show_with_the_app_decodes_and_masks(db: str) -> None:
    ran = cli("show", "pay", "done-1", "--db", db, "--json", "--app", f"{KIT}:app")
    assert ran.json["state"]["phase"] == {"tag": "sent", "token": "**********", "hint": "by post"}
    assert ran.json["state"]["amount"] == 64
    assert ran.json["result"] == {"order": "done-1", "preimage": "**********"}
    assert ran.json["undecoded"] is None
    told = cli("show", "pay", "done-1", "--db", db, "--app", f"{KIT}:app")
    assert '"hint": "by post"' in told.out
    assert_silent_about_secrets(ran, told)


def test_show_with_code_that_cannot_read_it_says_so(db: str) -> None:
    ran = cli("show", "pay", "park-1", "--db", db, "--json", "--app", f"{KIT}:foreign")
    assert ran.status == 0
    assert ran.json["state"] is None
    assert "cannot read" in ran.json["undecoded"]
    result = cli("show", "pay", "done-1", "--db", db, "--json", "--app", f"{KIT}:foreign")
    assert result.json["undecoded"]
    assert_silent_about_secrets(ran, result)


def test_history_tells_every_write(db: str) -> None:
    ran = cli("history", "pay", "park-1", "--db", db, columns=120)
    assert [line.split()[0] for line in ran.out.splitlines()] == ["VER", "0", "1", "2"]
    as_json = cli("history", "pay", "park-1", "--db", db, "--json").json
    assert [(entry["version"], entry["event"]) for entry in as_json["history"]] == [
        (0, "start"),
        (1, "next"),
        (2, "retry"),
    ]
    assert set(as_json["history"][0]) == {"version", "at", "event", "status", "phase", "attempts", "error", "notes"}


def test_show_ends_with_the_last_ten_of_a_long_history(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", "park-1")
    key = ActionKey("pay", "park-1")

    async def many(operator: object) -> None:
        for _ in range(6):
            await operator.pause(key)  # type: ignore[attr-defined]
            await operator.resume(key)  # type: ignore[attr-defined]

    operate(path, many)
    shown = row(path, "park-1")
    assert [entry["version"] for entry in shown["history"]] == list(range(5, 15))
    assert len(cli("history", "pay", "park-1", "--db", str(path), "--json").json["history"]) == 15


@pytest.mark.parametrize("command", ["show", "history", "cancel", "pause", "resume", "retry", "stop"])
def test_an_unknown_id_is_one_line_and_status_2(db: str, command: str) -> None:
    before = contents(Path(db).parent)
    assert_one_line(cli(command, "pay", "nobody", "--db", db), "there is no action pay nobody")
    ran = cli(command, "pay", "nobody", "--db", db, "--json")
    assert ran.error == {
        "error": {"type": "UnknownActionError", "message": "there is no action pay nobody"},
        "exit_status": 2,
    }
    assert contents(Path(db).parent) == before


@pytest.mark.parametrize("id", ["\udcff", "\x00", "\x1b[2Jx", "‮x", "a" * 100_000])
def test_an_id_that_is_no_id_is_one_line_too(db: str, id: str) -> None:
    ran = cli("show", "pay", id, "--db", db)
    assert ran.status == 2
    assert len(ran.err.splitlines()) == 1
    assert "\x1b" not in ran.err
    assert "unexpected" not in ran.err


@pytest.mark.parametrize(
    "form", ["{}", "sqlite:///{}", "sqlite:///{}?exclusive=true", "sqlite:///{}?durability=normal"]
)
def test_a_database_is_a_path_or_a_url(db: str, form: str) -> None:
    assert len(cli("list", "--json", "--db", form.format(db)).json["actions"]) == len(ORDERS)


def test_a_path_may_hold_any_character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path / "shop.db", "done-1")
    odd = tmp_path / "100% öd? #1.db"
    made.rename(odd)
    monkeypatch.chdir(tmp_path)
    for db in (str(odd), odd.name, f"./{odd.name}"):
        assert len(cli("list", "--json", "--db", db).json["actions"]) == 1


def test_reading_leaves_the_folder_as_it_was(db: str) -> None:
    before = contents(Path(db).parent)
    for command in (["list"], ["show", "pay", "done-1"], ["history", "pay", "done-1"], ["doctor"]):
        cli(*command, "--db", db)
    assert contents(Path(db).parent) == before


def test_an_app_may_have_the_file_open(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"

    async def use() -> None:
        async with open_store(url_of(path) + "?exclusive=true") as store:
            await pay(store, "park-1")
            ran = await asyncio.to_thread(cli, "list", "--db", str(path), "--json")
            assert [action["status"] for action in ran.json["actions"]] == ["parked"]
            refused = await asyncio.to_thread(cli, "pause", "pay", "park-1", "--db", str(path), "--json")
            assert refused.status == 2
            assert refused.error["error"]["type"] == "StoreInUseError"

    asyncio.run(use())


def test_pruned_actions_are_shown_with_what_is_left(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", "done-1")
    pruned = cli("prune", "--older-than", "0s", "--db", str(path), "--json")
    assert pruned.json == {"pruned": 1, "older_than_s": 0}
    told = cli("show", "pay", "done-1", "--db", str(path))
    assert "Its state is not kept any more." in told.out
    assert row(path, "done-1")["result_fields"] == ["order", "preimage"]
    assert cli("history", "pay", "done-1", "--db", str(path)).out == "no history is kept any more\n"
    decoded = cli("show", "pay", "done-1", "--db", str(path), "--json", "--app", f"{KIT}:app").json
    assert (decoded["state"], decoded["result"]["order"]) == (None, "done-1")
    assert json.loads(cli("prune", "--older-than", "1d", "--db", str(path), "--json").out)["pruned"] == 0
