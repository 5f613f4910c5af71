"""From what an action's author wrote as `Changes` to what a store takes, checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from wallet_actions.action import Action
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import MAX_AMOUNT, ActionKey, Coin, Fact
from wallet_actions.errors import InvariantError, UsageError
from wallet_actions.registry import Registry
from wallet_actions.store import EMPTY_DELTA, Delta, NewAction, Statement
from wallet_actions.transition import NO_CHANGES, Changes, Start

MAX_ID_LENGTH = 500


def to_new_action(
    action: Action[Any, Any, Any],
    changes: Changes,
    registry: Registry,
    *,
    now: datetime,
    traceparent: str | None,
) -> NewAction:
    """The first checkpoint of an action, with what is written beside it.

    Raises:
        UsageError: its class is not registered, or its id is not a short text.
        InvariantError: a rule of `Changes` is broken.
    """
    kind = registry.of(action)
    key = action.key
    if not isinstance(key.id, str) or not 0 < len(key.id) <= MAX_ID_LENGTH or not key.id.isprintable():
        raise UsageError(f"an action's id is a printable text of 1 to {MAX_ID_LENGTH} characters ({key.kind})")
    checkpoint = Checkpoint(
        kind=key.kind,
        id=key.id,
        version=0,
        schema_version=kind.schema_version,
        state=kind.encode(action),
        phase=action.phase.tag,
        status=Status.RUNNING,
        created_at=now,
        updated_at=now,
        traceparent=traceparent,
    )
    delta = to_delta(changes, key, registry, now=now, traceparent=traceparent)
    return NewAction(checkpoint, delta, notes=notes_of(changes, key))


def to_delta(
    changes: Changes, key: ActionKey, registry: Registry, *, now: datetime, traceparent: str | None = None
) -> Delta:
    """What a store takes for these changes of an action.

    Raises:
        InvariantError: names the action and the rule that is broken; nothing was written.
    """
    if changes is NO_CHANGES:
        return EMPTY_DELTA
    if not isinstance(changes, Changes):
        raise _broken(key, f"changes are a Changes, not {type(changes).__name__}")
    release, reserve, spend = (_coin_ids(ids, key) for ids in (changes.release, changes.reserve, changes.spend))
    if set(release) & {*reserve, *spend}:
        raise _broken(key, "a coin is either released or kept in one transition")
    return Delta(
        add=_added(changes.add, key),
        release=release,
        reserve=reserve,
        spend=spend,
        counters=tuple(sorted(_checked_counter(name, value, key) for name, value in changes.counters.items())),
        facts=_all_of(Fact, changes.facts, key, "facts are Fact objects"),
        statements=_all_of(Statement, changes.statements, key, "statements are Statement objects"),
        start=tuple(_child(child, key, registry, now, traceparent) for child in changes.start),
    )


def notes_of(changes: Changes, key: ActionKey) -> tuple[str, ...]:
    """The history notes of these changes.

    Raises:
        InvariantError: one of them is not a text.
    """
    return _all_of(str, changes.notes, key, "notes are texts") if changes.notes else ()


def _child(
    child: Action[Any, Any, Any] | Start, key: ActionKey, registry: Registry, now: datetime, traceparent: str | None
) -> NewAction:
    start = Start(child) if isinstance(child, Action) else child
    if not isinstance(start, Start):
        raise _broken(key, "a child is an Action or a Start")
    if start.action.key == key:
        raise _broken(key, "an action does not start itself")
    try:
        return to_new_action(start.action, start.changes, registry, now=now, traceparent=traceparent)
    except UsageError as error:
        raise _broken(key, f"its child cannot be started: {error}") from None


def _added(coins: Sequence[Coin], key: ActionKey) -> tuple[Coin, ...]:
    added = _all_of(Coin, coins, key, "added coins are Coin objects")
    if len({coin.id for coin in added}) != len(added):
        raise _broken(key, "a coin is added once in a transition")
    return added


def _coin_ids(coins: Iterable[Coin | str], key: ActionKey) -> tuple[str, ...]:
    ids = set()
    for coin in coins:
        coin_id = coin.id if isinstance(coin, Coin) else coin
        if not isinstance(coin_id, str) or not coin_id:
            raise _broken(key, "coins are named by Coin or by id")
        ids.add(coin_id)
    return tuple(sorted(ids))


def _checked_counter(name: str, value: int, key: ActionKey) -> tuple[str, int]:
    if not isinstance(name, str) or type(value) is not int or not 0 <= value <= MAX_AMOUNT:
        raise _broken(key, "a counter is a name and an integer from 0 to 2^63 - 1")
    return name, value


def _all_of(wanted: Callable[..., Any], items: Sequence[Any], key: ActionKey, rule: str) -> tuple[Any, ...]:
    kept = tuple(items)
    if not all(isinstance(item, wanted) for item in kept):  # type: ignore[arg-type]
        raise _broken(key, rule)
    return kept


def _broken(key: ActionKey, rule: str) -> InvariantError:
    return InvariantError(f"{key}: {rule}", rule=rule)
