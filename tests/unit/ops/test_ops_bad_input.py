"""Bad files and bad use, in processes of their own: one line, status 2, nothing written."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.ops.kit import assert_one_line, assert_silent_about_secrets, cli, contents, make, spawn

APP = ("--app", "tests.unit.ops.kit:app")
COMMANDS = (
    ("list",),
    ("show", "pay", "park-1"),
    ("show", "pay", "park-1", *APP),
    ("history", "pay", "park-1"),
    ("drive", "pay", "park-1", *APP),
    ("recover", *APP),
    ("cancel", "pay", "park-1"),
    ("stop", "pay", "park-1", "--yes"),
    ("pause", "pay", "park-1"),
    ("pause", "--kind", "pay"),
    ("resume", "--kind", "pay"),
    ("retry", "pay", "park-1"),
    ("doctor",),
    ("doctor", "--release-orphans", "--yes"),
    ("prune", "--older-than", "0s"),
)
PAGE = 4096


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sound") / "shop.db", *(f"park-{number}" for number in range(40)))


def not_a_database(path: Path, sound: Path) -> None:
    path.write_text("# Shopping\n\n- milk\n" * 500)


def another_programs(path: Path, sound: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE milk (litres INTEGER)")
        connection.execute("PRAGMA application_id = 77")
        connection.commit()


def newer(path: Path, sound: Path) -> None:
    shutil.copy(sound, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def empty(path: Path, sound: Path) -> None:
    path.touch()


def cut_off(path: Path, sound: Path) -> None:
    path.write_bytes(sound.read_bytes()[:1000])


def corrupt_tables(path: Path, sound: Path) -> None:
    """Header and schema are sound, and the first page of each table and index is garbage."""
    whole = bytearray(sound.read_bytes())
    with closing(sqlite3.connect(f"{sound.as_uri()}?mode=ro", uri=True)) as connection:
        for (page,) in connection.execute("SELECT rootpage FROM sqlite_schema WHERE rootpage > 0"):
            whole[PAGE * (page - 1) : PAGE * page] = b"\xa5" * PAGE
    path.write_bytes(whole)


def corrupt_schema(path: Path, sound: Path) -> None:
    """The header is sound, and every page behind the first is garbage: the schema takes more than one."""
    whole = sound.read_bytes()
    path.write_bytes(whole[:PAGE] + b"\xa5" * (len(whole) - PAGE))


SAID: dict[Callable[[Path, Path], None], str] = {
    not_a_database: "{path} is not a database",
    another_programs: "{path} is a database of another program; give the wallet a file of its own",
    newer: "{path} has schema version 999, and this code knows versions up to 2: use a newer release",
    empty: "{path} is empty, not a database of wallet-actions",
    cut_off: "{path} is damaged: keep a copy of it, and restore a backup",
    corrupt_tables: "the database {path} is damaged: stop, keep a copy of the file, and restore a backup",
    corrupt_schema: "the database {path} is damaged: stop, keep a copy of the file, and restore a backup",
}
"""What a person is told to do about each."""


@pytest.mark.parametrize("damage", SAID, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_file_that_is_no_sound_database_of_ours(
    tmp_path: Path, sound: Path, damage: Callable[[Path, Path], None], command: tuple[str, ...]
) -> None:
    path = tmp_path / "shop.db"
    damage(path, sound)
    before = contents(tmp_path)
    ran = cli(*command, "--db", str(path))
    said = SAID[damage].format(path=path)
    if (command, damage) == (("doctor",), corrupt_tables):  # it can look inside, and that is what it is for
        said = "the database is damaged; what doctor found is on the standard output"
    assert (ran.status, ran.err) == (2, f"wallet-actions: {said}\n")
    assert contents(tmp_path) == before
    assert_silent_about_secrets(ran)


@pytest.mark.parametrize("damage", [not_a_database, another_programs, newer, empty, corrupt_tables, corrupt_schema])
def test_the_same_from_outside(tmp_path: Path, sound: Path, damage: Callable[[Path, Path], None]) -> None:
    path = tmp_path / "shop.db"
    damage(path, sound)
    before = contents(tmp_path)
    assert_one_line(spawn("list", "--db", str(path)))
    ran = spawn("stop", "pay", "park-1", "--yes", "--db", str(path), "--json")
    assert (ran.status, ran.out, set(ran.error)) == (2, "", {"error", "exit_status"})
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_missing_file_is_never_made(tmp_path: Path, command: tuple[str, ...]) -> None:
    for db in (
        str(tmp_path / "none.db"),
        f"sqlite:///{tmp_path}/none.db",
        f"sqlite:///{tmp_path}/none.db?history=false",
    ):
        assert_one_line(cli(*command, "--db", db), "there is no database at", "none.db")
    assert_one_line(cli(*command, "--db", str(tmp_path / "no" / "folder.db")), "there is no database at")
    assert_one_line(cli(*command, "--db", str(tmp_path)), "is a directory")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_from_outside(tmp_path: Path) -> None:
    assert_one_line(spawn("list", "--db", "none.db", cwd=tmp_path), "there is no database at none.db")
    ran = spawn("doctor", "--db", "none.db", "--json", cwd=tmp_path)
    assert json.loads(ran.err) == {
        "error": {"type": "NoDatabaseError", "message": "there is no database at none.db"},
        "exit_status": 2,
    }
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for db in (str(tmp_path / "pipe"), "/dev/null"):
        assert_one_line(cli("list", "--db", db), "is no file")


@pytest.mark.parametrize(
    ("db", "part"),
    [
        ("nobody://here", "no store is installed for nobody://"),
        ("sqlite://two/slashes.db", "three slashes"),
        ("sqlite:///", "is a directory"),
        (":memory:", "there is no database at :memory:"),
        ("", "is a directory"),
    ],
)
def test_a_database_that_cannot_be_named(db: str, part: str) -> None:
    assert_one_line(cli("list", "--db", db), part)


def test_an_unknown_option_of_a_url_is_one_line(sound: Path) -> None:
    assert_one_line(cli("list", "--db", f"sqlite:///{sound}?colour=red"), "has no option colour")


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["--bogus"],
        ["list"],
        ["list", "--bogus", "--db", "x"],
        ["list", "--db"],
        ["list", "extra", "--db", "x"],
        ["list", "--status", "sleeping", "--db", "x"],
        ["list", "--limit", "0", "--db", "x"],
        ["list", "--limit", "many", "--db", "x"],
        ["list", "--after", "99999999999999999999999", "--db", "x"],
        ["show", "pay", "--db", "x"],
        ["prune", "--db", "x"],
        ["recover", "--db", "x"],
    ],
)
def test_bad_use_is_one_line(arguments: list[str]) -> None:
    assert_one_line(cli(*arguments), "--help)")
    ran = cli(arguments[0], "--json", *arguments[1:])
    assert ran.status == 2
    assert ran.error["error"]["type"] == "UsageError"


def test_without_a_command_the_help_is_shown() -> None:
    ran = cli()
    assert ran.status == 2
    assert "Usage: wallet-actions" in ran.out


def test_an_id_that_looks_like_an_option(sound: Path) -> None:
    ran = cli("show", "--db", str(sound), "--", "pay", "--json")
    assert_one_line(ran, "there is no action pay --json")
