"""Looking a database over; writes nothing."""

from __future__ import annotations

import sqlite3
import stat
import sys
from collections.abc import Iterator

from wallet_actions.store import Diagnosis
from wallet_actions_storage.sqlite.guard import HAS_FILE_LOCKS
from wallet_actions_storage.sqlite.schema import schema_version
from wallet_actions_storage.sqlite.settings import Settings

_MOST_LINES = 10
_FIXED = (3, 51, 3)
_FIXED_IN_BRANCH = {(3, 44): 6, (3, 50): 7}
_RESTORE = "stop the app, keep a copy of the file, and restore a backup"


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether a SQLite can corrupt a database when two connections commit and checkpoint at the same moment.

    Source: sqlite.org/wal.html, "The WAL-Reset Bug": fixed in 3.51.3, and in 3.44.6 and 3.50.7.
    """
    if version >= _FIXED:
        return False
    patch = _FIXED_IN_BRANCH.get((version[0], version[1]))
    return patch is None or version[2] < patch


def diagnose(connection: sqlite3.Connection, settings: Settings) -> list[Diagnosis]:
    """See `Store.diagnose`."""
    integrity = _integrity(connection)
    return [
        integrity,
        _library(settings, sqlite3.sqlite_version_info),
        _schema(connection),
        *(_history(connection) if integrity.is_ok else ()),
        *_file(settings),
    ]


def _integrity(connection: sqlite3.Connection) -> Diagnosis:
    for pragma in ("quick_check", "integrity_check"):
        try:
            lines = [text for (text,) in connection.execute(f"PRAGMA {pragma}({_MOST_LINES})").fetchall()]
        except sqlite3.DatabaseError as error:
            lines = [str(error)]
        if lines != ["ok"]:
            return Diagnosis(False, "integrity", f"the file is damaged: {'; '.join(lines)}", _RESTORE)
    return Diagnosis(True, "integrity", "the file is sound")


def _library(settings: Settings, version: tuple[int, ...]) -> Diagnosis:
    name = "SQLite " + ".".join(map(str, version))
    if not has_wal_reset_bug(version):
        return Diagnosis(True, "library", f"{name}, without the WAL-reset bug")
    finding = f"{name} has the WAL-reset bug, which can corrupt a file that two connections write"
    advice = "use SQLite 3.51.3 or later; until then let no other program write to the file"
    if settings.is_exclusive:
        return Diagnosis(True, "library", f"{finding}; this store has the file to itself", advice)
    if HAS_FILE_LOCKS:
        return Diagnosis(True, "library", f"{finding}; stores keep out of each other's way by a lock", advice)
    return Diagnosis(False, "library", finding, "use SQLite 3.51.3 or later, or one process alone")


def _schema(connection: sqlite3.Connection) -> Diagnosis:
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        return Diagnosis(False, "schema", f"the journal mode is {mode}", "open it with the app once")
    return Diagnosis(True, "schema", f"schema version {schema_version(connection)}, write-ahead log")


def _history(connection: sqlite3.Connection) -> Iterator[Diagnosis]:
    count = connection.execute(
        "SELECT count(*) FROM wa_actions LEFT JOIN wa_history ON wa_history.row = last_history"
        " WHERE last_history IS NOT NULL AND wa_history.action IS NOT wa_actions.row"
    ).fetchone()[0]
    if count:
        yield Diagnosis(False, "history", f"{count} actions have lost their history", _RESTORE)


def _file(settings: Settings) -> Iterator[Diagnosis]:
    if sys.platform == "win32":
        return
    mode = stat.S_IMODE(settings.path.stat().st_mode)
    if mode & 0o077:
        yield Diagnosis(
            False,
            "file",
            f"others on this machine may read or write the file (mode {mode:04o})",
            f"chmod 600 {settings.path}*",
        )
    else:
        yield Diagnosis(True, "file", f"only its owner may read the file (mode {mode:04o})")
