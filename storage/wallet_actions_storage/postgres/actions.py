# ruff: noqa: S608 - what is put together are constants and a schema's name that was checked; values are parameters
"""What starts an action and writes its next checkpoint: as values for a batch, and as programs of one unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.errors import UsageError, VersionConflictError
from wallet_actions.store import EMPTY_DELTA, Created, NewAction, Saved, Write
from wallet_actions_storage.postgres.delta import apply_delta
from wallet_actions_storage.postgres.program import Note, Program, Query
from wallet_actions_storage.postgres.rows import ACTION_COLUMNS, to_action, to_micros, to_micros_or_none, to_notes
from wallet_actions_storage.postgres.sql import Sql

_FIND = f"SELECT {ACTION_COLUMNS} FROM {{schema}}.wa_actions WHERE kind = $1 AND id = $2"
_STAND = (
    "SELECT 1 FROM {schema}.wa_actions WHERE kind = $1 AND id = $2 AND version = $3 AND ended_at IS NULL FOR UPDATE"
)
_STANDING = "SELECT ended_at, status, wake_at, cancel FROM {schema}.wa_actions WHERE kind = $1 AND id = $2 FOR UPDATE"
_REQUEST_CANCEL = "UPDATE {schema}.wa_actions SET cancel = $3, wake_at = $4 WHERE kind = $1 AND id = $2"
_COUNT_ENDS = (
    "INSERT INTO {schema}.wa_ended AS e (kind, status, slot, count)"
    " SELECT kind, status, $4, count FROM unnest($1::text[], $2::text[], $3::bigint[]) AS given (kind, status, count)"
    " ORDER BY kind, status ON CONFLICT (kind, status, slot) DO UPDATE SET count = e.count + excluded.count"
)


class WriteValues:
    """The next write of one action; what can be worked out beforehand is, so that the transaction is short.

    Attributes:
        key: the action.
        is_plain: whether all of it is the checkpoint, its history, and what its end frees.
        is_end: whether the action ends.
        note: what the write has to be remembered for.
        values: one of each array of the statement.

    Raises:
        UsageError: the version does not follow the expected one, or a time carries no zone.
    """

    __slots__ = ("is_end", "is_plain", "key", "note", "values", "write")

    def __init__(self, write: Write) -> None:
        checkpoint = write.checkpoint
        if checkpoint.version != write.expected_version + 1:
            raise UsageError("a checkpoint's version is the one before, plus one")
        error = checkpoint.error
        reason = (None, None) if error is None else (error.type, error.message)
        self.write = write
        self.key = checkpoint.key
        self.is_plain = write.delta is EMPTY_DELTA or write.delta == EMPTY_DELTA
        self.is_end = checkpoint.status.is_terminal
        at, wake_at = to_micros(checkpoint.updated_at), to_micros_or_none(checkpoint.wake_at)
        is_due = checkpoint.status is Status.PARKED and wake_at is not None and wake_at <= at
        self.note = Note(at=at, wakes=is_due, ended=(checkpoint.kind, checkpoint.status.value) if self.is_end else None)
        self.values: tuple[Any, ...] = (
            checkpoint.kind,
            checkpoint.id,
            write.expected_version,
            checkpoint.schema_version,
            checkpoint.state,
            checkpoint.phase,
            checkpoint.status.value,
            wake_at,
            checkpoint.attempts,
            checkpoint.faults,
            *reason,
            checkpoint.result,
            at,
            None if write.cancel is None else write.cancel.value,
            write.event,
            to_notes(write.notes),
        )

    def saved(self, cancel: str) -> Saved:
        """The answer, where the write went through and this is the cancel state behind it."""
        return Saved(self.write.expected_version + 1, cancel == CancelState.REQUESTED.value)

    def conflict(self) -> VersionConflictError:
        """The answer, where it did not."""
        return VersionConflictError(*self.key, self.write.expected_version)


def columns(values: Iterable[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    """The values of several actions, as the arrays of a statement; `unnest` fills up with NULL what holds nothing."""
    lists = map(list, zip(*values, strict=True))
    return tuple([] if given.count(None) == len(given) else given for given in lists)


def write_one(given: WriteValues, sql: Sql, token: int) -> Program[Saved]:
    """Write one action's next checkpoint, with its delta.

    Raises:
        VersionConflictError: nothing was written.
        ReservationError, InvariantError: see `Delta`; what was written has to be undone.
    """
    delta = given.write.delta
    if not given.is_plain:
        # Before the delta: a late driver's coins are no longer its own, and that is no fault of the action.
        stands = yield (_STAND.format(schema=sql.schema), (*given.key, given.write.expected_version))
        if not stands:
            raise given.conflict()
        yield from apply_delta(sql, given.key, delta)
    if given.is_end:
        rows = yield (sql.end, (*columns((given.values,)), token))
    else:
        rows = yield (sql.go_on, (*columns((given.values,)), token))
    if not rows:
        raise given.conflict()
    yield given.note
    if delta.start:
        yield from create_all(delta.start, sql, token)
    return given.saved(rows[0][1])


def start_values(checkpoint: Checkpoint, notes: tuple[str, ...]) -> tuple[Any, ...]:
    """One of each array of the statement that starts actions."""
    error = checkpoint.error
    at = to_micros(checkpoint.updated_at)
    return (
        checkpoint.kind,
        checkpoint.id,
        checkpoint.schema_version,
        checkpoint.state,
        checkpoint.phase,
        checkpoint.status.value,
        to_micros(checkpoint.created_at),
        at,
        to_micros_or_none(checkpoint.wake_at),
        checkpoint.attempts,
        checkpoint.faults,
        None if error is None else error.type,
        None if error is None else error.message,
        checkpoint.cancel.value,
        checkpoint.owner,
        to_micros_or_none(checkpoint.lease_until),
        checkpoint.traceparent,
        checkpoint.result,
        checkpoint.tenant,
        at if checkpoint.status.is_terminal else None,
        to_notes(notes),
    )


def note_of(checkpoint: Checkpoint) -> Note:
    """What a start has to be remembered for."""
    wake_at = checkpoint.wake_at
    is_due = checkpoint.status is Status.PARKED and wake_at is not None and wake_at <= checkpoint.updated_at
    is_free = checkpoint.owner is None and (is_due or checkpoint.status is Status.RUNNING)
    ended = (checkpoint.kind, checkpoint.status.value) if checkpoint.status.is_terminal else None
    return Note(at=to_micros(checkpoint.updated_at), wakes=is_free, ended=ended)


def count_ends(ended: Mapping[tuple[str, str], int], sql: Sql, slot: int) -> Query:
    """Count the actions that ended in a transaction, just before it ends, as all who have the slot write these rows."""
    values = [(kind, status, count) for (kind, status), count in ended.items()]
    return _COUNT_ENDS.format(schema=sql.schema), (*columns(values), slot)


def find(key: ActionKey, sql: Sql) -> Program[Checkpoint | None]:
    """Read an action's row."""
    rows = yield (_FIND.format(schema=sql.schema), key)
    return to_action(rows[0]) if rows else None


