"""`workers`: who is at work on a shared store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.ops.kit import assert_one_line, cli, contents, make, row, work
from wallet_actions.coins import ActionKey
from wallet_actions.fleet import Claim, Worker
from wallet_actions_storage import SQLiteStore

KIT = "tests.unit.ops.kit"
LEASE = timedelta(seconds=60)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A file with two workers: one drives an action, one has been gone for two hours."""
    path = make(tmp_path / "shop.db", "park-1", "stuck-1")

    async def share() -> None:
        async with SQLiteStore(path, shared=True) as store:
            now = await store.now()
            gone = now - timedelta(hours=2)
            await store.renew(Worker("0123456789abcdef", "box:7", gone, gone), at=gone, lease=LEASE)
            await store.renew(Worker("fedcba9876543210", "other\x1b[31m:8", now, now), at=now, lease=LEASE)
            keys = [ActionKey("pay", "park-1")]
            await store.claim(Claim("fedcba9876543210", now, LEASE, {"pay": 1}, keys=keys))

    work(share())
    return path


def test_workers_and_what_they_drive(db: Path) -> None:
    ran = cli("workers", "--db", str(db), columns=120)
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].split() == ["WORKER", "NAME", "STARTED", "SEEN", "DRIVES"]
    assert lines[1].startswith("0123456789abcdef  box:7")
    assert lines[1].split()[-4:] == ["2", "h", "ago", "0"]
    assert "fedcba9876543210  other\\x1b[31m:8" in lines[2]
    assert lines[2].split()[-1] == "1"
    assert lines[4].split() == ["KIND", "ID", "WORKER", "LEASE"]
    assert lines[5].split()[:6] == ["pay", "park-1", "fedcba9876543210", "ends", "in", lines[5].split()[5]]
    assert "\x1b" not in ran.out


def test_workers_as_json(db: Path) -> None:
    told = cli("workers", "--db", f"sqlite:///{db}?shared=true", "--json").json
    assert set(told) == {"workers", "at"}
    gone, there = told["workers"]
    assert gone | {"started_at": None, "seen_at": None} == {
        "incarnation": "0123456789abcdef",
        "name": "box:7",
        "started_at": None,
        "seen_at": None,
        "drives": [],
    }
    (drive,) = there["drives"]
    assert (drive["kind"], drive["id"]) == ("pay", "park-1")
    assert there["seen_at"] <= told["at"] <= drive["lease_until"]
    assert row(db, "park-1")["owner"] == there["incarnation"]


def test_a_lapsed_lease_is_told(db: Path) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("UPDATE wa_actions SET lease_until = lease_until - 120000000 WHERE owner IS NOT NULL")
    assert (
        "lapsed 60 s" in cli("workers", "--db", str(db), columns=120).out
        or "lapsed 1 min" in cli("workers", "--db", str(db), columns=120).out
    )


def test_nobody_is_at_work(tmp_path: Path) -> None:
    path = make(tmp_path / "shop.db", "park-1")
    before = contents(tmp_path)
    assert cli("workers", "--db", str(path)).out == "no workers\n"
    assert cli("workers", "--db", str(path), "--json").json["workers"] == []
    assert contents(tmp_path) == before
    assert cli("workers", "--db", "memory://").out == "no workers\n"


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (["--db", "nowhere.db"], "there is no database at"),
        (["--db", "oracle://x"], "no store is installed"),
        (["--db", "sqlite:///x.db?shared=perhaps"], "there is no database"),
        (["--db", "."], "is a directory"),
        ([], "Missing option '--db'"),
        (["--db", "x.db", "extra"], "unexpected extra argument"),
    ],
)
def test_what_is_no_fleet(given: list[str], part: str) -> None:
    assert_one_line(cli("workers", *given), part)


def test_a_command_that_drives_is_a_worker_that_leaves_nothing_behind(db: Path) -> None:
    """It claims, drives, gives back and is gone; what another worker holds it leaves alone."""
    url = f"sqlite:///{db}?shared=true"
    assert cli("drive", "pay", "stuck-1", "--db", url, "--app", f"{KIT}:app").status == 0
    assert row(db, "stuck-1")["status"] == "done"
    assert "busy" in cli("drive", "pay", "park-1", "--db", url, "--app", f"{KIT}:app").out
    told = cli("workers", "--db", str(db), "--json").json["workers"]
    assert len(told) == 2
