# ruff: noqa: S608 - what is put together are constants of this package; values are always parameters
"""The programs that start an action and write its next checkpoint."""

from __future__ import annotations

from asyncio import Future
from datetime import datetime
from typing import Any

from wallet_actions.checkpoint import CancelState, Checkpoint, Status, at_row
from wallet_actions.coins import ActionKey
from wallet_actions.errors import UsageError, VersionConflictError
from wallet_actions.store import EMPTY_DELTA, Created, NewAction, Saved, Write
from wallet_actions_storage.sqlite.delta import apply_delta, release_all
from wallet_actions_storage.sqlite.pack import Move
from wallet_actions_storage.sqlite.program import Program, Query
from wallet_actions_storage.sqlite.rows import (
    ACTION_COLUMNS,
    Row,
    to_action,
    to_micros,
    to_micros_or_none,
    to_notes,
)
from wallet_actions_storage.sqlite.unit import Unit

_FIND = f"SELECT {ACTION_COLUMNS} FROM wa_actions WHERE kind = ? AND id = ?"
_NEXT_ROW = "SELECT coalesce(max(row), 0) + 1 FROM wa_actions"
_INSERT = (
    f"INSERT INTO wa_actions ({ACTION_COLUMNS}, ended_at, prunable_at)"
    f" VALUES ({', '.join('?' * (ACTION_COLUMNS.count(',') + 3))})"
)
# The latest time of any write, and up to which row of the history that is; what came after tells its own time.
LATEST = (
    "SELECT max(at, coalesce((SELECT max(h.at) FROM wa_history h WHERE h.row > wa_clock.history), at)) FROM wa_clock"
)
_STAMP = (
    "INSERT INTO wa_clock (one, at, history) VALUES (1, ?, (SELECT coalesce(max(row), 0) FROM wa_history))"
    f" ON CONFLICT (one) DO UPDATE SET at = max(excluded.at, ({LATEST})), history = excluded.history"
)

