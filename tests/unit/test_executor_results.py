"""What the executor tells: results, events, and no secrets."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from tests.actions import (
    SECOND,
    SECRET,
    Answer,
    Job,
    Receipt,
    Rig,
    Sent,
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
)
from wallet_actions.checkpoint import Status
from wallet_actions.coins import Fact
from wallet_actions.errors import (
    ActionFailedError,
    InvariantError,
    NotFinishedError,
)
from wallet_actions.outcome import DriveMode, DriveResult, Outcome, Started
from wallet_actions.transition import Changes, Done, Failed, Next

pytestmark = pytest.mark.anyio

DONE = DriveMode.UNTIL_DONE


# Results


async def test_a_result_is_waited_for(rig: Rig) -> None:
    key = await rig.start("a")
    waiter = asyncio.create_task(rig.executor.result(Job, "a"))
    await settle()
    assert not waiter.done()
    await rig.executor.drive(key)

    assert await waiter == Receipt(amount=1)
    assert len(rig.executor._observers) == 1


@pytest.mark.parametrize(("poll", "found_after"), [(5 * SECOND, 5 * SECOND), (None, SECOND)])
async def test_what_another_process_did_is_found_by_looking(
    rig: Rig, poll: timedelta | None, found_after: timedelta
) -> None:
    key = await rig.start("a")
    waiter = asyncio.create_task(rig.executor.result(Job, "a", poll=poll))
    await settle()
    async with rig.other() as other:
        await other.executor.drive(key)
    await settle()
    assert not waiter.done()
    await rig.clock.advance(found_after)

    assert await waiter == Receipt(amount=1)


async def test_what_callers_are_told_shows_no_secret() -> None:
    key = key_of("a")
    told = (
        DriveResult(Outcome.DONE, key, Status.DONE, result=SECRET),
        DriveResult(Outcome.PARKED, key, Status.PARKED, error=ValueError(SECRET)),
        Started(key, Status.DONE, is_new=False, result=SECRET),
    )
    assert SECRET not in repr(told)


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
    told: list[Any] = []
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
