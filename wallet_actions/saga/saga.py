"""A saga: an ordered list of steps as one action."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, JsonValue

from wallet_actions.action import Action
from wallet_actions.errors import ConfigurationError, UsageError
from wallet_actions.saga import backward, forward
from wallet_actions.saga.context import Context, SagaWallet, clock_of
from wallet_actions.saga.flight import Flight
from wallet_actions.saga.rows import Backward, Blocked, Forward, Row, Rows, RowState, SagaResult
from wallet_actions.saga.step import AnyStep, Step, result_type
from wallet_actions.transition import Next, Transition

WalletT = TypeVar("WalletT", bound=SagaWallet)
InputT = TypeVar("InputT", bound=BaseModel)

Plan = tuple[tuple[str, ...], ...]
StepName = str | type[Step[Any, Any, Any]]

_FLIGHT = "calls under way"  # no name of a field or method: the instance's own dictionary comes first


class Saga(Action[WalletT, Forward | Backward | Blocked, SagaResult], Generic[WalletT, InputT]):
    """Steps that are done in order, and undone in reverse if one fails. Subclass it with the wallet and the input.

        class Provision(Saga[Shop, Order], kind="provision", steps=[Reserve, Charge, Ship]): ...

        await engine.start(Provision.new("order-7", Order(sku="a", cents=500)))

    `steps` are the classes that the kind knows, by name. A saga follows them in that order, or the plan that it is
    given: it is stored with the saga, so that one under way keeps its order when the class changes (L-S7). Steps of a
    plan that stand together in a list of their own are a group, and are executed at once.

    A request to cancel is heeded before the next step, at any time until the last one is done, also while a step waits:
    all that was begun is undone, and the saga ends as cancelled. Once it is rolling back, it is refused: that is under
    way.

    Attributes:
        saga_id: what it is about.
        input: frozen; see `Record`.
        plan: the names of the steps, group by group.
        purpose: what sort of work it is: `provision`, `suspend`, `update`, …: free.
        triggered_by: who or what wanted it: free.
        labels: free; to be found by, see `list_sagas`. No secrets in these three.
        reverses: the saga whose steps this one undoes; see `reversal`.
    """

    steps: ClassVar[Mapping[str, type[AnyStep]]] = MappingProxyType({})

    saga_id: str
    input: InputT
    plan: Plan
    purpose: str = ""
    triggered_by: str = ""
    labels: frozenset[str] = frozenset()
    reverses: str | None = None

    def __init_subclass__(cls, *, steps: Sequence[type[AnyStep]] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if steps is not None:
            cls.steps = MappingProxyType(_by_name(cls.__name__, steps))

    @classmethod
    def new(
        cls,
        id: str,
        input: InputT,
        *,
        steps: Sequence[StepName | Sequence[StepName]] | None = None,
        purpose: str = "",
        triggered_by: str = "",
        labels: Iterable[str] = (),
    ) -> Self:
        """A saga to start.

        Args:
            steps: the plan, by class or name; a list in it is a group. Default: all steps of the class, in its order.
        Raises:
            UsageError: no steps, one that the class does not know, one that comes twice, or an input that is not
                frozen.
        """
        if not type(input).model_config.get("frozen"):
            raise UsageError(f"the input {type(input).__name__} of {cls.kind} is not frozen; derive it from Record")
        plan = _plan(cls, [step.name for step in _classes(cls)] if steps is None else steps)
        rows = tuple(Row(step=name) for group in plan for name in group)
        return cls(
            saga_id=id,
            input=input,
            plan=plan,
            purpose=purpose,
            triggered_by=triggered_by,
            labels=frozenset(labels),
            phase=Forward(rows=rows),
        )

    def reversal(self, result: SagaResult) -> Self:
        """A saga that undoes this one, which is done: the same steps, in reverse. It ends done when all is undone.

        Args:
            result: what this one ended with.
        """
        rows = tuple(
            Row(
                step=name, state=RowState.DONE, result=result.results.get(name), started_at=_LONG_AGO, done_at=_LONG_AGO
            )
            for group in self.plan
            for name in group
        )
        return type(self)(
            saga_id=f"{self.saga_id}/reversal",
            input=self.input,
            plan=self.plan,
            purpose="rollback",
            triggered_by=self.triggered_by,
            labels=self.labels,
            reverses=self.saga_id,
            phase=Backward(rows=rows, reason=f"{self.key} is reversed"),
        )

    @property
    def id(self) -> str:
        """What it is about."""
        return self.saga_id

    @property
    def rows(self) -> Rows:
        """The ledger: a row for each step, in the order of the plan."""
        return self.phase.rows

    async def advance(self, wallet: WalletT) -> Transition[Self, SagaResult]:
        """Execute what is due, or undo the next step."""
        match self.phase:
            case Forward():
                return await forward.advance(self, self.phase, wallet)
            case Backward():
                return await backward.advance(self, self.phase, wallet)
            case Blocked():
                return await backward.retry(self, self.phase, wallet)

    async def on_cancel(self, wallet: WalletT) -> Transition[Self, SagaResult] | None:
        """Roll back, once the calls under way have ended; refuse where that is under way."""
        if not isinstance(self.phase, Forward):
            return None
        rows = await forward.landed(self, self.phase, wallet)
        return Next(self.at(Backward(rows=rows, reason="it was cancelled")))

    # For the modules that take its steps

    def flight(self) -> Flight:
        """The calls under way that were handed on to this state of the action."""
        found = self.__dict__.get(_FLIGHT)
        return found if isinstance(found, Flight) else Flight()

    def carrying(self, flight: Flight) -> Self:
        """This state, with calls under way; they are not part of what is stored."""
        self.__dict__[_FLIGHT] = flight
        return self

    def step(self, name: str) -> type[AnyStep]:
        """The class of a step.

        Raises:
            ConfigurationError: none is registered under this name.
        """
        found = self.steps.get(name)
        if found is None:
            raise ConfigurationError(
                f"{self.key}: the step {name!r} is not registered; give its class to `steps` of {type(self).__name__},"
                " under this name or with it among its former_names, then retry"
            )
        return found

    def context(self, row: Row, wallet: WalletT) -> Context[WalletT, InputT]:
        """What a step is called with."""
        results: dict[str, JsonValue] = {one.step: one.result for one in self.rows if one.done_at is not None}
        return Context(
            wallet=wallet,
            input=self.input,
            kind=self.kind,
            saga_id=self.reverses or self.saga_id,
            step=row.step,
            attempt=row.attempts + 1,
            started_at=row.started_at or clock_of(wallet).now(),
            memo=row.memo,
            results=results,
        )


AnySaga = Saga[Any, Any]

_LONG_AGO = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _by_name(owner: str, steps: Sequence[type[AnyStep]]) -> dict[str, type[AnyStep]]:
    known: dict[str, type[AnyStep]] = {}
    for step in steps:
        if not (isinstance(step, type) and issubclass(step, Step)):
            raise UsageError(f"{owner}: steps are classes derived from Step")
        if not step.name:
            raise UsageError(f"{step.__name__} needs a name: class {step.__name__}(…, name='…')")
        result_type(step)
        for name in step.names():
            if name in known:
                raise UsageError(f"{owner}: two steps are called {name!r}")
            known[name] = step
    return known


def _classes(saga: type[AnySaga]) -> list[type[AnyStep]]:
    return list(dict.fromkeys(saga.steps.values()))


def _plan(saga: type[AnySaga], steps: Sequence[StepName | Sequence[StepName]]) -> Plan:
    plan = tuple(
        tuple(_name(saga, step) for step in ([group] if isinstance(group, str | type) else group)) for group in steps
    )
    names = [name for group in plan for name in group]
    if not names or not all(plan):
        raise UsageError(f"a saga of {saga.kind} needs at least one step, and so does each group")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"a step comes once in a plan: {', '.join(sorted(twice))}")
    return plan


def _name(saga: type[AnySaga], step: StepName) -> str:
    name = step if isinstance(step, str) else step.name
    if name not in saga.steps:
        known = ", ".join(saga.steps) or "none"
        raise UsageError(f"{saga.kind} has no step {name!r} (there are: {known})")
    return saga.steps[name].name
