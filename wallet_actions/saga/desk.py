"""Starting, reversing and finding sagas."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.engine import Engine
from wallet_actions.errors import UsageError
from wallet_actions.executor import Executor
from wallet_actions.outcome import Started
from wallet_actions.registry import Registry
from wallet_actions.saga.rows import SagaResult, stored
from wallet_actions.saga.saga import AnySaga, Plan, Saga, StepName
from wallet_actions.store import Store

InputT = TypeVar("InputT", bound=BaseModel)

PAGE = 500


@dataclass(frozen=True, slots=True)
class SagaInfo:
    """A saga in a list.

    Attributes:
        checkpoint: its row.
        purpose, triggered_by, labels, reverses: as it was started with.
        plan: the names of the steps, group by group.
        reason: why it is rolled back; empty where it is not.
        steps: how many there are, by state.
    """

    checkpoint: Checkpoint
    purpose: str
    triggered_by: str
    labels: frozenset[str]
    reverses: str | None
    plan: Plan
    reason: str
    steps: dict[str, int]

    @property
    def key(self) -> ActionKey:
        """Kind and id."""
        return self.checkpoint.key

    @property
    def status(self) -> Status:
        """Where it stands."""
        return self.checkpoint.status


async def start_saga(
    engine: Engine | Executor,
    kind: type[Saga[Any, InputT]],
    id: str,
    input: InputT,
    steps: Sequence[StepName | Sequence[StepName]] | None = None,
    *,
    purpose: str = "",
    triggered_by: str = "",
    labels: Iterable[str] = (),
) -> Started[SagaResult]:
    """Make a saga of these steps and start it; see `Saga.new` and `Engine.start`.

    Raises:
        UsageError: as these; nothing was started.
    Durability: committed when it returns. Idempotent: by kind and id.
    """
    saga = kind.new(id, input, steps=steps, purpose=purpose, triggered_by=triggered_by, labels=labels)
    return await engine.start(saga)


async def start_reversal(engine: Engine | Executor, kind: type[AnySaga], id: str) -> Started[SagaResult]:
    """Undo a saga that is done: start its reversal.

    Returns:
        What `Engine.start` does; wait for the key's result to see it undone.
    Raises:
        UsageError: it is not done, is a reversal itself, or its details were pruned; nothing was started.
        CheckpointDecodeError: this code cannot read it.
    Durability: committed when it returns. Idempotent: a saga has one reversal.
    """
    executor = engine.executor if isinstance(engine, Engine) else engine
    key = ActionKey(kind.kind, id)
    checkpoint = await executor.store.load(key)
    if checkpoint is None or checkpoint.status is not Status.DONE:
        raise UsageError(f"{key} is not done; only what is done can be reversed")
    if checkpoint.state is None:
        raise UsageError(f"the details of {key} were pruned; its input is not known any more")
    saga = executor.registry.decode(checkpoint)
    if not isinstance(saga, Saga) or saga.reverses is not None:
        raise UsageError(f"{key} is not a saga that can be reversed")
    result = executor.registry.named(key).result.decode(checkpoint.result)
    started: Started[SagaResult] = await engine.start(saga.reversal(result))
    return started


async def list_sagas(
    where: Engine | Executor | Store,
    *,
    statuses: Collection[Status] | None = None,
    kinds: Collection[str] | None = None,
    purpose: str | None = None,
    label: str | None = None,
    triggered_by: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[SagaInfo]:
    """A page of sagas, oldest first, and no other actions. One whose details were pruned is not listed any more.

    Args:
        where: an engine or an executor, whose registered kinds are looked through; or a store alone, and then also
            sagas are found that no code here knows, at the cost of passing over whatever else it holds.
        statuses, kinds, purpose, label, triggered_by: only those; None does not choose.
        after: the `checkpoint.row` of the last one seen, 0 to begin.
    Cost: reads the actions of these statuses and kinds until the page is full.
    """
    if isinstance(where, Engine | Executor):
        executor = where.executor if isinstance(where, Engine) else where
        store, known = executor.store, saga_kinds(executor.registry)
        kinds = known if kinds is None else known & set(kinds)
    else:
        store = where
    found: list[SagaInfo] = []
    while page := await store.list_actions(statuses=statuses, kinds=kinds, after=after, limit=PAGE):
        after = page[-1].row
        for checkpoint in page:
            info = info_of(checkpoint)
            if info is None or (purpose is not None and info.purpose != purpose):
                continue
            if (label is not None and label not in info.labels) or triggered_by not in (None, info.triggered_by):
                continue
            found.append(info)
            if len(found) >= limit:
                return found
    return found


def saga_kinds(registry: Registry) -> frozenset[str]:
    """The names of the kinds that are sagas."""
    names = registry.schema_versions()
    return frozenset(name for name in names if issubclass(registry.named(ActionKey(name, "")).action_class, Saga))


def info_of(checkpoint: Checkpoint) -> SagaInfo | None:
    """What a row says of a saga, by the database alone; None for what is no saga, or was pruned."""
    fields = stored(checkpoint)
    if fields is None:
        return None
    states = [row.get("state", "pending") for row in fields["phase"].get("rows", ()) if isinstance(row, dict)]
    return SagaInfo(
        checkpoint=checkpoint,
        purpose=fields.get("purpose", ""),
        triggered_by=fields.get("triggered_by", ""),
        labels=frozenset(fields.get("labels", ())),
        reverses=fields["reverses"],
        plan=tuple(tuple(group) for group in fields["plan"]),
        reason=fields["phase"].get("reason", ""),
        steps={state: states.count(state) for state in dict.fromkeys(states)},
    )
