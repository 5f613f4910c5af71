"""Driving until it is done, through parks."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.actions import (
    SECOND,
    Rig,
    doing,
    done,
    idle,
    key_of,
    parked,
    settle,
)
from wallet_actions.outcome import DriveMode, Outcome

pytestmark = pytest.mark.anyio

DONE = DriveMode.UNTIL_DONE


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
