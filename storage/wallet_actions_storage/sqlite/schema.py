"""Whose file it is, and bringing it to the present schema."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from wallet_actions.errors import SchemaError, StoreUnavailableError
from wallet_actions_storage.sqlite.failures import code_of, unavailable

APPLICATION_ID = 0x57414354
"""In the file's header: a database of this library ("WACT")."""

OLDEST_LIBRARY = (3, 37, 0)
"""The first SQLite with STRICT tables."""


class Migration(NamedTuple):
    """One step of the schema.

    Attributes:
        version: the schema's version once it has run; the first is 1.
        name: the file's name.
    """

    version: int
    name: str
    sql: str


def load_migrations(folder: Traversable | None = None) -> Sequence[Migration]:
    """Read the numbered SQL files of a folder, ours by default.

    Raises:
        SchemaError: the numbers are not 1, 2, 3, …
    """
    folder = folder or files("wallet_actions_storage.sqlite.migrations")
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    migrations = [Migration(int(entry.name.partition("_")[0]), entry.name, entry.read_text("utf-8")) for entry in found]
    if [migration.version for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise SchemaError("the migrations are not numbered 0001, 0002, …")
    return migrations


def check_library(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Refuse a SQLite that cannot do what the schema needs.

    Raises:
        SchemaError: it is too old.
    """
    if version < OLDEST_LIBRARY:
        found, needed = (".".join(map(str, numbers)) for numbers in (version, OLDEST_LIBRARY))
        raise SchemaError(f"this Python comes with SQLite {found}, and the store needs {needed} or later")


def check_header(path: Path, newest: int) -> None:
    """Look at a file without writing anything, not even beside it; one that is missing or empty is fine.

    Through SQLite and not by reading it ourselves: closing a file drops every lock that the process has on it.

    Raises:
        SchemaError: not a database, not ours, newer than this code, or damaged.
        StoreUnavailableError: it cannot be read.
    """
    if not path.parent.is_dir():
        raise StoreUnavailableError(f"the folder of {path} does not exist")
    if path.is_dir():
        raise StoreUnavailableError(f"{path} is a folder")
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            application_id = _pragma(connection, "application_id")
            version = _pragma(connection, "user_version")
    except sqlite3.DatabaseError as error:
        if code_of(error) == sqlite3.SQLITE_NOTADB:
            raise SchemaError(f"{path} is not a database") from None
        if code_of(error) != sqlite3.SQLITE_CORRUPT:
            raise unavailable(error, str(path)) from error
        # It may have been in the making when its process died, or its log be on the way into it: somebody else moves
        # the log's pages at this moment, or was killed as it did. SQLite can go on from both; this look cannot.
        if any(path.with_name(f"{path.name}-{beside}").exists() for beside in ("journal", "wal")):
            return
        raise SchemaError(f"{path} is damaged: keep a copy of it, and restore a backup") from None
    check_identity(path, application_id, version, newest)


def check_identity(path: Path, application_id: int, version: int, newest: int) -> None:
    """Refuse a file that is not ours, or newer than this code.

    Raises:
        SchemaError: see above.
    """
    if application_id != APPLICATION_ID:
        raise SchemaError(f"{path} is a database of another program; give the wallet a file of its own")
    if version > newest:
        raise SchemaError(
            f"{path} has schema version {version}, and this code knows versions up to {newest}: use a newer release"
        )


def create_file(path: Path) -> None:
    """Make an empty file for this user alone, unless there is one. SQLite gives its own files beside it the same mode.

    Raises:
        StoreUnavailableError: it cannot be made.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreUnavailableError(f"{path} cannot be made: {error.strerror}") from error


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    """Bring a database to the present schema, each step in a transaction of its own.

    Raises:
        SchemaError: not ours, newer than this code, or a step failed and was rolled back.
        sqlite3.Error: the database failed.
    """
    newest = len(migrations)
    version = _pragma(connection, "user_version")
    if version == newest:
        check_identity(path, _pragma(connection, "application_id"), version, newest)
        return
    if version > 0:
        check_identity(path, _pragma(connection, "application_id"), version, newest)
        back_up(connection, path, version)
    for migration in migrations:
        _apply(connection, path, migration, newest)


def back_up(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """Copy the database, for this user alone, to `<file>.backup-v<version>`; a copy that is there is replaced.

    Raises:
        StoreUnavailableError: the copy cannot be made.
    """
    target = path.with_name(f"{path.name}.backup-v{version}")
    unfinished = target.with_name(f"{target.name}.part")
    try:
        unfinished.unlink(missing_ok=True)
        create_file(unfinished)
        with closing(sqlite3.connect(f"{unfinished.as_uri()}?mode=rw", uri=True)) as copy:
            connection.backup(copy)
        _flush(unfinished)
        unfinished.replace(target)
        _flush(target.parent)
    except OSError as error:
        raise StoreUnavailableError(f"{target} cannot be made: {error.strerror}") from error
    return target


def schema_version(connection: sqlite3.Connection) -> int:
    """The version of the schema in the file."""
    return _pragma(connection, "user_version")


def _apply(connection: sqlite3.Connection, path: Path, migration: Migration, newest: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Only now is it certain: another process may have been here since.
        version = _pragma(connection, "user_version")
        if version > newest or (version == 0 and _has_tables(connection)):
            check_identity(path, _pragma(connection, "application_id"), version, newest)
        if version < migration.version:
            for statement in _statements(migration.sql):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {migration.version}")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.OperationalError) and code_of(error) != sqlite3.SQLITE_ERROR:
            raise
        raise SchemaError(f"{path} stays as it was: its migration {migration.name} failed ({error})") from error
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, whole, also where one holds semicolons."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _flush(path: Path) -> None:
    """Have the disk keep what was written; a folder cannot be opened everywhere, and is then left."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
