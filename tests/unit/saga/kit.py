"""A workshop whose peer knows what was made and unmade, sagas over it, and an engine's parts around them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from wallet_actions.action import Action
from wallet_actions.checkpoint import Status
from wallet_actions.coins import ActionKey
from wallet_actions.errors import RejectedError, TransientError
from wallet_actions.executor import Executor
from wallet_actions.operator import Operator
from wallet_actions.registry import Registry
from wallet_actions.saga import Context, Record, Row, RowState, Saga, SagaResult, Step, Wait, ledger, list_sagas
from wallet_actions.store import Store
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.life import Life
from wallet_actions.testing.world import World
from wallet_actions_storage.memory import MemoryStore

SECOND = timedelta(seconds=1)

Answer = Callable[[], Any]


class Job(Record):
    """The input.

    Attributes:
        fails: the steps that the peer refuses.
        waits: the steps that are polled once before they are there.
        sticks: the steps that the peer will not undo.
    """

    fails: frozenset[str] = frozenset()
    waits: frozenset[str] = frozenset()
    sticks: frozenset[str] = frozenset()


class Made(Record):
    key: str


class Peer:
    """Makes a thing a key, once, and unmakes it, for good: a request that comes too late makes it no more.

    Attributes:
        things: what is there.
        log: what changed, in order.
        counts: how often each thing was made.
    """

    def __init__(self) -> None:
        self.things: set[str] = set()
        self.gone: set[str] = set()
        self.log: list[str] = []
        self.counts: Counter[str] = Counter()

    async def make(self, key: str) -> str:
        await asyncio.sleep(0)
        if key not in self.things | self.gone:
            self.things.add(key)
            self.log.append(f"+{key}")
            self.counts[key] += 1
        return key

    async def unmake(self, key: str) -> None:
        await asyncio.sleep(0)
        self.gone.add(key)
        if key in self.things:
            self.things.remove(key)
            self.log.append(f"-{key}")


@dataclass
class Shop:
    """The wallet.

    Attributes:
        answers: what calls do in place of making and unmaking, by `execute a` or `compensate a`; the last one stays.
        calls: all calls, in order.
    """

    peer: Peer
    clock: FakeClock
    store: Store
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    async def call(self, name: str, otherwise: Callable[[], Awaitable[Any]]) -> Any:
        self.calls.append(name)
        answers = self.answers.get(name)
        if not answers:
            return await otherwise()
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        value = answer()
        return await value if isinstance(value, Awaitable) else value

    def answer(self, name: str, *answers: Answer) -> None:
        self.answers[name] = list(answers)


def thing(context: Context[Any, Any]) -> str:
    return f"{context.saga_id}/{context.step}"


class Making(Step[Shop, Job, Made]):
    async def execute(self, context: Context[Shop, Job]) -> Made | Wait:
        async def make() -> Made | Wait:
            if context.step in context.input.fails:
                await context.wallet.peer.make(thing(context))  # it came half way
                raise RejectedError("the peer refuses")
            key = await context.wallet.peer.make(thing(context))
            if not isinstance(key, str) or key != thing(context):
                raise TransientError("not an answer of this peer")
            if context.step in context.input.waits and context.memo is None:
                return Wait(5 * SECOND, memo={"made": key})
            return Made(key=key)

        made: Made | Wait = await context.wallet.call(f"execute {context.step}", make)
        return made

    async def compensate(self, context: Context[Shop, Job]) -> Wait | None:
        async def unmake() -> None:
            if context.step in context.input.sticks:
                raise RejectedError("the peer keeps it")
            await context.wallet.peer.unmake(thing(context))

        waits: Wait | None = await context.wallet.call(f"compensate {context.step}", unmake)
        return waits


class A(Making, name="a"): ...


class B(Making, name="b"): ...


class C(Making, name="c"): ...


class D(Making, name="d"): ...


class E(Making, name="e"): ...


class Work(Saga[Shop, Job], kind="work", steps=[A, B, C, D, E]):
    """Makes up to five things."""


def fail(error: Exception) -> Answer:
    def answer() -> Any:
        raise error

    return answer


class Rig:
    """An executor on an empty memory, and a clock that stands still."""

    def __init__(self, *kinds: type[Action[Any, Any, Any]]) -> None:
        self.clock = FakeClock()
        self.peer = Peer()
        self.memory = MemoryStore()
        self.kinds = kinds or (Work,)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Rig]:
        async with self.memory.peer() as store:
            self.store = store
            self.shop = Shop(self.peer, self.clock, store)
            self.restart(*self.kinds)
            yield self

    def restart(self, *kinds: type[Action[Any, Any, Any]]) -> None:
        """A new process, perhaps of newer code."""
        self.executor = Executor(self.store, self.shop, Registry(kinds or self.kinds), clock=self.clock)
        self.operator = Operator(self.store, clock=self.clock)

    async def rows(self, key: ActionKey) -> Sequence[Row]:
        return await ledger(self.store, key)

    async def states(self, key: ActionKey) -> list[str]:
        return [row.state.value for row in await self.rows(key)]


class ShopWorld(World[Shop]):
    """A workshop in which a sweep can crash everything."""

    kinds: ClassVar[Sequence[type[Action[Any, Any, Any]]]] = [Work]

    def __init__(self) -> None:
        super().__init__()
        self.peer = Peer()

    def wallet(self, life: Life, store: Store) -> Shop:
        return Shop(life.peer(self.peer, "peer"), self.clock, store)

    def effects(self) -> Mapping[str, int]:
        return self.peer.counts

    def refusal(self, name: str) -> Exception | None:
        return RejectedError("the peer refuses") if name == "peer.make" else None

    async def check(self, said: Iterable[str] = ()) -> list[str]:
        found = await super().check(said)
        async with self.store() as store:
            return found + await whole_or_nothing(store, self.peer)


async def whole_or_nothing(store: Store, peer: Peer) -> list[str]:
    """A saga that is done has made everything; one that has ended otherwise, or was reversed, has left nothing.

    What was undone was undone in reverse; nothing was made by a step that the ledger does not call begun; and one that
    is stuck is so for its failed compensations alone.
    """
    found: list[str] = []
    infos = await list_sagas(store, limit=1000)
    reversals = {info.key.id.removesuffix("/reversal"): info for info in infos if info.key.id.endswith("/reversal")}
    for info in infos:
        if info.key.id.endswith("/reversal"):
            continue
        every = await ledger(store, info.key)
        rows = {f"{info.key.id}/{row.step}": row for row in every if row.step != "inner"}
        order = list(rows)
        there = {key for key in rows if key in peer.things}
        begun = {key for key, row in rows.items() if row.state is not RowState.PENDING}
        has_failed = any(row.state is RowState.COMPENSATION_FAILED for row in every)
        failed = {key for key, row in rows.items() if row.state is RowState.COMPENSATION_FAILED}
        undone = [order.index(line[1:]) for line in peer.log if line[0] == "-" and line[1:] in rows]
        if made := {line[1:] for line in peer.log if line[1:] in rows} - begun:
            found.append(f"{info.key} made {sorted(made)} without a row that says so")
        if undone != sorted(undone, reverse=True):
            found.append(f"{info.key} was undone in the order {undone}")
        match info.status:
            case Status.DONE if (reversal := reversals.get(info.key.id)) is not None:
                left = await ledger(store, reversal.key) if reversal.status is Status.STUCK else ()
                expected = {f"{info.key.id}/{row.step}" for row in left if row.state is RowState.COMPENSATION_FAILED}
            case Status.DONE:
                expected = set(rows)
            case Status.STUCK:
                expected = there & failed
                if not has_failed or set(info.steps) - {"pending", "compensated", "compensation_failed"}:
                    found.append(f"{info.key} is stuck with {info.steps}")
            case Status.FAILED | Status.CANCELLED:
                expected = set()
                if set(info.steps) - {"pending", "compensated"}:
                    found.append(f"{info.key} is {info.status.value} with {info.steps}")
            case _:
                found.append(f"{info.key} has not ended: {info.status.value}")
                continue
        if there != expected:
            found.append(f"{info.key} is {info.status.value}, and {sorted(there)} is there")
    return found


def results(result: SagaResult | None) -> list[str]:
    return sorted(result.results) if result is not None else []
