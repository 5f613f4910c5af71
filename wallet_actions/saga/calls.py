"""What becomes of a row when a call of its step has ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import JsonValue

from wallet_actions.classification import classify
from wallet_actions.errors import (
    ConfigurationError,
    InvariantError,
    RejectedError,
    ReservationError,
    StoreUnavailableError,
    TransientError,
    WalletActionError,
)
from wallet_actions.saga.flight import Landed
from wallet_actions.saga.rows import Row
from wallet_actions.saga.step import AnyStep, Wait
from wallet_actions.step import record
from wallet_actions.successor import SHORTEST_PARK


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a call came to.

    Attributes:
        row: as it stands now; its `state` is for the caller to set.
        is_over: whether the call is not to be repeated by itself: it has succeeded, or it has failed for good.
        is_refused: whether it has failed for good.
        error: what it failed with.
        needs_person: whether only a person can mend it; the row is to be called again all the same.
        wait: what the step answered, where it is not finished.
        value: what it returned, as JSON.
    """

    row: Row
    is_over: bool = False
    is_refused: bool = False
    error: Exception | None = field(default=None, repr=False)
    needs_person: bool = False
    wait: Wait | None = None
    value: object = field(default=None, repr=False)


def judged(row: Row, step: type[AnyStep], landed: Landed, now: datetime, *, most_attempts: int | None) -> Verdict:
    """What a call of a step came to, by the table of `Step`.

    Args:
        most_attempts: with how many failures in a row it has failed for good.
    """
    if landed.error is not None:
        return _failed(row, step, landed.error, now, most_attempts)
    if isinstance(landed.value, Wait):
        wait = landed.value
        if not isinstance(wait.after, timedelta):
            wrong = ConfigurationError(f"the step {step.name} waits for a timedelta, not {type(wait.after).__name__}")
            return _for_a_person(row, step, wrong, now)
        waiting = row.to(attempts=0, faults=0, error="", wake_at=now + max(wait.after, SHORTEST_PARK))
        memo: JsonValue = row.memo if wait.memo is None else wait.memo
        try:
            return Verdict(waiting.to(memo=memo), wait=wait)
        except ValueError:
            wrong = ConfigurationError(f"the memo of the step {step.name} is not plain JSON: mend its code, then retry")
            return _for_a_person(row, step, wrong, now)
    return Verdict(row.to(attempts=0, faults=0, error="", wake_at=None), is_over=True, value=landed.value)


def _failed(row: Row, step: type[AnyStep], error: Exception, now: datetime, most_attempts: int | None) -> Verdict:
    known = error if isinstance(error, WalletActionError) else classify(error, now=now)
    if isinstance(error, RejectedError):  # only the step's author calls a refusal a proof
        return _for_good(row, error)
    if isinstance(known, ConfigurationError | InvariantError):
        return _for_a_person(row, step, known, now)
    is_known = isinstance(known, TransientError | ReservationError | StoreUnavailableError)
    attempts, faults = row.attempts + 1, row.faults + (not is_known)
    counted = row.to(attempts=attempts, faults=faults)
    if faults > step.retry.fault_budget or (most_attempts is not None and attempts >= most_attempts):
        return _for_good(counted, error)
    wanted = known.retry_after if isinstance(known, TransientError) else None
    told = known if is_known and known is not None else error
    delay = step.retry.delay(attempts, wanted)
    return Verdict(counted.to(wake_at=now + delay, error=record(told).message), error=told)


def _for_good(row: Row, error: Exception) -> Verdict:
    return Verdict(row.to(wake_at=None, error=record(error).message), is_over=True, is_refused=True, error=error)


def _for_a_person(row: Row, step: type[AnyStep], error: Exception, now: datetime) -> Verdict:
    later = row.to(wake_at=now + step.retry.configuration_wait, error=record(error).message)
    return Verdict(later, error=error, needs_person=True)
