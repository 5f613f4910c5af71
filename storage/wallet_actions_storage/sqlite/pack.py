# ruff: noqa: S608 - what is put together are constants of this package; values are always parameters
"""Many actions' next checkpoints, written by a few statements of many rows each.

Most writes are two rows, an entry of the history and the action's own, of an action that was left in peace. So one
statement checks such actions and appends the entries, for as many as fit; another updates them.

The second is an insert that always finds its row, and updates it: an UPDATE … FROM, as a trigger, would first copy all
that it is given. It is safe because the first has found each row, under its version, in the same transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum
from functools import cache
from typing import Any, Protocol, TypeVar

from wallet_actions_storage.sqlite.many import parts, values
from wallet_actions_storage.sqlite.session import Session


class Move(Enum):
    """What becomes of an action; its value is which columns are given beside `_ALWAYS`, and which emptied."""

    GO_ON = ((), ("result",))
    PARK = (("status", "wake_at"), ("result", "owner", "lease_until"))
    END = (("status", "result", "ended_at", "prunable_at"), ("wake_at", "owner", "lease_until"))


class Packable(Protocol):
    """What is asked of a write, which carries neither an error nor notes. What goes on has to run already."""

    @property
    def row(self) -> int:
        """The action's."""

    @property
    def holder(self) -> tuple[str, str]:
        """The action's id and kind, as a coin names it."""

    @property
    def move(self) -> Move:
        """What becomes of it."""

    @property
    def status(self) -> str:
        """Its new one."""

    def entry(self, row: int | None) -> Sequence[Any]:
        """What `enter_statement` takes of it; `row` is its own in the history, None has it chosen."""

    def written(self, row: int | None) -> Sequence[Any]:
        """What `update_statement` takes of it; `row` is its own in the history, None where none is kept."""


PackableT = TypeVar("PackableT", bound=Packable)

_MOVES = tuple(Move)
_ALWAYS = ("version", "schema_version", "state", "phase", "attempts", "faults", "updated_at")
_WANTED = {"kind": "''", "id": "''", "cancel": "''", "created_at": "0", "status": "''"}
"""What an insert would want and an update leaves alone, and something in its place."""

_LAST = "SELECT coalesce(max(row), 0) FROM wa_history"
_ENTERED = "SELECT row FROM wa_history WHERE row > ?"


@cache
def enter_statement(size: int) -> str:
    """Append to the history for each action that still stands as its write expects.

    For each: the action's row, kind and id, the expected version, the time, event, new status, phase, attempts, and the
    new row.
    """
    return (
        "INSERT INTO wa_history (row, action, previous, version, at, event, status, phase, attempts)"
        " SELECT new.column10, a.row, a.last_history, a.version + 1, new.column5, new.column6, new.column7,"
        f" new.column8, new.column9 {_standing(size)}"
    )


@cache
def check_statement(size: int) -> str:
    """The rows of all actions that still stand as their writes expect; takes what `enter_statement` takes."""
    return f"SELECT a.row {_standing(size)}"


def _standing(size: int) -> str:
    return (
        f"FROM (VALUES {values(10, size)}) AS new CROSS JOIN wa_actions AS a"
        " ON a.row = new.column1 AND a.kind = new.column2 AND a.id = new.column3 AND a.version = new.column4"
        " AND a.ended_at IS NULL AND a.cancel <> 'requested' AND a.updated_at <= new.column5"
        " AND (new.column7 <> 'running' OR a.status = 'running' AND a.wake_at IS NULL)"
    )


