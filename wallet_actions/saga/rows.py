"""What a saga keeps of its steps: a row for each, in the order of the plan, and the phases that hold the rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Self, TypeVar

from pydantic import AwareDatetime, Field, JsonValue, ValidationError

from wallet_actions.action import Phase
from wallet_actions.checkpoint import Checkpoint
from wallet_actions.coins import ActionKey
from wallet_actions.errors import CheckpointDecodeError, UnknownActionError, UsageError
from wallet_actions.saga.step import Record, Step
from wallet_actions.store import Store

ResultT = TypeVar("ResultT")


class RowState(StrEnum):
    """Where a step stands; see the picture in `wallet_actions.saga`."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"


BEGUN = frozenset({RowState.RUNNING, RowState.DONE, RowState.FAILED})
"""What a rollback has to undo: a step that was begun may have had its effect, whatever became of it."""


class Row(Record):
    """One step of a saga.

    Attributes:
        step: its registered name.
        result: what `execute` returned, as JSON. May be sensitive.
        memo: what the step wanted to find again at its next call, as JSON. May be sensitive.
        attempts: calls in a row that failed, of `execute` or, once it is undone, of `compensate`.
        faults: how many of those nobody had classified.
        started_at: when it was first to be executed, UTC; its deadline counts from here.
        done_at: when `execute` had returned.
        wake_at: when it is to be called again; None for at once.
        error: what it failed with last; once it is undone, what it had failed with, if it had.
    """

    step: str
    state: RowState = RowState.PENDING
    result: JsonValue = Field(default=None, repr=False)
    memo: JsonValue = Field(default=None, repr=False)
    attempts: int = 0
    faults: int = 0
    started_at: AwareDatetime | None = None
    done_at: AwareDatetime | None = None
    wake_at: AwareDatetime | None = None
    error: str = ""

    def to(self, **changes: Any) -> Self:
        """This row with other values, validated."""
        return type(self).model_validate({name: getattr(self, name) for name in type(self).model_fields} | changes)


Rows = tuple[Row, ...]


def replaced(rows: Iterable[Row], *changed: Row) -> Rows:
    """The rows, those of the same steps replaced."""
    by_step = {row.step: row for row in changed}
    return tuple(by_step.get(row.step, row) for row in rows)


class Forward(Phase):
    """Steps are done."""

    rows: Rows


class Backward(Phase):
    """What was begun is undone, the last one first.

    Attributes:
        reason: why, for the user.
    """

    rows: Rows
    reason: str


class Blocked(Phase):
    """All is undone that can be; what is left failed again and again, and is tried once at each drive."""

    rows: Rows
    reason: str


class SagaResult(Record):
    """What a saga ends with.

    Attributes:
        results: what each step returned, as JSON, by the step's name; of a reversal, of the steps that it has undone.
    """

    results: dict[str, JsonValue] = Field(default_factory=dict, repr=False)

    def of(self, step: type[Step[Any, Any, ResultT]]) -> ResultT:
        """What a step returned.

        Raises:
            UsageError: there is no such step in this saga.
            ConfigurationError: it was written by other code, and this code cannot read it.
        """
        for name in step.names():
            if name in self.results:
                return step.decode(self.results[name])
        raise UsageError(f"this saga has no step {step.name}")


def results_of(rows: Iterable[Row]) -> dict[str, JsonValue]:
    """The results of the steps that were done, by name, whether or not they are undone by now."""
    return {row.step: row.result for row in rows if row.done_at is not None}


def soonest(rows: Iterable[Row]) -> datetime | None:
    """When the next of these rows is due; None for at once."""
    times = [row.wake_at for row in rows]
    return min((time for time in times if time is not None), default=None) if None not in times else None


PHASES = frozenset({Forward.tag, Backward.tag, Blocked.tag})


def stored(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """A saga's state as plain JSON, without the code of its kind; None for what is no saga, or was pruned."""
    if checkpoint.phase not in PHASES or checkpoint.state is None:  # most of what is no saga is not even read
        return None
    fields = json.loads(checkpoint.state)
    is_saga = isinstance(fields, dict) and {"saga_id", "plan", "reverses", "phase"} <= fields.keys()
    return fields if is_saga and isinstance(fields["phase"], dict) else None


def rows_of(checkpoint: Checkpoint) -> Sequence[Row]:
    """The ledger of a saga that was read; see `ledger`.

    Raises:
        UsageError, CheckpointDecodeError: as `ledger`.
    """
    key = checkpoint.key
    if checkpoint.state is None:
        return ()
    fields = stored(checkpoint)
    if fields is None:
        raise UsageError(f"{key} is no saga")
    try:
        return tuple(Row.model_validate_json(json.dumps(row)) for row in fields["phase"]["rows"])
    except (KeyError, TypeError, ValidationError):
        raise CheckpointDecodeError(
            f"the ledger of {key} cannot be read by this code", kind=key.kind, id=key.id
        ) from None


async def ledger(store: Store, key: ActionKey) -> Sequence[Row]:
    """Read the ledger of a saga: a row for each step, in the order of its plan.

    Needs the database alone: also where a step, or the whole kind, is not registered here.

    Returns:
        Nothing once the details of an ended saga were pruned.
    Raises:
        UnknownActionError: there is no such action.
        UsageError: it is no saga.
        CheckpointDecodeError: it was written by other code, and this code cannot read it.
    """
    checkpoint = await store.load(key)
    if checkpoint is None:
        raise UnknownActionError(*key)
    return rows_of(checkpoint)
