"""The error tree."""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest

from wallet_actions import errors
from wallet_actions.checkpoint import ErrorRecord, Status
from wallet_actions.errors import (
    ActionFailedError,
    CheckpointDecodeError,
    InvariantError,
    NotFinishedError,
    RejectedError,
    ReservationError,
    StoreInUseError,
    TransientError,
    UnknownActionError,
    VersionConflictError,
    WalletActionError,
)

CLASSES = {name: item for name, item in vars(errors).items() if inspect.isclass(item) and issubclass(item, Exception)}


def drawn_tree() -> dict[str, str]:
    """Each class of the drawing in the module's docstring, with the one that it hangs from."""
    assert errors.__doc__ is not None
    parents: dict[str, str] = {}
    branch = {0: "WalletActionError"}
    for line in errors.__doc__.splitlines():
        head, _, rest = line.partition("── ")
        if rest and head[-1:] in "├└":
            name = rest.split()[0]
            depth = (len(head) - 5) // 4 + 1
            parents[name] = branch[depth - 1]
            branch[depth] = name
    return parents


def test_the_tree_is_as_drawn() -> None:
    parents = {name: item.__mro__[1].__name__ for name, item in CLASSES.items() if item is not WalletActionError}

    assert parents == drawn_tree()


def test_every_class_is_told_apart_by_its_name() -> None:
    assert all(name.endswith("Error") for name in CLASSES)
    assert all(item.__doc__ for item in CLASSES.values())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (VersionConflictError("job", "a", 3), "job a was handled by another driver after version 3"),
        (ReservationError(["c1", "c2"]), "2 of the chosen coins were taken meanwhile; choose again"),
        (ActionFailedError("job", "a", Status.FAILED, ErrorRecord("E", "no money")), "job a failed: no money"),
        (ActionFailedError("job", "a", Status.CANCELLED, None), "job a cancelled: no reason was recorded"),
        (NotFinishedError("job", "a", Status.PAUSED, None), "job a is paused"),
        (NotFinishedError("job", "a", Status.STUCK, ErrorRecord("E", "oops")), "job a is stuck: oops"),
        (UnknownActionError("job", "a"), "there is no action job a"),
    ],
)
def test_messages_can_be_read_by_a_user(error: WalletActionError, message: str) -> None:
    assert str(error) == message


def test_errors_carry_what_their_reader_needs() -> None:
    rejected = RejectedError("no", code=11_001, identifiers=["c1"])
    assert (rejected.code, rejected.identifiers) == (11_001, ("c1",))
    assert TransientError("later", retry_after=timedelta(seconds=1)).retry_after == timedelta(seconds=1)
    assert TransientError("later").retry_after is None
    assert InvariantError("job a: no", rule="no").rule == "no"
    assert ReservationError(["c1"]).coin_ids == ("c1",)
    assert StoreInUseError("busy", pid=7).pid == 7
    conflict = VersionConflictError("job", "a", 3)
    assert (conflict.kind, conflict.id, conflict.expected_version) == ("job", "a", 3)
    undecodable = CheckpointDecodeError("broken", kind="job", id="a")
    assert (undecodable.kind, undecodable.id) == ("job", "a")
    ended = ActionFailedError("job", "a", Status.FAILED, ErrorRecord("E", "no"))
    assert (ended.status, ended.error) == (Status.FAILED, ErrorRecord("E", "no"))
