"""Starting and driving: the executor's loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from pydantic import SecretStr
from wallet_actions_storage.memory import MemoryStore

from tests.actions import (
    SECOND,
    SECRET,
    Answer,
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
    idle,
    job,
    key_of,
    parked,
    raising,
    sent,
    settle,
    stepping,
    waiting,
)
from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.coins import MAX_AMOUNT, Coin, CoinState, Fact
from wallet_actions.errors import (
    ActionFailedError,
    CheckpointDecodeError,
    ConfigurationError,
    InvariantError,
    NotFinishedError,
    RejectedError,
    ReservationError,
    StoreUnavailableError,
    TransientError,
    UnknownActionError,
    UsageError,
    VersionConflictError,
)
from wallet_actions.events import EventKind
from wallet_actions.outcome import DriveMode, Outcome
from wallet_actions.step import RejectedError as _same_error
from wallet_actions.store import Statement
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Start

pytestmark = pytest.mark.anyio

assert _same_error is RejectedError
DONE = DriveMode.UNTIL_DONE


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as rig:
        yield rig


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
            await call  # type: ignore[misc]
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
    assert not rig.executor._locks._locks
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


# Until done


async def test_until_done_sleeps_through_parks(rig: Rig) -> None:
    rig.desk.then(parked(5 * SECOND), parked(7 * SECOND), done)
    key = await rig.start("a")
    driver = asyncio.create_task(rig.executor.drive(key, DONE))
    await settle()
    assert rig.desk.count() == 1
    await rig.clock.advance(4.9 * SECOND)
    assert rig.desk.count() == 1
    await rig.clock.advance(0.1 * SECOND)
    assert rig.desk.count() == 2
    await rig.clock.advance(7 * SECOND)

    assert (await driver).outcome is Outcome.DONE


async def test_until_done_tells_when_there_is_no_time_to_sleep_for(rig: Rig) -> None:
    """L-D2."""
    rig.desk.then(idle)
    key = await rig.start("a")

    result = await rig.executor.drive(key, DONE)

    assert (result.outcome, result.wake_at) == (Outcome.PARKED, None)


async def test_a_notification_wakes_who_sleeps(rig: Rig) -> None:
    rig.desk.then(parked(timedelta(hours=1)), done)
    key = await rig.start("a")
    driver = asyncio.create_task(rig.executor.drive(key, DONE))
    await settle()

    rig.executor.notify(key)

    assert (await driver).outcome is Outcome.DONE


async def test_a_notification_during_a_step_is_not_lost(rig: Rig) -> None:
    """It came after the step had looked at the peer, and before it parked."""
    key = key_of("a")

    async def notify() -> None:
        rig.executor.notify(key)

    for name, park in (("a", parked(timedelta(hours=1))), ("b", idle)):
        key = await rig.start(name)
        rig.desk.then(doing(notify, park), done)
        assert (await rig.executor.drive(key, DONE)).outcome is Outcome.DONE


async def test_one_notification_leads_to_one_step(rig: Rig) -> None:
    rig.desk.then(parked(timedelta(hours=1)))
    key = await rig.start("a")
    driver = asyncio.create_task(rig.executor.drive(key, DONE))
    await settle()
    for _ in range(5):
        rig.executor.notify(key)
    await settle()
    assert rig.desk.count() == 2

    driver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driver


async def test_a_notification_to_nobody_is_no_error(rig: Rig) -> None:
    rig.executor.notify(key_of("nobody"))


async def test_who_sleeps_does_not_keep_others_from_driving(rig: Rig) -> None:
    """L-D1: nobody holds a lock for an hour without working."""
    rig.desk.then(parked(timedelta(hours=1)), done)
    key = await rig.start("a")
    sleeper = asyncio.create_task(rig.executor.drive(key, DONE))
    await settle()

    assert (await rig.executor.drive(key)).outcome is Outcome.DONE
    assert (await sleeper).outcome is Outcome.DONE  # it was told, and did not sleep on
    assert rig.desk.count() == 2


async def test_who_sleeps_respects_a_later_time_that_somebody_else_set(rig: Rig) -> None:
    rig.desk.then(parked(10 * SECOND), parked(100 * SECOND), done)
    key = await rig.start("a")
    sleeper = asyncio.create_task(rig.executor.drive(key, DONE))
    await settle()
    await rig.executor.drive(key)
    await rig.clock.advance(20 * SECOND)
    assert rig.desk.count() == 2

    await rig.clock.advance(80 * SECOND)

    assert (await sleeper).outcome is Outcome.DONE


async def test_two_who_sleep_over_one_action_drive_it_once_when_it_is_due(rig: Rig) -> None:
    rig.desk.then(parked(10 * SECOND), parked(10 * SECOND), parked(10 * SECOND), done)
    key = await rig.start("a")
    first = asyncio.create_task(rig.executor.drive(key, DONE))
    second = asyncio.create_task(rig.executor.drive(key, DONE, wait=True))
    await settle()
    before = rig.desk.count()
    await rig.clock.advance(10 * SECOND)
    assert rig.desk.count() == before + 1

    await rig.clock.advance(20 * SECOND)

    assert {(await first).outcome, (await second).outcome} == {Outcome.DONE}


async def test_who_sleeps_is_told_what_another_process_did_when_it_wakes(rig: Rig) -> None:
    rig.desk.then(parked(10 * SECOND))
    key = await rig.start("a")
    sleeper = asyncio.create_task(rig.executor.drive(key, DONE))
    await settle()
    async with rig.other(done) as other:
        await other.executor.drive(key)
    await rig.clock.advance(10 * SECOND)

    assert (await sleeper).outcome is Outcome.DONE
    assert rig.desk.count() == 1


# Errors


async def test_a_rejection_fails_by_default_and_frees_the_coins(rig: Rig) -> None:
    rig.desk.then(raising(RejectedError("no such invoice")))
    await rig.fund(coin("c"))
    key = await rig.start("a", Changes(reserve=["c"]))

    result = await rig.executor.drive(key)

    assert result.outcome is Outcome.FAILED
    assert "no such invoice" in str(result.error)
    assert (await rig.coin("c")).state is CoinState.SPENDABLE


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (raising(TransientError("busy")), Outcome.PARKED),
        (raising(TimeoutError()), Outcome.PARKED),
        (raising(ConfigurationError("the key was revoked")), Outcome.PARKED),
        (raising(InvariantError("the sums differ")), Outcome.STUCK),
        (raising(KeyError("x")), Outcome.PARKED),
        (lambda job: None, Outcome.STUCK),
        (lambda job: Done("nonsense"), Outcome.STUCK),
        (lambda job: Failed(None), Outcome.STUCK),  # type: ignore[arg-type]
        (lambda job: Next(job), Outcome.STUCK),
        (lambda job: Next(job.model_copy(update={"phase": None})), Outcome.STUCK),
        (lambda job: Next(Job(name="b", phase=Sent())), Outcome.STUCK),
        (lambda job: Park(job, wake_after="soon"), Outcome.STUCK),  # type: ignore[arg-type]
        (stepping(spend=["nowhere"]), Outcome.STUCK),
        (stepping(release=["foreign"]), Outcome.STUCK),
        (stepping(spend=["foreign"]), Outcome.STUCK),
        (stepping(add=[coin("twice"), coin("twice")]), Outcome.STUCK),
        (stepping(add=[coin("held", 5)]), Outcome.STUCK),
        (stepping(counters=[("k", 1)]), Outcome.STUCK),
        (stepping(start=[job("a")]), Outcome.STUCK),
        (finished(facts=["paid"]), Outcome.STUCK),
        (finished(notes=5), Outcome.STUCK),
        (finished(add=None), Outcome.STUCK),
        (stepping(statements=[Statement("SELECT 1")]), Outcome.PARKED),
    ],
)
async def test_whatever_goes_wrong_the_coins_stay_held(rig: Rig, answer: Answer, outcome: Outcome) -> None:
    """G5, L-C5, L-D6, and that bad answers raise nothing (L-D12)."""
    await rig.fund(coin("held"), coin("free"))
    await rig.fund(coin("foreign"), holder="other")
    key = await rig.start("a", Changes(reserve=["held"]))
    rig.desk.then(answer)

    result = await rig.executor.drive(key)

    assert result.outcome is outcome
    assert result.error is not None
    assert (await rig.coin("held")).holder == key
    assert (await rig.coin("foreign")).holder == key_of("other")
    assert (await rig.coin("free")).state is CoinState.SPENDABLE
    row = await rig.row(key)
    assert (row.version, row.phase, row.attempts) == (1, "open", 1)
    assert row.error is not None
    if isinstance(result.error, InvariantError) and "sums" not in str(result.error):
        assert str(result.error).startswith(("job a", "coin held"))
        assert result.error.rule
    assert await rig.store.coins_by_id(["twice"]) == []


async def test_what_nobody_classified_is_stuck_once_the_budget_is_used_up(rig: Rig) -> None:
    rig.desk.then(raising(KeyError(SECRET)))
    key = await rig.start("a")

    driver = asyncio.create_task(rig.executor.drive(key, DONE))
    await settle()
    for delay in (1, 4, 9, 16, 25):
        assert not driver.done()
        await rig.clock.advance(delay * SECOND)
    result = await driver

    assert (result.outcome, result.status) == (Outcome.STUCK, Status.STUCK)
    assert rig.desk.count() == 6
    assert await rig.story(key) == ["start", *["retry"] * 5, "stuck"]
    row = await rig.row(key)
    assert (row.attempts, row.faults) == (6, 6)
    assert row.error is not None
    assert SECRET not in row.error.message
    assert "KeyError" in row.error.message


async def test_a_good_step_gives_the_budget_back(rig: Rig) -> None:
    fault = raising(KeyError())
    rig.desk.then(*[fault] * 5, idle, *[fault] * 5, done)
    key = await rig.start("a")
    for _ in range(11):
        assert (await rig.executor.drive(key)).outcome is Outcome.PARKED

    assert (await rig.executor.drive(key)).outcome is Outcome.DONE


async def test_a_stuck_action_that_is_driven_again_may_go_on(rig: Rig) -> None:
    rig.desk.then(raising(InvariantError("oops")), done)
    key = await rig.start("a")
    assert (await rig.executor.drive(key)).outcome is Outcome.STUCK

    assert (await rig.executor.drive(key)).outcome is Outcome.DONE


async def test_a_matter_of_configuration_is_shown_to_the_operator(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.desk.then(raising(ConfigurationError("the key was revoked")), done)
    key = await rig.start("a")

    with caplog.at_level(logging.WARNING):
        result = await rig.executor.drive(key)

    assert result.wake_at == rig.clock.now() + timedelta(hours=1)
    assert [event.kind for event in rig.events][1:] == [EventKind.NEEDS_OPERATOR, EventKind.RETRIED]
    assert [record.message for record in caplog.records] == ["an action needs the operator"]
    assert (await rig.executor.drive(key)).outcome is Outcome.DONE


class FailingStore(MemoryStore):
    """Fails the next calls of some methods, before or after they took effect."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: list[str] = []
        self.is_written_first = False

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name.startswith("_") or name in ("failing", "is_written_first", "peer") or name not in self.failing:
            return method

        async def fail(*args: Any, **kwargs: Any) -> Any:
            self.failing.remove(name)
            if self.is_written_first:
                await method(*args, **kwargs)
            raise StoreUnavailableError("the disk is full")

        return fail


