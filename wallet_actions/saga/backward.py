"""The way back: the last step is undone first, and each is on disk as compensating before it is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from wallet_actions.action import Action
from wallet_actions.errors import ConfigurationError, InvariantError, RejectedError
from wallet_actions.saga.calls import Verdict, judged
from wallet_actions.saga.context import SagaWallet, clock_of, until
from wallet_actions.saga.flight import Landed
from wallet_actions.saga.rows import (
    BEGUN,
    Backward,
    Blocked,
    Row,
    Rows,
    RowState,
    SagaResult,
    replaced,
    results_of,
)
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Start, Transition

if TYPE_CHECKING:
    from wallet_actions.saga.saga import AnySaga

SagaT = TypeVar("SagaT", bound="AnySaga")


async def advance(saga: SagaT, phase: Backward, wallet: SagaWallet) -> Transition[SagaT, SagaResult]:
    """Undo the next step; one that cannot be undone is passed over for now, and the others are."""
    row = next((row for row in reversed(phase.rows) if row.state in {*BEGUN, RowState.COMPENSATING}), None)
    if row is None:
        if _failed(phase.rows):
            return Next(saga.at(Blocked(rows=phase.rows, reason=phase.reason)))
        return _end(saga, phase)
    if row.state is not RowState.COMPENSATING:
        begun = row.to(state=RowState.COMPENSATING, attempts=0, faults=0, wake_at=None)
        return Next(saga.at(Backward(rows=replaced(phase.rows, begun), reason=phase.reason)))
    verdict = await _compensated(saga, row, wallet)
    told = verdict.row.error or row.error  # why a step had failed stays in the ledger
    if verdict.needs_person and isinstance(verdict.error, ConfigurationError):
        raise verdict.error  # never skipped: it is called again once it is mended
    state = RowState.COMPENSATING
    if verdict.is_over or verdict.needs_person:
        state = RowState.COMPENSATED if verdict.error is None else RowState.COMPENSATION_FAILED
    rows = replaced(phase.rows, verdict.row.to(state=state, error=told))
    following = saga.at(Backward(rows=rows, reason=phase.reason))
    changes = Changes(start=_children(verdict))
    if state is not RowState.COMPENSATING:
        return Next(following, changes)
    wake_after = until(verdict.row.wake_at, clock_of(wallet).now())
    return Park(following, wake_after=wake_after, error=verdict.error, changes=changes)


async def retry(saga: SagaT, phase: Blocked, wallet: SagaWallet) -> Transition[SagaT, SagaResult]:
    """Try once more what could not be undone; stuck if none of it can be.

    Raises:
        InvariantError: all failed again. The next drive, of an operator or of a start-up, goes on here.
    """
    failed = _failed(phase.rows)
    if not failed:
        return _end(saga, phase)
    waiting: Verdict | None = None
    for row in failed:
        verdict = await _compensated(saga, row, wallet)
        if isinstance(verdict.error, ConfigurationError):
            raise verdict.error
        if verdict.is_over and verdict.error is None:
            undone = verdict.row.to(state=RowState.COMPENSATED, error=row.error)
            return Next(saga.at(Blocked(rows=replaced(phase.rows, undone), reason=phase.reason)))
        if verdict.wait is not None and waiting is None:
            waiting = verdict
    if waiting is not None:
        rows = replaced(phase.rows, waiting.row)
        wake_after = until(waiting.row.wake_at, clock_of(wallet).now())
        changes = Changes(start=_children(waiting))
        return Park(saga.at(Blocked(rows=rows, reason=phase.reason)), wake_after=wake_after, changes=changes)
    names = ", ".join(row.step for row in failed)
    raise InvariantError(
        f"{saga.key}: {phase.reason}; all is undone but for {names}: {failed[0].error}",
        rule="a saga ends when all that was begun is undone",
    )


async def _compensated(saga: AnySaga, row: Row, wallet: SagaWallet) -> Verdict:
    step = saga.step(row.step)
    try:
        landed = Landed(await step().compensate(saga.context(row, wallet)))
    except Exception as error:  # noqa: BLE001 what a step raises is judged by the table of `Step`
        landed = Landed(error=error)
    now = clock_of(wallet).now()
    verdict = judged(row, step, landed, now, most_attempts=step.compensation_attempts)
    if verdict.is_over and not verdict.is_refused and verdict.value is not None:
        wrong = ConfigurationError(
            f"the step {step.name} compensated with what is of type {type(verdict.value).__name__}; that is None, or a"
            " Wait: mend its code, then retry"
        )
        return judged(row, step, Landed(error=wrong), now, most_attempts=None)
    return verdict


def _end(saga: AnySaga, phase: Backward | Blocked) -> Done[SagaResult] | Failed:
    if saga.reverses is not None:
        return Done(SagaResult(results=results_of(phase.rows)))
    return Failed(RejectedError(f"{phase.reason}; all that was begun is undone"))


def _failed(rows: Rows) -> list[Row]:
    return [row for row in reversed(rows) if row.state is RowState.COMPENSATION_FAILED]


def _children(verdict: Verdict) -> Sequence[Action[Any, Any, Any] | Start]:
    return verdict.wait.start if verdict.wait is not None else ()
