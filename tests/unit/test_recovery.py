"""Start-up: taking up what a crash left behind (G3, L-D13)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.actions import (
    SECOND,
    SECRET,
    Answer,
    Chore,
    Desk,
    Job,
    Rig,
    coin,
    done,
    failed,
    idle,
    job,
    key_of,
    parked,
    raising,
    sent,
    settle,
    waiting,
)
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.errors import InvariantError, StoreUnavailableError, TransientError
from wallet_actions.events import EventKind
from wallet_actions.outcome import DriveResult
from wallet_actions.recovery import STORE_TRIES, RecoveryReport, recover, revive_quarantined
from wallet_actions.testing.clock import FakeClock
from wallet_actions.transition import Changes
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
STUCK = raising(InvariantError("oops"))


class ByName(Desk):
    """Answers each job by its name; those without an answer are done."""

    def __init__(self, **answers: Answer) -> None:
        super().__init__(lambda job: self.by_name.get(job.name, done)(job), on_cancel=[failed])
        self.by_name = answers
        self.seen: list[str] = []

    async def answer(self, method: str, job: Job) -> Any:
        self.seen.append(job.name)
        return await super().answer(method, job)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig(desk=ByName()) as rig:
        yield rig


def after_restart(rig: Rig, desk: Desk | None = None) -> Rig:
    assert isinstance(rig.store, MemoryStore)
    return Rig(store=rig.store.peer(), clock=rig.clock, desk=desk or ByName())


async def leave(rig: Rig, name: str, answer: Answer | None) -> ActionKey:
    """An action as a process that died left it."""
    key = await rig.start(name)
    if answer is not None:
        desk: Any = rig.desk
        desk.by_name[name] = answer
        await rig.executor.drive(key)
    return key


async def test_an_empty_store_is_recovered_at_once(rig: Rig) -> None:
    assert await recover(rig.executor) == RecoveryReport()


async def test_everything_that_is_due_is_driven_and_counted(rig: Rig) -> None:
    await leave(rig, "was-running", None)
    await leave(rig, "was-idle", idle)
    await leave(rig, "was-due", parked(SECOND))
    await leave(rig, "was-stuck", STUCK)
    await leave(rig, "not-due", parked(HOUR))
    await leave(rig, "parks", None)
    await leave(rig, "fails", None)
    await leave(rig, "gets-stuck", None)
    cancelling = await leave(rig, "is-cancelled", parked(HOUR))
    await rig.operator.request_cancel(cancelling)
    paused = await leave(rig, "is-paused", None)
    await rig.operator.pause(paused)
    lost = await leave(rig, "is-lost", None)
    await rig.insert(replace(await rig.row(lost), kind="lost"))
    await rig.insert(replace(await rig.row(lost), id="broken", state="{"))
    await rig.executor.drive(await rig.start("ended"))
    rig.clock.set_wall(rig.clock.now() + SECOND)
    desk = ByName(parks=parked(SECOND), fails=failed, **{"gets-stuck": STUCK})

    async with after_restart(rig, desk) as process:
        report = await recover(process.executor)

    assert report == RecoveryReport(
        resumed=9, completed=5, compensated=1, failed=1, parked=1, stuck=1, elsewhere=0, quarantined=2, deferred=0
    )
    assert "not-due" not in desk.seen
    assert "is-paused" not in desk.seen
    assert "ended" not in desk.seen
    assert await rig.status(key_of("is-lost", "lost")) is Status.QUARANTINED
    assert (await rig.row(key_of("broken"))).state == "{"


async def test_a_crash_in_the_same_moment_is_recovered(rig: Rig) -> None:
    """The clock has not moved since the last write."""
    await leave(rig, "a", None)

    async with after_restart(rig) as process:
        assert (await recover(process.executor)).completed == 1


async def test_more_than_a_page_is_taken_up(rig: Rig) -> None:
    for number in range(1201):
        await rig.start(f"a{number}")

    async with after_restart(rig) as process:
        report = await recover(process.executor)

    assert (report.resumed, report.completed) == (1201, 1201)


async def test_no_more_are_driven_at_once_than_allowed(rig: Rig) -> None:
    running, most = 0, 0
    go = asyncio.Event()

    async def count(job: Job) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1
        return done(job)

    for number in range(10):
        await rig.start(f"a{number}")
    async with after_restart(rig, Desk(count)) as process:
        recovery = asyncio.create_task(recover(process.executor, concurrency=3))
        await settle()
        assert running == 3
        go.set()
        assert (await recovery).completed == 10
    assert most == 3


async def test_a_recovery_that_dies_is_recovered(rig: Rig) -> None:
    """G3: a crash during the recovery."""
    await leave(rig, "a", None)
    await leave(rig, "b", None)
    begun = asyncio.Event()
    hanging = ByName(a=sent, b=waiting(asyncio.Event(), done, begun))
    hanging.by_name["a"] = lambda job: sent(job) if job.phase.tag == "open" else done(job)
    async with after_restart(rig, hanging) as process:
        recovery = asyncio.create_task(recover(process.executor))
        await begun.wait()
        recovery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await recovery

    async with after_restart(rig) as process:
        await recover(process.executor)

    assert {await rig.status(key_of(name)) for name in "ab"} == {Status.DONE}


async def test_what_somebody_else_drives_is_counted_as_such(rig: Rig) -> None:
    go, begun = asyncio.Event(), asyncio.Event()
    await rig.start("a")
    desk: Any = rig.desk
    desk.by_name["a"] = waiting(go, done, begun)
    driver = asyncio.create_task(rig.executor.drive(key_of("a")))
    await begun.wait()

    report = await recover(rig.executor)

    assert (report.resumed, report.elsewhere) == (1, 1)
    go.set()
    await driver


async def test_one_bad_action_does_not_keep_the_others(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """L-D12: not even where the driver itself is broken."""
    for name in ("a", "bad", "c"):
        await rig.start(name)
    async with after_restart(rig) as process:
        drive = process.executor.drive

        async def broken(key: ActionKey, **options: Any) -> DriveResult[Any]:
            if key.id == "bad":
                raise ValueError(SECRET)
            return await drive(key, **options)

        process.executor.drive = broken  # type: ignore[method-assign, assignment]
        with caplog.at_level(logging.DEBUG):
            report = await recover(process.executor)

    assert (report.completed, report.deferred) == (2, 1)
    assert [record.__dict__["error_type"] for record in caplog.records] == ["ValueError"]
    assert SECRET not in repr([record.__dict__ for record in caplog.records])


async def test_orphaned_coins_are_reported_and_not_freed(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """L-C10, G5."""
    await rig.fund(coin("c"))
    tables = rig.store._tables  # type: ignore[attr-defined]
    tables.put_coin(Coin("c", "bank", "sat", 1, SECRET, CoinState.RESERVED, key_of("gone")))

    with caplog.at_level(logging.DEBUG):
        report = await recover(rig.executor)

    assert [found.id for found in report.orphans] == ["c"]
    assert (await rig.coin("c")).state is CoinState.RESERVED
    assert SECRET not in repr(report) + repr([record.__dict__ for record in caplog.records])


async def test_a_stuck_action_gets_one_chance_at_each_start(rig: Rig) -> None:
    await leave(rig, "a", STUCK)
    desk = ByName(a=STUCK)
    async with after_restart(rig, desk) as process:
        assert (await recover(process.executor)).stuck == 1
    async with after_restart(rig) as process:
        assert (await recover(process.executor)).completed == 1

    assert desk.seen == ["a"]


# Reading again what was quarantined


async def test_what_can_be_read_again_goes_on(rig: Rig) -> None:
    """L-U2: after an upgrade of the code."""
    key = await rig.start("a")
    async with rig.other(kinds=[Chore]) as old_code:
        assert (await recover(old_code.executor)).quarantined == 1
        assert (await recover(old_code.executor)).quarantined == 1
        assert await revive_quarantined(old_code.executor) == []
    assert await rig.status(key) is Status.QUARANTINED

    async with after_restart(rig) as new_code:
        report = await recover(new_code.executor)

    assert (report.completed, report.quarantined) == (1, 0)
    assert await rig.story(key) == ["start", "quarantine", "revive", "done"]


async def test_what_is_read_again_is_told(rig: Rig) -> None:
    key = await rig.start("a")
    async with rig.other(kinds=[Chore]) as old_code:
        await recover(old_code.executor)

    assert await revive_quarantined(rig.executor) == [key]
    assert await rig.status(key) is Status.RUNNING
    told, row = rig.events[-1], await rig.row(key)
    assert (told.kind, told.key, told.version, told.at) == (EventKind.REVIVED, key, row.version, row.updated_at)


# A store that blips


class Blipping(MemoryStore):
    """Every method fails as often as is said, before it does anything, then works."""

    def __init__(self, blips: int) -> None:
        super().__init__()
        self.blips = blips
        self.failed: dict[str, int] = {}

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name.startswith("_") or not callable(method) or name == "peer":
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.failed.setdefault(name, 0) < self.blips:
                self.failed[name] += 1
                raise StoreUnavailableError("busy")
            return await method(*args, **kwargs)

        return call


async def test_blips_of_the_store_drop_nothing(rig: Rig) -> None:
    """L-D13: whichever call it is that fails."""
    for name, answer in (("run", None), ("idle", idle), ("stuck", STUCK), ("due", parked(SECOND))):
        await leave(rig, name, answer)
    lost = await leave(rig, "lost", None)
    await rig.insert(replace(await rig.row(lost), id="readable", status=Status.QUARANTINED, state=_state("readable")))
    rig.clock.set_wall(rig.clock.now() + SECOND)
    store = Blipping(blips=1)
    store._tables = rig.store._tables  # type: ignore[attr-defined]
    clock = FakeClock(rig.clock.now(), auto=True, patience=timedelta(milliseconds=1))
    async with Rig(store=store, clock=clock, desk=ByName()) as process:
        report = await recover(process.executor)

    assert (report.resumed, report.completed, report.deferred) == (6, 6, 0)
    assert {"list_actions", "running", "idle", "wakes", "load", "finish", "save", "orphans", "last_write_at"} <= set(
        store.failed
    )


def _state(name: str) -> str:
    return f'{{"amount":1,"name":"{name}","phase":{{"tag":"open"}}}}'


async def test_an_action_that_the_store_does_not_let_us_handle_is_deferred(rig: Rig) -> None:
    await rig.start("a")
    store = Blipping(blips=STORE_TRIES)
    store._tables = rig.store._tables  # type: ignore[attr-defined]
    store.failed = dict.fromkeys(("list_actions", "running", "idle", "wakes", "orphans", "last_write_at"), STORE_TRIES)
    clock = FakeClock(rig.clock.now(), auto=True, patience=timedelta(milliseconds=1))
    async with Rig(store=store, clock=clock) as process:
        report = await recover(process.executor)

    assert (report.resumed, report.deferred) == (0, 1)
    assert await rig.status(key_of("a")) is Status.RUNNING


async def test_a_store_that_stays_away_is_told(rig: Rig) -> None:
    await rig.start("a")
    store = Blipping(blips=10**9)
    store._tables = rig.store._tables  # type: ignore[attr-defined]
    clock = FakeClock(rig.clock.now(), auto=True, patience=timedelta(milliseconds=1))
    async with Rig(store=store, clock=clock) as process:
        with pytest.raises(StoreUnavailableError):
            await recover(process.executor)


# A clock that was set back


async def test_no_action_waits_longer_than_it_was_parked_for(rig: Rig) -> None:
    """L-B5: an hour means an hour, and not a day and an hour."""
    await leave(rig, "hour", parked(HOUR))
    await leave(rig, "second", parked(SECOND))
    start = rig.clock.now() - timedelta(days=1)
    rig.clock.set_wall(start)

    async with after_restart(rig) as process:
        report = await recover(process.executor)

    assert report.resumed == 0
    assert (await rig.row(key_of("hour"))).wake_at == start + HOUR
    assert (await rig.row(key_of("second"))).wake_at == start + SECOND
    assert await rig.story(key_of("hour")) == ["start", "park", "clock"]
    told = {event.key.id: (event.kind, event.wake_at) for event in process.events}
    assert told == {name: (EventKind.RESCHEDULED, start + wait) for name, wait in (("hour", HOUR), ("second", SECOND))}


async def test_a_clock_that_was_set_back_keeps_nothing_from_being_taken_up(rig: Rig) -> None:
    """L-B5: what ran was written "tomorrow"."""
    await leave(rig, "running", None)
    await leave(rig, "idle", idle)
    await leave(rig, "stuck", STUCK)
    rig.clock.set_wall(rig.clock.now() - timedelta(days=1))

    async with after_restart(rig) as process:
        report = await recover(process.executor)

    assert (report.resumed, report.completed) == (3, 3)


async def test_times_that_are_right_are_left_alone(rig: Rig) -> None:
    await leave(rig, "early", parked(HOUR))
    rig.clock.set_wall(rig.clock.now() + 2 * HOUR)
    await rig.start("late")
    rig.clock.set_wall(rig.clock.now() - HOUR - SECOND)
    before: Checkpoint = await rig.row(key_of("early"))

    async with after_restart(rig, ByName(late=raising(TransientError("busy")))) as process:
        await recover(process.executor)

    assert await rig.row(key_of("early")) == before


async def test_a_recovery_keeps_its_hands_off_held_coins(rig: Rig) -> None:
    """G5: never by a restart."""
    await rig.fund(coin("c"))
    await rig.executor.start(job("a"), Changes(reserve=["c"]))
    async with after_restart(rig, ByName(a=raising(TimeoutError()))) as process:
        await recover(process.executor)

    assert (await rig.coin("c")).holder == key_of("a")
