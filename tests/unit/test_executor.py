"""Starting and driving: the executor's loop."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.actions import (
    SECOND,
    SECRET,
    Chore,
    Job,
    Open,
    Receipt,
    Rig,
    Sent,
    coin,
    doing,
    done,
    failed,
    finished,
    job,
    key_of,
    parked,
    raising,
    sent,
    settle,
    waiting,
)
from wallet_actions.checkpoint import Status
from wallet_actions.coins import MAX_AMOUNT, Coin, CoinState, Fact
from wallet_actions.errors import (
    ActionFailedError,
    CheckpointDecodeError,
    InvariantError,
    ReservationError,
    TransientError,
    UnknownActionError,
    UsageError,
    VersionConflictError,
)
from wallet_actions.events import EventKind
from wallet_actions.outcome import DriveMode, Outcome
from wallet_actions.store import Statement
from wallet_actions.transition import Changes, Done, Next

pytestmark = pytest.mark.anyio

DONE = DriveMode.UNTIL_DONE


# Starting


async def test_a_start_is_durable_before_anything_is_done(rig: Rig) -> None:
    """G7, L-D4."""
    started = await rig.executor.start(job("a"), Changes(add=[coin("c")], notes=["from the app"]))

    assert (started.is_new, started.status, started.result) == (True, Status.RUNNING, None)
    assert rig.desk.calls == []
    assert [(entry.version, entry.event, entry.notes) for entry in await rig.history(started.key)] == [
        (0, "start", ("from the app",))
    ]
    assert (await rig.coin("c")).state is CoinState.SPENDABLE
    assert [event.kind for event in rig.events] == [EventKind.STARTED]


async def test_the_same_id_again_is_the_same_action(rig: Rig) -> None:
    """G6, L-D5: nothing of the second start is written."""
    key = await rig.start("a")

    again = await rig.executor.start(job("a", amount=7), Changes(add=[coin("c")]))

    assert (again.key, again.is_new, again.status) == (key, False, Status.RUNNING)
    assert await rig.store.coins_by_id(["c"]) == []
    await rig.executor.drive(key)
    finished_one = await rig.executor.start(job("a", amount=9))
    assert (finished_one.is_new, finished_one.status) == (False, Status.DONE)
    assert finished_one.result == Receipt(amount=1)
    assert len(rig.events) == 2


async def test_the_same_id_of_another_kind_is_another_action(rig: Rig) -> None:
    await rig.start("a")

    assert (await rig.executor.start(Chore(name="a", phase=Open()))).is_new


async def test_a_finished_id_answers_with_its_result_also_when_its_details_are_gone(rig: Rig) -> None:
    """G6, L-D5: also in another process, a year later."""
    key = await rig.start("a")
    await rig.executor.drive(key)
    rig.clock.set_wall(rig.clock.now() + timedelta(days=366))
    assert await rig.operator.prune(timedelta(days=365)) == 1

    async with rig.other() as other:
        assert (await other.executor.start(job("a"))).result == Receipt(amount=1)
        driven = await other.executor.drive(key)
        assert (driven.outcome, driven.result, driven.action) == (Outcome.DONE, Receipt(amount=1), None)
        assert await other.executor.result(Job, "a") == Receipt(amount=1)
    assert rig.desk.count() == 1


async def test_a_result_that_this_code_cannot_read_is_told(rig: Rig) -> None:
    key = await rig.start("a")
    row = await rig.row(key)
    await rig.insert(replace(row, id="b", status=Status.DONE, result=f'{{"colour":"{SECRET}"}}'))

    for call in (
        rig.executor.start(job("b")),
        rig.executor.drive(key_of("b")),
        rig.executor.result(Job, "b"),
    ):
        with pytest.raises(CheckpointDecodeError, match="its result cannot be read") as caught:
            await call
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("id", ["", "x" * 501, "two\nlines"])
async def test_a_bad_id_is_refused_before_anything_is_written(rig: Rig, id: str) -> None:
    with pytest.raises(UsageError):
        await rig.executor.start(job(id), Changes(add=[coin("c")]))

    assert await rig.store.count_actions() == {}
    assert await rig.store.balances() == []


async def test_a_class_that_is_not_registered_is_refused() -> None:
    async with Rig(kinds=[Chore]) as rig:
        with pytest.raises(UsageError, match="Job is not registered"):
            await rig.start("a")


async def test_bad_changes_are_refused_before_anything_is_written(rig: Rig) -> None:
    await rig.fund(coin("held"), holder="holder")
    bad: list[tuple[Changes, type[Exception]]] = [
        (Changes(add=[coin("c"), coin("c")]), InvariantError),
        (Changes(add=[coin("held", 2)]), InvariantError),
        (Changes(add=[coin("c")], reserve=["c", "nowhere"]), InvariantError),
        (Changes(add=[coin("c")], reserve=["c", "held"]), ReservationError),
        (Changes(release=["held"]), InvariantError),
        (Changes(spend=["held"]), InvariantError),
        (Changes(counters={"k": MAX_AMOUNT + 1}), InvariantError),
        (Changes(statements=[Statement("SELECT 1")]), UsageError),
    ]
    for changes, error in bad:
        with pytest.raises(error):
            await rig.executor.start(job("a"), changes)

    assert await rig.store.load(key_of("a")) is None
    assert await rig.store.coins_by_id(["c"]) == []
    for amount in (0, -1, MAX_AMOUNT + 1):
        with pytest.raises(UsageError, match="amount"):
            Coin("c", "bank", "sat", amount)


async def test_a_state_that_cannot_be_stored_is_refused_at_the_start(rig: Rig) -> None:
    with pytest.raises(InvariantError):
        await rig.executor.start(job("a").model_copy(update={"amount": float("nan")}))

    assert await rig.store.load(key_of("a")) is None


# Driving


async def test_every_step_is_saved_before_the_next_one_runs(rig: Rig) -> None:
    saved: list[tuple[int, str]] = []
    key = key_of("a")

    async def look() -> None:
        row = await rig.row(key)
        saved.append((row.version, row.phase))

    rig.desk.then(doing(look, sent), doing(look, done))
    await rig.start("a")

    result = await rig.executor.drive(key)

    assert saved == [(0, "open"), (1, "sent")]
    assert (result.outcome, result.status, result.result) == (Outcome.DONE, Status.DONE, Receipt(amount=1))
    assert await rig.story(key) == ["start", "next", "done"]
    assert [entry.version for entry in await rig.history(key)] == [0, 1, 2]
    assert (await rig.row(key)).version == 2


async def test_an_action_that_nobody_started_is_told(rig: Rig) -> None:
    with pytest.raises(UnknownActionError):
        await rig.executor.drive(key_of("nobody"))
    with pytest.raises(UnknownActionError):
        await rig.executor.result(Job, "nobody")


async def test_an_end_is_told_again_and_nothing_runs(rig: Rig) -> None:
    """L-S9."""
    rig.desk.then(failed)
    key = await rig.start("a")
    for _ in range(3):
        result = await rig.executor.drive(key)
        assert (result.outcome, result.status) == (Outcome.FAILED, Status.FAILED)
        assert isinstance(result.error, ActionFailedError)
        assert "given up" in str(result.error)

    assert rig.desk.count() == 1
    assert await rig.story(key) == ["start", "fail"]


async def test_what_the_driver_gets_is_what_everybody_gets_later(rig: Rig) -> None:
    """A result that the declared type reads from something else is that type for all."""
    rig.desk.then(lambda job: Done({"amount": 3}))
    key = await rig.start("a")

    driven = await rig.executor.drive(key)

    assert driven.result == Receipt(amount=3)
    assert await rig.executor.result(Job, "a") == driven.result


async def test_parking_ends_the_drive_with_its_time_and_its_cause(rig: Rig) -> None:
    """L-D3, L-S10."""
    error = TransientError("busy")
    rig.desk.then(raising(error))
    key = await rig.start("a")

    for attempt in (1, 2, 3):
        result = await rig.executor.drive(key)
        assert (result.outcome, result.error) == (Outcome.PARKED, error)
        assert result.wake_at == rig.clock.now() + attempt**2 * SECOND
        row = await rig.row(key)
        assert (row.status, row.attempts, row.wake_at) == (Status.PARKED, attempt, result.wake_at)
        assert row.error is not None
        assert row.error.message == "busy"


async def test_wake_time_and_attempts_survive_a_restart(rig: Rig) -> None:
    """G8."""
    rig.desk.then(raising(TransientError("busy")))
    key = await rig.start("a")
    for _ in range(3):
        await rig.executor.drive(key)

    async with rig.other() as after_restart:
        early = await after_restart.executor.drive(key, only_if_due=True)
        assert (early.outcome, early.wake_at) == (Outcome.PARKED, rig.clock.now() + 9 * SECOND)
        assert after_restart.desk.count() == 3
        result = await after_restart.executor.drive(key)
        assert result.wake_at == rig.clock.now() + 16 * SECOND


async def test_an_action_that_is_due_is_driven_also_if_only_that_was_asked(rig: Rig) -> None:
    rig.desk.then(parked(SECOND), done)
    key = await rig.start("a")
    await rig.executor.drive(key)
    rig.clock.set_wall(rig.clock.now() + SECOND)

    assert (await rig.executor.drive(key, only_if_due=True)).outcome is Outcome.DONE


# Busy


async def test_busy_is_told_at_once_or_waited_for(rig: Rig) -> None:
    """L-D1: a busy lock is not success."""
    go, begun = asyncio.Event(), asyncio.Event()
    rig.desk.then(waiting(go, done, begun))
    key = await rig.start("a")
    driver = asyncio.create_task(rig.executor.drive(key))
    await begun.wait()

    busy = await rig.executor.drive(key)
    queued = asyncio.create_task(rig.executor.drive(key, wait=True))
    await settle()
    assert (busy.outcome, busy.status) == (Outcome.BUSY, None)
    assert not queued.done()
    go.set()

    assert (await driver).outcome is Outcome.DONE
    assert (await queued).outcome is Outcome.DONE
    assert rig.desk.count() == 1


async def test_two_actions_do_not_disturb_each_other(rig: Rig) -> None:
    go, begun = asyncio.Event(), asyncio.Event()
    rig.desk.then(waiting(go, done, begun), done)
    await rig.start("a")
    await rig.start("b")
    driver = asyncio.create_task(rig.executor.drive(key_of("a")))
    await begun.wait()

    assert (await rig.executor.drive(key_of("b"))).outcome is Outcome.DONE
    go.set()
    await driver


async def test_a_cancelled_driver_leaves_the_lock_free_and_the_action_as_it_was(rig: Rig) -> None:
    begun = asyncio.Event()
    rig.desk.then(waiting(asyncio.Event(), done, begun), done)
    key = await rig.start("a")
    driver = asyncio.create_task(rig.executor.drive(key))
    await begun.wait()
    driver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driver

    assert (await rig.row(key)).version == 0
    assert (await rig.executor.drive(key)).outcome is Outcome.DONE
    assert not rig.executor._locks._held
    assert not rig.executor._calls._calls


# Superseded


async def test_a_driver_that_lost_leaves_nothing(rig: Rig) -> None:
    """G2, L-S4: no write, no coin, no fact, no child, no answer to the peer."""
    await rig.fund(coin("mine"), coin("other"))
    key = await rig.start("a", Changes(reserve=["mine"]))
    async with rig.other(finished(spend=["mine"])) as winner:

        async def overtake() -> None:
            assert (await winner.executor.drive(key)).outcome is Outcome.DONE

        late = Changes(
            add=[coin("new")],
            release=["mine"],
            reserve=["other"],
            counters={"k": 9},
            facts=[Fact("payment", "k")],
            start=[job("child")],
        )
        rig.desk.then(doing(overtake, lambda job: Next(job.at(Sent()), late)))
        result = await rig.executor.drive(key)

    assert (result.outcome, result.status) == (Outcome.SUPERSEDED, None)
    assert isinstance(result.error, VersionConflictError)
    assert rig.desk.count() == 1
    assert await rig.story(key) == ["start", "done"]
    assert (await rig.coin("mine")).state is CoinState.SPENT
    assert (await rig.coin("other")).state is CoinState.SPENDABLE
    assert await rig.store.coins_by_id(["new"]) == []
    assert await rig.store.counters() == {}
    assert await rig.store.facts() == []
    assert await rig.store.load(key_of("child")) is None
    assert [event.kind for event in rig.events][-1] is EventKind.SUPERSEDED


async def test_a_driver_that_lost_while_it_failed_does_not_ask_on_retry_for_a_second_write(rig: Rig) -> None:
    key = await rig.start("a")
    async with rig.other(parked(timedelta(hours=1))) as winner:

        async def overtake() -> None:
            await winner.executor.drive(key)

        rig.desk.then(doing(overtake, raising(TransientError("busy"))))
        assert (await rig.executor.drive(key)).outcome is Outcome.SUPERSEDED

    row = await rig.row(key)
    assert (row.version, row.attempts, row.error) == (1, 0, None)


async def test_a_late_failure_never_overwrites_a_success(rig: Rig) -> None:
    """L-S9."""
    key = await rig.start("a")
    async with rig.other(done) as winner:

        async def overtake() -> None:
            await winner.executor.drive(key)

        rig.desk.then(doing(overtake, failed))
        assert (await rig.executor.drive(key, DONE)).outcome is Outcome.SUPERSEDED

    assert await rig.status(key) is Status.DONE
