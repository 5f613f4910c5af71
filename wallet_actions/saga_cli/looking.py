"""The commands that look: `list` and `show`. They write nothing and need no code of the app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.clock import SystemClock
from wallet_actions.errors import UnknownActionError, UsageError
from wallet_actions.ops.options import DbOption, IdArgument, JsonOption, KindArgument
from wallet_actions.ops.records import Record, action_record, time_record
from wallet_actions.ops.target import key_of, opened
from wallet_actions.ops.terminal import emit, grid, run, say
from wallet_actions.ops.text import error_text, local, wake_text
from wallet_actions.saga import Row, SagaInfo, list_sagas
from wallet_actions.saga.desk import info_of
from wallet_actions.saga.rows import rows_of


def list_them(
    db: DbOption,
    status: Annotated[
        list[Status] | None,
        typer.Option("--status", metavar="STATUS", help=f"Only {', '.join(Status)} sagas; may be given again."),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Only this kind; may be given again.")
    ] = None,
    purpose: Annotated[
        str | None, typer.Option("--purpose", help="Only those for this: provision, suspend, update, ….")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="Only those with this label.")] = None,
    triggered_by: Annotated[str | None, typer.Option("--triggered-by", help="Only those that this one wanted.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="COUNT", min=1, max=10_000, help="How many at most.")] = 50,
    after: Annotated[
        int,
        typer.Option(
            "--after", min=0, max=2**63 - 1, metavar="ROW", help="Go on behind this row, as the page before told."
        ),
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """List sagas, oldest first. With --kind the database has less to read.

    JSON: {sagas: [the keys of an action in `wallet-actions list`, and purpose, triggered_by, labels, reverses, plan:
    [[step]], reason, steps: {state: count}], next_after}.
    """

    async def read() -> tuple[list[SagaInfo], frozenset[str]]:
        async with opened(db) as store:
            found = await list_sagas(
                store,
                statuses=status or None,
                kinds=kind or None,
                purpose=purpose,
                label=label,
                triggered_by=triggered_by,
                after=after,
                limit=limit + 1,
            )
            return found, await store.paused_kinds()

    found, paused_kinds = run(read())
    page = found[:limit]
    next_after = page[-1].checkpoint.row if len(found) > limit else None
    if as_json:
        emit({"sagas": [saga_record(info) for info in page], "next_after": next_after})
        return
    _print_list(page, paused_kinds)
    if next_after is not None:
        say()
        say(f"There are more: --after {next_after}")


def show(kind: KindArgument, id: IdArgument, db: DbOption, as_json: JsonOption = False) -> None:
    """Show one saga and its ledger: a row for each step.

    What steps returned may be secret and is not shown; see `wallet-actions show` with --app.

    JSON: the keys of a saga in `list`, and ledger: [{step, group, state, attempts, started_at, done_at, wake_at,
    error}], null where its details were pruned.
    """
    key = key_of(kind, id)

    async def read() -> tuple[Checkpoint, frozenset[str]]:
        async with opened(db) as store:
            checkpoint = await store.load(key)
            if checkpoint is None:
                raise UnknownActionError(*key)
            return checkpoint, await store.paused_kinds()

    checkpoint, paused_kinds = run(read())
    info, rows = info_of(checkpoint), rows_of(checkpoint)
    if info is None:
        raise UsageError(f"the details of {key} were pruned; it is {checkpoint.status.value}")
    if as_json:
        emit({**saga_record(info), "ledger": [_row_record(row, info) for row in rows]})
        return
    _print_saga(info, rows, paused_kinds)


def saga_record(info: SagaInfo) -> Record:
    """A saga for scripts."""
    return {
        **action_record(info.checkpoint),
        "purpose": info.purpose,
        "triggered_by": info.triggered_by,
        "labels": sorted(info.labels),
        "reverses": info.reverses,
        "plan": [list(group) for group in info.plan],
        "reason": info.reason,
        "steps": info.steps,
    }


def _row_record(row: Row, info: SagaInfo) -> Record:
    return {
        "step": row.step,
        "group": _group(row, info),
        "state": row.state.value,
        "attempts": row.attempts,
        "started_at": time_record(row.started_at if row.started_at is None or row.started_at.year > 1970 else None),
        "done_at": time_record(row.done_at if row.done_at is None or row.done_at.year > 1970 else None),
        "wake_at": time_record(row.wake_at),
        "error": row.error or None,
    }


def _group(row: Row, info: SagaInfo) -> int:
    return next((number for number, group in enumerate(info.plan, start=1) if row.step in group), 0)


def _print_list(page: Sequence[SagaInfo], paused_kinds: frozenset[str]) -> None:
    if not page:
        say("no sagas")
        return
    now = SystemClock().now()
    grid(
        ("KIND", "ID", "STATUS", "STEPS", "WAKE", "PURPOSE", "BY", "LABELS"),
        [
            (
                info.key.kind,
                info.key.id,
                info.status.value,
                ", ".join(f"{count} {state}" for state, count in info.steps.items()),
                wake_text(info.checkpoint, now, paused_kinds),
                info.purpose,
                info.triggered_by,
                ", ".join(sorted(info.labels)),
            )
            for info in page
        ],
        kept=("STATUS",),
    )


def _print_saga(info: SagaInfo, rows: Sequence[Row], paused_kinds: frozenset[str]) -> None:
    checkpoint, now = info.checkpoint, SystemClock().now()
    cancel = "" if checkpoint.cancel is CancelState.NONE else checkpoint.cancel.value
    facts = [
        ("kind", checkpoint.kind),
        ("id", checkpoint.id),
        ("status", checkpoint.status.value),
        ("purpose", info.purpose),
        ("triggered by", info.triggered_by),
        ("labels", ", ".join(sorted(info.labels))),
        ("reverses", info.reverses or ""),
        ("wakes", wake_text(checkpoint, now, paused_kinds)),
        ("cancel", cancel),
        ("rolled back", info.reason),
        ("error", error_text(checkpoint.error)),
        ("created", local(checkpoint.created_at)),
        ("last write", local(checkpoint.updated_at)),
    ]
    grid(("", ""), [fact for fact in facts if fact[1]], has_header=False)
    say()
    grid(
        ("GROUP", "STEP", "STATE", "TRIES", "STARTED", "DONE", "WAKE", "ERROR"),
        [
            (
                str(told["group"]),
                row.step,
                row.state.value,
                str(row.attempts) if row.attempts else "",
                local(row.started_at, has_zone=False) if told["started_at"] and row.started_at else "",
                local(row.done_at, has_zone=False) if told["done_at"] and row.done_at else "",
                local(row.wake_at, has_zone=False) if row.wake_at else "",
                row.error,
            )
            for row, told in ((row, _row_record(row, info)) for row in rows)
        ],
        kept=("STEP", "STATE"),
    )