async def test_a_store_that_fails_reaches_the_driver_and_the_action_goes_on_later() -> None:
    store = FailingStore()
    async with Rig(sent, done, store=store) as rig:
        key = await rig.start("a")
        for failing, is_written_first, version in (
            (["load"], False, 0),
            (["save"], False, 0),
            (["paused_kinds"], False, 0),
            (["save"], True, 1),
        ):
            store.failing, store.is_written_first = failing, is_written_first
            rig.executor.forget_pauses()
            rig.desk.then(sent)
            with pytest.raises(StoreUnavailableError):
                await rig.executor.drive(key)
            assert (await rig.row(key)).version == version
        rig.desk.then(done)
        store.failing, store.is_written_first = ["finish"], True
        with pytest.raises(StoreUnavailableError):
            await rig.executor.drive(key)

        assert (await rig.executor.drive(key)).outcome is Outcome.DONE
        assert (await rig.row(key)).attempts == 0


# Coins


async def test_coins_that_are_left_at_the_end_are_free_again(rig: Rig) -> None:
    """L-C4."""
    for name, answer in (("done", finished(spend=["done-1"])), ("fail", failed)):
        coins = [coin(f"{name}-{number}") for number in (1, 2)]
        await rig.fund(*coins)
        await rig.start(name, Changes(reserve=coins))
        rig.desk.then(answer)
        await rig.executor.drive(key_of(name))

    states = {found.id: found.state for found in await rig.store.coins()}
    assert states.pop("done-1") is CoinState.SPENT
    assert set(states.values()) == {CoinState.SPENDABLE}