@cache
def update_statement(move: Move, size: int, *, has_history: bool) -> str:
    """Update actions that were found to stand.

    For each: the action's row, what `_ALWAYS` names, what the move does, and its row of the history if there is one.
    """
    given, emptied = move.value
    columns = (*_ALWAYS, *given, "last_history") if has_history else (*_ALWAYS, *given)
    changes = [f"{column} = excluded.{column}" for column in columns]
    changes += [f"{column} = NULL" for column in ("error_type", "error_message", *emptied)]
    fillers = {name: text for name, text in _WANTED.items() if name not in given}
    return (
        f"INSERT INTO wa_actions (row, {', '.join((*columns, *fillers))})"
        f" VALUES {values(1 + len(columns), size, [*fillers.values()])}"
        f" ON CONFLICT (row) DO UPDATE SET {', '.join(changes)}"
    )


@cache
def release_statement(size: int) -> str:
    """Free every coin that these actions still hold, found by index. For each: its id and kind."""
    return (
        "UPDATE wa_coins SET state = 'spendable', holder_kind = NULL, holder_id = NULL WHERE id IN ("
        f" SELECT held.id FROM (VALUES {values(2, size)}) AS ended CROSS JOIN wa_coins AS held"
        " ON held.holder_id = ended.column1 AND held.holder_kind = ended.column2 AND held.state = 'reserved')"
    )


_COUNT_ENDS = (
    "INSERT INTO wa_ended (kind, status, count) VALUES (?, ?, ?)"
    " ON CONFLICT (kind, status) DO UPDATE SET count = count + excluded.count"
)


def write(session: Session, writes: Sequence[PackableT], *, has_history: bool) -> list[PackableT]:
    """Write, in the open transaction, what finds its action as it expects it.

    Of several writes of one action it takes the last: the rows are updated when all have been checked.

    Returns:
        What it wrote; of the others nothing is written.

    Raises:
        sqlite3.Error: the database failed; what was written has to be undone.
    """
    chosen = list({one.row: one for one in writes}.values()) if len(writes) > 1 else writes
    standing = _enter(session, chosen) if has_history else _check(session, chosen)
    for move in _MOVES:
        moved = [pair for pair in standing if pair[1].move is move]
        for part in parts(moved):
            parameters: list[Any] = []
            for row, one in part:
                parameters += one.written(row)
            session.execute(update_statement(move, len(part), has_history=has_history), parameters)
        if moved and move is Move.END:
            _end(session, [one for _, one in moved])
    return [one for _, one in standing]


def _enter(session: Session, writes: Sequence[PackableT]) -> list[tuple[int | None, PackableT]]:
    """Append to the history what stands; each with its row there."""
    execute = session.execute
    if len(writes) == 1:  # it can do without a look at the history's end
        (lone,) = writes
        count = execute(enter_statement(1), lone.entry(None)).rowcount
        return [(session.cursor.lastrowid, lone)] if count == 1 else []
    last = execute(_LAST).fetchone()[0]
    entered: list[tuple[int | None, PackableT]] = []
    for part in parts(list(enumerate(writes, last + 1))):
        parameters: list[Any] = []
        for row, one in part:
            parameters += one.entry(row)
        if execute(enter_statement(len(part)), parameters).rowcount == len(part):
            entered += part
        else:
            found = {row for (row,) in execute(_ENTERED, (part[0][0] - 1,))}
            entered += [(row, one) for row, one in part if row in found]
    return entered


def _check(session: Session, writes: Sequence[PackableT]) -> list[tuple[int | None, PackableT]]:
    """Find what stands, where no history is kept."""
    standing: list[tuple[int | None, PackableT]] = []
    for part in parts(writes):
        parameters: list[Any] = []
        for one in part:
            parameters += one.entry(None)
        found = {row for (row,) in session.execute(check_statement(len(part)), parameters)}
        standing += [(None, one) for one in part if one.row in found]
    return standing


def _end(session: Session, ended: Sequence[Packable]) -> None:
    for part in parts(ended):
        session.execute(release_statement(len(part)), [value for one in part for value in one.holder])
    for (kind, status), count in Counter((one.holder[1], one.status) for one in ended).items():
        session.execute(_COUNT_ENDS, (kind, status, count))
