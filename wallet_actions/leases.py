"""What a worker holds of a store that it shares with others, and the fleet's clock.

A worker's incarnation is drawn anew at each start, so that nobody takes a process for the one that died before it.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from wallet_actions.checkpoint import Checkpoint
from wallet_actions.clock import Clock, new_incarnation
from wallet_actions.coins import ActionKey
from wallet_actions.fleet import Claim, Limit, SharedStore, Worker, check_lease
from wallet_actions.gate import Gate
from wallet_actions.registry import Registry
from wallet_actions.store import NewAction

LEASE = timedelta(seconds=30)
READINGS = 3
QUICK_S = 0.25
"""In what time the store tells its clock, or it is asked again."""


class FleetClock:
    """The store's clock, where it has one: told by the machine's monotonic clock from when it was read last.

    So a worker whose wall clock is an hour ahead takes no lease for lapsed, drives nothing early and parks nothing for
    an hour, and a step of that clock moves nothing. Where the store has none it is the clock that it is made of.
    """

    def __init__(self, clock: Clock, store: SharedStore) -> None:
        self._clock = clock
        self._store = store
        self._read: tuple[datetime, float] | None = None
        self._is_read = False

    def now(self) -> datetime:
        """The store's time, UTC."""
        if self._read is None:
            return self._clock.now()
        read_at, read_s = self._read
        return read_at + timedelta(seconds=self._clock.monotonic() - read_s)

    def monotonic(self) -> float:
        """As the clock that it is made of."""
        return self._clock.monotonic()

    async def sleep(self, delay: timedelta) -> None:
        """As the clock that it is made of."""
        await self._clock.sleep(delay)

    async def wait(self, event: asyncio.Event, delay: timedelta | None) -> bool:
        """As the clock that it is made of."""
        return await self._clock.wait(event, delay)

    async def read(self) -> None:
        """Read the store's clock.

        Raises:
            StoreUnavailableError: it cannot be read; it goes on as before.
        """
        least_s = math.inf
        for _ in range(READINGS):
            asked_s = self._clock.monotonic()
            now = await self._store.now()
            answered_s = self._clock.monotonic()
            if now is None or answered_s - asked_s < least_s:
                # At some moment in between, nobody knows at which: who was stopped meanwhile would be far ahead, and
                # take what others hold, were it not taken for the last one. A clock that is behind does no harm.
                least_s, self._read = answered_s - asked_s, None if now is None else (now, answered_s)
            if now is None or least_s <= QUICK_S:
                break
        self._is_read = True

    async def begin(self) -> None:
        """Read the store's clock, unless it was read before.

        Raises:
            StoreUnavailableError: it cannot be read.
        """
        if not self._is_read:
            await self.read()