async def test_a_coin_that_was_taken_meanwhile_has_the_step_choose_again(rig: Rig) -> None:
    await rig.fund(coin("c1"), coin("c2"))
    key = await rig.start("a")

    async def choose() -> Changes:
        free = await rig.store.coins(state=CoinState.SPENDABLE)
        return Changes(reserve=[free[0]])

    async def step(job: Job) -> Next[Job]:
        changes = await choose()
        if rig.desk.count() == 1:
            await rig.executor.start(Chore(name="thief", phase=Open()), changes)
        return Next(job.at(Sent()), changes)

    rig.desk.then(step, step, done)
    assert (await rig.executor.drive(key)).outcome is Outcome.DONE

    assert await rig.story(key) == ["start", "next", "done"]
    assert (await rig.coin("c1")).holder == key_of("thief", "chore")


async def test_a_coin_that_stays_taken_backs_off_and_never_loops_hot(rig: Rig) -> None:
    """L-C13, L-D8."""
    await rig.fund(coin("c"), holder="thief")
    key = await rig.start("a")
    rig.desk.then(stepping(reserve=["c"]))

    for attempt in (1, 2):
        result = await rig.executor.drive(key)
        assert isinstance(result.error, ReservationError)
        assert result.wake_at == rig.clock.now() + attempt**2 * SECOND
        assert rig.desk.count() == 3 * attempt
    assert await rig.story(key) == ["start", "retry", "retry"]


