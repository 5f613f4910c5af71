"""What `doctor` finds, and what it says to do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ops.kit import ORDERS, assert_silent_about_secrets, cli, contents, make, row
from wallet_actions.ops import terminal

LONG_AGO = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)


def edit(path: Path, sql: str, *parameters: Any) -> None:
    """Do to a database what no engine does."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql, parameters)
        connection.commit()


def micros(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def findings(path: Path, status: int) -> dict[str, Any]:
    """What is found, by topic; each topic once."""
    ran = cli("doctor", "--db", str(path), "--json")
    assert (ran.status, ran.err) == (status, "")
    assert_silent_about_secrets(ran)
    assert ran.json["ok"] is (status == 0)
    found = {finding["topic"]: finding for finding in ran.json["findings"]}
    assert len(found) == len(ran.json["findings"])
    for finding in found.values():
        assert set(finding) == {"ok", "topic", "finding", "advice", "items"}
        assert finding["ok"] or finding["advice"]
    return found


def troubles(path: Path) -> set[str]:
    return {topic for topic, finding in findings(path, 1).items() if not finding["ok"]}


def test_all_is_well(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", "done-1", "park-1")
    found = findings(path, 0)
    assert {"integrity", "library", "schema", "actions", "versions", "wakes", "orphans", "clock"} <= set(found)
    assert found["versions"]["finding"].endswith("pay 1")
    ran = cli("doctor", "--db", str(path))
    assert ran.out.splitlines()[-1] == "All is well."
    as_json = cli("doctor", "--db", str(path), "--json").json
    assert as_json["counts"] == [
        {"kind": "pay", "status": "done", "count": 1},
        {"kind": "pay", "status": "parked", "count": 1},
    ]
    assert as_json["balances"] == [{"account": "https://mint.example", "unit": "sat", "spendable": 64, "reserved": 64}]
    assert (as_json["paused_kinds"], as_json["released"]) == ([], [])


def test_an_empty_database_is_well(tmp_path: Path) -> None:
    assert findings(make(tmp_path / "shop.db"), 0)["clock"]["finding"] == "nothing has been written yet"


def test_what_waits_for_a_person_is_named_with_its_age(tmp_path: Path) -> None:
    """L-D9, L-D12, L-U2."""
    path = make(tmp_path / "shop.db", *ORDERS)
    cli("pause", "pay", "park-1", "--db", str(path))
    cli("drive", "pay", "wait-1", "--db", str(path), "--app", "tests.unit.ops.kit:foreign")
    edit(path, "UPDATE wa_actions SET updated_at = ? WHERE id = 'stuck-1'", micros(LONG_AGO))
    found = findings(path, 1)
    assert troubles(path) == {"stuck", "quarantined", "paused", "configuration"}
    for topic, order in {
        "stuck": "stuck-1",
        "quarantined": "wait-1",
        "paused": "park-1",
        "configuration": "config-1",
    }.items():
        assert [item["id"] for item in found[topic]["items"]] == [order]
    stuck = found["stuck"]["items"][0]
    assert stuck["since"] == LONG_AGO.isoformat()
    assert stuck["for_s"] > 86400 * 365
    assert stuck["error"] == {"type": "InvariantError", "message": "the books do not add up"}
    told = cli("doctor", "--db", str(path))
    assert told.status == 1
    assert "InvariantError: the books do not add up" in told.out
    assert "→ See `show`; mend the cause, then `retry`" in told.out
    assert_silent_about_secrets(told)


def test_many_are_counted_and_some_are_named(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", *(f"stuck-{number}" for number in range(25)))
    stuck = findings(path, 1)["stuck"]
    assert stuck["finding"].startswith("25 actions stuck")
    assert len(stuck["items"]) == 20


def test_a_paused_kind_counts_only_where_it_keeps_something_waiting(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", "park-1")
    cli("pause", "--kind", "other", "--force", "--db", str(path))
    assert findings(path, 0)["paused"]["finding"] == "the kind other is paused; 0 actions of it not finished"
    cli("resume", "--kind", "other", "--force", "--db", str(path))
    cli("pause", "--kind", "pay", "--db", str(path))
    assert findings(path, 1)["paused"]["advice"].endswith("wallet-actions resume --kind pay")


def test_what_is_due_and_not_driven_is_told(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", "park-1", "wait-1")
    edit(path, "UPDATE wa_actions SET wake_at = ? WHERE id = 'park-1'", micros(LONG_AGO))
    overdue = findings(path, 1)["wakes"]
    assert overdue["finding"] == "1 action parked, and due for more than 5 min"
    assert overdue["items"][0]["since"] == LONG_AGO.isoformat()
    assert "recover --app" in overdue["advice"]
    edit(path, "UPDATE wa_actions SET status = 'running', wake_at = NULL, updated_at = ?", micros(LONG_AGO))
    assert troubles(path) == {"running"}


def test_leases_that_ran_out_and_cancels_are_told(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", "park-1")
    cli("cancel", "pay", "park-1", "--db", str(path))
    edit(path, "UPDATE wa_actions SET owner = 'worker 7', lease_until = ?", micros(LONG_AGO))
    found = findings(path, 1)
    assert troubles(path) == {"leases"}
    assert found["leases"]["items"][0]["owner"] == "worker 7"
    assert found["cancel"]["ok"] is True
    assert found["cancel"]["items"][0]["id"] == "park-1"


def test_a_clock_that_was_set_back_is_told(tmp_path: Path) -> None:
    """L-B5."""
    path = make(tmp_path / "shop.db", "park-1")
    edit(path, "UPDATE wa_clock SET at = ?", micros(datetime.now(UTC) + timedelta(days=3)))
    assert "3 d in the future" in findings(path, 1)["clock"]["finding"]


@pytest.fixture
def orphaned(tmp_path: Path) -> Path:
    """A database where a coin is held by an action that was never started."""
    path = make(tmp_path / "shop.db", "park-1", "wait-1")
    edit(path, "UPDATE wa_coins SET holder_id = 'gone' WHERE id = 'coin-wait-1'")
    return path


def test_orphaned_coins_are_told_and_stay(orphaned: Path) -> None:
    """L-C10."""
    orphans = findings(orphaned, 1)["orphans"]
    assert "1 coin reserved by actions that have ended or do not exist: 64 sat" in orphans["finding"]
    assert orphans["items"][0]["holder"] == {"kind": "pay", "id": "gone"}
    told = cli("doctor", "--db", str(orphaned))
    assert "coin-wait-1: 64 sat of https://mint.example" in told.out
    assert_silent_about_secrets(told)


def test_orphaned_coins_are_freed_only_at_a_persons_word(orphaned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """G5."""
    before = contents(orphaned.parent)
    refused = cli("doctor", "--release-orphans", "--db", str(orphaned))
    assert refused.status == 2
    assert "--yes" in refused.err
    assert contents(orphaned.parent) == before
    monkeypatch.setattr(terminal, "is_interactive", lambda: True)
    monkeypatch.setattr(terminal, "read_answer", lambda: "\n")
    assert cli("doctor", "--release-orphans", "--db", str(orphaned)).status == 2
    assert contents(orphaned.parent) == before
    monkeypatch.setattr(terminal, "read_answer", lambda: "y\n")
    ran = cli("doctor", "--release-orphans", "--db", str(orphaned), "--json")
    assert (ran.status, ran.json["released"], ran.json["ok"]) == (0, ["coin-wait-1"], True)
    assert row(orphaned, "park-1")["coins"] != []
    assert cli("doctor", "--release-orphans", "--yes", "--db", str(orphaned)).out.startswith("no coins to free\n")


def test_a_damaged_file_is_reported_and_ends_with_2(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", *(f"park-{number}" for number in range(60)))
    with closing(sqlite3.connect(path)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'wa_coins'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    before = contents(tmp_path)
    ran = cli("doctor", "--db", str(path), "--json")
    assert ran.status == 2
    assert ran.error["error"]["type"] == "DamagedDatabaseError"
    assert any(finding["topic"] == "integrity" and not finding["ok"] for finding in ran.json["findings"])
    told = cli("doctor", "--db", str(path))
    assert (told.status, len(told.err.splitlines())) == (2, 1)
    assert contents(tmp_path) == before


def test_a_row_that_makes_the_code_raise_does_not_hide_the_rest(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", "park-1")
    edit(path, "UPDATE wa_actions SET updated_at = ?", 2**62)
    ran = cli("doctor", "--db", str(path), "--json")
    assert ran.status == 2
    found = {finding["topic"] for finding in ran.json["findings"]}
    assert {"integrity", "orphans", "clock"} <= found
