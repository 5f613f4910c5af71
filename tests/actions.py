"""Small actions, the peers that they talk to, and an engine's parts around them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Self

from pydantic import BaseModel, SecretStr

from wallet_actions.action import Action, Phase
from wallet_actions.checkpoint import Checkpoint, HistoryEntry, Status
from wallet_actions.clock import Clock
from wallet_actions.coins import ActionKey, Coin
from wallet_actions.errors import RejectedError
from wallet_actions.events import Event
from wallet_actions.executor import Executor
from wallet_actions.operator import Operator
from wallet_actions.registry import Registry
from wallet_actions.runner import Runner
from wallet_actions.store import NewAction, Store
from wallet_actions.testing.clock import FakeClock
from wallet_actions.transition import NO_CHANGES, Changes, Done, Failed, Failure, Next, Park, Transition
from wallet_actions_storage.memory import MemoryStore

SECRET = "tell-nobody"
SECOND = timedelta(seconds=1)
NEVER = timedelta(days=365)

Answer = Callable[["Job"], Any]


class Desk:
    """A peer that answers each method of a `Job` as told, in order; the last answer is repeated.

    An answer is a function of the job. It returns what the method returns, or something to await; or it raises.
    """

    def __init__(self, *advance: Answer, **others: Iterable[Answer]) -> None:
        self.answers: dict[str, list[Answer]] = {"advance": list(advance)}
        self.answers.update({method: list(answers) for method, answers in others.items()})
        self.calls: list[str] = []
        self.failures: list[Failure] = []

    def then(self, *advance: Answer, **others: Iterable[Answer]) -> None:
        """Answer otherwise from now on."""
        self.answers["advance"] = list(advance)
        self.answers.update({method: list(answers) for method, answers in others.items()})

    def count(self, method: str = "advance") -> int:
        return self.calls.count(method)

    async def answer(self, method: str, job: Job) -> Any:
        self.calls.append(method)
        answers = self.answers[method]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        value = answer(job)
        return await value if inspect.isawaitable(value) else value


class Receipt(BaseModel):
    amount: int
    token: SecretStr = SecretStr("")


class Open(Phase):
    pass


class Sent(Phase):
    note: str = ""
    token: SecretStr = SecretStr("")


class Job(Action[Desk, Open | Sent, Receipt], kind="job"):
    """Does what its desk says."""

    name: str
    amount: int = 1

    @property
    def id(self) -> str:
        return self.name

    async def advance(self, wallet: Desk) -> Transition[Self, Receipt]:
        answer: Transition[Self, Receipt] = await wallet.answer("advance", self)
        return answer

    async def on_rejection(self, wallet: Desk, error: RejectedError) -> Transition[Self, Receipt]:
        if "on_rejection" not in wallet.answers:
            return await super().on_rejection(wallet, error)
        answer: Transition[Self, Receipt] = await wallet.answer("on_rejection", self)
        return answer

    async def on_retry(self, wallet: Desk, failure: Failure) -> Transition[Self, Receipt]:
        wallet.failures.append(failure)
        if "on_retry" not in wallet.answers:
            return await super().on_retry(wallet, failure)
        answer: Transition[Self, Receipt] = await wallet.answer("on_retry", self)
        return answer

    async def on_cancel(self, wallet: Desk) -> Transition[Self, Receipt] | None:
        if "on_cancel" not in wallet.answers:
            return await super().on_cancel(wallet)
        answer: Transition[Self, Receipt] | None = await wallet.answer("on_cancel", self)
        return answer


class Chore(Job, kind="chore"):
    """Another kind that does the same."""


def key_of(name: str, kind: str = "job") -> ActionKey:
    return ActionKey(kind, name)


def job(name: str = "a", **fields: Any) -> Job:
    return Job(name=name, phase=Open(), **fields)


def coin(id: str, amount: int = 1, *, unit: str = "sat") -> Coin:
    return Coin(id, "bank", unit, amount, payload=f"{SECRET}-{id}")


# Answers


def sent(job: Job) -> Next[Job]:
    return Next(job.at(Sent()))


def done(job: Job) -> Done[Receipt]:
    return Done(Receipt(amount=job.amount))


def failed(job: Job) -> Failed:
    return Failed("given up")


def refused(job: Job) -> None:
    return None


def idle(job: Job) -> Park[Job]:
    return Park(job)


def parked(delay: timedelta = SECOND, changes: Changes = NO_CHANGES) -> Answer:
    return lambda job: Park(job, wake_after=delay, changes=changes)


def finished(**changes: Any) -> Answer:
    return lambda job: Done(Receipt(amount=job.amount), Changes(**changes))


def stepping(**changes: Any) -> Answer:
    return lambda job: Next(job.at(Sent()), Changes(**changes))


def raising(error: BaseException) -> Answer:
    def answer(job: Job) -> Any:
        raise error

    return answer


def waiting(event: asyncio.Event, answer: Answer = done, begun: asyncio.Event | None = None) -> Answer:
    """An answer that is given once an event is set."""

    async def give(job: Job) -> Any:
        if begun is not None:
            begun.set()
        await event.wait()
        value = answer(job)
        return await value if inspect.isawaitable(value) else value

    return give


def doing(work: Callable[[], Awaitable[Any]], answer: Answer = done) -> Answer:
    """An answer that is given once something else was done."""

    async def give(job: Job) -> Any:
        await work()
        value = answer(job)
        return await value if inspect.isawaitable(value) else value

    return give


async def settle(turns: int = 100) -> None:
    """Let everybody run who can."""
    for _ in range(turns):
        await asyncio.sleep(0)


class Rig:
    """Store, clock, desk, executor and operator, as one process has them.

    Args:
        answers: the desk's.
    """

    def __init__(
        self,
        *answers: Answer,
        store: Store | None = None,
        clock: Clock | None = None,
        desk: Desk | None = None,
        kinds: Iterable[type[Action[Any, Any, Any]]] = (Job, Chore),
    ) -> None:
        self.store: Store = store if store is not None else MemoryStore()
        self.clock: Any = clock if clock is not None else FakeClock()
        self.desk = desk if desk is not None else Desk(*(answers or (done,)))
        self.kinds = tuple(kinds)
        self.executor = Executor(self.store, self.desk, Registry(self.kinds), clock=self.clock)
        self.operator = Operator(self.store, clock=self.clock, on_change=self.executor.notify)
        self.events: list[Event] = []
        self.executor.observe(self.events.append)

    async def __aenter__(self) -> Self:
        await self.store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.store.__aexit__(*exc)

    def other(self, *answers: Answer, kinds: Iterable[type[Action[Any, Any, Any]]] | None = None) -> Rig:
        """Another process over the same memory, after a restart or beside this one; not open yet."""
        assert isinstance(self.store, MemoryStore)
        desk = Desk(*answers) if answers else self.desk
        return Rig(store=self.store.peer(), clock=self.clock, desk=desk, kinds=kinds or self.kinds)

    async def start(self, name: str = "a", changes: Changes = NO_CHANGES) -> ActionKey:
        return (await self.executor.start(job(name), changes)).key

    async def fund(self, *coins: Coin, holder: str | None = None) -> None:
        """Put coins into the store: spendable, or held by a job of that name, which is made."""
        source = f"source-of-{coins[0].id}"
        everything = Changes(add=coins)
        if holder is not None:
            await self.executor.start(job(holder), Changes(add=coins, reserve=coins))
        else:
            await self.executor.start(job(source), everything)
            await self.operator.stop(key_of(source))

    async def row(self, key: ActionKey) -> Checkpoint:
        checkpoint = await self.store.load(key)
        assert checkpoint is not None
        return checkpoint

    async def status(self, key: ActionKey) -> Status:
        return (await self.row(key)).status

    async def history(self, key: ActionKey) -> list[HistoryEntry]:
        return list(await self.operator.history(key))

    async def story(self, key: ActionKey) -> list[str]:
        """What happened to an action, in order."""
        return [entry.event for entry in await self.history(key)]

    async def coin(self, id: str) -> Coin:
        (found,) = await self.store.coins_by_id([id])
        return found

    async def insert(self, checkpoint: Checkpoint) -> None:
        """Put a row into the store that this code would not write."""
        await self.store.create(NewAction(checkpoint))


@asynccontextmanager
async def running(rig: Rig, **options: Any) -> AsyncIterator[Runner]:
    """A runner that is over its recovery, with an operator that tells it."""
    options = {"poll": None, "sync": NEVER, "drain": timedelta(0), **options}
    async with Runner(rig.executor, **options) as runner:
        rig.operator._on_change = runner.notify
        rig.operator._on_kind_change = runner.notify_kind
        await runner.recovered()
        await settle()
        yield runner
