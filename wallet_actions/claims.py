"""How a runner comes by its work where several workers share the store, and how it keeps it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import anyio

from wallet_actions.coins import ActionKey
from wallet_actions.errors import StoreUnavailableError
from wallet_actions.leases import Leases
from wallet_actions.retry import QuadraticWait, RetryPolicy

logger = logging.getLogger(__name__)

T = TypeVar("T")

POLL = timedelta(milliseconds=500)
"""How often to look for what is due: twice a second, so that a lapsed lease is taken over within one."""

AGAIN = RetryPolicy(wait=QuadraticWait(timedelta(milliseconds=100), timedelta(seconds=1)))


class Claims:
    """When a worker claims, and how much; its renewals, and what it gives back.

    Claims cost a write each, so they are made in batches: when somebody says that something is due, or, while there is
    more than could be taken, whenever a quarter of the places is free.

    Args:
        places: how many actions are driven at once.
        wake: wakes the runner's loop.
    """

    def __init__(self, leases: Leases, places: int, wake: Callable[[], None]) -> None:
        self._leases = leases
        self._enough = max(1, places // 4)
        self._wake = wake
        self._is_wanted = True
        self._has_more = False
        self._is_claiming = False
        self._is_giving_back = False
        self._scopes: dict[ActionKey, anyio.CancelScope] = {}

    def want(self) -> None:
        """Something is due, or may be."""
        self._is_wanted = True
        self._wake()

    def begins(self, room: int) -> bool:
        """Whether to claim now; if so the caller claims."""
        is_time = room >= 1 and (self._is_wanted or (self._has_more and room >= self._enough))
        if not is_time or self._is_claiming:
            return False
        self._is_claiming, self._is_wanted, self._has_more = True, False, False
        return True

    async def claim(self, room: int, offer: Callable[[ActionKey], None]) -> None:
        """Claim what is due, and offer it to be driven. Failures are left to the next poll."""
        try:
            rows = await self._leases.claim_due(room)
            self._has_more = len(rows) >= room
            for row in rows:
                offer(row.key)
        except Exception as error:  # noqa: BLE001 a worker that never claims again would look alive
            logger.warning("nothing could be claimed", extra={"error_type": type(error).__name__})
        finally:
            self._is_claiming = False
            self._wake()

    def gives_back(self) -> bool:
        """Whether to give back now what was abandoned; if so the caller does."""
        if self._is_giving_back or not self._leases.has_abandoned:
            return False
        self._is_giving_back = True
        return True

    async def give_back(self) -> None:
        """Give back what was abandoned; what cannot be given back now is tried again at the next poll."""
        try:
            await self._leases.give_back()
            self.want()
        except StoreUnavailableError as error:
            logger.warning("a lease could not be given back", extra={"error_type": type(error).__name__})
        finally:
            self._is_giving_back = False

    async def drive(self, key: ActionKey, work: Callable[[], Awaitable[T]]) -> T | None:
        """Drive an action; None where another worker took it over meanwhile, and it was stopped here."""
        with anyio.CancelScope() as scope:
            self._scopes[key] = scope
            try:
                return await work()
            finally:
                del self._scopes[key]
        return None

    async def keep(self) -> None:
        """Renew all leases, for ever, and stop the drives of what somebody else holds by now."""
        failures = 0
        while True:
            delay = self._leases.lease / 3
            await self._leases.clock.sleep(min(delay, AGAIN.delay(failures)) if failures else delay)
            try:
                lost = await self._leases.renew()
            except Exception as error:  # noqa: BLE001 without renewals everything here would be taken over
                failures += 1
                logger.warning("the leases could not be renewed", extra={"error_type": type(error).__name__})
                continue
            failures = 0
            for key in lost:
                logger.warning(
                    "an action was taken over by another worker",
                    extra={"action_kind": key.kind, "action_id": key.id},
                )
                if (scope := self._scopes.get(key)) is not None:
                    scope.cancel()

    async def listen(self) -> None:
        """Hear of what other processes make due, for ever; polls find what is missed."""
        while True:
            try:
                async with self._leases.store.listen(self.want):
                    await anyio.sleep_forever()
            except StoreUnavailableError as error:
                logger.warning("nobody listens for a while", extra={"error_type": type(error).__name__})
            await self._leases.clock.sleep(timedelta(seconds=1))

    async def end(self) -> None:
        """Give everything back; what cannot be given back is taken over when its lease has lapsed."""
        try:
            await self._leases.end()
        except StoreUnavailableError as error:
            logger.warning("the leases could not be given back", extra={"error_type": type(error).__name__})
