"""What a step of an action answers, and what it wants written with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, cast

from typing_extensions import TypeVar

from wallet_actions.coins import Coin, Fact
from wallet_actions.store import Statement

if TYPE_CHECKING:
    from wallet_actions.action import Action

ActionT_co = TypeVar("ActionT_co", covariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True, default=None)
ActionT = TypeVar("ActionT")
ResultT = TypeVar("ResultT", default=None)


@dataclass(frozen=True, slots=True)
class Start:
    """An action to start, with what is written in the same transaction."""

    action: Action[Any, Any, Any]
    changes: Changes = field(default_factory=lambda: Changes())


@dataclass(frozen=True, slots=True)
class Changes:
    """What commits with a transition, or not at all (G1).

    Applied in this order: add, release, reserve, spend, counters, facts, statements, children. The rules of each are
    those of `wallet_actions.store.Delta`.

    Attributes:
        add: new coins.
        release: coins that this action holds, free again; coins or their ids.
        reserve: spendable coins that this action shall hold, all or nothing.
        spend: coins that this action holds, gone for ever. Spend the inputs before or with `Done`: it frees the rest.
        counters: raises a durable counter to at least a value.
        facts: what outlives the action.
        notes: lines for the history; no secrets.
        statements: SQL of the embedding app, on its own tables.
        start: child actions; one that exists already is left alone.
    """

    add: Sequence[Coin] = ()
    release: Sequence[Coin | str] = ()
    reserve: Sequence[Coin | str] = ()
    spend: Sequence[Coin | str] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    facts: Sequence[Fact] = ()
    notes: Sequence[str] = ()
    statements: Sequence[Statement] = ()
    start: Sequence[Action[Any, Any, Any] | Start] = ()


NO_CHANGES = Changes()


@dataclass(frozen=True, slots=True)
class Next(Generic[ActionT_co]):
    """Go on with this action: the next step runs once this is on disk."""

    action: ActionT_co
    changes: Changes = NO_CHANGES


@dataclass(frozen=True, slots=True)
class Park(Generic[ActionT_co]):
    """Come back later.

    Attributes:
        wake_after: how long to stay parked, at least 10 ms; None waits for a notification or the next sync.
        error: what caused it; it is kept, told to the caller, and counts as a failed attempt (L-D3).
    """

    action: ActionT_co
    wake_after: timedelta | None = None
    error: Exception | None = field(default=None, repr=False)
    changes: Changes = NO_CHANGES


@dataclass(frozen=True, slots=True)
class Done(Generic[ResultT_co]):
    """The action has succeeded. Coins that it still holds go back to spendable."""

    result: ResultT_co = field(default=cast("ResultT_co", None), repr=False)
    changes: Changes = NO_CHANGES


@dataclass(frozen=True, slots=True)
class Failed:
    """The action has ended without success, on proof. Coins that it still holds go back to spendable.

    Attributes:
        error: why, for the user: an error of this library, or a sentence. No secrets.
    """

    error: Exception | str = field(repr=False)
    changes: Changes = NO_CHANGES


Transition: TypeAlias = Next[ActionT] | Park[ActionT] | Done[ResultT] | Failed


@dataclass(frozen=True, slots=True)
class Failure:
    """What `on_retry` is told.

    Attributes:
        error: what the step raised.
        attempts: how many times in a row it has failed by now, ≥ 1.
        delay: what the retry policy and the peer make of that.
    """

    error: Exception = field(repr=False)
    attempts: int
    delay: timedelta
