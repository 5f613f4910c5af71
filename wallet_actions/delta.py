"""From what an action's author wrote as `Changes` to what a store takes, checked before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel

from wallet_actions.action import Action
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import MAX_AMOUNT, ActionKey, Coin, Fact
from wallet_actions.errors import InvariantError, UsageError
from wallet_actions.registry import Registry
from wallet_actions.store import EMPTY_DELTA, Delta, NewAction, Statement
from wallet_actions.transition import NO_CHANGES, Changes, Start

MAX_ID_LENGTH = 500

T = TypeVar("T")


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
        tenant=_tenant(action),
    )
    delta = to_delta(changes, key, registry, now=now, traceparent=traceparent)
    return NewAction(checkpoint, delta, notes=notes_of(changes, key))


def _tenant(action: Action[Any, Any, Any]) -> str:
    tenant = action.tenant
    if not _is_text(tenant) or len(tenant) > MAX_ID_LENGTH:
        raise UsageError(f"an action's tenant is a text of at most {MAX_ID_LENGTH} characters ({action.kind})")
    return tenant


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
    release, reserve, spend = (_coin_ids(coins, key) for coins in (changes.release, changes.reserve, changes.spend))
    if set(release) & {*reserve, *spend}:
        raise _broken(key, "a coin is either released or kept in one transition")
    return Delta(
        add=_added(changes.add, key),
        release=release,
        reserve=reserve,
        spend=spend,
        counters=_counters(changes.counters, key),
        facts=_facts(changes.facts, key),
        statements=_statements(changes.statements, key),
        start=tuple(
            _child(child, key, registry, now, traceparent) for child in _items(changes.start, key, "child actions")
        ),
    )


def notes_of(changes: Changes, key: ActionKey) -> tuple[str, ...]:
    """The history notes of these changes.

    Raises:
        InvariantError: one of them is not a text.
    """
    if not changes.notes and isinstance(changes.notes, tuple | list):
        return ()
    notes = _items(changes.notes, key, "notes")
    if not all(_is_text(note) for note in notes):
        raise _broken(key, "notes are texts")
    return notes


def _child(child: object, key: ActionKey, registry: Registry, now: datetime, traceparent: str | None) -> NewAction:
    start = Start(child, NO_CHANGES) if isinstance(child, Action) else child
    if not isinstance(start, Start) or not isinstance(start.action, Action):
        raise _broken(key, "a child is an Action or a Start")
    if start.action.key == key:
        raise _broken(key, "an action does not start itself")
    try:
        return to_new_action(start.action, start.changes, registry, now=now, traceparent=traceparent)
    except UsageError as error:
        raise _broken(key, f"its child cannot be started: {error}") from None


def _added(coins: Iterable[Coin], key: ActionKey) -> tuple[Coin, ...]:
    added = _items(coins, key, "added coins")
    for coin in added:
        if not isinstance(coin, Coin):
            raise _broken(key, "added coins are Coin objects")
        if not all(map(_is_name, (coin.id, coin.account, coin.unit))) or not _is_text(coin.payload):
            raise _broken(key, "a coin's id, account, unit and payload are texts")
        if type(coin.amount) is not int or not 0 < coin.amount <= MAX_AMOUNT:
            raise _broken(key, "a coin's amount is an integer from 1 to 2^63 - 1")
    if len({coin.id for coin in added}) != len(added):
        raise _broken(key, "a coin is added once in a transition")
    return added


def _coin_ids(coins: Iterable[Coin | str], key: ActionKey) -> tuple[str, ...]:
    ids = [coin.id if isinstance(coin, Coin) else coin for coin in _items(coins, key, "coins")]
    if not all(_is_name(coin_id) for coin_id in ids):
        raise _broken(key, "coins are named by Coin or by id")
    return tuple(sorted(set(ids)))


def _counters(counters: Mapping[str, int], key: ActionKey) -> tuple[tuple[str, int], ...]:
    if not isinstance(counters, Mapping):
        raise _broken(key, "counters are a mapping of names to values")
    for name, value in counters.items():
        if not _is_name(name) or type(value) is not int or not 0 <= value <= MAX_AMOUNT:
            raise _broken(key, "a counter is a name and an integer from 0 to 2^63 - 1")
    return tuple(sorted(counters.items()))


def _facts(facts: Iterable[Fact], key: ActionKey) -> tuple[Fact, ...]:
    kept = _items(facts, key, "facts")
    for fact in kept:
        if not isinstance(fact, Fact):
            raise _broken(key, "facts are Fact objects")
        if not (_is_name(fact.kind) and _is_name(fact.key) and _is_text(fact.body)):
            raise _broken(key, "a fact's kind, key and body are texts")
    return kept


def _statements(statements: Iterable[Statement], key: ActionKey) -> tuple[Statement, ...]:
    kept = _items(statements, key, "statements")
    for statement in kept:
        if not isinstance(statement, Statement) or not _is_text(statement.sql):
            raise _broken(key, "statements are Statement objects, each with its SQL")
    return kept


def _items(items: Iterable[T], key: ActionKey, what: str) -> tuple[T, ...]:
    # A single text would pass for a sequence of its letters, and a model for one of its fields.
    if isinstance(items, Iterable) and not isinstance(items, str | bytes | BaseModel):
        return tuple(items)
    raise _broken(key, f"{what} come as a sequence, not as {type(items).__name__}")


def _is_name(value: object) -> bool:
    return bool(value) and _is_text(value)


def _is_text(value: object) -> bool:
    """Whether it is a text that any store can keep: half a surrogate pair is none."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _broken(key: ActionKey, rule: str) -> InvariantError:
    return InvariantError(f"{key}: {rule}", rule=rule)
