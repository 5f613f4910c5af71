"""What an app holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self, assert_never

import pytest
from pydantic import BaseModel

from tests.actions import (
    SECOND,
    Chore,
    Desk,
    Job,
    Receipt,
    coin,
    done,
    failed,
    idle,
    job,
    key_of,
    parked,
    raising,
    settle,
    waiting,
)
from wallet_actions import Action, Changes, Coin, Done, DriveMode, Engine, Next, Park, Phase, Transition
from wallet_actions.checkpoint import Status
from wallet_actions.coins import CoinState
from wallet_actions.errors import (
    ActionFailedError,
    InvariantError,
    NotFinishedError,
    StoreUnavailableError,
    UnknownActionError,
    UsageError,
)
from wallet_actions.events import Event, EventKind
from wallet_actions.operator import Operator
from wallet_actions.outcome import Outcome
from wallet_actions.store import Created, NewAction
from wallet_actions.testing.clock import FakeClock
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


class Memory(MemoryStore):
    """A memory that says which way it was opened and closed, and has transactions that only collect."""

    def __init__(self) -> None:
        super().__init__()
        self.openings: list[str] = []
        self.transactions: list[list[NewAction]] = []

    async def __aenter__(self) -> Self:
        self.openings.append("open")
        return await super().__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        self.openings.append("close")
        await super().__aexit__(*exc)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        pending: list[NewAction] = []
        yield pending
        for new in pending:
            await self.create(new)

    async def create(self, new: NewAction, *, conn: Any = None) -> Created:
        if conn is None:
            return await super().create(new)
        conn.append(new)
        return Created(new.checkpoint, is_new=True)


def engine_on(store: Any, desk: Desk, **options: Any) -> Engine:
    options = {"clock": FakeClock(), "poll": None, "drain": timedelta(0), **options}
    return Engine(store, desk, kinds=[Job, Chore], **options)


# The example of the README


class Unpaid(Phase):
    pass


class Paid(Phase):
    paid_at: datetime


class Slip(BaseModel):
    amount: int


class Bank:
    def __init__(self) -> None:
        self.asked = 0

    async def paid_at(self, quote: str) -> datetime | None:
        self.asked += 1
        return None if self.asked == 1 else datetime(2030, 1, 1, tzinfo=UTC)

    async def collect(self, quote: str) -> list[Coin]:
        return [Coin(f"{quote}-1", "bank", "sat", 100, "secret")]


class TopUp(Action[Bank, Unpaid | Paid, Slip], kind="top_up"):
    quote: str
    amount: int

    @property
    def id(self) -> str:
        return self.quote

    async def advance(self, wallet: Bank) -> Transition[Self, Slip]:
        match self.phase:
            case Unpaid():
                paid_at = await wallet.paid_at(self.quote)
                if paid_at is None:
                    return Park(self, wake_after=timedelta(seconds=5))
                return Next(self.at(Paid(paid_at=paid_at)))
            case Paid():
                return Done(Slip(amount=self.amount), changes=Changes(add=await wallet.collect(self.quote)))
            case _ as unreachable:
                assert_never(unreachable)


async def test_an_app_starts_an_action_and_waits_for_its_result() -> None:
    clock = FakeClock(auto=True, patience=timedelta(milliseconds=1))
    async with Engine("memory://", Bank(), kinds=[TopUp], clock=clock) as engine:
        await engine.start(TopUp(quote="q-1", amount=100, phase=Unpaid()))
        slip = await engine.result(TopUp, "q-1")

        assert slip == Slip(amount=100)
        (balance,) = await engine.store.balances()
        assert balance.spendable == 100
        again = await engine.start(TopUp(quote="q-1", amount=100, phase=Unpaid()))
        assert (again.is_new, again.result) == (False, slip)


# Opening and closing


async def test_a_store_that_was_named_is_opened_and_closed() -> None:
    engine = Engine("memory://", Desk(done), kinds=[Job])
    with pytest.raises(StoreUnavailableError):
        await engine.store.counters()
    async with engine:
        assert await engine.store.counters() == {}
    with pytest.raises(StoreUnavailableError):
        await engine.store.counters()


async def test_a_store_that_was_given_is_left_open() -> None:
    store = Memory()
    async with store:
        async with engine_on(store, Desk(done)):
            pass
        assert store.openings == ["open"]
        assert await store.counters() == {}


async def test_a_body_that_raises_closes_everything() -> None:
    engine = Engine("memory://", Desk(done), kinds=[Job])
    with pytest.raises(LookupError, match="the app's own"):
        async with engine:
            raise LookupError("the app's own")
    with pytest.raises(StoreUnavailableError):
        await engine.store.counters()


async def test_what_cannot_be_built_is_told() -> None:
    for store, kinds in (("memory://", [Job, Job]), ("oracle://db", [Job]), ("wallet.db", [Job])):
        with pytest.raises(UsageError):
            Engine(store, Desk(done), kinds=kinds)


async def test_an_engine_may_be_entered_again() -> None:
    async with Memory() as store:
        engine = engine_on(store, Desk(done))
        for name in ("a", "b"):
            async with engine:
                await engine.start(job(name))
                await settle()
                assert await engine.result(Job, name) == Receipt(amount=1)


# Starting and driving


async def test_a_start_writes_what_comes_with_it() -> None:
    async with Memory() as store, engine_on(store, Desk(idle)) as engine:
        await engine.start(job("a"), Changes(add=[coin("c")], reserve=["c"]))

        (found,) = await store.coins_by_id(["c"])
        assert (found.state, found.holder) == (CoinState.RESERVED, key_of("a"))


async def test_driving_here_and_now_waits_its_turn() -> None:
    async with Memory() as store, engine_on(store, Desk(parked(HOUR), parked(HOUR), done)) as engine:
        await engine.start(job("a"))
        await settle()
        parked_result = await engine.drive(Job, "a")
        finished = await engine.drive(Job, "a", DriveMode.UNTIL_DONE)

        assert parked_result.outcome is Outcome.PARKED
        assert finished.result == Receipt(amount=1)


async def test_busy_is_told_to_who_will_not_wait() -> None:
    go, begun = asyncio.Event(), asyncio.Event()
    async with Memory() as store, engine_on(store, Desk(waiting(go, done, begun))) as engine:
        await engine.start(job("a"))
        await begun.wait()
        assert (await engine.drive(Job, "a", wait=False)).outcome is Outcome.BUSY
        go.set()
        assert (await engine.drive(Job, "a")).outcome is Outcome.DONE


async def test_notifying_and_cancelling_reach_the_action() -> None:
    desk = Desk(idle, on_cancel=[failed])
    async with Memory() as store, engine_on(store, desk) as engine:
        for name in ("a", "b"):
            await engine.start(job(name))
        await settle()
        assert await engine.cancel(Job, "b")
        await settle()
        with pytest.raises(ActionFailedError, match="job b cancelled"):
            await engine.result(Job, "b")
        desk.then(done)
        engine.notify(Job, "a")
        assert await engine.result(Job, "a") == Receipt(amount=1)
        assert not await engine.cancel(Job, "a")
        with pytest.raises(UnknownActionError):
            await engine.cancel(Job, "nobody")


async def test_observers_are_told_from_the_start() -> None:
    events: list[Event] = []
    async with Memory() as store, engine_on(store, Desk(done), observers=[events.append]) as engine:
        await engine.start(job("a"))
        await engine.result(Job, "a")

    assert [event.kind for event in events] == [EventKind.STARTED, EventKind.DONE]


async def test_observers_that_come_later_hear_of_an_operator() -> None:
    events: list[Event] = []
    async with Memory() as store, engine_on(store, Desk(idle)) as engine:
        await engine.start(job("a"))
        await settle()
        engine.executor.observe(events.append)
        await engine.operator.pause(key_of("a"))
        await engine.operator.stop(key_of("a"))

    assert [event.kind for event in events] == [EventKind.PAUSED, EventKind.STOPPED]


async def test_what_is_resumed_waits_for_its_time() -> None:
    """G8: also where nobody else had a turn between the pause and the resume."""
    clock, desk = FakeClock(), Desk(parked(HOUR), done)
    async with Memory() as store, engine_on(store, desk, clock=clock) as engine:
        await engine.start(job("a"))
        await settle()
        for turns in (0, 100):
            await engine.operator.pause(key_of("a"))
            await settle(turns)
            await engine.operator.resume(key_of("a"))
            await settle()
            assert desk.count() == 1
        assert engine.runner.parked == 1
        await clock.advance(HOUR - SECOND)
        assert desk.count() == 1
        await clock.advance(SECOND)
        assert await engine.result(Job, "a") == Receipt(amount=1)


async def test_what_another_process_retries_is_found_by_the_poll() -> None:
    clock, desk = FakeClock(), Desk(raising(InvariantError("oops")), done)
    async with Memory() as store, engine_on(store, desk, clock=clock, poll=5 * SECOND) as engine:
        await engine.start(job("a"))
        await settle()
        await Operator(store, clock=clock).retry(key_of("a"))
        await clock.advance(5 * SECOND)
        assert (await engine.operator.show(key_of("a"))).status is Status.DONE


# Results


async def test_a_result_is_asked_for_while_the_recovery_is_under_way() -> None:
    """What was stuck gets its chance first."""
    go, begun = asyncio.Event(), asyncio.Event()
    desk = Desk(raising(InvariantError("oops")))
    async with Memory() as store:
        async with engine_on(store, desk) as engine:
            await engine.start(job("a"))
            await engine.recovered()
            await settle()
            with pytest.raises(NotFinishedError, match="job a is stuck: oops"):
                await engine.result(Job, "a")
        desk.then(waiting(go, done, begun))
        async with engine_on(store, desk) as engine:
            waiter = asyncio.create_task(engine.result(Job, "a"))
            await begun.wait()
            await settle()
            assert not waiter.done()
            go.set()
            assert await waiter == Receipt(amount=1)
            assert (await engine.recovered()).completed == 1


async def test_what_stays_stuck_is_told_after_the_recovery() -> None:
    desk = Desk(raising(InvariantError("oops")))
    async with Memory() as store:
        for _ in range(2):
            async with engine_on(store, desk) as engine:
                await engine.start(job("a"))
                with pytest.raises(NotFinishedError, match="stuck"):
                    await engine.result(Job, "a")


async def test_a_kind_that_is_paused_and_resumed_here_goes_on() -> None:
    async with Memory() as store, engine_on(store, Desk(done)) as engine:
        await engine.operator.pause_kind("job")
        await engine.start(job("a"))
        await settle()
        assert (await engine.operator.show(key_of("a"))).status is Status.RUNNING
        await engine.operator.resume_kind("job")
        assert await engine.result(Job, "a") == Receipt(amount=1)


# Transactions of the app


async def test_what_is_started_in_a_transaction_is_driven_once_that_has_committed() -> None:
    desk = Desk(done)
    async with Memory() as store, engine_on(store, desk) as engine:
        async with engine.transaction() as conn:
            await engine.start(job("a"), conn=conn)
            await engine.start(Chore(name="b", phase=job().phase), conn=conn)
            await settle()
            assert desk.calls == []
        assert await engine.result(Job, "a") == Receipt(amount=1)
        assert await engine.result(Chore, "b") == Receipt(amount=1)


async def test_observers_are_told_of_what_was_started_in_a_transaction_once_that_has_committed() -> None:
    events: list[Event] = []
    async with Memory() as store, engine_on(store, Desk(done), observers=[events.append]) as engine:
        async with engine.transaction() as conn:
            await engine.start(job("a"), Changes(start=[job("child")]), conn=conn)
            await settle()
            assert events == []
        assert [(event.kind, event.key.id) for event in events] == [
            (EventKind.STARTED, "a"),
            (EventKind.STARTED, "child"),
        ]


async def test_what_is_started_in_a_transaction_that_is_rolled_back_never_was() -> None:
    desk, events = Desk(done), list[Event]()
    async with Memory() as store, engine_on(store, desk, observers=[events.append]) as engine:

        async def roll_back() -> None:
            async with engine.transaction() as conn:
                await engine.start(job("a"), conn=conn)
                raise LookupError

        with pytest.raises(LookupError):
            await roll_back()
        await settle()
        assert desk.calls == []
        assert events == []
        with pytest.raises(UnknownActionError):
            await engine.result(Job, "a")


async def test_a_transaction_inside_a_transaction_is_refused() -> None:
    async with Memory() as store, engine_on(store, Desk(done)) as engine:
        async with engine.transaction():
            with pytest.raises(UsageError, match="already open in this task"):
                async with engine.transaction():
                    pass
        async with engine.transaction():
            pass


async def test_a_task_that_was_spawned_in_a_transaction_may_open_its_own_later() -> None:
    async with Memory() as store, engine_on(store, Desk(done)) as engine:
        go = asyncio.Event()

        async def later() -> None:
            await go.wait()
            async with engine.transaction() as conn:
                await engine.start(job("later"), conn=conn)

        async with engine.transaction():
            task = asyncio.create_task(later())
            await settle()
        go.set()
        await task
        assert await engine.result(Job, "later") == Receipt(amount=1)


async def test_transactions_of_two_engines_do_not_mix() -> None:
    first, second = Memory(), Memory()
    async with first, second, engine_on(first, Desk(done)) as one, engine_on(second, Desk(done)) as two:
        async with one.transaction() as conn, two.transaction() as other:
            await one.start(job("a"), conn=conn)
            await two.start(job("b"), conn=other)
        assert await one.result(Job, "a") == Receipt(amount=1)
        assert await two.result(Job, "b") == Receipt(amount=1)


async def test_a_store_without_sql_has_no_transactions() -> None:
    async with MemoryStore() as store, engine_on(store, Desk(done)) as engine:
        with pytest.raises(UsageError, match="no SQL"):
            async with engine.transaction():
                pass
        async with engine_on(store, Desk(done)):
            pass


async def test_an_action_parked_by_the_engine_before_goes_on_after_a_restart() -> None:
    clock = FakeClock()
    async with Memory() as store:
        async with engine_on(store, Desk(parked(5 * SECOND)), clock=clock) as engine:
            await engine.start(job("a"))
            await settle()
        async with engine_on(store, Desk(done), clock=clock) as engine:
            waiter = asyncio.create_task(engine.result(Job, "a"))
            await clock.advance(4 * SECOND)
            assert not waiter.done()
            await clock.advance(SECOND)
            assert await waiter == Receipt(amount=1)


class Elsewhere(Job, kind="elsewhere"):
    """A kind that only another program knows."""


async def test_programs_that_know_different_kinds_share_a_store() -> None:
    """L-D12, G9: one takes what the other drives for broken at its start; the other takes it back, and nobody waits."""
    store = MemoryStore()
    gate = asyncio.Event()
    poll = timedelta(milliseconds=10)

    async def wait_for_the_gate(_: Job) -> Any:
        await gate.wait()
        return done(_)

    desk = Desk(parked(timedelta(0)), wait_for_the_gate)
    async with store, store.peer() as same, Engine(store, desk, [Job], poll=poll) as mine:
        await mine.start(job("a"))
        async with Engine(same, Desk(done), [Elsewhere], poll=poll) as theirs:
            await theirs.recovered()
            gate.set()
            await mine.result(Job, "a")
            await theirs.start(Elsewhere(name="b", phase=job("b").phase))
            await theirs.result(Elsewhere, "b")
