"""Workers over one store: claims, leases, takeovers, and what each leaves to the others."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest

from tests.actions import (
    NEVER,
    SECOND,
    Chore,
    Desk,
    Job,
    Open,
    Rig,
    doing,
    done,
    idle,
    job,
    key_of,
    parked,
    raising,
    running,
    sent,
    settle,
    stepping,
    waiting,
)
from wallet_actions.checkpoint import Status
from wallet_actions.coins import ActionKey
from wallet_actions.engine import Engine
from wallet_actions.errors import InvariantError, StoreUnavailableError, UsageError
from wallet_actions.events import EventKind
from wallet_actions.executor import Executor
from wallet_actions.fleet import Claim, Limit, Worker
from wallet_actions.outcome import Outcome
from wallet_actions.recovery import recover
from wallet_actions.registry import Registry
from wallet_actions.runner import Runner
from wallet_actions.testing.boundaries import Boundary, watched
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.oracles import history_complete
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

LEASE = timedelta(seconds=30)
HOUR = timedelta(hours=1)


@pytest.fixture
async def rig() -> Any:
    """One worker's parts; `rig.other()` makes another's."""
    async with Rig(store=MemoryStore(shared=True)) as rig:
        yield rig


def limited(rig: Rig, **limits: Limit) -> Rig:
    """The same worker with limits, as an app would give them to its engine."""
    rig.executor = Executor(rig.store, rig.desk, Registry(rig.kinds), clock=rig.clock, limits=limits)
    rig.executor.observe(rig.events.append)
    return rig


async def dead(rig: Rig, key: ActionKey, *, owner: str = "dead") -> None:
    """A worker claims an action and is never heard of again."""
    (row,) = await rig.store.claim(Claim(owner, rig.clock.now(), LEASE, {"job": 1, "chore": 1}, keys=[key]))  # type: ignore[attr-defined]
    assert row.owner == owner


async def owner_of(rig: Rig, key: ActionKey) -> str | None:
    return (await rig.row(key)).owner


# Driving


async def test_a_worker_drives_what_it_starts_without_a_claim(rig: Rig) -> None:
    """Issue 5's count of commits holds: the start names the owner, and each step is one write."""
    rig.desk.then(sent, done)
    async with running(rig):
        key = await rig.start()
        assert await owner_of(rig, key) == rig.executor.leases.owner  # type: ignore[union-attr]
        await settle()
    assert (await rig.row(key)).version == 2
    assert [entry.version for entry in await rig.history(key)] == [0, 1, 2]
    assert await owner_of(rig, key) is None


async def test_what_only_a_starter_started_is_driven_by_a_worker_at_once(rig: Rig) -> None:
    """It is nobody's until then; the worker hears of it without waiting for its poll."""
    async with rig.other() as starter, running(rig):
        key = await starter.start()
        assert await owner_of(rig, key) is None
        await settle()
        assert await rig.status(key) is Status.DONE
    assert [entry.version for entry in await rig.history(key)] == [0, 2]
    assert await history_complete(rig.store) == []


async def test_each_action_is_driven_by_one(rig: Rig) -> None:
    """G2: two workers, many actions, no step taken twice and nobody superseded."""
    async with rig.other() as other, rig.other() as starter:
        async with running(rig, concurrency=4), running(other, concurrency=4):
            for n in range(100):
                await starter.start(f"{n}")
            await rig.clock.advance(3 * SECOND)
            assert await rig.store.count_actions() == {("job", Status.DONE): 100}
        assert rig.desk.count() == 100
        told = [event.kind for event in (*rig.events, *other.events)]
        assert EventKind.SUPERSEDED not in told
        assert {event.key for event in rig.events} & {event.key for event in other.events} == set()
        assert min(len(rig.events), len(other.events)) >= 10


