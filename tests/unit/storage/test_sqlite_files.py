"""The files of a SQLite store: modes, pragmas, and refusing what is not ours."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.storage.sqlite_kit import coin, in_writer, key, new, plain, rows_of, step
from wallet_actions.errors import SchemaError, StoreUnavailableError, UsageError
from wallet_actions.store import Delta
from wallet_actions_storage import SQLiteStore
from wallet_actions_storage.sqlite import schema
from wallet_actions_storage.sqlite.schema import APPLICATION_ID, check_library

PAGE = 4096

pytestmark = pytest.mark.anyio


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A umask that leaves everything to the mode."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
@pytest.mark.parametrize("exclusive", [False, True])
async def test_every_file_is_its_owners_alone(tmp_path: Path, exclusive: bool) -> None:
    """Bearer money is in all of them, or could be."""
    async with SQLiteStore(tmp_path / "w.db", exclusive=exclusive) as store:
        await store.create(new("a"))
        modes = modes_in(tmp_path)
    assert {"w.db", "w.db-wal", "w.db-shm", "w.db.lock"} <= set(modes)
    assert set(modes.values()) == {0o600}


@pytest.mark.usefixtures("open_umask")
async def test_the_file_is_never_readable_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even between its making and its first use: SQLite finds a file with the mode set."""
    seen: list[int] = []
    migrate = schema.migrate

    def look(connection: sqlite3.Connection, path: Path, migrations: object) -> None:
        seen.append(stat.S_IMODE(path.stat().st_mode))
        assert path.stat().st_size == 0
        migrate(connection, path, migrations)  # type: ignore[arg-type]

    monkeypatch.setattr("wallet_actions_storage.sqlite.database.migrate", look)
    async with SQLiteStore(tmp_path / "w.db"):
        pass
    assert seen == [0o600]


async def test_the_writer_is_durable(tmp_path: Path) -> None:
    """WAL, FULL, and the limits that were measured; tables are STRICT."""
    async with SQLiteStore(tmp_path / "w.db") as store:

        def read(connection: sqlite3.Connection) -> dict[str, object]:
            names = ("journal_mode", "synchronous", "cache_size", "foreign_keys", "trusted_schema", "application_id")
            return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

        assert await in_writer(store, read) == {
            "journal_mode": "wal",
            "synchronous": 2,
            "cache_size": -16_000,
            "foreign_keys": 1,
            "trusted_schema": 0,
            "application_id": APPLICATION_ID,
        }
    tables = rows_of(
        tmp_path / "w.db", "SELECT name, strict FROM pragma_table_list WHERE name LIKE 'wa\\_%' ESCAPE '\\'"
    )
    assert len(tables) >= 7
    assert all(is_strict for _, is_strict in tables)


async def test_durability_can_be_relaxed(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "w.db", durability="normal") as store:
        assert await in_writer(store, lambda c: c.execute("PRAGMA synchronous").fetchone()[0]) == 1


async def test_the_reading_connection_only_reads(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "w.db") as store:
        assert store._database is not None
        with pytest.raises(StoreUnavailableError):
            await store._database.read(lambda connection: connection.execute("DELETE FROM wa_actions"))


async def test_closing_leaves_one_file_of_data(tmp_path: Path) -> None:
    """All is in the file when it is closed, so that it can be copied."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        await store.create(new("a", Delta(add=(coin("c"),))))
    assert not (tmp_path / "w.db-wal").exists()
    (tmp_path / "copy.db").write_bytes((tmp_path / "w.db").read_bytes())
    async with SQLiteStore(tmp_path / "copy.db") as store:
        assert await store.load(key("a")) is not None


async def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    """One line, and nothing is written, not even beside it."""
    with plain(tmp_path / "w.db") as connection:
        connection.execute("CREATE TABLE orders (id)")
    before = contents(tmp_path)
    for read_only in (False, True):
        with pytest.raises(SchemaError, match="another program"):
            await SQLiteStore(tmp_path / "w.db", read_only=read_only).__aenter__()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", [b"hello", b"x" * 5000, b"SQLite format 4\x00" + bytes(4080)])
async def test_what_is_not_a_database_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "w.db").write_bytes(text)
    with pytest.raises(SchemaError, match="not a database"):
        await SQLiteStore(tmp_path / "w.db").__aenter__()
    assert contents(tmp_path) == {"w.db": text}


async def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    """L-B4: both versions are named, and nothing is written."""
    async with SQLiteStore(tmp_path / "w.db"):
        pass
    with plain(tmp_path / "w.db") as connection:
        connection.execute("PRAGMA user_version = 77")
    before = contents(tmp_path)
    for read_only in (False, True):
        with pytest.raises(SchemaError, match=r"version 77.* up to 2"):
            await SQLiteStore(tmp_path / "w.db", read_only=read_only).__aenter__()
    assert contents(tmp_path) == before


async def test_a_truncated_database_is_refused(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "w.db") as store:
        for n in range(50):
            await store.create(new(f"{n}"))
    whole = (tmp_path / "w.db").read_bytes()
    for length in (60, 3000, 4096, len(whole) // 2):
        (tmp_path / "w.db").write_bytes(whole[:length])
        with pytest.raises((SchemaError, StoreUnavailableError)):
            await SQLiteStore(tmp_path / "w.db").__aenter__()
        assert (tmp_path / "w.db").read_bytes() == whole[:length]


async def test_a_damaged_page_is_told(tmp_path: Path) -> None:
    """By `diagnose`, and by an error of the port where it is read."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        for n in range(200):
            await store.create(new(f"{n}", state="x" * 500))
    damaged = bytearray((tmp_path / "w.db").read_bytes())
    damaged[4096 * 20 : 4096 * 24] = b"\xff" * 4096 * 4
    (tmp_path / "w.db").write_bytes(damaged)
    async with SQLiteStore(tmp_path / "w.db", read_only=True) as store:
        assert any(finding.topic == "integrity" and not finding.is_ok for finding in await store.diagnose())
        with pytest.raises(StoreUnavailableError, match="damaged"):
            await store.list_actions(limit=1000)


