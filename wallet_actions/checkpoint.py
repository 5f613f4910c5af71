"""The row that an action is on disk, and what is told of its past.

A checkpoint carries a version that starts at 0 and grows by one at each write. A driver saves "version 7 becomes 8": if
somebody else was there first, the row is not at 7 any more and the write changes nothing. That is the whole of the
locking between processes. It needs no clock, survives any crash (there is nothing to unlock), and costs one comparison.
A lock in the process (see `locks`) only spares two tasks the work of racing each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any

from wallet_actions.coins import ActionKey


class Status(StrEnum):
    """Where an action stands, seen from outside."""

    RUNNING = "running"
    PARKED = "parked"
    STUCK = "stuck"
    PAUSED = "paused"
    QUARANTINED = "quarantined"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the action has ended. Terminal is final (L-S9)."""
        return self in _TERMINAL


_TERMINAL = frozenset({Status.DONE, Status.FAILED, Status.CANCELLED})


class CancelState(StrEnum):
    """What became of a request to cancel (L-D11)."""

    NONE = "none"
    REQUESTED = "requested"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An error as it is kept: its class's name and a message without secrets."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One action as it is stored.

    Attributes:
        version: starts at 0, +1 at each write that the driver makes.
        schema_version: the shape of `state`.
        state: the action's parameters and phase as canonical JSON; None once pruned. Sensitive.
        phase: the tag of the phase in `state`, for those who list.
        wake_at: when a parked action is due, UTC; None waits for a notification or the next sync.
        attempts: consecutive failures of the present step; durable (L-S10).
        faults: how many of those nobody had classified.
        error: the last error; the reason, once failed.
        owner, lease_until: who drives it, in a fleet; None where one process owns the store.
        traceparent: W3C trace context of whoever started it.
        result: what `Done` carried, as JSON; kept for ever. May be sensitive.
        row: where the store keeps it; grows with each new action; a cursor for paging.
        tenant: on whose behalf it is, for fairness between them; never changes.
    """

    kind: str
    id: str
    version: int
    schema_version: int
    state: str | None = field(repr=False)
    phase: str
    status: Status
    created_at: datetime
    updated_at: datetime
    wake_at: datetime | None = None
    attempts: int = 0
    faults: int = 0
    error: ErrorRecord | None = None
    cancel: CancelState = CancelState.NONE
    owner: str | None = None
    lease_until: datetime | None = None
    traceparent: str | None = None
    result: str | None = field(default=None, repr=False)
    row: int = 0
    tenant: str = ""

    @property
    def key(self) -> ActionKey:
        """The action's kind and id."""
        return ActionKey(self.kind, self.id)


_Draft: Any = make_dataclass("_Draft", [(one.name, one.type) for one in fields(Checkpoint)], slots=True)


def checkpoint_of(*values: Any) -> Checkpoint:
    """Make a checkpoint of all its fields, in their order.

    For what runs in every transition: a frozen class of so many fields takes five times as long to make one by itself.
    """
    draft = _Draft(*values)
    draft.__class__ = Checkpoint  # the same slots, so the same object but for what may be done to it
    made: Checkpoint = draft
    return made


_values_of = attrgetter(*(one.name for one in fields(Checkpoint)))


def at_row(checkpoint: Checkpoint, row: int) -> Checkpoint:
    """A checkpoint at its place in a store; as `replace`, which takes four times as long."""
    draft = _Draft(*_values_of(checkpoint))
    draft.row = row
    draft.__class__ = Checkpoint
    made: Checkpoint = draft
    return made


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One write of an action, told afterwards.

    Attributes:
        version: the version that this write made.
        at: when, UTC; never before the entry of the version before.
        event: what happened: a value of `EventKind` (`start`, `next`, `park`, `retry`, `done`, …), or what an operator
            did: `pause`, `resume`, `stop`, ….
        phase: the tag of the phase that was reached.
        notes: what the action's author or an operator had to say; no secrets.
    """

    version: int
    at: datetime
    event: str
    status: Status
    phase: str
    attempts: int = 0
    error: ErrorRecord | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wake:
    """A parked action in the order of its wake time, without its state: nothing is decoded to list it.

    Attributes:
        wake_at: when it is due, UTC.
        parked_at: when that was decided; what guards against a clock that was set back (L-B5).
        row: as in `Checkpoint`; together with `wake_at` the cursor for paging.
    """

    key: ActionKey
    wake_at: datetime
    parked_at: datetime
    row: int