class Leases:
    """What this worker holds, and how it comes by it.

    Args:
        clock: the machine's.
        lease: how long others leave alone what this worker claimed or renewed; it renews thrice as often.
        limits: by kind, the same in all workers.

    Attributes:
        owner: this worker's incarnation.
        name: host and process, for people.
        clock: the fleet's.
        has_room: whether a new action may be kept to be driven here at once; without a runner none is.
        on_abandoned: told when a drive ended before its action was given back.

    Raises:
        UsageError: the lease is not positive, or too long.
    """

    def __init__(
        self,
        store: SharedStore,
        registry: Registry,
        clock: Clock,
        *,
        lease: timedelta = LEASE,
        limits: Mapping[str, Limit] | None = None,
    ) -> None:
        check_lease(lease)
        self.owner = new_incarnation()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.clock = FleetClock(clock, store)
        self.store = store
        self.lease = lease
        self.limits = dict(limits or {})
        self.has_room: Callable[[], bool] = lambda: False
        self.on_abandoned: Callable[[], None] = lambda: None
        self._schemas = registry.schema_versions()
        self._in_hand: dict[ActionKey, Checkpoint] = {}
        self._driven: dict[ActionKey, object] = {}
        self._abandoned: set[ActionKey] = set()
        self._strange: set[ActionKey] = set()
        self._began_at: datetime | None = None
        self._gate = Gate()

    # Taking

    async def begin(self) -> None:
        """Read the fleet's clock, and tell the store who this is. Again does nothing.

        Raises:
            StoreUnavailableError: the store failed.
        """
        if self._began_at is None:
            await self.clock.read()
            await self._renew()
            self._began_at = self.clock.now()

    def marked(self, new: NewAction) -> NewAction:
        """A new action as this worker's own, to be driven here at once; as it is where it is anybody's."""
        checkpoint = new.checkpoint
        if self._began_at is None or checkpoint.kind in self.limits or not self.has_room():
            return new
        until = self.clock.now() + self.lease
        return replace(new, checkpoint=replace(checkpoint, owner=self.owner, lease_until=until))

    def take_in_hand(self, checkpoint: Checkpoint) -> bool:
        """Keep a row that is this worker's until it is driven.

        Returns:
            Whether it is.
        """
        if checkpoint.owner != self.owner:
            return False
        self._in_hand[checkpoint.key] = checkpoint
        return True

    def from_hand(self, key: ActionKey) -> Checkpoint | None:
        """Take a row out that is in hand, to drive it."""
        return self._in_hand.pop(key, None)

    def has_in_hand(self, key: ActionKey) -> bool:
        """Whether a row waits here to be driven."""
        return key in self._in_hand

    async def take(self, key: ActionKey) -> Checkpoint | None:
        """Claim one action by its name, to drive it at once; None where it is not to be had.

        Raises:
            StoreUnavailableError: the store failed.
        """
        async with self._gate.taking():
            rows = await self._claim(1, [key])
        return rows[0] if rows else None

    async def claim_due(self, limit: int) -> Sequence[Checkpoint]:
        """Claim what is due, and keep it in hand.

        Raises:
            StoreUnavailableError: the store failed.
        """
        async with self._gate.taking():
            rows = await self._claim(limit, None)
            for row in rows:
                self._in_hand[row.key] = row
        return rows

    async def _claim(self, limit: int, keys: Collection[ActionKey] | None) -> Sequence[Checkpoint]:
        await self.begin()
        return await self.store.claim(
            Claim(self.owner, self.clock.now(), self.lease, self._schemas, limit, keys, self.limits)
        )

    def knows(self, checkpoint: Checkpoint) -> bool:
        """Whether this worker's code is new enough for a row; what is not is left to others."""
        return checkpoint.schema_version <= self._schemas.get(checkpoint.kind, -1)

    # Driving

    @contextmanager
    def driving(self, key: ActionKey) -> Iterator[None]:
        """Hold an action for as long as the block lasts; where it raises, the action is to be given back."""
        self._driven[key] = object()
        self._abandoned.discard(key)
        try:
            yield
        except BaseException:
            self.abandon(key)
            raise
        finally:
            del self._driven[key]

    def abandon(self, key: ActionKey) -> None:
        """Have an action given back that is not driven any more, and was not written."""
        self._abandoned.add(key)
        self.on_abandoned()

    def put_back(self, key: ActionKey) -> None:
        """Have an action given back that was in hand and is not driven after all."""
        if self._in_hand.pop(key, None) is not None:
            self.abandon(key)

    @property
    def has_abandoned(self) -> bool:
        """Whether something can be given back."""
        return any(self._is_idle(key) for key in self._abandoned)

    def _is_idle(self, key: ActionKey) -> bool:
        return key not in self._driven and key not in self._in_hand

    async def give_back(self) -> None:
        """Give back what was abandoned, so that nobody has to wait for its lease.

        Raises:
            StoreUnavailableError: the store failed; it is still to be given back.
        """
        async with self._gate.giving():
            keys = set(filter(self._is_idle, self._abandoned))
            self._abandoned -= keys
            if keys:
                try:
                    await self.store.let_go(self.owner, keys)
                except BaseException:
                    self._abandoned |= keys
                    raise

    # Keeping

    async def renew(self) -> Collection[ActionKey]:
        """Prolong all leases, and give back what is held and driven by nobody here.

        Returns:
            What is being driven here though somebody else holds it by now.
        Raises:
            StoreUnavailableError: the store failed.
        """
        await self.clock.read()
        drives = dict(self._driven)
        owned = await self._renew()
        self._heed_strange(owned)
        lost = []
        for key, drive in drives.items():
            if key not in owned and self._driven.get(key) is drive and await self._is_lost(key):
                lost.append(key)
        return [key for key in lost if self._driven.get(key) is drives[key]]

    async def _renew(self) -> frozenset[ActionKey]:
        now = self.clock.now()
        worker = Worker(self.owner, self.name, self._began_at or now, now)
        return await self.store.renew(worker, at=now, lease=self.lease)

    def _heed_strange(self, owned: Collection[ActionKey]) -> None:
        """Whatever is renewed and not driven would be nobody's for ever: a start whose answer was lost, say.

        Twice in a row, or it would be a start whose answer is on its way.
        """
        strange = set(filter(self._is_idle, owned))
        for key in strange & self._strange:
            self.abandon(key)
        self._strange = strange - self._abandoned

    async def _is_lost(self, key: ActionKey) -> bool:
        # It may also have been written off by its own drive in this very moment, which is about to tell.
        checkpoint = await self.store.load(key)
        return checkpoint is not None and checkpoint.owner not in (None, self.owner)

    async def end(self) -> None:
        """Give everything back, and be gone.

        Raises:
            StoreUnavailableError: the store failed; others wait for the leases.
        """
        self._in_hand.clear()
        self._abandoned.clear()
        self._strange.clear()
        if self._began_at is not None:
            owner, self.owner, self._began_at = self.owner, new_incarnation(), None
            await self.store.let_go(owner)