async def test_what_parks_is_driven_when_it_is_due_by_whoever_is_there(rig: Rig) -> None:
    """G8: to the moment by the one that parked it, at its next look by any other."""
    rig.desk.then(parked(10 * SECOND), parked(10 * SECOND), done)
    async with rig.other() as other, running(other):
        async with running(rig):
            key = await rig.start()
            await rig.clock.advance(9.9 * SECOND)
            assert rig.desk.count() == 1
            await rig.clock.advance(0.11 * SECOND)
            assert rig.desk.count() == 2
        await rig.clock.advance(9.9 * SECOND)
        assert rig.desk.count() == 2
        await rig.clock.advance(0.6 * SECOND)
        assert await rig.status(key) is Status.DONE


async def test_children_are_anybodys(rig: Rig) -> None:
    rig.desk.then(stepping(start=[Job(name="b", phase=Open())]), done)
    async with running(rig):
        await rig.start()
        await settle()
        assert await rig.status(key_of("b")) is Status.DONE


# Leases


async def test_a_dead_workers_action_is_taken_over_within_its_lease_and_a_second(rig: Rig) -> None:
    """L-D15: not before, and not much later."""
    key = await rig.start()
    await dead(rig, key)
    async with running(rig):
        await rig.clock.advance(LEASE - 0.01 * SECOND)
        assert rig.desk.count() == 0
        await rig.clock.advance(1.01 * SECOND)
        assert await rig.status(key) is Status.DONE


async def test_a_long_step_is_renewed(rig: Rig) -> None:
    """A live worker keeps what it drives, however long a step takes."""
    release = asyncio.Event()
    rig.desk.then(waiting(release))
    async with rig.other() as other, running(rig), running(other):
        key = await rig.start()
        await rig.clock.advance(3 * LEASE)
        assert (rig.desk.count(), await owner_of(rig, key)) == (1, rig.executor.leases.owner)  # type: ignore[union-attr]
        release.set()
        await settle()
        assert await rig.status(key) is Status.DONE
        assert (await rig.row(key)).version == 1


async def test_a_zombie_finds_out_at_its_next_write(rig: Rig) -> None:
    """G2, L-S4: a worker that was stopped past its lease is superseded, and leaves no trace."""
    release = asyncio.Event()
    rig.desk.then(waiting(release, stepping(notes=["the zombie was here"])))
    key = await rig.start()
    zombie = asyncio.ensure_future(rig.executor.drive(key))  # without a runner nobody renews, as if it were stopped
    await settle()
    async with rig.other(done) as other, running(other):
        await rig.clock.advance(LEASE + SECOND)
        before = await rig.row(key)
        assert before.status is Status.DONE
        release.set()
        assert (await zombie).outcome is Outcome.SUPERSEDED
        assert await rig.row(key) == before
    assert rig.desk.count() == 1
    assert "the zombie was here" not in str(await rig.history(key))


