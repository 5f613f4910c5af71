"""One step of a saga, and what it answers."""

from __future__ import annotations

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, JsonValue

from wallet_actions.action import PERSISTED, Action
from wallet_actions.codec import ResultCodec, fault
from wallet_actions.errors import ConfigurationError, InvariantError, UsageError
from wallet_actions.retry import RetryPolicy
from wallet_actions.transition import Start

if TYPE_CHECKING:
    from wallet_actions.saga.context import Context

WalletT = TypeVar("WalletT")
InputT = TypeVar("InputT", bound=BaseModel)
ResultT = TypeVar("ResultT")


class Record(BaseModel):
    """Base of a saga's input and of what its steps return: frozen, and stored."""

    model_config = PERSISTED


@dataclass(frozen=True, slots=True)
class Wait:
    """Not finished: call the same method again later.

    Attributes:
        after: how long to wait, at least 10 ms. A notification of the saga, or an operator, may come earlier.
        memo: what the next call shall find as `context.memo`; None leaves what is there. No model: plain JSON.
        start: actions to start with this write; one that exists already is left alone.
    """

    after: timedelta
    memo: JsonValue = field(default=None, repr=False)
    start: Sequence[Action[Any, Any, Any] | Start] = ()


class Step(ABC, Generic[WalletT, InputT, ResultT]):
    """Something that can be done and undone. Subclass it with the wallet, the saga's input and what it returns.

    As in `class Reserve(Step[Shop, Order, Reserved], name="reserve")`

    Both methods MUST be re-entrant: after a crash, or after an answer that was lost, they are called again, and the
    call before may have reached the peer. So they use keys that follow from the context (`context.key`), and look
    before they repeat. `compensate` is called for every step that was begun, also if `execute` never came to its peer,
    failed, or was cut off; what is not there is undone already. An instance is made for each call, without arguments.

    What is raised means:

    | raised | by `execute` | by `compensate` |
    |---|---|---|
    | `RejectedError` | it has failed: all is rolled back | it has failed |
    | `TransientError`, time-outs, … | again after the back-off, `max_attempts` times | `compensation_attempts` times |
    | `ConfigurationError`, a wrong type | parked, the operator is told; again | the same: never skipped |
    | `InvariantError` | stuck; again once a person says so | it has failed |
    | anything else | as transient, within the policy's fault budget | the same |

    A compensation that has failed is passed over until all others are undone; then the saga is stuck, and the next
    drive (an operator's retry, a start-up) tries it once more.

    Class attributes:
        name: names the class in the database, for ever. A class that is renamed keeps it, or lists it in
            `former_names`.
        retry: how long to wait between calls that fail, and the fault budget.
        max_attempts: with how many failures in a row it has failed; None never gives up.
        deadline: how long after its beginning it has failed, also in the middle of a call; None for never.
        compensation_attempts: with how many failures in a row its compensation has failed.
    """

    name: ClassVar[str] = ""
    former_names: ClassVar[tuple[str, ...]] = ()
    retry: ClassVar[RetryPolicy] = RetryPolicy()
    max_attempts: ClassVar[int | None] = None
    deadline: ClassVar[timedelta | None] = None
    compensation_attempts: ClassVar[int] = 30

    def __init_subclass__(cls, *, name: str = "", former_names: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = name or cls.name
        cls.former_names = (*former_names,)

    @abstractmethod
    async def execute(self, context: Context[WalletT, InputT]) -> ResultT | Wait:
        """Do it. MUST be re-entrant. See the class for what it may raise."""

    @abstractmethod
    async def compensate(self, context: Context[WalletT, InputT]) -> Wait | None:
        """Undo it, whether or not it was done. MUST be re-entrant. See the class for what it may raise."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """All names that it answers to in stored sagas."""
        return (cls.name, *cls.former_names)

    @classmethod
    def encode(cls, result: object) -> JsonValue:
        """A result as it is stored.

        Raises:
            ConfigurationError: it is not what the class declares.
        """
        try:
            value: JsonValue = json.loads(_codec(cls).encode(result))
        except InvariantError:
            raise ConfigurationError(
                f"the step {cls.name} returned what is of type {type(result).__name__}, and it declares"
                f" {_told(result_type(cls))}: mend its code, then retry"
            ) from None
        return value

    @classmethod
    def decode(cls, value: JsonValue) -> ResultT:
        """A result that was stored.

        Raises:
            ConfigurationError: this code cannot read it.
        """
        try:
            result: ResultT = _codec(cls).decode(json.dumps(value))
        except Exception as error:  # noqa: BLE001 validators are other people's code
            raise ConfigurationError(
                f"what the step {cls.name} returned cannot be read by this code ({fault(error)}): mend it, then retry"
            ) from None
        return result


AnyStep = Step[Any, Any, Any]


def result_type(step: type[AnyStep]) -> Any:
    """What a class declares to return.

    Raises:
        UsageError: it does not say.
    """
    arguments = _arguments(step)
    if arguments is None or isinstance(arguments[2], TypeVar):
        raise UsageError(f"{step.__name__} needs its types: Step[Wallet, Input, Result]")
    return arguments[2]


@functools.cache
def _codec(step: type[AnyStep]) -> ResultCodec:
    return ResultCodec(step.name, result_type(step))


def _arguments(step: type[Any]) -> tuple[Any, ...] | None:
    """The three types that `Step` got, however many generic classes lie between."""
    for base in getattr(step, "__orig_bases__", ()):
        origin = get_origin(base)
        if origin is Step:
            return get_args(base)
        if isinstance(origin or base, type) and issubclass(origin or base, Step):
            inherited = _arguments(origin or base)
            if inherited is not None:
                given = dict(zip(getattr(origin, "__parameters__", ()), get_args(base), strict=False))
                return tuple(given.get(argument, argument) for argument in inherited)
    for base in step.__bases__:
        if issubclass(base, Step) and base is not Step and (inherited := _arguments(base)) is not None:
            return inherited
    return None


def _told(declared: Any) -> str:
    return getattr(declared, "__name__", str(declared))
