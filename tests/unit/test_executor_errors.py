"""What goes wrong while an action is driven, and its coins meanwhile."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from tests.actions import (
    SECOND,
    SECRET,
    Answer,
    Chore,
    Job,
    Open,
    Rig,
    Sent,
    coin,
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
)
from wallet_actions.checkpoint import Status
from wallet_actions.coins import CoinState, Fact
from wallet_actions.errors import (
    ConfigurationError,
    InvariantError,
    RejectedError,
    ReservationError,
    StoreUnavailableError,
    TransientError,
)
from wallet_actions.events import EventKind
from wallet_actions.outcome import DriveMode, Outcome
from wallet_actions.store import Statement
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Start
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

DONE = DriveMode.UNTIL_DONE


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
