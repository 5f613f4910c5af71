"""Numbered migrations: in order, each whole or not at all, with a copy of the file before the first."""

from __future__ import annotations

import sqlite3
import stat
from asyncio import gather
from pathlib import Path

import pytest

from tests.actions import Rig, done, key_of
from tests.unit.storage.sqlite_kit import key, new, plain, rows_of
from wallet_actions.coins import CoinState
from wallet_actions.errors import SchemaError
from wallet_actions.outcome import Outcome
from wallet_actions_storage import SQLiteStore
from wallet_actions_storage.sqlite.schema import APPLICATION_ID, Migration, load_migrations, migrate

FIRST = "CREATE TABLE t (a INTEGER) STRICT;\nINSERT INTO t VALUES (1);\n"
SECOND = "-- a comment; with a semicolon\nALTER TABLE t ADD COLUMN b TEXT;\nUPDATE t SET b = 'x;y';\n"
TRIGGER = """
CREATE TRIGGER g AFTER INSERT ON t BEGIN
    UPDATE t SET b = 'one; two';
    DELETE FROM t WHERE a = 7;
END;
INSERT INTO t VALUES (7, 'z');
"""


def make(folder: Path, *scripts: str) -> list[Migration]:
    folder.mkdir(exist_ok=True)
    for number, script in enumerate(scripts, start=1):
        (folder / f"{number:04}_step.sql").write_text(script)
    return list(load_migrations(folder))


def run(path: Path, migrations: list[Migration]) -> None:
    with plain(path) as connection:
        migrate(connection, path, migrations)


def version_of(path: Path) -> int:
    return int(rows_of(path, "PRAGMA user_version")[0][0])


def test_a_new_file_runs_all(tmp_path: Path) -> None:
    """L-B4: and no copy is made of nothing."""
    path = tmp_path / "w.db"
    run(path, make(tmp_path / "m", FIRST, SECOND, TRIGGER))
    assert rows_of(path, "SELECT a, b FROM t") == [(1, "one; two")]
    assert (version_of(path), rows_of(path, "PRAGMA application_id")) == (3, [(APPLICATION_ID,)])
    assert not list(tmp_path.glob("*backup*"))


def test_running_again_changes_nothing(tmp_path: Path) -> None:
    """L-B4: re-runnable."""
    path = tmp_path / "w.db"
    migrations = make(tmp_path / "m", FIRST, SECOND)
    run(path, migrations)
    before = path.read_bytes()
    run(path, migrations)
    assert path.read_bytes() == before


def test_an_existing_file_is_copied_first(tmp_path: Path) -> None:
    """L-B4: the copy is the database before, for its owner alone, and is named after its version."""
    path = tmp_path / "w.db"
    run(path, make(tmp_path / "m", FIRST))
    run(path, make(tmp_path / "m", FIRST, SECOND))
    copy = tmp_path / "w.db.backup-v1"
    assert rows_of(path, "SELECT * FROM t") == [(1, "x;y")]
    assert (rows_of(copy, "SELECT * FROM t"), version_of(copy)) == ([(1,)], 1)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.glob("*backup*")] == ["w.db.backup-v1"]


def test_a_migration_that_fails_leaves_the_version_before(tmp_path: Path) -> None:
    """L-B4: those before it stand, it can be run again once mended, and the copy is made anew."""
    path = tmp_path / "w.db"
    run(path, make(tmp_path / "m", FIRST))
    bad = "ALTER TABLE t ADD COLUMN c TEXT;\nINSERT INTO no_such_table VALUES (1);\n"
    with pytest.raises(SchemaError, match="0003_step"):
        run(path, make(tmp_path / "m", FIRST, SECOND, bad))
    assert (version_of(path), rows_of(path, "SELECT * FROM t")) == (2, [(1, "x;y")])
    run(path, make(tmp_path / "m", FIRST, SECOND, TRIGGER))
    assert version_of(path) == 3
    assert version_of(tmp_path / "w.db.backup-v2") == 2


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """L-B4: also by what is found once it is open; both versions are named."""
    path = tmp_path / "w.db"
    run(path, make(tmp_path / "m", FIRST, SECOND))
    with pytest.raises(SchemaError, match="version 2"):
        run(path, make(tmp_path / "other", FIRST))


