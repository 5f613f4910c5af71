"""Locks of the process (L-D1)."""

from __future__ import annotations

import asyncio

import pytest

from tests.actions import key_of, settle
from wallet_actions.locks import KeyLocks

pytestmark = pytest.mark.anyio

A, B = key_of("a"), key_of("b")


async def test_a_free_lock_is_taken_at_once_and_forgotten_afterwards() -> None:
    locks = KeyLocks()

    assert await locks.acquire(A, wait=False)
    assert locks.is_held(A)
    locks.release(A)

    assert not locks.is_held(A)
    assert not locks._locks
    assert not locks._interest


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
    assert not locks._locks


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
    assert not locks._interest
