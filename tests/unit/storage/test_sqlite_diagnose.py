"""What the SQLite store finds out about itself."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest

from tests.unit.storage.sqlite_kit import new, plain, step
from wallet_actions.store import Diagnosis
from wallet_actions_storage import SQLiteStore
from wallet_actions_storage.sqlite import diagnose as module
from wallet_actions_storage.sqlite.diagnose import has_wal_reset_bug
from wallet_actions_storage.sqlite.settings import Settings

pytestmark = pytest.mark.anyio


async def findings(path: Path) -> dict[str, Diagnosis]:
    async with SQLiteStore(path, read_only=True) as store:
        return {finding.topic: finding for finding in await store.diagnose()}


@pytest.mark.parametrize(
    ("version", "has_bug"),
    [
        ("3.37.0", True),
        ("3.40.1", True),
        ("3.44.5", True),
        ("3.44.6", False),
        ("3.45.1", True),
        ("3.50.6", True),
        ("3.50.7", False),
        ("3.51.0", True),
        ("3.51.2", True),
        ("3.51.3", False),
        ("3.52.0", False),
    ],
)
def test_libraries_with_the_wal_reset_bug(version: str, has_bug: bool) -> None:
    """Fixed in 3.51.3, and in two older branches."""
    assert has_wal_reset_bug(tuple(map(int, version.split(".")))) is has_bug


async def test_a_sound_store(tmp_path: Path) -> None:
    """The library's version is named."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        await store.create(new("a"))
        await store.save(step("a", 1))
    found = await findings(tmp_path / "w.db")
    assert {"integrity", "library", "schema", "file"} <= set(found)
    assert all(finding.is_ok for finding in found.values())
    assert sqlite3.sqlite_version in found["library"].finding


def test_the_bug_matters_where_nothing_keeps_writers_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the file to itself or with file locks a store is safe from it; otherwise a person has to act."""
    affected, fixed = (3, 51, 2), (3, 51, 3)

    def is_ok(version: tuple[int, ...], *, exclusive: bool) -> bool:
        return module._library(Settings(Path("w.db"), exclusive, "full", True, 5, False), version).is_ok

    assert is_ok(affected, exclusive=True)
    assert is_ok(affected, exclusive=False)
    monkeypatch.setattr(module, "HAS_FILE_LOCKS", False)
    assert not is_ok(affected, exclusive=False)
    assert is_ok(fixed, exclusive=False)


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such modes")
async def test_a_file_that_others_may_read(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    async with SQLiteStore(path):
        pass
    path.chmod(0o644)
    finding = (await findings(path))["file"]
    assert not finding.is_ok
    assert "0644" in finding.finding
    assert "chmod 600" in finding.advice


async def test_a_lost_history(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    async with SQLiteStore(path) as store:
        await store.create(new("a"))
        await store.create(new("b"))
    with plain(path) as connection:
        connection.execute("DELETE FROM wa_history WHERE action = 1")
    finding = (await findings(path))["history"]
    assert not finding.is_ok
    assert finding.finding.startswith("1 ")


async def test_another_journal(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    async with SQLiteStore(path):
        pass
    with plain(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    assert not (await findings(path))["schema"].is_ok


async def test_an_index_that_lacks_rows(tmp_path: Path) -> None:
    """What the quick check does not see, the whole one does."""
    path = tmp_path / "w.db"
    async with SQLiteStore(path) as store:
        for n in range(5):
            await store.create(new(f"{n}"))
    with plain(path) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'ended_at IS NULL', 'ended_at > 0')"
            " WHERE name = 'wa_actions_open'"
        )
    finding = (await findings(path))["integrity"]
    assert not finding.is_ok
    assert "damaged" in finding.finding
