# ruff: noqa: S608 - what is put together are constants of this package; values are always parameters
"""Many actions started by a few statements of many rows each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol, TypeVar

from wallet_actions_storage.sqlite.many import parts, values
from wallet_actions_storage.sqlite.rows import ACTION_COLUMNS
from wallet_actions_storage.sqlite.session import Session


class Startable(Protocol):
    """What is asked of a start: of an action that has not ended, and with nothing written beside it."""

    def inserted(self, row: int, history: int | None) -> Sequence[Any]:
        """What `insert_statement` takes of it, at this row, with this row of the history."""

    def first_entry(self, row: int, history: int) -> Sequence[Any]:
        """What `append_statement` takes of it."""


StartableT = TypeVar("StartableT", bound=Startable)

_COLUMNS = f"{ACTION_COLUMNS}, last_history"
_ENTRY = "row, action, version, at, event, status, phase, attempts, error_type, error_message, notes"
_LAST_ROW = "SELECT coalesce(max(row), 0) FROM wa_actions"
_LAST_ENTRY = "SELECT coalesce(max(row), 0) FROM wa_history"
_INSERTED = "SELECT row FROM wa_actions WHERE row > ?"


@cache
def insert_statement(size: int) -> str:
    """Insert those of these actions that do not exist. For each: `_COLUMNS`."""
    width = _COLUMNS.count(",") + 1
    return f"INSERT INTO wa_actions ({_COLUMNS}) VALUES {values(width, size)} ON CONFLICT (kind, id) DO NOTHING"


@cache
def append_statement(size: int) -> str:
    """Append the first entries of new actions. For each: `_ENTRY`."""
    return f"INSERT INTO wa_history ({_ENTRY}) VALUES {values(_ENTRY.count(',') + 1, size)}"


def write(session: Session, starts: Sequence[StartableT], *, has_history: bool) -> list[tuple[int, StartableT]]:
    """Start, in the open transaction, those of these actions that do not exist.

    Returns:
        Those, each with its row; of the others nothing is written.

    Raises:
        sqlite3.Error: the database failed; what was written has to be undone.
    """
    execute = session.execute
    last = execute(_LAST_ROW).fetchone()[0]
    ahead = execute(_LAST_ENTRY).fetchone()[0] - last if has_history else 0
    started: list[tuple[int, StartableT]] = []
    for part in parts(list(enumerate(starts, last + 1))):
        parameters: list[Any] = []
        for row, one in part:
            parameters += one.inserted(row, row + ahead if has_history else None)
        if execute(insert_statement(len(part)), parameters).rowcount == len(part):
            started += part
        else:
            found = {row for (row,) in execute(_INSERTED, (part[0][0] - 1,))}
            started += [(row, one) for row, one in part if row in found]
    for part in parts(started) if has_history else ():
        parameters = []
        for row, one in part:
            parameters += one.first_entry(row, row + ahead)
        execute(append_statement(len(part)), parameters)
    return started
