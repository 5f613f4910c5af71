"""An operation that moves money, as a state machine."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Self

from pydantic import BaseModel, ConfigDict, model_validator
from typing_extensions import TypeVar

from wallet_actions.coins import ActionKey
from wallet_actions.errors import RejectedError
from wallet_actions.retry import RetryPolicy
from wallet_actions.transition import Failed, Failure, Park, Transition

WalletT = TypeVar("WalletT")
PhaseT = TypeVar("PhaseT")
ResultT = TypeVar("ResultT", default=None)

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the stored state of one schema version into the next one's; plain JSON in, plain JSON out."""

PERSISTED = ConfigDict(
    frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64", hide_input_in_errors=True
)
"""The configuration of every model that is stored; give it to models of your own that a phase holds.

A validation error does not quote what it was given: that may be a secret.
"""


class Phase(BaseModel):
    """One phase of an action, holding exactly what exists by then.

    On disk it carries a tag: its class's name in snake case. Renaming the class is a change of the schema.
    """

    model_config = PERSISTED
    tag: ClassVar[str] = "phase"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.tag = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower().lstrip("_")

    @model_validator(mode="before")
    @classmethod
    def _check_tag(cls, value: Any) -> Any:
        if isinstance(value, dict) and "tag" in value:
            if value["tag"] != cls.tag:
                raise ValueError(f"this is the phase {value['tag']!r}, not {cls.tag!r}")
            value = value.copy()
            del value["tag"]
        return value


@cache
def field_names(model: type[BaseModel]) -> tuple[str, ...]:
    """The names of a model's fields, for what runs in every transition: pydantic takes longer to tell."""
    return tuple(model.model_fields)


class Action(BaseModel, ABC, Generic[WalletT, PhaseT, ResultT]):
    """A small state machine: immutable parameters, and a `phase` that moves.

    Subclass it with the wallet it acts on, a union of its phases, and its result:
    `class TopUp(Action[Wallet, Unpaid | Paid, Receipt], kind="top_up")`. A change of the stored shape wants the next
    `schema_version` and an entry in `upgrades` for the one before.

    The methods MUST be re-entrant: after a crash they are called again for the same phase, and the step before may have
    reached the peer. So a call carries keys that are already in the checkpoint, and looks before it repeats.

    Class attributes:
        kind: names the class in the database, for ever.
        schema_version: the shape of what is stored, ≥ 1.
        upgrades: by schema version, how to reach the next one (L-U1).
        retry: the retry policy of the kind.
    """

    model_config = PERSISTED
    kind: ClassVar[str] = ""
    schema_version: ClassVar[int] = 1
    upgrades: ClassVar[Mapping[int, Upgrade]] = MappingProxyType({})
    retry: ClassVar[RetryPolicy] = RetryPolicy()

    phase: PhaseT

    def __init_subclass__(cls, *, kind: str | None = None, schema_version: int | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind is not None:
            cls.kind = kind
        if schema_version is not None:
            cls.schema_version = schema_version

    @property
    @abstractmethod
    def id(self) -> str:
        """What the action is about, stable and public: a payment hash, a quote id. The same id is the same action."""

    @property
    def key(self) -> ActionKey:
        """Kind and id."""
        return ActionKey(self.kind, self.id)

    @property
    def tenant(self) -> str:
        """On whose behalf it is; never changes. A fleet gives each tenant its turn; it means nothing beside that."""
        return ""

    def at(self, phase: PhaseT) -> Self:
        """This action in another phase.

        Raises:
            pydantic.ValidationError: not a phase of this action.
        """
        state, names = self.__dict__, field_names(type(self))
        # A cached property lives there too.
        fields = state.copy() if len(state) == len(names) else {name: state[name] for name in names}
        fields["phase"] = phase
        moved: Self = type(self).__pydantic_validator__.validate_python(fields)
        return moved

    @abstractmethod
    async def advance(self, wallet: WalletT) -> Transition[Self, ResultT]:
        """Take the step that the phase calls for. MUST be re-entrant.

        Raises:
            RejectedError: the peer refused and nothing changed there: `on_rejection` decides.
            TransientError: it may work later, or the outcome is unknown: `on_retry` decides.
            ConfigurationError: a person has to act: parked long, coins held.
            InvariantError: stuck, coins held.
        """

    async def on_rejection(self, wallet: WalletT, error: RejectedError) -> Transition[Self, ResultT]:
        """Decide what a refusal means in this phase (L-D7). MUST be re-entrant. By default the action has failed."""
        return Failed(error)

    async def on_retry(self, wallet: WalletT, failure: Failure) -> Transition[Self, ResultT]:
        """Decide what to do after a transient failure. MUST be re-entrant. By default park for the back-off.

        `Next` goes on from there after the back-off, never at once.
        """
        return Park(self, wake_after=failure.delay, error=failure.error)

    async def on_cancel(self, wallet: WalletT) -> Transition[Self, ResultT] | None:
        """Answer a request to cancel. MUST be re-entrant. By default refuse.

        Returns:
            None refuses: the request is dropped and the action goes on. `Failed` ends it as cancelled, here or in a
            later step that this transition leads to.
        Raises:
            RejectedError: the peer will not call it back; it counts as None, and `on_rejection` is not asked.
            TransientError, ConfigurationError, InvariantError: as `advance`; the request stands and is asked again.
        """
        return None