async def test_what_on_retry_wants_written_is_checked_too(rig: Rig) -> None:
    await rig.fund(coin("c"), holder="other")
    for name, changes in (("a", Changes(spend=["c"])), ("b", Changes(reserve=["c"]))):
        key = await rig.start(name)
        rig.desk.then(raising(TransientError("busy")), on_retry=[parked(SECOND, changes)])
        result = await rig.executor.drive(key)
        assert result.outcome in (Outcome.STUCK, Outcome.PARKED)
        assert (await rig.coin("c")).holder == key_of("other")
        assert (await rig.row(key)).version == 1


async def test_one_transition_writes_all_that_it_carries(rig: Rig) -> None:
    """G1."""
    await rig.fund(coin("in"))
    key = await rig.start("a", Changes(reserve=["in"]))
    rig.desk.then(
        finished(
            add=[coin("out")],
            spend=["in"],
            counters={"k": 4},
            facts=[Fact("payment", "hash", '{"fee":1}')],
            notes=["paid"],
            start=[job("child"), Start(Chore(name="c", phase=Open()), Changes(reserve=["out"]))],
        )
    )

    await rig.executor.drive(key)

    assert (await rig.coin("in")).state is CoinState.SPENT
    assert (await rig.coin("out")).holder == key_of("c", "chore")
    assert await rig.store.counters() == {"k": 4}
    assert [fact.key for _, fact in await rig.store.facts()] == ["hash"]
    assert (await rig.history(key))[-1].notes == ("paid",)
    assert await rig.status(key_of("child")) is Status.RUNNING
    assert [(event.kind, event.key.id) for event in rig.events][-3:] == [
        (EventKind.DONE, "a"),
        (EventKind.STARTED, "child"),
        (EventKind.STARTED, "c"),
    ]


