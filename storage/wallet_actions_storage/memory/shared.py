"""The memory store as one that several workers share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta

from wallet_actions.checkpoint import Checkpoint
from wallet_actions.coins import ActionKey
from wallet_actions.errors import StoreUnavailableError
from wallet_actions.fleet import Claim, Worker, check_lease
from wallet_actions_storage.memory import sharing
from wallet_actions_storage.memory.answers import answered
from wallet_actions_storage.memory.tables import Lane, Tables


class SharedMemory:
    """What a memory store adds to `Store`; see `wallet_actions.fleet.SharedStore` for the contract.

    Workers are engines in one process, each on a `peer`. There is no clock: the engine's own is the fleet's.
    """

    _tables: Tables
    _is_open: bool
    _after: Lane = ("", "")

    @property
    def is_shared(self) -> bool:
        """See `SharedStore`."""
        return self._tables.is_shared

    @answered
    def now(self) -> datetime | None:
        """See `SharedStore`."""
        self._opened()
        return None

    @answered
    def claim(self, claim: Claim) -> Sequence[Checkpoint]:
        """See `SharedStore`. Passes over the kinds and tenants that have something open."""
        taken, self._after = sharing.claim(self._opened(), claim, self._after)
        return taken

    @answered
    def renew(self, worker: Worker, *, at: datetime, lease: timedelta) -> frozenset[ActionKey]:
        """See `SharedStore`."""
        check_lease(lease)
        return sharing.renew(self._opened(), worker, at, lease)

    @answered
    def let_go(self, owner: str, keys: Collection[ActionKey] | None = None) -> int:
        """See `SharedStore`."""
        count = sharing.let_go(self._opened(), owner, keys)
        if count:
            self._wake_others()
        return count

    @answered
    def workers(self, *, at: datetime) -> Sequence[Worker]:
        """See `SharedStore`."""
        return sharing.workers(self._opened(), at)

    def listen(self, on_wake: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """See `SharedStore`. None is lost."""
        return self._listening(on_wake)

    @asynccontextmanager
    async def _listening(self, on_wake: Callable[[], None]) -> AsyncIterator[None]:
        listeners = self._opened().listeners
        listeners.setdefault(id(self), []).append(on_wake)
        try:
            yield
        finally:
            listeners[id(self)].remove(on_wake)
            if not listeners[id(self)]:
                del listeners[id(self)]

    def _wake_others(self) -> None:
        if self._tables.listeners:
            self._tables.wake_others(id(self))

    def _opened(self) -> Tables:
        if not self._is_open:
            raise StoreUnavailableError("the memory store is not open")
        return self._tables
