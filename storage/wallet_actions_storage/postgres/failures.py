"""What the driver raises, in the port's terms.

PostgreSQL's errors carry parameters and rows in their details, and the driver's own carry the values that it could not
send; nothing of the kind goes on from here.
"""

from __future__ import annotations

import asyncpg

from wallet_actions.errors import StatementError, StoreUnavailableError, UsageError, WalletActionError

_LOST_STATES = frozenset(
    {
        "25006",  # read only: a primary that was demoted
        "25P03",  # idle in transaction for too long
        "25P04",  # a transaction that took too long
        "26000",  # a prepared statement that is not there: a pooler between us
        "40003",  # nobody knows whether it was committed
        "42P05",  # a prepared statement that is another's: the same
        "53300",  # too many connections
        "57P01",  # shut down
        "57P02",  # crashed
        "57P03",  # starting
        "57P05",  # idle for too long
    }
)
_NOT_KEPT = frozenset({"26000", "42P05"})
LOCKED = "55P03"
_RETRIED_STATES = frozenset({"40001", "40P01"})
_UNIT_CLASSES = ("22", "23", "54")
_NAMED_CLASSES = ("23", "42")
"""Whose messages name tables, constraints and words of the statement, but no value."""
_ADVICE = {
    "26": "does not keep prepared statements: behind PgBouncer, set prepared_statements=false",
    "28": "refuses the user or the password",
    "3D": "does not exist",
    "40": "is busy: others write the same rows; try again",
    "42": "does not let this user use the store's tables, or they were changed",
    "53": "has no room: no connection, memory or disk is left",
    "55": "is busy: others hold the rows that are to be written; try again",
    "57": "was stopped; try again",
    "58": "could not be read or written: check its disk",
    "XX": "is damaged: check the server's log",
}


class LostError(Exception):
    """The connection is gone or useless; what was under way may or may not have been committed."""


def state_of(error: BaseException) -> str:
    """The SQLSTATE; "" where the error is not the server's."""
    return getattr(error, "sqlstate", None) or ""


def is_lost(error: BaseException) -> bool:
    """Whether another connection is needed."""
    if isinstance(error, asyncpg.PostgresError):
        state = state_of(error)
        return state in _LOST_STATES or state.startswith("08") or isinstance(error, asyncpg.InvalidCachedStatementError)
    if isinstance(error, ValueError):
        return False  # a value that the driver cannot send
    return isinstance(error, LostError | OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError)


def is_not_kept(lost: LostError) -> bool:
    """Whether a prepared statement was missing, or was another's: nothing was run, and nothing will be."""
    return str(lost) in _NOT_KEPT


def is_retried(error: BaseException) -> bool:
    """Whether the whole transaction may be tried again at once: nothing of it stands."""
    return state_of(error) in _RETRIED_STATES


def is_locked_out(error: BaseException) -> bool:
    """Whether somebody else holds a row, for longer than is waited for."""
    return state_of(error) == LOCKED


def is_unit_fault(error: BaseException) -> bool:
    """Whether the unit is at fault that was being written, and not the database."""
    return state_of(error).startswith(_UNIT_CLASSES) or isinstance(error, ValueError | OverflowError)


def unavailable(error: BaseException, name: str) -> StoreUnavailableError:
    """The port's error for a database that failed.

    Args:
        name: the database, without a password.
    """
    if isinstance(error, StoreUnavailableError):
        return StoreUnavailableError(str(error))
    state = str(error) if str(error) in _NOT_KEPT else state_of(error)
    advice = _ADVICE["26"] if state in _NOT_KEPT else _ADVICE.get(state[:2])
    if advice is not None:
        return StoreUnavailableError(f"the database {name} {advice} ({state})")
    if state and not is_lost(error):
        return StoreUnavailableError(f"the database {name} failed ({state})")
    if isinstance(error, LostError):
        return StoreUnavailableError(f"the database {name} cannot be reached ({error}); try again")
    return StoreUnavailableError(f"the database {name} cannot be reached ({type(error).__name__})")


def unit_error(error: Exception) -> WalletActionError:
    """The port's error for a unit that the database does not take, such as a text that is not Unicode."""
    if isinstance(error, WalletActionError):
        return error
    return UsageError(f"the database does not take a value of this unit ({state_of(error) or type(error).__name__})")


def statement_error(error: BaseException) -> StatementError:
    """The port's error for a statement of the app, which tells what PostgreSQL said but no value."""
    state = state_of(error)
    is_told = isinstance(error, asyncpg.PostgresError) and state.startswith(_NAMED_CLASSES)
    text = f"{error.args[0]} ({state})" if is_told and error.args else state or type(error).__name__
    return StatementError(f"a statement of the app failed: {text}")