async def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="folder"):
        await SQLiteStore(tmp_path / "no" / "w.db").__aenter__()
    with pytest.raises(StoreUnavailableError, match="is a folder"):
        await SQLiteStore(tmp_path).__aenter__()


def test_an_old_library_is_refused() -> None:
    """STRICT tables need 3.37."""
    check_library((3, 37, 0))
    with pytest.raises(SchemaError, match=r"3\.36\.0.*3\.37\.0"):
        check_library((3, 36, 0))


async def test_reading_alone_writes_nothing(tmp_path: Path) -> None:
    """A closed file is as it was, and nothing is beside it that was not."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        await store.create(new("a", Delta(add=(coin("c"),), reserve=("c",))))
    before = contents(tmp_path)
    async with SQLiteStore(tmp_path / "w.db", read_only=True) as store:
        assert [row.id for row in await store.list_actions()] == ["a"]
        assert len(await store.coins()) == 1
        assert await store.diagnose()
        for write in (
            store.save(step("a", 1)),
            store.create(new("b")),
            store.allocate("n"),
            store.set_kind_paused("x", True),
        ):
            with pytest.raises(UsageError, match="read only"):
                await write
        with pytest.raises(UsageError, match="read only"):
            store.transaction()
    assert contents(tmp_path) == before


async def test_reading_alone_while_an_app_writes(tmp_path: Path) -> None:
    """Also where the app has the file to itself."""
    async with SQLiteStore(tmp_path / "w.db", exclusive=True) as app:
        await app.create(new("a"))
        async with SQLiteStore(tmp_path / "w.db", read_only=True) as reader:
            await app.create(new("b"))
            assert [row.id for row in await reader.list_actions()] == ["a", "b"]
        await app.create(new("c"))
    async with SQLiteStore(tmp_path / "w.db", read_only=True) as reader:
        assert len(await reader.list_actions()) == 3


async def test_reading_alone_what_a_crash_left(tmp_path: Path) -> None:
    """What is only in the log is read, and stays there."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        await store.create(new("a"))
        left = contents(tmp_path)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("w.db", "w.db-wal"):
        (crashed / name).write_bytes(left[name])
    async with SQLiteStore(crashed / "w.db", read_only=True) as store:
        assert [row.id for row in await store.list_actions()] == ["a"]
    assert (crashed / "w.db").read_bytes() == left["w.db"]
    assert (crashed / "w.db-wal").read_bytes() == left["w.db-wal"]


async def test_reading_alone_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="does not exist"):
        await SQLiteStore(tmp_path / "w.db", read_only=True).__aenter__()
    (tmp_path / "w.db").touch()
    with pytest.raises(SchemaError, match="empty"):
        await SQLiteStore(tmp_path / "w.db", read_only=True).__aenter__()
    assert contents(tmp_path) == {"w.db": b""}


async def test_reading_alone_does_not_migrate(tmp_path: Path) -> None:
    """L-B4: an older schema is brought up by the app, not by who looks."""
    async with SQLiteStore(tmp_path / "w.db"):
        pass
    with plain(tmp_path / "w.db") as connection:
        connection.execute("PRAGMA user_version = 0")
    with pytest.raises(SchemaError, match="open it with the app once"):
        await SQLiteStore(tmp_path / "w.db", read_only=True).__aenter__()


async def test_a_store_is_opened_once_at_a_time(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "w.db")
    async with store:
        with pytest.raises(UsageError, match="open already"):
            await store.__aenter__()
        await store.create(new("a"))
    async with store:
        assert await store.load(key("a")) is not None


@pytest.mark.parametrize("moved", [1, 3])
async def test_a_log_that_was_on_its_way_into_the_file_is_no_damage(tmp_path: Path, moved: int) -> None:
    """G3: the process was killed while it moved the log's pages, or another one moves them at this moment."""
    path, cut = tmp_path / "w.db", tmp_path / "cut" / "w.db"
    cut.parent.mkdir()
    async with SQLiteStore(path) as store:
        before = path.read_bytes()
        for number in range(60):
            await store.create(new(f"{number}"))
        wal = path.with_name("w.db-wal").read_bytes()
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        after = path.read_bytes()
    assert len(after) > len(before)
    # Page 1 tells of a larger file than there is: the others have not been moved yet.
    cut.write_bytes(after[: moved * PAGE] + before[moved * PAGE :])
    cut.with_name("w.db-wal").write_bytes(wal)
    async with SQLiteStore(cut) as store:
        assert len(await store.list_actions(limit=1000)) == 60
        assert [finding.is_ok for finding in await store.diagnose() if finding.topic == "integrity"] == [True]
