"""What the driver raises, in the port's terms."""

from __future__ import annotations

import sqlite3

from wallet_actions.errors import StatementError, StoreUnavailableError, UsageError, WalletActionError

_PRIMARY = 0xFF
_ADVICE = {
    sqlite3.SQLITE_BUSY: "is busy: another program is writing to it; try again",
    sqlite3.SQLITE_LOCKED: "is busy: another program is writing to it; try again",
    sqlite3.SQLITE_FULL: "does not fit on its disk any more: make room, then try again",
    sqlite3.SQLITE_READONLY: "cannot be written: make the file and its folder writable",
    sqlite3.SQLITE_IOERR: "could not be read or written: check the disk",
    sqlite3.SQLITE_CORRUPT: "is damaged: stop, keep a copy of the file, and restore a backup",
    sqlite3.SQLITE_NOTADB: "is damaged: stop, keep a copy of the file, and restore a backup",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: check that the file and its folder exist and are yours",
    sqlite3.SQLITE_PERM: "cannot be opened: check that the file and its folder exist and are yours",
    sqlite3.SQLITE_NOMEM: "ran out of memory",
    sqlite3.SQLITE_PROTOCOL: "is busy: another program is writing to it; try again",
    sqlite3.SQLITE_INTERRUPT: "was interrupted; try again",
}
_TEXTS_WITHOUT_VALUES = (
    "near ",
    "no such ",
    "table ",
    "incomplete input",
    "not authorized",
    "Incorrect number",
    "You can",
)
"""How messages begin that come from preparing a statement, when nothing is bound yet."""
_FAULTS_UNDER_A_STATEMENT = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM})


def code_of(error: BaseException) -> int | None:
    """The primary result code of SQLite, None where the error is not SQLite's."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & _PRIMARY


def is_busy(error: BaseException) -> bool:
    """Whether the whole unit may be tried again at once."""
    return code_of(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def is_fault(error: BaseException) -> bool:
    """Whether the database failed, and not the unit that was being written."""
    return code_of(error) in _ADVICE


def is_fault_under_statement(error: BaseException) -> bool:
    """Whether the database failed under a statement of the app."""
    return code_of(error) in _FAULTS_UNDER_A_STATEMENT


def unavailable(error: BaseException, name: str) -> StoreUnavailableError:
    """The port's error for a database that failed.

    Args:
        name: the file, as the user knows it.
    """
    advice = _ADVICE.get(code_of(error) or -1)
    if advice is not None:
        raised = StoreUnavailableError(f"the database {name} {advice}")
        raised.__cause__ = type(error)(str(error))
        return raised
    if isinstance(error, ValueError | sqlite3.ProgrammingError):
        return StoreUnavailableError(f"the database {name} is not open")
    reason = getattr(error, "sqlite_errorname", type(error).__name__)
    return StoreUnavailableError(f"the database {name} failed ({reason})")


def unit_error(error: Exception) -> WalletActionError:
    """The port's error for a unit that the database does not take, such as a text that is not Unicode."""
    if isinstance(error, WalletActionError):
        return error
    reason = getattr(error, "sqlite_errorname", type(error).__name__)
    return UsageError(f"the database does not take a value of this unit ({reason})")


def statement_error(error: BaseException) -> StatementError:
    """The port's error for a statement of the app, with a cause that tells what SQLite said but no value."""
    if not isinstance(error, sqlite3.Error | sqlite3.Warning):
        return StatementError(f"a statement of the app could not be run ({type(error).__name__})")
    text = str(error)
    if not isinstance(error, sqlite3.IntegrityError) and not text.startswith(_TEXTS_WITHOUT_VALUES):
        text = getattr(error, "sqlite_errorname", type(error).__name__)
    raised = StatementError(f"a statement of the app failed: {text}")
    raised.__cause__ = type(error)(text)
    return raised