async def test_a_child_that_exists_is_left_alone(rig: Rig) -> None:
    await rig.start("child")
    rig.desk.then(done)
    await rig.executor.drive(key_of("child"))
    rig.desk.then(finished(start=[Start(job("child", amount=7), Changes(add=[coin("c")]))]))
    key = await rig.start("a")

    assert (await rig.executor.drive(key)).outcome is Outcome.DONE
    assert await rig.story(key_of("child")) == ["start", "done"]
    assert await rig.store.coins_by_id(["c"]) == []


# Cancelling


async def test_a_refused_request_is_noted_and_the_action_goes_on(rig: Rig) -> None:
    """L-D11."""
    key = await rig.start("a")
    assert await rig.operator.request_cancel(key)
    assert (await rig.row(key)).cancel is CancelState.REQUESTED

    assert (await rig.executor.drive(key)).outcome is Outcome.DONE
    assert await rig.story(key) == ["start", "cancel_refused", "done"]
    assert (await rig.row(key)).cancel is CancelState.NONE


async def test_an_accepted_request_ends_as_cancelled_and_frees_the_coins(rig: Rig) -> None:
    await rig.fund(coin("c"))
    key = await rig.start("a", Changes(reserve=["c"]))
    rig.desk.then(idle, on_cancel=[failed])
    await rig.executor.drive(key)
    await rig.operator.request_cancel(key)

    async with rig.other() as after_restart:
        result = await after_restart.executor.drive(key)

    assert (result.outcome, result.status) == (Outcome.FAILED, Status.CANCELLED)
    assert (await rig.coin("c")).state is CoinState.SPENDABLE
    assert await rig.story(key) == ["start", "park", "cancel"]


async def test_a_roll_back_is_a_checkpointed_state_of_its_own(rig: Rig) -> None:
    """L-D10: on_cancel moves to a phase, a crash comes, and the end is still a cancellation."""
    key = await rig.start("a")
    rig.desk.then(raising(TransientError("busy")), on_cancel=[sent])
    await rig.operator.request_cancel(key)
    assert (await rig.executor.drive(key)).outcome is Outcome.PARKED
    assert (await rig.row(key)).cancel is CancelState.ACCEPTED

    async with rig.other(failed) as after_restart:
        result = await after_restart.executor.drive(key)

    assert (result.status, rig.desk.count("on_cancel")) == (Status.CANCELLED, 1)


async def test_a_request_during_a_step_is_answered_next(rig: Rig) -> None:
    key = key_of("a")

    async def cancel() -> None:
        await rig.operator.request_cancel(key)

    for name, answer in (("a", sent), ("b", parked(timedelta(hours=1))), ("c", raising(TransientError("busy")))):
        key = await rig.start(name)
        rig.desk.then(doing(cancel, answer), on_cancel=[failed])
        assert (await rig.executor.drive(key)).status is Status.CANCELLED


async def test_a_request_that_comes_too_late_changes_nothing(rig: Rig) -> None:
    """L-S9."""
    key = key_of("a")

    async def cancel() -> None:
        assert await rig.operator.request_cancel(key)

    rig.desk.then(doing(cancel, done), on_cancel=[failed])
    await rig.start("a")

    assert (await rig.executor.drive(key)).status is Status.DONE
    assert not await rig.operator.request_cancel(key)
    assert await rig.status(key) is Status.DONE


