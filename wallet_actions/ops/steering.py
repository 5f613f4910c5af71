"""The commands that steer by hand: `cancel`, `stop`, `pause`, `resume`, `retry`, `prune`. The app is not needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.coins import ActionKey, Coin
from wallet_actions.errors import UsageError
from wallet_actions.operator import Operator
from wallet_actions.ops import tables
from wallet_actions.ops.failures import ChangedMeanwhileError, CommandError
from wallet_actions.ops.options import AgeOption, DbOption, IdArgument, JsonOption, KindArgument, YesOption
from wallet_actions.ops.records import action_record, coin_record
from wallet_actions.ops.target import coins_held, key_of, opened, writable
from wallet_actions.ops.terminal import confirm, emit, run, say
from wallet_actions.ops.text import counted

OptionalKind = Annotated[str | None, typer.Argument(metavar="KIND", help="The kind of the action.", show_default=False)]
OptionalId = Annotated[str | None, typer.Argument(metavar="ID", help="The id of the action.", show_default=False)]
WholeKind = Annotated[
    str | None, typer.Option("--kind", metavar="KIND", help="All actions of this kind instead, also later ones.")
]


ForceOption = Annotated[
    bool, typer.Option("--force", help="With --kind: also if no action of this kind is stored (yet).")
]


def cancel(kind: KindArgument, id: IdArgument, db: DbOption, as_json: JsonOption = False) -> None:
    """Ask an action to cancel itself.

    The request is durable; the action's own code answers when it is driven next, and may refuse.

    JSON: {action: as in `list`, answered_by: a sentence}.
    """
    key = key_of(kind, id)

    async def request() -> tuple[Checkpoint, str]:
        async with writable(db, key) as store:
            operator = Operator(store)
            is_noted = await operator.request_cancel(key)
            checkpoint = await operator.show(key)
            if not is_noted:
                raise UsageError(f"{key} has already ended: {checkpoint.status.value}")
            return checkpoint, _answerer(checkpoint, is_kind_paused=kind in await store.paused_kinds())

    checkpoint, answered_by = run(request())
    if as_json:
        emit({"action": action_record(checkpoint), "answered_by": answered_by})
        return
    say(f"{key}: the request to cancel is on disk; {answered_by}")


def _answerer(checkpoint: Checkpoint, *, is_kind_paused: bool) -> str:
    """Who will answer a request to cancel, and when."""
    if checkpoint.cancel is CancelState.ACCEPTED:
        return "it had accepted an earlier one, and is on its way to its end"
    match checkpoint.status:
        case Status.QUARANTINED:
            return "it is quarantined: code that can read it has to run first"
        case Status.PAUSED:
            return "it is paused: it answers once it is resumed"
        case _ if is_kind_paused:
            return f"its kind is paused: it answers after `resume --kind {checkpoint.kind}`"
        case Status.STUCK:
            return "it is stuck: it answers at the app's next start, or after `retry`"
        case Status.RUNNING if checkpoint.owner is not None:
            return f"its driver {checkpoint.owner} answers after the step that is under way"
        case Status.RUNNING:
            return "the app answers after the step that is under way, or at its next start"
        case _:
            return "the running app answers within seconds, or else at its next start; or `drive` it with --app"


def stop(kind: KindArgument, id: IdArgument, db: DbOption, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """End an action by force, and free its coins.

    Its state is removed, and it counts as cancelled for ever. Only for one that cannot end by itself: nobody looks
    any more whether its peer took the coins. Shows what would be freed and asks first.

    JSON: {action: as in `list`, freed: [{id, account, unit, amount, state, holder}]} with the coins as they were held.
    """
    key = key_of(kind, id)
    checkpoint, coins = run(_stoppable(db, key))
    if not yes and not as_json:
        say(f"{key} is {checkpoint.status.value} in phase {checkpoint.phase}, at version {checkpoint.version}.")
        if coins:
            say(f"Stopping it would free {counted(len(coins), 'coin')}:")
            tables.print_coins(coins)
            say("If it has reached its peer, they may be spent there already, or be spent twice: nobody would look.")
        else:
            say("It holds no coins.")
        say("What it was doing at its peer is forgotten with its state; its id stays taken. Try `cancel` first.")
    confirm(f"Stop {key} and free {counted(len(coins), 'coin')}?", yes=yes)

    async def end() -> Checkpoint:
        async with writable(db, key) as store:
            operator = Operator(store)
            current = await operator.show(key)
            if not yes and current.version != checkpoint.version:
                raise ChangedMeanwhileError(f"{key} has moved on meanwhile; nothing was changed, look again")
            return await operator.stop(key)

    ended = run(end())
    if as_json:
        emit({"action": action_record(ended), "freed": [coin_record(coin) for coin in coins]})
        return
    say(f"{key}: stopped; {counted(len(coins), 'coin')} freed")


async def _stoppable(db: str, key: ActionKey) -> tuple[Checkpoint, list[Coin]]:
    async with opened(db) as store:
        checkpoint = await Operator(store).show(key)
        if checkpoint.status.is_terminal:
            raise UsageError(f"{key} has already ended: {checkpoint.status.value}")
        return checkpoint, await coins_held(store, key)


def pause(
    db: DbOption,
    kind: OptionalKind = None,
    id: OptionalId = None,
    whole_kind: WholeKind = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Keep an action or a kind from being driven.

    Coins stay held. A paused kind keeps its later actions waiting too.

    JSON: {action: as in `list`}, or with --kind {kind, paused: true}.
    """
    _pause(db, kind, id, whole_kind, force=force, is_paused=True, as_json=as_json)


