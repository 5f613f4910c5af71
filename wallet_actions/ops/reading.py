"""The commands that look: `list`, `show`, `history`. They write nothing and need no code of the app."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

from wallet_actions.checkpoint import Checkpoint, HistoryEntry, Status
from wallet_actions.clock import SystemClock
from wallet_actions.codec import fault
from wallet_actions.coins import ActionKey, Coin
from wallet_actions.errors import CheckpointDecodeError
from wallet_actions.operator import Operator
from wallet_actions.ops import tables
from wallet_actions.ops.apps import find, loaded
from wallet_actions.ops.options import DbOption, IdArgument, JsonOption, KindArgument, OptionalAppOption
from wallet_actions.ops.records import (
    Record,
    action_record,
    coin_record,
    field_names,
    history_record,
    masked,
    masked_action,
    phase_field_names,
)
from wallet_actions.ops.target import coins_held, key_of, opened
from wallet_actions.ops.terminal import emit, run
from wallet_actions.registry import Registry
from wallet_actions.store import Store

TAIL = 10


def list_actions(
    db: DbOption,
    status: Annotated[
        list[Status] | None,
        typer.Option("--status", metavar="STATUS", help=f"Only {', '.join(Status)} actions; may be given again."),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Only this kind; may be given again.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="COUNT", min=1, max=10_000, help="How many at most.")] = 50,
    after: Annotated[
        int,
        typer.Option(
            "--after", min=0, max=2**63 - 1, metavar="ROW", help="Go on behind this row, as the page before told."
        ),
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """List actions, oldest first.

    JSON: {actions: [{kind, id, status, phase, version, schema_version, attempts, faults, wake_at, error: {type,
    message} or null, cancel, owner, lease_until, traceparent, created_at, updated_at, row}], next_after}. Times are
    UTC, ISO 8601. next_after is what --after takes for the next page, null on the last one.
    """

    async def read() -> tuple[list[Checkpoint], frozenset[str]]:
        async with opened(db) as store:
            found = await store.list_actions(statuses=status or None, kinds=kind or None, after=after, limit=limit + 1)
            return list(found), await store.paused_kinds()

    found, paused_kinds = run(read())
    page = found[:limit]
    next_after = page[-1].row if len(found) > limit else None
    if as_json:
        emit({"actions": [action_record(checkpoint) for checkpoint in page], "next_after": next_after})
        return
    tables.print_actions(page, SystemClock().now(), paused_kinds, next_after=next_after)


def show(
    kind: KindArgument, id: IdArgument, db: DbOption, app: OptionalAppOption = None, as_json: JsonOption = False
) -> None:
    """Show one action, its coins and its last error.

    Which values are secrets only the app's code knows, so the state and the result are told by the names of their
    fields. With --app their values are shown, secrets masked.

    JSON: the keys of an action in `list`, and: kind_paused, state_fields, phase_fields, result_fields (names; null
    where there is none), coins: [{id, account, unit, amount, state, holder: {kind, id}}], history: the last ten, see
    `history`. With --app also: state and result (null where there is none), undecoded (why they cannot be read, or
    null).
    """
    key = key_of(kind, id)
    factory = None if app is None else find(app)

    async def read() -> _Sight:
        async with opened(db) as store:
            sight = await _look(store, key)
            if factory is None:
                return sight
            async with loaded(factory, store) as executor:
                return replace(sight, values=_values(sight.checkpoint, executor.registry))

    sight = run(read())
    if as_json:
        emit(_shown(sight))
        return
    tables.print_action(
        sight.checkpoint, sight.coins, sight.tail, SystemClock().now(), sight.paused_kinds, values=sight.values
    )


def history(kind: KindArgument, id: IdArgument, db: DbOption, as_json: JsonOption = False) -> None:
    """Tell an action's past, write by write.

    JSON: {kind, id, history: [{version, at, event, status, phase, attempts, error: {type, message} or null, notes}]},
    oldest first; empty once it is pruned.
    """
    key = key_of(kind, id)

    async def read() -> list[HistoryEntry]:
        async with opened(db) as store:
            return list(await Operator(store).history(key))

    entries = run(read())
    if as_json:
        emit({"kind": kind, "id": id, "history": [history_record(entry) for entry in entries]})
        return
    tables.print_history(entries)


@dataclass(frozen=True, slots=True)
class _Sight:
    """What there is to show of an action; `values` only where the app's code decoded them."""

    checkpoint: Checkpoint
    coins: Sequence[Coin]
    tail: Sequence[HistoryEntry]
    paused_kinds: frozenset[str]
    values: Record | None = None


async def _look(store: Store, key: ActionKey) -> _Sight:
    checkpoint = await Operator(store).show(key)
    # Versions have no gaps, and each write makes one entry.
    tail = await store.history(key, after=checkpoint.version - TAIL)
    return _Sight(checkpoint, await coins_held(store, key), tail, await store.paused_kinds())


def _values(checkpoint: Checkpoint, registry: Registry) -> Record:
    values: dict[str, Any] = {"state": None, "result": None, "undecoded": None}
    try:
        kind = registry.named(checkpoint.key)
        if checkpoint.state is not None:
            values["state"] = masked_action(kind.decode(checkpoint))
        if checkpoint.result is not None:
            values["result"] = masked(kind.result.decode(checkpoint.result))
    except CheckpointDecodeError as error:
        values["undecoded"] = str(error)
    except ValueError as error:
        values["undecoded"] = f"the result cannot be read by this code ({fault(error)})"
    return values


def _shown(sight: _Sight) -> Record:
    checkpoint = sight.checkpoint
    return {
        **action_record(checkpoint),
        "kind_paused": checkpoint.kind in sight.paused_kinds,
        "state_fields": field_names(checkpoint.state),
        "phase_fields": phase_field_names(checkpoint.state),
        "result_fields": field_names(checkpoint.result),
        "coins": [coin_record(coin) for coin in sight.coins],
        "history": [history_record(entry) for entry in sight.tail],
        **(sight.values or {}),
    }
