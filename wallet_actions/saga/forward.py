"""The way forward: group after group, each step on disk as running before it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from wallet_actions.action import Action
from wallet_actions.errors import ConfigurationError, RejectedError
from wallet_actions.saga.calls import Verdict, judged
from wallet_actions.saga.context import Context, SagaWallet, clock_of, until
from wallet_actions.saga.flight import Flight, Landed
from wallet_actions.saga.rows import (
    Backward,
    Forward,
    Row,
    Rows,
    RowState,
    SagaResult,
    replaced,
    results_of,
    soonest,
)
from wallet_actions.saga.step import AnyStep
from wallet_actions.transition import Changes, Done, Next, Park, Start, Transition

if TYPE_CHECKING:
    from wallet_actions.saga.saga import AnySaga

SagaT = TypeVar("SagaT", bound="AnySaga")


async def advance(saga: SagaT, phase: Forward, wallet: SagaWallet) -> Transition[SagaT, SagaResult]:
    """Take the next step of the way forward."""
    for row in phase.rows:
        saga.step(row.step)  # nothing more is begun while a class is missing that a later step wants
    group = _group(saga, phase.rows)
    if not group:
        return Done(SagaResult(results=results_of(phase.rows)))
    now = clock_of(wallet).now()
    pending = [row for row in group if row.state is RowState.PENDING]
    if pending:
        begun = [row.to(state=RowState.RUNNING, started_at=now) for row in pending]
        return Next(saga.at(Forward(rows=replaced(phase.rows, *begun))))
    flight = saga.flight()
    _launch(saga, group, flight, wallet, now)
    return await _after(saga, phase, flight, wallet)


async def landed(saga: SagaT, phase: Forward, wallet: SagaWallet) -> Rows:
    """The rows once all calls under way have ended; nothing new is begun."""
    flight, rows = saga.flight(), phase.rows
    while len(flight):
        verdicts = await _land(saga, phase, flight, wallet)
        rows = replaced(rows, *(one.row for one in verdicts))
    return rows


def _group(saga: AnySaga, rows: Rows) -> list[Row]:
    """The rows of the first group that is not done."""
    by_step = {row.step: row for row in rows}
    for names in saga.plan:
        group = [by_step[name] for name in names]
        if any(row.state is not RowState.DONE for row in group):
            return group
    return []


def _launch(saga: AnySaga, group: Sequence[Row], flight: Flight, wallet: SagaWallet, now: datetime) -> None:
    if any(row.state is RowState.FAILED for row in group):
        return  # the others only have to land
    waiting = [row for row in group if row.state is RowState.RUNNING and row.step not in flight]
    due = [row for row in waiting if row.wake_at is None or row.wake_at <= now]
    if not due and not len(flight):
        due = waiting  # somebody has woken the saga before its time, to look at once
    for row in due:
        left = _left(row, saga.step(row.step).deadline, now)
        is_late = left is not None and left <= timedelta(0)
        # Not the saga itself: it may carry the flight, which then would never be let go of.
        flight.launch(row.step, _called(saga.step(row.step), saga.context(row, wallet), is_late=is_late))


async def _called(step: type[AnyStep], context: Context[Any, Any], *, is_late: bool) -> object:
    if is_late:
        raise RejectedError(f"the step {step.name} was not finished by its deadline")
    return await step().execute(context)


async def _land(saga: AnySaga, phase: Forward, flight: Flight, wallet: SagaWallet) -> list[Verdict]:
    clock = clock_of(wallet)
    rows = {row.step: row for row in phase.rows if row.step in flight}
    left = {name: _left(row, saga.step(name).deadline, clock.now()) for name, row in rows.items()}
    ended = await flight.land({name: one.total_seconds() for name, one in left.items() if one is not None})
    return [_judged(saga, rows[name], one, clock.now()) for name, one in ended.items()]


async def _after(saga: SagaT, phase: Forward, flight: Flight, wallet: SagaWallet) -> Transition[SagaT, SagaResult]:
    verdicts = await _land(saga, phase, flight, wallet) if len(flight) else []
    rows = replaced(phase.rows, *(one.row for one in verdicts))
    changes = Changes(start=_children(verdicts))
    if len(flight):
        return Next(saga.at(Forward(rows=rows)).carrying(flight), changes)
    group = _group(saga, rows)
    failed = [row for row in group if row.state is RowState.FAILED]
    if failed:
        reason = "; ".join(f"the step {row.step} failed: {row.error}" for row in failed)
        return Next(saga.at(Backward(rows=rows, reason=reason)), changes)
    unfinished = [row for row in group if row.state is RowState.RUNNING]
    if not unfinished:
        return Next(saga.at(Forward(rows=rows)), changes)
    blocked = [one for one in verdicts if one.needs_person]
    if len(blocked) == len(unfinished) == 1 and blocked[0].error is not None:
        if len(verdicts) == 1:
            raise blocked[0].error  # the engine parks it long, and tells the operator
        as_it_was = next(row for row in phase.rows if row.step == blocked[0].row.step)
        return Next(saga.at(Forward(rows=replaced(rows, as_it_was))), changes)  # what the others did is kept first
    errors = [one.error for one in (*blocked, *verdicts) if one.error is not None]
    return Park(
        saga.at(Forward(rows=rows)),
        wake_after=until(soonest(unfinished), clock_of(wallet).now()),
        error=errors[0] if errors else None,
        changes=changes,
    )


def _judged(saga: AnySaga, row: Row, ended: Landed, now: datetime) -> Verdict:
    step = saga.step(row.step)
    verdict = judged(row, step, ended, now, most_attempts=step.max_attempts)
    if not verdict.is_over:
        return replace(verdict, row=_in_time(verdict.row, step.deadline))
    if verdict.is_refused:
        return replace(verdict, row=verdict.row.to(state=RowState.FAILED))
    try:
        result = step.encode(verdict.value)
    except ConfigurationError as error:
        return judged(row, step, Landed(error=error), now, most_attempts=step.max_attempts)
    return replace(verdict, row=verdict.row.to(state=RowState.DONE, result=result, done_at=now))


def _in_time(row: Row, deadline: timedelta | None) -> Row:
    """The row, to be looked at again at its deadline at the latest."""
    if deadline is None or row.started_at is None or row.wake_at is None:
        return row
    return row.to(wake_at=min(row.wake_at, row.started_at + deadline))


def _children(verdicts: Sequence[Verdict]) -> list[Action[Any, Any, Any] | Start]:
    return [child for one in verdicts if one.wait is not None for child in one.wait.start]


def _left(row: Row, deadline: timedelta | None, now: datetime) -> timedelta | None:
    """What is left of a step's time; None where it has no deadline."""
    return None if deadline is None or row.started_at is None else row.started_at + deadline - now