def resume(
    db: DbOption,
    kind: OptionalKind = None,
    id: OptionalId = None,
    whole_kind: WholeKind = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let a paused action or kind go on.

    JSON: {action: as in `list`}, or with --kind {kind, paused: false}.
    """
    _pause(db, kind, id, whole_kind, force=force, is_paused=False, as_json=as_json)


def _pause(
    db: str,
    kind: str | None,
    id: str | None,
    whole_kind: str | None,
    *,
    force: bool,
    is_paused: bool,
    as_json: bool,
) -> None:
    if whole_kind is not None and kind is None:
        if not whole_kind.strip():
            raise typer.BadParameter("a kind has a name; --kind is blank")
        key_of(whole_kind, "")
        run(_pause_kind(db, whole_kind, force=force, is_paused=is_paused))
        if as_json:
            emit({"kind": whole_kind, "paused": is_paused})
        else:
            say(f"kind {whole_kind}: {'paused' if is_paused else 'resumed'}")
        return
    if kind is None or id is None or whole_kind is not None or force:
        raise typer.BadParameter("give either KIND and ID, or --kind KIND (and --force with it)")
    _change(db, key_of(kind, id), Operator.pause if is_paused else Operator.resume, as_json=as_json)


async def _pause_kind(db: str, kind: str, *, force: bool, is_paused: bool) -> None:
    if not force:
        async with opened(db) as store:
            if not await store.list_actions(kinds=[kind], limit=1):
                verb = "pause" if is_paused else "resume"
                raise CommandError(f"no action of the kind {kind} is stored; `--force` will {verb} it all the same")
    async with writable(db) as store:
        operator = Operator(store)
        await (operator.pause_kind(kind) if is_paused else operator.resume_kind(kind))


def retry(kind: KindArgument, id: IdArgument, db: DbOption, as_json: JsonOption = False) -> None:
    """Let a stuck or parked action be driven now.

    Its failures are forgiven. The running app takes it up, or the next one that starts.

    JSON: {action: as in `list`}.
    """
    _change(db, key_of(kind, id), Operator.retry, as_json=as_json)


def _change(
    db: str, key: ActionKey, change: Callable[[Operator, ActionKey], Awaitable[Checkpoint]], *, as_json: bool
) -> None:
    async def write() -> Checkpoint:
        async with writable(db, key) as store:
            return await change(Operator(store), key)

    checkpoint = run(write())
    if as_json:
        emit({"action": action_record(checkpoint)})
        return
    say(f"{key}: {checkpoint.status.value}, version {checkpoint.version}")


def prune(db: DbOption, older_than: AgeOption, as_json: JsonOption = False) -> None:
    """Forget the details of actions that ended long ago.

    State, history and the payloads of spent coins go. Kind, id, status, error, result and facts stay for ever;
    coins that are not spent are not touched.

    JSON: {pruned: how many actions, older_than_s: the age in seconds}.
    """

    async def forget() -> int:
        async with writable(db) as store:
            return await Operator(store).prune(older_than)

    pruned = run(forget())
    if as_json:
        emit({"pruned": pruned, "older_than_s": int(older_than.total_seconds())})
        return
    say(f"pruned {counted(pruned, 'action')}")