async def test_a_request_wakes_who_sleeps(rig: Rig) -> None:
    rig.desk.then(parked(timedelta(hours=1)), on_cancel=[failed])
    key = await rig.start("a")
    sleeper = asyncio.create_task(rig.executor.drive(key, DONE))
    await settle()

    await rig.operator.request_cancel(key)

    assert (await sleeper).status is Status.CANCELLED


async def test_an_answer_that_fails_is_asked_for_again_on_the_back_off(rig: Rig) -> None:
    """L-D8: not hot; and advance does not run meanwhile."""
    key = await rig.start("a")
    rig.desk.then(done, on_cancel=[raising(TransientError("busy"))])
    await rig.operator.request_cancel(key)

    for attempt in (1, 2, 3):
        result = await rig.executor.drive(key)
        assert (result.outcome, result.wake_at) == (Outcome.PARKED, rig.clock.now() + attempt**2 * SECOND)
        assert rig.desk.calls == ["on_cancel"] * attempt
    rig.desk.then(done, on_cancel=[failed])
    assert (await rig.executor.drive(key)).status is Status.CANCELLED


async def test_on_retry_does_not_answer_for_on_cancel(rig: Rig) -> None:
    key = await rig.start("a")
    rig.desk.then(done, on_cancel=[raising(TransientError("busy")), failed], on_retry=[sent])
    await rig.operator.request_cancel(key)

    assert (await rig.executor.drive(key)).status is Status.CANCELLED
    assert rig.desk.calls == ["on_cancel", "on_retry", "on_cancel"]


async def test_a_peer_that_will_not_call_it_back_does_not_free_the_coins(rig: Rig) -> None:
    """G5, L-C5: the payment is on its way."""
    await rig.fund(coin("c"))
    key = await rig.start("a", Changes(reserve=["c"]))
    rig.desk.then(idle, on_cancel=[raising(RejectedError("it is on its way"))])
    await rig.operator.request_cancel(key)

    assert (await rig.executor.drive(key)).outcome is Outcome.PARKED
    assert (await rig.coin("c")).holder == key
    assert await rig.story(key) == ["start", "cancel_refused", "park"]


# Pausing


async def test_a_paused_action_is_not_driven(rig: Rig) -> None:
    key = await rig.start("a")
    await rig.operator.pause(key)

    assert (await rig.executor.drive(key)).outcome is Outcome.PAUSED
    await rig.operator.resume(key)
    assert (await rig.executor.drive(key)).outcome is Outcome.DONE


async def test_pausing_while_it_is_driven_stops_the_driver(rig: Rig) -> None:
    """G2: the write that pauses takes the version away."""
    key = key_of("a")

    async def pause() -> None:
        await rig.operator.pause(key)

    rig.desk.then(doing(pause, done))
    await rig.start("a")

    assert (await rig.executor.drive(key)).outcome is Outcome.SUPERSEDED
    assert await rig.status(key) is Status.PAUSED


async def test_a_paused_kind_is_not_driven_and_the_others_are(rig: Rig) -> None:
    key = await rig.start("a")
    other = (await rig.executor.start(Chore(name="a", phase=Open()))).key
    await rig.operator.pause_kind("job")

    assert (await rig.executor.drive(key)).outcome is Outcome.PAUSED
    assert (await rig.executor.drive(other)).outcome is Outcome.DONE
    assert await rig.executor.is_kind_paused("job")


async def test_what_another_process_pauses_and_resumes_is_seen_within_a_second(rig: Rig) -> None:
    key = await rig.start("a")
    rig.desk.then(idle)
    assert (await rig.executor.drive(key)).outcome is Outcome.PARKED
    for pause, outcome in (
        (rig.operator.pause_kind, Outcome.PAUSED),
        (rig.operator.resume_kind, Outcome.PARKED),
    ):
        await pause("job")
        await rig.clock.advance(SECOND)
        assert (await rig.executor.drive(key)).outcome is outcome


