"""Everything this library raises, and who acts next.

    WalletActionError
    ├── ActionError                 raised inside advance / on_*; the executor decides by the class
    │   ├── RejectedError           the peer refused and nothing changed: on_rejection decides
    │   ├── TransientError          time-out, 5xx, unavailable, unknown outcome: retried; carries retry_after
    │   ├── ConfigurationError      credentials, removed method: long park, operator told, coins held
    │   └── InvariantError          a bug of ours or of the action: stuck, coins held
    ├── StoreError                  raised by a store
    │   ├── VersionConflictError    somebody else handled it: stop, do not retry
    │   ├── ReservationError        a coin is not spendable any more: run the step again
    │   ├── StoreUnavailableError   retry the whole unit
    │   ├── StatementError          a statement of the embedding app failed; its unit was rolled back
    │   ├── SchemaError             not our database, newer than the code, or a failed migration
    │   └── StoreInUseError         another process holds the file
    ├── OutcomeError                raised to whoever waits for a result
    │   ├── ActionFailedError       the action ended without success
    │   ├── NotFinishedError        it will not finish by itself: stuck, paused, quarantined
    │   └── UnknownActionError      no action has this kind and id
    ├── CheckpointDecodeError       unknown kind or state: row kept, quarantined
    └── UsageError                  the library was called wrongly; nothing was written

A message is a sentence that a wallet's user could read. It never holds a secret: no coin payload, seed, token or key.
`asyncio.CancelledError` is not part of the tree and always propagates.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wallet_actions.checkpoint import ErrorRecord, Status


class WalletActionError(Exception):
    """Base class of every error that this library raises."""


class ActionError(WalletActionError):
    """A step of an action went wrong in a way that the executor knows how to treat."""


class RejectedError(ActionError):
    """The peer refused the request, and nothing changed there.

    Raise it only on proof. A time-out, a dropped connection or an unknown status is a `TransientError`.

    Attributes:
        code: the peer's own error code, where it has one.
        identifiers: what the peer says the fault lies in (coin or input ids); public ids only.
    """

    def __init__(self, message: str, *, code: str | int | None = None, identifiers: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.identifiers = tuple(identifiers)


class TransientError(ActionError):
    """It may work later, or the outcome is not known: the step runs again after a delay.

    Attributes:
        retry_after: when the peer wants to be asked again; None leaves it to the back-off.
    """

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConfigurationError(ActionError):
    """Credentials, permissions or a removed method: a person has to act; coins stay held meanwhile."""


class InvariantError(ActionError):
    """A rule of the engine was broken by an action: it is stuck until its code is mended; coins stay held.

    Attributes:
        rule: the rule in a few words.
    """

    def __init__(self, message: str, *, rule: str = "") -> None:
        super().__init__(message)
        self.rule = rule


class StoreError(WalletActionError):
    """A store could not do what it was asked."""


class VersionConflictError(StoreError):
    """Another driver saved this action first. Stop quietly: no retry, no compensation (L-S4).

    Attributes:
        kind, id: the action.
        expected_version: the version that the loser held.
    """

    def __init__(self, kind: str, id: str, expected_version: int) -> None:
        super().__init__(f"{kind} {id} was handled by another driver after version {expected_version}")
        self.kind = kind
        self.id = id
        self.expected_version = expected_version


class ReservationError(StoreError):
    """A coin that was to be reserved is not spendable any more; nothing of the unit was written.

    Attributes:
        coin_ids: the coins that were not to be had.
    """

    def __init__(self, coin_ids: Sequence[str]) -> None:
        super().__init__(f"{len(coin_ids)} of the chosen coins were taken meanwhile; choose again")
        self.coin_ids = tuple(coin_ids)


class StoreUnavailableError(StoreError):
    """The database is busy, full or gone. The unit may be retried as a whole; reload first."""


class StatementError(StoreError):
    """A statement of the embedding app failed inside our transaction; the whole unit was rolled back."""


class SchemaError(StoreError):
    """The file is not a database of ours, is newer than this code, or a migration failed. Nothing was changed."""


class StoreInUseError(StoreError):
    """Another process has the database to itself.

    Attributes:
        pid: that process, where it is known.
    """

    def __init__(self, message: str, *, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class OutcomeError(WalletActionError):
    """An action has no result to give.

    Attributes:
        kind, id: the action.
    """

    def __init__(self, message: str, kind: str, id: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.id = id


class ActionFailedError(OutcomeError):
    """The action ended as failed or cancelled. This is final.

    Attributes:
        status: `failed` or `cancelled`.
        error: what it ended with.
    """

    def __init__(self, kind: str, id: str, status: Status, error: ErrorRecord | None) -> None:
        reason = error.message if error is not None else "no reason was recorded"
        super().__init__(f"{kind} {id} {status.value}: {reason}", kind, id)
        self.status = status
        self.error = error


class NotFinishedError(OutcomeError):
    """The action will not finish by itself; a person has to act.

    Attributes:
        status: `stuck`, `paused` or `quarantined`.
        error: the last error, where there is one.
    """

    def __init__(self, kind: str, id: str, status: Status, error: ErrorRecord | None) -> None:
        reason = f": {error.message}" if error is not None else ""
        super().__init__(f"{kind} {id} is {status.value}{reason}", kind, id)
        self.status = status
        self.error = error


class UnknownActionError(OutcomeError):
    """No action of this kind and id was ever started here."""

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"there is no action {kind} {id}", kind, id)


class CheckpointDecodeError(WalletActionError):
    """A stored action cannot be understood by this code: unknown kind, newer schema, or a broken state.

    The row is kept as it is; see `Status.QUARANTINED`.

    Attributes:
        kind, id: the action.
    """

    def __init__(self, message: str, *, kind: str, id: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.id = id


class UsageError(WalletActionError):
    """The library was called in a way that cannot work. Nothing was written."""
