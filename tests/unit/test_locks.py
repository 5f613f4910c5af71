"""Locks of the process (L-D1), and the calls that drive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from tests.actions import SECOND, key_of, settle
from wallet_actions.coins import ActionKey
from wallet_actions.locks import Calls, KeyLocks
from wallet_actions.testing.clock import FakeClock

pytestmark = pytest.mark.anyio

A, B = key_of("a"), key_of("b")


async def test_a_free_lock_is_taken_at_once_and_forgotten_afterwards() -> None:
    locks = KeyLocks()

    assert await locks.acquire(A, wait=False)
    assert locks.is_held(A)
    locks.release(A)

    assert not locks.is_held(A)
    assert not locks._held


async def test_a_held_lock_is_told_and_does_not_concern_other_keys() -> None:
    locks = KeyLocks()
    await locks.acquire(A, wait=True)

    assert not await locks.acquire(A, wait=False)
    assert await locks.acquire(B, wait=False)


async def test_who_waits_gets_the_lock_in_turn() -> None:
    locks = KeyLocks()
    await locks.acquire(A, wait=True)
    order: list[int] = []

    async def take(number: int) -> None:
        await locks.acquire(A, wait=True)
        order.append(number)
        locks.release(A)

    tasks = [asyncio.create_task(take(number)) for number in range(3)]
    await settle()
    assert order == []
    assert not await locks.acquire(A, wait=False)

    locks.release(A)
    await asyncio.gather(*tasks)

    assert order == [0, 1, 2]
    assert not locks._held


async def test_who_gives_up_waiting_leaves_the_lock_to_the_others() -> None:
    locks = KeyLocks()
    await locks.acquire(A, wait=True)
    impatient = asyncio.create_task(locks.acquire(A, wait=True))
    patient = asyncio.create_task(locks.acquire(A, wait=True))
    await settle()

    impatient.cancel()
    await settle()
    locks.release(A)

    assert await patient
    assert impatient.cancelled()
    locks.release(A)
    assert not locks._held


async def test_who_is_cancelled_when_it_was_his_turn_hands_the_lock_on() -> None:
    locks = KeyLocks()
    await locks.acquire(A, wait=True)
    first = asyncio.create_task(locks.acquire(A, wait=True))
    second = asyncio.create_task(locks.acquire(A, wait=True))
    await settle()

    locks.release(A)
    first.cancel()

    assert await second
    assert first.cancelled()
    locks.release(A)
    assert not locks.is_held(A)


async def test_who_gave_up_is_forgotten_while_the_lock_is_held() -> None:
    """Also a coroutine that is closed, and not cancelled."""
    locks = KeyLocks()
    await locks.acquire(A, wait=True)
    for _ in range(3):
        impatient = asyncio.create_task(locks.acquire(A, wait=True))
        await settle()
        impatient.cancel()
        await settle()
    closed = locks.acquire(A, wait=True)
    closed.send(None)
    closed.close()
    assert not locks._held[A]

    locks.release(A)
    assert not locks.is_held(A)


async def test_a_sleeper_that_was_cancelled_is_not_asleep_any_more() -> None:
    clock, calls = FakeClock(), Calls()
    with calls.enter(A) as call:
        asleep = asyncio.create_task(call.sleep(clock, clock.now() + SECOND))
        await settle()
        assert calls.asleep == 1
        asleep.cancel()
        await settle()
        assert calls.asleep == 0


async def test_a_call_hears_of_what_concerns_its_action() -> None:
    calls = Calls()
    with calls.enter(A) as call, calls.enter(B) as other:
        calls.notify(A)

        assert (call.is_notified, other.is_notified) == (True, False)
        assert call.take_notice()
        assert not call.take_notice()
    assert not calls._calls


async def test_a_sleeper_is_woken_by_time_by_a_notification_and_by_what_others_wrote() -> None:
    clock, calls = FakeClock(), Calls()
    wakes: list[tuple[Callable[[], Awaitable[None]], bool]] = [
        (partial(clock.advance, SECOND), False),
        (partial(_call, calls.notify), True),
        (partial(_call, calls.stir), False),
    ]
    with calls.enter(A) as call:
        for wake, is_notified in wakes:
            asleep = asyncio.create_task(call.sleep(clock, clock.now() + SECOND))
            await settle()
            assert not asleep.done()
            await wake()
            await asleep
            assert call.take_notice() is is_notified


async def test_what_others_wrote_before_it_slept_does_not_wake_it() -> None:
    clock, calls = FakeClock(), Calls()
    with calls.enter(A) as call:
        calls.stir(A)
        asleep = asyncio.create_task(call.sleep(clock, clock.now() + SECOND))
        await settle()

        assert not asleep.done()
        await clock.advance(SECOND)
        await asleep


async def _call(wake: Callable[[ActionKey], None]) -> None:
    wake(A)
    await settle()