def create(new: NewAction, sql: Sql, token: int) -> Program[Created]:
    """Start an action, unless it exists.

    Raises:
        ReservationError, InvariantError: see `Delta`; what was written has to be undone.
        UsageError: it does not start at version 0, or a time carries no zone; as above.
    """
    (first,) = yield from create_all((new,), sql, token, limit=1)
    return first


def create_all(children: tuple[NewAction, ...], sql: Sql, token: int, *, limit: int = 0) -> Program[list[Created]]:
    """Start actions, each followed by its children, however deep, unless they exist.

    Returns:
        What became of the first `limit`; the others are not told.
    """
    told: list[Created] = []
    waiting = list(reversed(children))
    while waiting:
        new = waiting.pop()
        checkpoint = new.checkpoint
        created: Created | None = None
        if checkpoint.version == 0:
            rows = yield (sql.start, (*columns((start_values(checkpoint, new.notes),)), token))
            if rows:
                created = Created(replace(checkpoint, row=rows[0][1]), is_new=True)
                yield note_of(checkpoint)
                if new.delta is not EMPTY_DELTA:
                    yield from apply_delta(sql, checkpoint.key, new.delta)
                waiting.extend(reversed(new.delta.start))
        if created is None:
            found = yield from find(checkpoint.key, sql)
            if found is None:
                raise UsageError("an action starts at version 0")
            created = Created(found, is_new=False)
        if len(told) < limit:
            told.append(created)
    return told


def request_cancel(key: ActionKey, at: datetime, sql: Sql) -> Program[bool]:
    """Note a request to cancel; what is parked becomes due. The time of the driver's last write stays."""
    rows = yield (_STANDING.format(schema=sql.schema), key)
    if not rows or rows[0][0] is not None:
        return False
    _, status, wake_at, cancel = rows[0]
    if cancel != CancelState.ACCEPTED.value:
        asked_at = to_micros(at)
        is_parked = status == Status.PARKED.value
        if is_parked and (wake_at is None or asked_at < wake_at):
            wake_at = asked_at
        yield (_REQUEST_CANCEL.format(schema=sql.schema), (*key, CancelState.REQUESTED.value, wake_at))
        yield Note(at=asked_at, wakes=is_parked)
    return True
