"""The commands that start something: `start`, `reverse`, and `cancel`, which starts a rollback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from wallet_actions.codec import fault
from wallet_actions.coins import ActionKey
from wallet_actions.errors import UnknownActionError, UsageError
from wallet_actions.executor import Executor
from wallet_actions.ops import steering
from wallet_actions.ops.apps import find, loaded
from wallet_actions.ops.options import AppOption, DbOption, IdArgument, JsonOption, KindArgument
from wallet_actions.ops.target import key_of, opened, writable
from wallet_actions.ops.terminal import emit, run, say
from wallet_actions.outcome import Started
from wallet_actions.registry import Registry
from wallet_actions.saga import Saga, SagaResult, start_reversal, start_saga
from wallet_actions.saga.desk import saga_kinds
from wallet_actions.saga.rows import Backward, Blocked, rows_of
from wallet_actions.saga.saga import AnySaga


def start(
    kind: KindArgument,
    id: IdArgument,
    db: DbOption,
    app: AppOption,
    input: Annotated[str, typer.Option("--input", metavar="JSON", help="The saga's input, as a JSON object.")] = "{}",
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step",
            metavar="STEP[,STEP]",
            help="A step of the plan, in order; several with commas between are a group, executed at once. Default: all"
            " steps of the kind.",
        ),
    ] = None,
    purpose: Annotated[str, typer.Option("--purpose", help="What it is for: provision, suspend, update, ….")] = "",
    triggered_by: Annotated[str, typer.Option("--triggered-by", help="Who or what wanted it.")] = "",
    label: Annotated[list[str] | None, typer.Option("--label", help="To be found by; may be given again.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Start a saga. It is on disk then; the app drives it.

    JSON: {kind, id, is_new: false where it was started before, and nothing was changed}.
    """
    key = key_of(kind, id)

    async def begin(executor: Executor) -> Started[SagaResult]:
        found = _saga_class(executor.registry, kind)
        return await start_saga(
            executor,
            found,
            id,
            _input(found, input),
            [group.split(",") for group in step] if step else None,
            purpose=purpose,
            triggered_by=triggered_by,
            labels=label or (),
        )

    started = _with_app(app, db, begin)
    _tell(started, key, "started", as_json=as_json)


def reverse(kind: KindArgument, id: IdArgument, db: DbOption, app: AppOption, as_json: JsonOption = False) -> None:
    """Undo a saga that is done: start its reversal. It is on disk then; the app drives it.

    JSON: {kind, id: the reversal's, is_new}.
    """
    key = key_of(kind, id)

    async def begin(executor: Executor) -> Started[SagaResult]:
        return await start_reversal(executor, _saga_class(executor.registry, key.kind), key.id)

    started = _with_app(app, db, begin)
    _tell(started, started.key, f"started, to undo {key}", as_json=as_json)


def cancel(kind: KindArgument, id: IdArgument, db: DbOption, as_json: JsonOption = False) -> None:
    """Ask a saga to stop: no further step is begun, and what was begun is undone.

    The request is durable, and heeded when the saga is driven next. One that rolls back already, or is a reversal, does
    not heed it: that is refused here.

    JSON: as `wallet-actions cancel`.
    """
    key = key_of(kind, id)

    async def check() -> None:
        async with opened(db) as store:
            checkpoint = await store.load(key)
            if checkpoint is None:
                raise UnknownActionError(*key)
            rows_of(checkpoint)
            if checkpoint.phase in (Backward.tag, Blocked.tag) and not checkpoint.status.is_terminal:
                raise UsageError(f"{key} is rolling back already; there is nothing left to cancel")

    run(check())
    steering.cancel(kind, id, db, as_json)


def _with_app(app: str, db: str, begin: Callable[[Executor], Awaitable[Started[SagaResult]]]) -> Started[SagaResult]:
    factory = find(app)

    async def work() -> Started[SagaResult]:
        async with writable(db) as store, loaded(factory, store) as executor:
            return await begin(executor)

    return run(work())


def _saga_class(registry: Registry, kind: str) -> type[AnySaga]:
    found = registry.named(ActionKey(kind, "")).action_class if kind in registry else None
    if found is None or not issubclass(found, Saga):
        known = ", ".join(sorted(saga_kinds(registry))) or "none"
        raise UsageError(f"--app: there is no saga {kind!r} (there are: {known})")
    return found


def _input(saga: type[AnySaga], text: str) -> Any:
    """The input of a saga, from the command line; the message of an error quotes none of its values."""
    declared: Any = saga.model_fields["input"].annotation
    try:
        return TypeAdapter(declared).validate_json(text)
    except ValidationError as error:
        raise UsageError(f"--input is no input of {saga.kind} ({fault(error)})") from None


def _tell(started: Started[SagaResult], key: ActionKey, what: str, *, as_json: bool) -> None:
    if as_json:
        emit({"kind": key.kind, "id": key.id, "is_new": started.is_new})
        return
    say(f"{key}: {what if started.is_new else 'was started before; nothing was changed'}")