async def test_pausing_a_kind_stops_between_two_steps(rig: Rig) -> None:
    async def pause() -> None:
        await rig.operator.pause_kind("job")
        rig.executor.forget_pauses()

    rig.desk.then(doing(pause, sent), done)
    key = await rig.start("a")

    result = await rig.executor.drive(key)

    assert (result.outcome, result.status) == (Outcome.PAUSED, Status.RUNNING)
    assert (await rig.row(key)).phase == "sent"


# Stopping


async def test_stopping_fences_the_driver_and_frees_the_coins(rig: Rig) -> None:
    key = key_of("a")

    async def stop() -> None:
        await rig.operator.stop(key)

    await rig.fund(coin("c"))
    await rig.start("a", Changes(reserve=["c"]))
    rig.desk.then(doing(stop, finished(spend=["c"])))

    assert (await rig.executor.drive(key)).outcome is Outcome.SUPERSEDED
    assert (await rig.coin("c")).state is CoinState.SPENDABLE
    result = await rig.executor.drive(key)
    assert (result.outcome, result.status, result.action) == (Outcome.FAILED, Status.CANCELLED, None)


# Quarantine


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "lost"},
        {"schema_version": 9},
        {"state": "{"},
        {"state": None},
        {"id": "b"},
    ],
)
async def test_what_cannot_be_understood_is_kept_and_shown(rig: Rig, changed: dict[str, Any]) -> None:
    """G9, L-D12, L-U2."""
    await rig.fund(coin("c"))
    template = await rig.row(await rig.start("template"))
    row: Checkpoint = replace(template, **{"id": "a", **changed})
    if "state" not in changed and "id" not in changed:
        row = replace(row, state=cast("str", template.state).replace("template", "a"))
    await rig.insert(row)
    rig.events.clear()

    for _ in range(2):
        result = await rig.executor.drive(row.key)
        assert (result.outcome, result.status) == (Outcome.QUARANTINED, Status.QUARANTINED)
        assert isinstance(result.error, CheckpointDecodeError)

    kept = await rig.row(row.key)
    assert (kept.state, kept.schema_version, kept.version) == (row.state, row.schema_version, 1)
    assert await rig.story(row.key) == ["start", "quarantine"]
    assert [event.kind for event in rig.events] == [EventKind.QUARANTINED]
    with pytest.raises(NotFinishedError, match="quarantined"):
        await rig.executor.result(type("Any", (), {"kind": row.kind}), row.id)  # type: ignore[arg-type]


async def test_a_quarantined_action_that_can_be_read_again_goes_on(rig: Rig) -> None:
    key = await rig.start("a")
    async with rig.other(kinds=[Chore]) as old_code:
        assert (await old_code.executor.drive(key)).outcome is Outcome.QUARANTINED

    assert (await rig.executor.drive(key)).outcome is Outcome.DONE


async def test_who_loses_the_race_to_quarantine_leaves_it(rig: Rig) -> None:
    key = await rig.start("a")
    async with rig.other(kinds=[Chore]) as old_code:

        class Overtaken(MemoryStore):
            async def load(self, key: Any) -> Checkpoint | None:
                found = await super().load(key)
                await rig.executor.drive(key)
                return found

        overtaken = Overtaken()
        overtaken._tables = rig.store._tables  # type: ignore[attr-defined]
        async with overtaken:
            old_code.executor.store = overtaken
            assert (await old_code.executor.drive(key)).outcome is Outcome.SUPERSEDED

    assert await rig.status(key) is Status.DONE


# Results


async def test_a_result_is_waited_for(rig: Rig) -> None:
    key = await rig.start("a")
    waiter = asyncio.create_task(rig.executor.result(Job, "a"))
    await settle()
    assert not waiter.done()
    await rig.executor.drive(key)

    assert await waiter == Receipt(amount=1)
    assert len(rig.executor._observers) == 1