def test_a_file_that_became_anothers_is_refused(tmp_path: Path) -> None:
    """What is found once the file is open counts, not what its header said before."""
    path = tmp_path / "w.db"
    with plain(path) as connection:
        connection.execute("CREATE TABLE orders (id)")
    with pytest.raises(SchemaError, match="another program"):
        run(path, make(tmp_path / "m", FIRST))
    assert rows_of(path, "SELECT name FROM sqlite_schema") == [("orders",)]


def test_the_numbers_have_no_gap(tmp_path: Path) -> None:
    migrations = tmp_path / "m"
    make(migrations, FIRST)
    (migrations / "0003_late.sql").write_text(SECOND)
    with pytest.raises(SchemaError):
        load_migrations(migrations)


def test_ours_are_numbered_and_strict() -> None:
    """Each table of ours has our prefix, so that it is in the way of none of the app's."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, Path("w.db"), load_migrations())
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    connection.close()
    assert all(name.startswith("wa_") for (name,) in tables)


@pytest.mark.anyio
async def test_a_migrated_store_has_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L-B4: opening is what migrates, in the middle of a log."""
    path = tmp_path / "w.db"
    async with SQLiteStore(path) as store:
        await store.create(new("a"))
    newest = len(load_migrations())
    more = [*load_migrations(), Migration(newest + 1, "9999_more.sql", "CREATE TABLE wa_more (a INTEGER) STRICT;")]
    monkeypatch.setattr("wallet_actions_storage.sqlite.database.load_migrations", lambda: more)
    async with SQLiteStore(path) as store:
        assert await store.load(key("a")) is not None
        assert rows_of(path, "SELECT name FROM sqlite_schema WHERE name = 'wa_more'") == [("wa_more",)]
    with pytest.raises(SchemaError, match=f"version {newest}, and this code needs {newest + 1}"):
        await SQLiteStore(tmp_path / f"w.db.backup-v{newest}", read_only=True).__aenter__()


@pytest.mark.anyio
@pytest.mark.parametrize("shared", [False, True])
async def test_a_file_of_version_1_goes_on(tmp_path: Path, shared: bool) -> None:
    """L-U1: what the code before version 2 wrote, in every status, is there as it was, and is driven to its end."""
    path = tmp_path / "w.db"
    with plain(path) as connection:
        connection.executescript((Path(__file__).parents[2] / "corpus" / "sqlite-v1.sql").read_text())
    before = rows_of(path, "SELECT row, kind, id, version, status, state, result, wake_at FROM wa_actions ORDER BY row")
    assert {status for *_, status, _, _, _ in before} == {"running", "parked", "stuck", "paused", "done", "failed"}
    rig = Rig(done, store=SQLiteStore(path, shared=shared))
    async with rig:
        rows = await rig.store.list_actions()
        assert [(row.row, *row.key, row.version, row.status.value, row.state, row.result) for row in rows] == [
            row[:7] for row in before
        ]
        assert {(row.tenant, row.owner) for row in rows} == {("", None)}
        assert (await rig.coin("c1")).holder == key_of("parked")
        for row in rows:
            if not row.status.is_terminal and row.id != "paused":
                result = await rig.executor.drive(row.key)
                assert result.outcome is Outcome.DONE
                story = await rig.story(row.key)
                assert story[0] == "start"
                assert story[-1] == "done"
        assert (await rig.coin("c1")).state is CoinState.SPENDABLE
        assert (await rig.store.counters(), len(await rig.store.facts())) == ({"k": 7}, 1)
        assert await rig.store.paused_kinds() == {"chore"}
    assert version_of(tmp_path / "w.db.backup-v1") == 1


@pytest.mark.anyio
async def test_many_open_a_new_file_at_once(tmp_path: Path) -> None:
    """L-B4: one of them makes it, all succeed."""
    stores = [SQLiteStore(tmp_path / "w.db") for _ in range(6)]
    await gather(*(store.__aenter__() for store in stores))
    try:
        answers = await gather(*(store.create(new("a")) for store in stores))
        assert sum(answer.is_new for answer in answers) == 1
    finally:
        await gather(*(store.__aexit__() for store in stores))
