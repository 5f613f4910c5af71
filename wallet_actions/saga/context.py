"""What a step is given: the wallet, the saga's input, and what the steps before it returned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, JsonValue

from wallet_actions.clock import Clock
from wallet_actions.errors import ConfigurationError, InvariantError
from wallet_actions.saga.step import Step

WalletT = TypeVar("WalletT")
InputT = TypeVar("InputT", bound=BaseModel)
ResultT = TypeVar("ResultT")


class SagaWallet(Protocol):
    """What a saga itself wants of the wallet: the engine's clock, for deadlines and back-offs."""

    @property
    def clock(self) -> Clock:
        """The clock of the engine that drives the saga."""
        ...


def clock_of(wallet: SagaWallet) -> Clock:
    """The clock that a saga goes by.

    Raises:
        ConfigurationError: the wallet has none.
    """
    clock = getattr(wallet, "clock", None)
    if clock is None:
        raise ConfigurationError(f"a saga wants a wallet with a `clock`, and {type(wallet).__name__} has none")
    found: Clock = clock
    return found


def until(moment: datetime | None, now: datetime) -> timedelta:
    """How long it is until then; nothing where that has passed."""
    return max(moment - now, timedelta(0)) if moment is not None else timedelta(0)


@dataclass(frozen=True, slots=True)
class Context(Generic[WalletT, InputT]):
    """What a step is given.

    Attributes:
        wallet: what the engine was given.
        input: the saga's; immutable.
        kind, saga_id: the saga whose steps these are: of a reversal, the one that is reversed.
        step: the name of this step.
        attempt: which call in a row this is, from 1.
        started_at: when the step began, UTC.
        memo: what its last `Wait` left; None at first.
        results: what steps returned, as JSON, by name. Read them with `result` and `get`.
    """

    wallet: WalletT
    input: InputT
    kind: str
    saga_id: str
    step: str
    attempt: int
    started_at: datetime
    memo: JsonValue = field(default=None, repr=False)
    results: Mapping[str, JsonValue] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> str:
        """The same text at every call of this step in this saga, and no other's: what a peer may know the step by."""
        return f"{self.kind}/{self.saga_id}/{self.step}"

    def get(self, step: type[Step[Any, Any, ResultT]]) -> ResultT | None:
        """What a step returned; None where it has not returned, this one included.

        Raises:
            ConfigurationError: it was written by other code, and this code cannot read it.
        """
        for name in step.names():
            if name in self.results:
                return step.decode(self.results[name])
        return None

    def result(self, step: type[Step[Any, Any, ResultT]]) -> ResultT:
        """What a step before this one returned.

        Raises:
            InvariantError: it is not before this one in the plan.
            ConfigurationError: as `get`.
        """
        if not any(name in self.results for name in step.names()):
            raise InvariantError(
                f"{self.kind} {self.saga_id}: the step {self.step} asks for the result of {step.name}, which has none",
                rule="a step uses the results of steps before it",
            )
        return step.decode(next(self.results[name] for name in step.names() if name in self.results))