async def test_what_another_process_did_is_found_by_looking(rig: Rig) -> None:
    key = await rig.start("a")
    waiter = asyncio.create_task(rig.executor.result(Job, "a", poll=5 * SECOND))
    await settle()
    async with rig.other() as other:
        await other.executor.drive(key)
    await settle()
    assert not waiter.done()
    await rig.clock.advance(5 * SECOND)

    assert await waiter == Receipt(amount=1)


async def test_an_end_without_success_is_told_with_its_reason(rig: Rig) -> None:
    key = await rig.start("a")
    rig.desk.then(failed)
    await rig.executor.drive(key)
    with pytest.raises(ActionFailedError, match="job a failed: given up") as caught:
        await rig.executor.result(Job, "a")
    assert caught.value.status is Status.FAILED

    await rig.operator.stop(await rig.start("b"), "it was a test")
    with pytest.raises(ActionFailedError, match="job b cancelled: it was a test"):
        await rig.executor.result(Job, "b")


async def test_what_will_not_end_by_itself_is_told(rig: Rig) -> None:
    rig.desk.then(raising(InvariantError("the sums differ", rule="sums")))
    await rig.executor.drive(await rig.start("a"))
    await rig.operator.pause(await rig.start("b"))

    for name, told in (("a", "job a is stuck: the sums differ"), ("b", "job b is paused")):
        with pytest.raises(NotFinishedError, match=told):
            await rig.executor.result(Job, name)


async def test_who_gives_up_waiting_is_forgotten(rig: Rig) -> None:
    await rig.start("a")
    waiter = asyncio.create_task(rig.executor.result(Job, "a"))
    await settle()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter

    assert len(rig.executor._observers) == 1


# Observers


async def test_an_observer_may_be_taken_away_twice(rig: Rig) -> None:
    forget = rig.executor.observe(lambda event: None)
    forget()
    forget()

    assert len(rig.executor._observers) == 1


async def test_an_observer_sees_only_what_is_committed(rig: Rig) -> None:
    seen: list[tuple[int, bool]] = []
    store = rig.store

    def look(event: Any) -> None:
        row = store._tables.records[event.key].checkpoint()  # type: ignore[attr-defined]
        seen.append((event.version, (row.version, row.status) == (event.version, event.status)))

    rig.executor.observe(look)
    rig.desk.then(sent, parked(SECOND), done)
    key = await rig.start("a")
    await rig.executor.drive(key)
    await rig.executor.drive(key)

    assert seen == [(0, True), (1, True), (2, True), (3, True)]


# Secrets


async def test_no_secret_is_told_anywhere(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    secret = SecretStr(SECRET)
    told: list[object] = []
    answers: list[Answer] = [
        lambda job: Next(job.at(Sent(token=secret)), Changes(add=[coin("c")], facts=[Fact("f", "k", SECRET)])),
        raising(ValueError(SECRET)),
        raising(ExceptionGroup(SECRET, [KeyError(SECRET)])),
        lambda job: job.at(SECRET),  # type: ignore[arg-type]
        lambda job: Done(SECRET),
        lambda job: Next(job.model_copy(update={"phase": SECRET})),
        lambda job: Next(job.model_copy(update={"amount": SECRET})),
        lambda job: Failed(ValueError(SECRET)),
        lambda job: Done(Receipt(amount=1, token=secret)),
    ]
    with caplog.at_level(logging.DEBUG):
        for number, answer in enumerate(answers):
            name = f"a{number}"
            told.append(await rig.executor.start(Job(name=name, phase=Sent(token=secret))))
            rig.desk.then(answer, idle)
            told.append(await rig.executor.drive(key_of(name)))
            told += [await rig.row(key_of(name)), await rig.history(key_of(name))]
            told.append(await rig.executor.start(job(name)))
            if (await rig.status(key_of(name))).is_terminal:
                try:
                    told.append(await rig.executor.result(Job, name))
                except ActionFailedError as error:
                    told += [repr(error), str(error)]
    told += [rig.events, await rig.store.coins(), await rig.store.facts()]
    told += [record.__dict__ for record in caplog.records]

    assert [text for text in map(repr, told) if SECRET in text] == []
