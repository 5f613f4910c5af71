"""The commands that run the app's code: `drive` and `recover`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from wallet_actions.checkpoint import Checkpoint, ErrorRecord
from wallet_actions.clock import SystemClock
from wallet_actions.coins import ActionKey
from wallet_actions.events import Event
from wallet_actions.operator import Operator
from wallet_actions.ops import tables
from wallet_actions.ops.apps import find, loaded
from wallet_actions.ops.failures import NEEDS_A_PERSON
from wallet_actions.ops.options import AppOption, DbOption, IdArgument, JsonOption, KindArgument
from wallet_actions.ops.records import coin_record, error_record, masked, time_record
from wallet_actions.ops.target import key_of, writable
from wallet_actions.ops.terminal import emit, run, say
from wallet_actions.ops.text import counted, error_text, local, span
from wallet_actions.outcome import DriveMode, DriveResult, Outcome
from wallet_actions.recovery import RecoveryReport
from wallet_actions.recovery import recover as recover_all
from wallet_actions.step import record

ENDED_BADLY = frozenset({Outcome.FAILED, Outcome.STUCK, Outcome.QUARANTINED, Outcome.PAUSED})


def drive(
    kind: KindArgument,
    id: IdArgument,
    db: DbOption,
    app: AppOption,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="Sleep through parks that have a wake time, until it has ended.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Drive one action now, until it parks or ends.

    Exit status: 0 done, parked, or driven by somebody else; 1 failed, cancelled, stuck, quarantined or paused; with
    --until-done 1 for all but done.

    JSON: {kind, id, outcome: done, failed, parked, superseded, stuck, paused or quarantined, status, phase, version,
    wake_at, error: {type, message} or null, result: decoded, secrets masked}.
    """
    key = key_of(kind, id)
    factory = find(app)
    mode = DriveMode.UNTIL_DONE if until_done else DriveMode.UNTIL_PARK

    async def work() -> tuple[DriveResult[Any], Checkpoint]:
        async with writable(db, key) as store, loaded(factory, store) as executor:
            if not as_json:
                executor.observe(lambda event: _tell(event, key))
            result = await executor.drive(key, mode)
            return result, await Operator(store).show(key)

    result, checkpoint = run(work())
    if as_json:
        emit(_driven_record(result, checkpoint))
    else:
        _print_driven(result, checkpoint)
    if result.outcome in ENDED_BADLY or (until_done and result.outcome is not Outcome.DONE):
        raise typer.Exit(NEEDS_A_PERSON)


def _tell(event: Event, key: ActionKey) -> None:
    whose = "" if event.key == key else f"{event.key}: "
    cause = f": {error_text(event.error)}" if event.error is not None else ""
    say(f"{local(event.at)}  {whose}{event.kind.value} → {event.phase}, version {event.version}{cause}")


def _driven_record(result: DriveResult[Any], checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "kind": checkpoint.kind,
        "id": checkpoint.id,
        "outcome": result.outcome.value,
        "status": checkpoint.status.value,
        "phase": checkpoint.phase,
        "version": checkpoint.version,
        "wake_at": time_record(result.wake_at),
        "error": error_record(_cause(result, checkpoint)),
        "result": masked(result.result),
    }


def _cause(result: DriveResult[Any], checkpoint: Checkpoint) -> ErrorRecord | None:
    if result.status is not None:
        return checkpoint.error
    return None if result.error is None else record(result.error)


def _print_driven(result: DriveResult[Any], checkpoint: Checkpoint) -> None:
    cause = _cause(result, checkpoint)
    ended = result.outcome.value if result.status is None else checkpoint.status.value
    told = f": {error_text(cause)}" if cause is not None else ""
    say(f"{checkpoint.key}: {ended} in phase {checkpoint.phase}, version {checkpoint.version}{told}")
    if result.outcome is Outcome.PARKED:
        if result.wake_at is None:
            say("It waits for a notification or the app's next sync.")
        else:
            say(f"It is due {local(result.wake_at)}, in {span(result.wake_at - SystemClock().now())}.")
    if result.outcome is Outcome.PAUSED:
        say("It was not driven; `resume` it, or its kind, first.")
    if result.result is not None:
        say(f"Result: {json.dumps(masked(result.result), ensure_ascii=False)}")


def recover(db: DbOption, app: AppOption, as_json: JsonOption = False) -> None:
    """Take up what a crash left behind, and what is due.

    Once, as the app does when it starts.

    Exit status: 1 where something needs a person: stuck, quarantined, deferred, or coins whose action is gone.

    JSON: {resumed, completed, compensated, failed, parked, stuck, elsewhere, quarantined, deferred: counts, orphans:
    coins as in `show`}.
    """
    factory = find(app)

    async def work() -> RecoveryReport:
        async with writable(db) as store, loaded(factory, store) as executor:
            return await recover_all(executor)

    report = run(work())
    counts = {
        "resumed": report.resumed,
        "completed": report.completed,
        "compensated": report.compensated,
        "failed": report.failed,
        "parked": report.parked,
        "stuck": report.stuck,
        "elsewhere": report.elsewhere,
        "quarantined": report.quarantined,
        "deferred": report.deferred,
    }
    if as_json:
        emit({**counts, "orphans": [coin_record(coin) for coin in report.orphans]})
    else:
        say(", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "resumed"))
        if report.orphans:
            say(f"{counted(len(report.orphans), 'coin')} reserved by actions that are gone; see `doctor`:")
            tables.print_coins(report.orphans)
    if report.stuck or report.quarantined or report.deferred or report.orphans:
        raise typer.Exit(NEEDS_A_PERSON)