async def test_a_drive_that_was_lost_is_stopped_at_the_renewal(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its worker did not reach the store another took over: it does not call the peer any longer."""
    stopped = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.set()
            raise

    rig.desk.then(doing(work))
    renew = rig.store.renew  # type: ignore[attr-defined]

    async def away(*args: Any, **kwargs: Any) -> Any:
        raise StoreUnavailableError("away")

    release = asyncio.Event()
    async with running(rig):
        key = await rig.start()
        await settle()
        monkeypatch.setattr(rig.store, "renew", away)
        async with rig.other(waiting(release)) as other, running(other):
            await rig.clock.advance(LEASE + SECOND)
            assert not stopped.is_set()
            monkeypatch.setattr(rig.store, "renew", renew)
            await rig.clock.advance(LEASE)
            assert stopped.is_set()
            assert other.desk.count() == 1
            release.set()
            await settle()
            assert await rig.status(key) is Status.DONE


async def test_an_end_of_its_own_is_no_loss(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal that finds an action gone in the moment at which its drive ends it stops nobody."""
    looks = 0
    renew = rig.store.renew  # type: ignore[attr-defined]
    release = asyncio.Event()

    async def late(worker: Worker, **kwargs: Any) -> frozenset[ActionKey]:
        nonlocal looks
        looks += 1
        release.set()
        await settle()  # the drive ends meanwhile
        return await renew(worker, **kwargs)  # type: ignore[no-any-return]

    rig.desk.then(waiting(release))
    async with running(rig):
        key = await rig.start()
        await settle()
        monkeypatch.setattr(rig.store, "renew", late)
        await rig.clock.advance(LEASE / 3)
    assert looks >= 1
    assert [event.kind for event in rig.events if event.key == key] == [EventKind.STARTED, EventKind.DONE]


async def test_leaving_gives_everything_back(rig: Rig) -> None:
    """L-D16: others need not wait for the lease, and the worker is gone."""
    rig.desk.then(waiting(asyncio.Event()))
    async with rig.other(done) as other:
        async with running(rig):
            key = await rig.start()
            await settle()
            assert len(await rig.store.workers(at=rig.clock.now())) == 1  # type: ignore[attr-defined]
        assert await owner_of(rig, key) is None
        assert await rig.store.workers(at=rig.clock.now()) == []  # type: ignore[attr-defined]
        async with running(other):
            assert await rig.status(key) is Status.DONE


async def test_a_worker_that_begins_again_is_another(rig: Rig) -> None:
    """L-D15: an incarnation is never used twice."""
    owners = []
    for _ in range(2):
        async with running(rig):
            owners.append(rig.executor.leases.owner)  # type: ignore[union-attr]
            (told,) = await rig.store.workers(at=rig.clock.now())  # type: ignore[attr-defined]
            assert told.owner == owners[-1]
    assert len(set(owners)) == 2


async def test_a_cancelled_drive_is_given_back_at_once(rig: Rig) -> None:
    """By a worker that lives on, and would renew it for ever."""
    rig.desk.then(waiting(asyncio.Event()), done)
    async with rig.other() as starter:
        key = await starter.start()
        drive = asyncio.ensure_future(rig.executor.drive(key))
        await settle()
        async with running(rig):
            drive.cancel()
            await rig.clock.advance(SECOND)
            assert await rig.status(key) is Status.DONE


async def test_a_start_whose_answer_was_lost_is_not_held_for_ever(rig: Rig) -> None:
    """Committed, and nobody here knows: after two renewals it is anybody's."""
    async with running(rig):
        start = asyncio.ensure_future(rig.executor.start(job("a")))
        await asyncio.sleep(0)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert await owner_of(rig, key_of("a")) is not None
        await rig.clock.advance(LEASE)
        assert await rig.status(key_of("a")) is Status.DONE


async def test_a_store_that_was_away_delays_and_loses_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """L-D13: claims, renewals and what is given back are tried again."""
    real = {name: getattr(rig.store, name) for name in ("claim", "renew", "let_go", "save", "load")}

    async def away(*args: Any, **kwargs: Any) -> Any:
        raise StoreUnavailableError("away")

    rig.desk.then(sent, done)
    async with running(rig):
        for name in real:
            monkeypatch.setattr(rig.store, name, away)
        key = (await rig.executor.start(job("a"))).key
        await rig.clock.advance(20 * SECOND)
        for name, method in real.items():
            monkeypatch.setattr(rig.store, name, method)
        await rig.clock.advance(10 * SECOND)
        assert await rig.status(key) is Status.DONE


# By name


async def test_what_another_worker_drives_is_busy(rig: Rig) -> None:
    """L-D1: told, or waited for."""
    release = asyncio.Event()
    rig.desk.then(waiting(release))
    async with rig.other(done) as other, running(rig):
        key = await rig.start()
        await settle()
        assert (await other.executor.drive(key)).outcome is Outcome.BUSY
        waits = asyncio.ensure_future(other.executor.drive(key, wait=True))
        await rig.clock.advance(5 * SECOND)
        assert not waits.done()
        release.set()
        await rig.clock.advance(SECOND)
        assert (await waits).outcome is Outcome.DONE
        assert other.desk.count() == 0


async def test_a_notification_is_not_lost_on_another_worker(rig: Rig) -> None:
    """It comes to the one while the other is about to park: then it is driven again."""
    release = asyncio.Event()
    rig.desk.then(waiting(release, parked(HOUR)), done)
    async with rig.other() as other, running(rig), running(other) as others:
        key = await rig.start()
        await settle()
        others.notify(key)
        await rig.clock.advance(3 * SECOND)
        assert rig.desk.count() == 1
        release.set()
        await rig.clock.advance(2 * SECOND)
        assert await rig.status(key) is Status.DONE


async def test_a_drive_by_name_of_what_is_parked_for_later(rig: Rig) -> None:
    rig.desk.then(parked(HOUR), parked(HOUR), done)
    key = await rig.start()
    assert (await rig.executor.drive(key)).outcome is Outcome.PARKED
    assert (await rig.executor.drive(key, only_if_due=True)).outcome is Outcome.PARKED
    assert rig.desk.count() == 1
    assert (await rig.row(key)).version == 2
    assert (await rig.executor.drive(key)).outcome is Outcome.PARKED
    assert rig.desk.count() == 2


# What an operator does


async def test_a_pause_interrupts_and_a_resume_goes_on(rig: Rig) -> None:
    """L-S4: by version, whoever drives; the lease is no obstacle."""
    release = asyncio.Event()
    rig.desk.then(waiting(release), done)
    async with rig.other() as other, running(rig):
        key = await rig.start()
        await settle()
        await other.operator.pause(key)
        assert await owner_of(rig, key) is None
        release.set()
        await settle()
        assert await rig.status(key) is Status.PAUSED
        await other.operator.resume(key)
        await settle()
        assert await rig.status(key) is Status.DONE


async def test_a_paused_kind_is_given_back_and_goes_on_once_resumed(rig: Rig) -> None:
    """A worker does not hold what it may not drive."""
    rig.desk.then(doing(lambda: rig.operator.pause_kind("job"), sent), done)
    async with running(rig) as runner:
        key = await rig.start()
        await settle()
        await rig.clock.advance(5 * SECOND)
        row = await rig.row(key)
        assert (row.status, row.owner, rig.desk.count()) == (Status.RUNNING, None, 1)
        assert row.version == 1
        await rig.operator.resume_kind("job")
        runner.notify_kind("job")
        await rig.clock.advance(SECOND)
        assert await rig.status(key) is Status.DONE


async def test_a_request_to_cancel_is_answered_by_the_owner(rig: Rig) -> None:
    release = asyncio.Event()
    rig.desk.then(waiting(release, sent), done, on_cancel=[lambda job: None])
    async with rig.other() as other, running(rig):
        key = await rig.start()
        await settle()
        assert await other.operator.request_cancel(key)
        release.set()
        await settle()
        assert await rig.status(key) is Status.DONE
        assert rig.desk.count("on_cancel") == 1


# Upgrades


class NewJob(Job, kind="job", schema_version=2):
    """The same, a release later."""

    upgrades: ClassVar[Any] = {1: lambda state: state}


async def test_workers_of_two_versions(rig: Rig) -> None:
    """L-U2, G9: the older leaves alone what it cannot read: it is not quarantined, and not held up."""
    async with rig.other(kinds=[NewJob, Chore]) as newer, rig.other(kinds=[Job]) as oldest:
        mine = (await newer.executor.start(NewJob(name="new", phase=Open()))).key
        chore = (await newer.executor.start(Chore(name="c", phase=Open()))).key
        async with running(rig, sync=10 * SECOND), running(oldest, sync=10 * SECOND):
            await rig.clock.advance(LEASE + 5 * SECOND)
            assert await rig.status(mine) is Status.RUNNING
            assert await rig.status(chore) is Status.DONE
            for old in (rig, oldest):
                assert (await old.executor.drive(mine, wait=True)).outcome is Outcome.BUSY
            assert (await rig.row(mine)).version == 0
        async with running(newer):
            assert await rig.status(mine) is Status.DONE


# Limits


async def test_a_limit_holds_across_workers_and_their_own_starts(rig: Rig) -> None:
    """Exact at every moment, and all get through."""
    at_work, most = 0, 0

    async def work() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await rig.clock.sleep(SECOND)
        at_work -= 1

    desk = Desk(doing(work))
    limits = {"job": Limit(concurrency=3)}
    async with rig.other() as second:
        workers = [limited(one, **limits) for one in (rig, second)]
        for one in workers:
            one.executor._wallet = desk
        async with running(workers[0]), running(workers[1]):
            for n in range(12):
                await workers[n % 2].executor.start(job(f"{n}"))
            await rig.clock.advance(30 * SECOND)
        assert await rig.store.count_actions() == {("job", Status.DONE): 12}
        assert most == 3


# Clocks


class TimedStore(MemoryStore):
    """A memory with a clock of its own, as a server has."""

    clock: FakeClock

    async def now(self) -> datetime:
        return self.clock.now()


class Ahead:
    """The clock of a machine that is wrong by a while."""

    def __init__(self, clock: FakeClock, by: timedelta) -> None:
        self._clock, self.by = clock, by
        self.monotonic, self.sleep, self.wait = clock.monotonic, clock.sleep, clock.wait
        self.advance = clock.advance

    def now(self) -> datetime:
        return self._clock.now() + self.by


@pytest.mark.parametrize("by", [HOUR, -HOUR])
async def test_a_worker_with_a_wrong_clock_does_no_harm(by: timedelta) -> None:
    """L-B5: it steals no lease, drives nothing early, parks nothing for an hour, and starts nothing in the future."""
    TimedStore.clock = truth = FakeClock()
    store = TimedStore(shared=True)
    release = asyncio.Event()
    begun: list[str] = []

    def answer(job: Job) -> Any:
        begun.append(job.name)
        return waiting(release)(job) if job.name == "held" else parked(5 * SECOND)(job)

    desk = Desk(answer)
    async with Rig(store=store, clock=truth, desk=desk) as rig, running(rig):
        held = await rig.start("held")
        await settle()
        wrong = Rig(store=store.peer(), clock=Ahead(truth, by), desk=desk)
        async with wrong, running(wrong):
            await truth.advance(3 * SECOND)
            mine = (await wrong.executor.start(job("mine"))).key
            await settle()
            row = await rig.row(mine)
            assert row.created_at == truth.now()
            assert row.wake_at == truth.now() + 5 * SECOND
            wrong.clock.by = -by
            await truth.advance(4.9 * SECOND)
            assert begun == ["held", "mine"]
            await truth.advance(0.11 * SECOND)
            assert begun == ["held", "mine", "mine"]
            await wrong.operator.retry(mine)
            await settle()
            assert begun[3:] == ["mine"]
            assert [entry.at for entry in await rig.history(mine)][-2:] == [truth.now()] * 2
        assert await owner_of(rig, held) == rig.executor.leases.owner  # type: ignore[union-attr]
        release.set()
        await settle()
        assert await rig.status(held) is Status.DONE


async def test_without_a_clock_of_the_store_a_dead_worker_that_was_ahead_holds_up_nobody_for_long(rig: Rig) -> None:
    """L-B5: its lease ends an hour from now, which no right clock gave."""
    key = await rig.start()
    rig.clock.set_wall(rig.clock.now() + HOUR)
    await dead(rig, key)
    rig.clock.set_wall(rig.clock.now() - HOUR)
    async with running(rig):
        await rig.clock.advance(SECOND)
        assert await rig.status(key) is Status.DONE


# Start-up


async def test_of_workers_that_start_at_once_the_first_tries_what_is_stuck(rig: Rig) -> None:
    """And what nobody wakes: once for all, not once for each of them."""
    rig.desk.then(raising(InvariantError("books", rule="r")))
    stuck = await rig.start("stuck")
    await rig.executor.drive(stuck)
    rig.desk.then(idle)
    lazy = await rig.start("lazy")
    await rig.executor.drive(lazy)
    await rig.clock.advance(SECOND)
    desk = Desk(idle)
    workers = [rig.other() for _ in range(3)]
    for one in workers:
        one.executor._wallet = desk
        await one.__aenter__()
    reports = await asyncio.gather(*(recover(one.executor) for one in workers))
    assert desk.count() == 2
    assert sum(report.parked for report in reports) == 2
    assert {await rig.status(key) for key in (stuck, lazy)} == {Status.PARKED}


async def test_recovery_takes_all_that_is_due(rig: Rig) -> None:
    """Also more than one worker claims at once."""
    for n in range(70):
        await rig.start(f"{n}")
    async with rig.other() as other:
        report = await recover(other.executor, concurrency=16)
    assert (report.resumed, report.completed) == (70, 70)


async def test_what_sleeps_is_driven_by_the_first_sync(rig: Rig) -> None:
    """Of all workers once in a while, not by each of them."""
    rig.desk.then(idle)
    async with rig.other() as other, running(rig, sync=5 * SECOND), running(other, sync=5 * SECOND):
        await rig.start()
        await rig.clock.advance(26 * SECOND)
        assert 4 <= rig.desk.count() <= 6


# Engines


async def test_engines_share_a_store_by_its_options() -> None:
    """The same engine, actions and calls; only the store says that it is shared."""
    clock, store = FakeClock(), MemoryStore(shared=True)
    desk = Desk(done)
    async with store, store.peer() as peer:
        one = Engine(store, desk, [Job], clock=clock, lease=9 * SECOND, limits={"chore": Limit(concurrency=1)})
        two = Engine(peer, desk, [Job], clock=clock)
        async with one, two:
            await one.start(job("a"))
            result = asyncio.ensure_future(two.result(Job, "a"))
            await clock.advance(2 * SECOND)
            assert (await result).amount == 1
            names = [worker.name for worker in await store.workers(at=clock.now())]
            assert len(names) == 2
            assert all(":" in name for name in names)
        assert desk.count() == 1


async def test_a_lease_that_will_not_do_is_told() -> None:
    for lease in (timedelta(0), timedelta(hours=1)):
        with pytest.raises(UsageError, match="a lease"):
            Engine(MemoryStore(shared=True), Desk(), [Job], lease=lease)
    for limit in ({"concurrency": 0}, {"per_second": 0.0}, {"per_second": -1.0}):
        with pytest.raises(UsageError, match="a limit"):
            Limit(**limit)


async def test_a_store_of_one_process_is_driven_as_ever() -> None:
    """No claim, no lease, no worker."""
    async with Rig(sent, done) as rig, running(rig):
        key = await rig.start()
        await settle()
        assert rig.executor.leases is None
        assert [entry.version for entry in await rig.history(key)] == [0, 1, 2]
        assert await rig.store.workers(at=rig.clock.now()) == []  # type: ignore[attr-defined]


# Crashes around a claim


async def crashed_at(number: int, moment: str) -> tuple[bool, list[str]]:
    """One worker dies at a boundary of its writes, another goes on; whether it came that far, and what is wrong."""
    memory, clock = MemoryStore(shared=True), FakeClock()
    is_dead = asyncio.Event()

    async def hook(boundary: Boundary) -> None:
        if is_dead.is_set() or (boundary.number, boundary.moment) == (number, moment):
            is_dead.set()
            await asyncio.Event().wait()

    desk = Desk(sent, parked(SECOND), done)
    first = Rig(store=watched(memory.peer(), hook), clock=clock, desk=desk)
    second = Rig(store=memory, clock=clock, desk=desk)
    for worker in (first, second):
        worker.executor.leases.lease = 3 * SECOND  # type: ignore[union-attr]
    async with first, second, second.other() as starter:
        await starter.start("given")
        runner = Runner(first.executor, poll=None, sync=NEVER)
        await runner.__aenter__()
        start = asyncio.ensure_future(first.executor.start(job("own")))
        await clock.advance(2.5 * SECOND)
        runner._task.cancel()  # type: ignore[union-attr]
        start.cancel()
        await asyncio.gather(runner._task, start, return_exceptions=True)  # type: ignore[arg-type]
        async with running(second):
            await second.executor.start(job("own"))  # as an app does at every start
            await clock.advance(6 * SECOND)
        problems = [
            f"{row.key} is {row.status}" for row in await memory.list_actions() if row.status is not Status.DONE
        ]
        return is_dead.is_set(), problems + await history_complete(memory)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_worker_that_dies_around_any_write_holds_nothing_up(moment: str) -> None:
    """G3: claims, renewals, starts, saves: another worker finishes all of it once the lease has lapsed."""
    for number in range(1, 100):
        has_died, problems = await crashed_at(number, moment)
        assert problems == [], f"{moment} write {number}"
        if not has_died:
            break
    assert 8 < number < 99