_STANDING = "SELECT row, version, ended_at, status, wake_at, cancel, updated_at, last_history FROM wa_actions"
_STANDING_AT = f"{_STANDING} WHERE row = ? AND kind = ? AND id = ?"
_STANDING_OF = f"{_STANDING} WHERE kind = ? AND id = ?"
_APPEND = (
    "INSERT INTO wa_history"
    " (action, previous, version, at, event, status, phase, attempts, error_type, error_message, notes)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_LINK = "UPDATE wa_actions SET last_history = last_insert_rowid() WHERE row = ?"
_COUNT_END = (
    "INSERT INTO wa_ended (kind, status, count) VALUES (?, ?, 1)"
    " ON CONFLICT (kind, status) DO UPDATE SET count = count + 1"
)
_SET_CANCEL = "UPDATE wa_actions SET cancel = ? WHERE row = ?"
_REQUEST_CANCEL = "UPDATE wa_actions SET cancel = ?, wake_at = ? WHERE row = ?"


def _update(*columns: str, **constants: str) -> tuple[str, str]:
    """An update of these columns, without and with the link to the newest row of the history."""
    plain = ", ".join(
        [f"{column} = ?" for column in columns] + [f"{name} = {text}" for name, text in constants.items()]
    )
    return (
        f"UPDATE wa_actions SET {plain} WHERE row = ?",
        f"UPDATE wa_actions SET {plain}, last_history = last_insert_rowid() WHERE row = ?",
    )


_WRITTEN = (
    "version",
    "schema_version",
    "state",
    "phase",
    "attempts",
    "faults",
    "error_type",
    "error_message",
    "result",
    "updated_at",
)
_GO_ON = _update(*_WRITTEN)
_MOVE = _update(*_WRITTEN, "status", "wake_at")
_LEAVE = _update(*_WRITTEN, "status", "wake_at", owner="NULL", lease_until="NULL")
_END = _update(*_WRITTEN, "status", "wake_at", "ended_at", "prunable_at", owner="NULL", lease_until="NULL")
_RUNNING = (Status.RUNNING.value, None)
_MOVES = {Status.PARKED: Move.PARK, Status.DONE: Move.END, Status.FAILED: Move.END, Status.CANCELLED: Move.END}


class WriteUnit(Unit):
    """The next write of one action; what can be worked out beforehand is, so that the transaction is short.

    It is plain where all of it is the checkpoint and its history: it then fails before anything is written.

    Raises:
        UsageError: the version does not follow the expected one, or a time carries no zone.
    """

    __slots__ = ("_has_history", "_wake_at", "_write", "is_packable", "move", "row")

    def __init__(self, answer: Future[Saved], write: Write, has_history: bool) -> None:
        checkpoint = write.checkpoint
        if checkpoint.version != write.expected_version + 1:
            raise UsageError("a checkpoint's version is the one before, plus one")
        is_plain = write.delta is EMPTY_DELTA or write.delta == EMPTY_DELTA
        super().__init__(answer, is_plain=is_plain, at=to_micros(checkpoint.updated_at), is_told=has_history)
        self._write = write
        self._has_history = has_history
        self.row = checkpoint.row
        status, wake_at = checkpoint.status, checkpoint.wake_at
        self._wake_at = None if wake_at is None else to_micros(wake_at)
        move = Move.GO_ON if status is Status.RUNNING else _MOVES.get(status)
        self.move = move or Move.GO_ON
        self.is_packable = (
            move is not None
            and (wake_at is None or move is Move.PARK)
            and is_plain
            and checkpoint.row > 0
            and checkpoint.error is None
            and (checkpoint.result is None or move is Move.END)
            and write.cancel is None
            and not write.notes
        )

    @property
    def holder(self) -> tuple[str, str]:
        """The action, as a coin names it."""
        return self._write.checkpoint.id, self._write.checkpoint.kind

    @property
    def status(self) -> str:
        """The action's new one, as it is stored."""
        return self._write.checkpoint.status.value

    def entry(self, row: int | None) -> tuple[Any, ...]:
        """See `pack.enter_statement`."""
        write = self._write
        one = write.checkpoint
        status = one.status.value
        head = (one.row, one.kind, one.id, write.expected_version, self.at)
        return (*head, write.event, status, one.phase, one.attempts, row)

    def written(self, row: int | None) -> tuple[Any, ...]:
        """See `pack.update_statement`."""
        one, at = self._write.checkpoint, self.at
        state: tuple[Any, ...]
        state = (one.row, one.version, one.schema_version, one.state, one.phase, one.attempts, one.faults, at)
        if self.move is Move.PARK:
            state += (one.status.value, self._wake_at)
        elif self.move is Move.END:
            state += (one.status.value, one.result, at, at)
        return state if row is None else (*state, row)

    def note_written(self) -> None:
        """Take note that a pack wrote it."""
        self.result = Saved(self._write.checkpoint.version, False)

    def start(self) -> Program[Saved]:
        """Write it.

        Raises:
            VersionConflictError: nothing was written.
            ReservationError, InvariantError: see `Delta`; what was written has to be undone.
        """
        write, has_history = self._write, self._has_history
        one = write.checkpoint
        error, position = one.error, (one.status.value, self._wake_at)
        reason = (None, None) if error is None else (error.type, error.message)
        # Before the delta: a late driver's coins are no longer its own, and that is no fault of the action.
        row, version, ended_at, status, wake_at, cancel, updated_at, last = yield from self._stand()
        if version != write.expected_version or ended_at is not None:
            raise self._conflict()
        if not self.is_plain:
            yield from apply_delta(one.key, write.delta)
        at = max(self.at, updated_at)
        written = (
            version + 1,
            one.schema_version,
            one.state,
            one.phase,
            one.attempts,
            one.faults,
            *reason,
            one.result,
            at,
        )
        if has_history:
            entry = (write.event, one.status.value, one.phase, one.attempts, *reason, to_notes(write.notes))
            yield (_APPEND, (row, last, version + 1, at, *entry))
        if one.status.is_terminal:
            yield release_all(one.key)
            yield (_END[has_history], (*written, *position, at, at, row))
            yield (_COUNT_END, (one.kind, one.status.value))
        elif position == _RUNNING == (status, wake_at):
            # The columns that do not change are not named, so that no index entry is moved.
            yield (_GO_ON[has_history], (*written, row))
        else:
            move = _MOVE if one.status is Status.RUNNING else _LEAVE
            yield (move[has_history], (*written, *position, row))
        if write.cancel is not None:
            cancel = write.cancel.value
            yield (_SET_CANCEL, (cancel, row))
        if write.delta.start:
            yield from create_all(write.delta.start, has_history)
        return Saved(version + 1, cancel == CancelState.REQUESTED.value)

    def _stand(self) -> Program[Row]:
        checkpoint = self._write.checkpoint
        if checkpoint.row:
            reply = yield (_STANDING_AT, (checkpoint.row, checkpoint.kind, checkpoint.id))
            if reply.rows:
                return reply.rows[0]
        reply = yield (_STANDING_OF, (checkpoint.kind, checkpoint.id))
        if not reply.rows:
            raise self._conflict()
        return reply.rows[0]

    def _conflict(self) -> VersionConflictError:
        write = self._write
        return VersionConflictError(write.checkpoint.kind, write.checkpoint.id, write.expected_version)


class StartUnit(Unit):
    """The start of one action.

    It is plain where nothing is written beside it, and packable where the action has not ended besides.

    Raises:
        UsageError: a time carries no zone.
    """

    __slots__ = ("_has_history", "_new", "_new_at", "is_packable")

    def __init__(self, answer: Future[Created], new: NewAction, has_history: bool) -> None:
        checkpoint = new.checkpoint
        is_plain = new.delta is EMPTY_DELTA or new.delta == EMPTY_DELTA
        super().__init__(answer, is_plain=is_plain, is_told=has_history)
        self._new = new
        self._new_at = to_micros(checkpoint.updated_at)
        self._has_history = has_history
        self.is_packable = is_plain and checkpoint.version == 0 and not checkpoint.status.is_terminal

    def inserted(self, row: int, history: int | None) -> tuple[Any, ...]:
        """See `starts.insert_statement`."""
        return (*_columns_of(self._new.checkpoint, row), history)

    def first_entry(self, row: int, history: int) -> tuple[Any, ...]:
        """See `starts.append_statement`."""
        one = self._new.checkpoint
        reason = (None, None) if one.error is None else (one.error.type, one.error.message)
        head = (history, row, 0, self._new_at, "start", one.status.value, one.phase, one.attempts)
        return (*head, *reason, to_notes(self._new.notes))

    def note_started(self, row: int) -> None:
        """Take note that it was started together with others."""
        self.result = Created(at_row(self._new.checkpoint, row), is_new=True)
        self.at = self._new_at

    def start(self) -> Program[Created]:
        """Write it; see `create`, which notes the time where it writes."""
        self.at = None
        return create(self._new, self._has_history)


def create(new: NewAction, has_history: bool) -> Program[Created]:
    """Start an action, unless it exists.

    Raises:
        ReservationError, InvariantError: see `Delta`; what was written has to be undone.
        UsageError: it does not start at version 0, or a time carries no zone; as above.
    """
    (first,) = yield from create_all((new,), has_history, limit=1)
    return first


def create_all(children: tuple[NewAction, ...], has_history: bool, *, limit: int = 0) -> Program[list[Created]]:
    """Start actions, each followed by its children, however deep, unless they exist.

    Returns:
        What became of the first `limit`; the others are not told.
    """
    told: list[Created] = []
    waiting = list(reversed(children))
    while waiting:
        new = waiting.pop()
        checkpoint = new.checkpoint
        reply = yield (_FIND, checkpoint.key)
        if reply.rows:
            created = Created(to_action(reply.rows[0]), is_new=False)
        else:
            if checkpoint.version != 0:
                raise UsageError("an action starts at version 0")
            if new.delta is not EMPTY_DELTA:
                yield from apply_delta(checkpoint.key, new.delta)
            created = Created((yield from _insert(new, has_history)), is_new=True)
            waiting.extend(reversed(new.delta.start))
        if len(told) < limit:
            told.append(created)
    return told


def _insert(new: NewAction, has_history: bool) -> Program[Checkpoint]:
    checkpoint = new.checkpoint
    reply = yield (_NEXT_ROW, ())
    row = reply.rows[0][0]
    error = checkpoint.error
    reason = (None, None) if error is None else (error.type, error.message)
    at = to_micros(checkpoint.updated_at)
    status, phase, attempts = checkpoint.status, checkpoint.phase, checkpoint.attempts
    ended_at = at if status.is_terminal else None
    values = (*_columns_of(checkpoint, row), ended_at, ended_at)
    yield (_INSERT, values)
    if has_history:
        notes = to_notes(new.notes)
        yield (_APPEND, (row, None, 0, at, "start", status.value, phase, attempts, *reason, notes))
        yield (_LINK, (row,))
    if ended_at is not None:
        yield (_COUNT_END, (checkpoint.kind, status.value))
    yield stamp(at)
    return at_row(checkpoint, row)


def _columns_of(checkpoint: Checkpoint, row: int) -> tuple[Any, ...]:
    """A new action's `ACTION_COLUMNS`."""
    error = checkpoint.error
    return (
        row,
        checkpoint.kind,
        checkpoint.id,
        0,
        checkpoint.schema_version,
        checkpoint.state,
        checkpoint.phase,
        checkpoint.status.value,
        to_micros(checkpoint.created_at),
        to_micros(checkpoint.updated_at),
        to_micros_or_none(checkpoint.wake_at),
        checkpoint.attempts,
        checkpoint.faults,
        *((None, None) if error is None else (error.type, error.message)),
        checkpoint.cancel.value,
        checkpoint.owner,
        to_micros_or_none(checkpoint.lease_until),
        checkpoint.traceparent,
        checkpoint.result,
        checkpoint.tenant,
    )


def stamp(at: int) -> Query:
    """Note the time of a write, in microseconds, and that of all that were not noted before."""
    return (_STAMP, (at,))


def request_cancel(key: ActionKey, at: datetime) -> Program[bool]:
    """Note a request to cancel; what is parked becomes due. The time of the driver's last write stays."""
    reply = yield (_STANDING_OF, key)
    if not reply.rows:
        return False
    row, _, ended_at, status, wake_at, cancel, *_ = reply.rows[0]
    if ended_at is not None:
        return False
    if cancel != CancelState.ACCEPTED.value:
        asked_at = to_micros(at)
        if status == Status.PARKED.value and (wake_at is None or asked_at < wake_at):
            wake_at = asked_at
        yield (_REQUEST_CANCEL, (CancelState.REQUESTED.value, wake_at, row))
        yield stamp(asked_at)
    return True
