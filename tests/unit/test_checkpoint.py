"""A checkpoint that is made by position is like any other, and keeps every field in its place."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.actions import job
from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord, Status, checkpoint_of
from wallet_actions.registry import Kind
from wallet_actions.step import Decision
from wallet_actions.successor import successor
from wallet_actions.transition import Park

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ROW = Checkpoint(
    kind="job",
    id="a",
    version=3,
    schema_version=1,
    state="{}",
    phase="open",
    status=Status.RUNNING,
    created_at=NOW,
    updated_at=NOW + timedelta(seconds=1),
    wake_at=NOW + timedelta(seconds=2),
    attempts=4,
    faults=5,
    error=ErrorRecord("Error", "no"),
    cancel=CancelState.REQUESTED,
    owner="one",
    lease_until=NOW + timedelta(seconds=3),
    traceparent="00-1-2-01",
    result="null",
    row=6,
)


def test_a_checkpoint_of_all_its_values_is_like_any_other() -> None:
    made = checkpoint_of(*(getattr(ROW, field.name) for field in fields(Checkpoint)))
    assert type(made) is Checkpoint
    assert made == ROW
    assert hash(made) == hash(ROW)
    assert repr(made) == repr(ROW)
    assert replace(made, version=9) == replace(ROW, version=9)
    assert copy.copy(made) == pickle.loads(pickle.dumps(made)) == ROW
    with pytest.raises(FrozenInstanceError):
        made.version = 9  # type: ignore[misc]


def test_it_takes_all_values_or_none() -> None:
    with pytest.raises(TypeError):
        checkpoint_of("job", "a", 3)


def test_the_next_row_keeps_what_the_step_does_not_change() -> None:
    """Each field by name, since the row is made by position."""
    action = job()
    kind = Kind(type(action))
    after = NOW + timedelta(hours=1)
    wait = timedelta(minutes=1)
    decision = Decision(Park(action, wake_after=wait, error=ValueError("x")), is_failure=True, is_fault=True)
    row, _ = successor(kind, ROW, decision, after)
    expected = replace(
        ROW,
        version=4,
        schema_version=kind.schema_version,
        state=kind.encode(action),
        phase=action.phase.tag,
        status=Status.PARKED,
        updated_at=after,
        wake_at=after + wait,
        attempts=5,
        faults=6,
        error=row.error,
    )
    assert row == expected
    assert row.error is not None
    assert row.error.type == "ValueError"
