"""What a person may do to actions. Needs the database alone, not the code of the kinds.

Each of these is a versioned write, so a driver that works on the action at that moment loses its next one, stops, and
leaves no effect on the store (L-S4). Only a request to cancel leaves the version alone: the driver is to answer it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord, HistoryEntry, Status
from wallet_actions.clock import Clock, SystemClock
from wallet_actions.coins import ActionKey
from wallet_actions.errors import UnknownActionError, UsageError, VersionConflictError
from wallet_actions.events import EventKind
from wallet_actions.fleet import shared
from wallet_actions.store import Store, Write

CONFLICT_TRIES = 20
PRUNE_BATCH = 500


class Operator:
    """Looks at actions and steers them by hand.

    Args:
        store: open.
        on_change: told of each action that a driver should look at now.
        on_kind_change: told of each kind that was paused or resumed.
        tell: told of each write to an action, after its commit and after `on_change`: `Executor.tell`, say.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock | None = None,
        on_change: Callable[[ActionKey], None] = lambda key: None,
        on_kind_change: Callable[[str], None] = lambda kind: None,
        tell: Callable[[EventKind, Checkpoint], None] = lambda event, checkpoint: None,
    ) -> None:
        self._store = store
        self._clock: Clock = clock or SystemClock()
        self._on_change = on_change
        self._on_kind_change = on_kind_change
        self._tell = tell

    async def list_actions(
        self,
        *,
        statuses: Collection[Status] | None = None,
        kinds: Collection[str] | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> Sequence[Checkpoint]:
        """A page of actions, oldest first.

        Args:
            after: the `row` of the last one seen.
        """
        return await self._store.list_actions(statuses=statuses, kinds=kinds, after=after, limit=limit)

    async def show(self, key: ActionKey) -> Checkpoint:
        """One action's row.

        Raises:
            UnknownActionError: there is no such action.
        """
        checkpoint = await self._store.load(key)
        if checkpoint is None:
            raise UnknownActionError(*key)
        return checkpoint

    async def history(self, key: ActionKey) -> Sequence[HistoryEntry]:
        """All that is kept of an action's past, oldest first.

        Raises:
            UnknownActionError: there is no such action.
        """
        await self.show(key)
        entries: list[HistoryEntry] = []
        while page := await self._store.history(key, after=entries[-1].version if entries else -1):
            entries.extend(page)
        return entries

    async def request_cancel(self, key: ActionKey) -> bool:
        """Ask an action to cancel itself; its `on_cancel` answers, in whatever process drives it (L-D11).

        Returns:
            False where it has ended already.
        Raises:
            UnknownActionError: there is no such action.
        Durability: committed before it returns. Idempotent: yes.
        """
        before = await self.show(key)
        now = await self._now()
        is_noted = await self._store.request_cancel(key, now)
        if is_noted:
            self._on_change(key)
            if before.cancel is not CancelState.ACCEPTED:
                wake_at = min(before.wake_at or now, now) if before.status is Status.PARKED else before.wake_at
                asked = replace(before, cancel=CancelState.REQUESTED, wake_at=wake_at, updated_at=now)
                self._tell(EventKind.CANCEL_REQUESTED, asked)
        return is_noted

    async def stop(self, key: ActionKey, reason: str = "stopped by an operator") -> Checkpoint:
        """End an action by force: its coins are freed and its state is removed; it counts as cancelled.

        Only for an action that cannot end by itself: if it has reached its peer, the coins may be worth nothing. Its id
        stays taken, so it is not started a second time by mistake (G6).

        Raises:
            UnknownActionError: there is no such action.
            UsageError: it has ended already.
        Durability: committed before it returns.
        """

        def stopped(checkpoint: Checkpoint, now: datetime) -> Checkpoint:
            return replace(
                checkpoint,
                status=Status.CANCELLED,
                state=None,
                wake_at=None,
                error=ErrorRecord("Stopped", reason),
            )

        return await self._write(key, EventKind.STOPPED, stopped)

    async def pause(self, key: ActionKey) -> Checkpoint:
        """Keep an action from being driven until it is resumed.

        Raises:
            UnknownActionError: there is no such action.
            UsageError: it has ended already.
        Durability: committed before it returns.
        """
        return await self._write(
            key, EventKind.PAUSED, lambda checkpoint, now: replace(checkpoint, status=Status.PAUSED)
        )

    async def resume(self, key: ActionKey) -> Checkpoint:
        """Let a paused action go on: when it was due if it was parked, now otherwise, or if it is to be cancelled.

        Raises:
            UnknownActionError: there is no such action.
            UsageError: it is not paused.
        Durability: committed before it returns.
        """

        def resumed(checkpoint: Checkpoint, now: datetime) -> Checkpoint:
            if checkpoint.status is not Status.PAUSED:
                raise UsageError(f"{key} is {checkpoint.status.value}, not paused")
            if checkpoint.wake_at is None or checkpoint.cancel is CancelState.REQUESTED:
                return replace(checkpoint, status=Status.PARKED, wake_at=now)  # a poll finds it
            return replace(checkpoint, status=Status.PARKED)

        return await self._write(key, EventKind.RESUMED, resumed)

    async def retry(self, key: ActionKey) -> Checkpoint:
        """Drive a stuck or parked action now, its failures forgiven.

        Raises:
            UnknownActionError: there is no such action.
            UsageError: it is neither stuck nor parked.
        Durability: committed before it returns.
        """

        def retried(checkpoint: Checkpoint, now: datetime) -> Checkpoint:
            if checkpoint.status not in (Status.STUCK, Status.PARKED, Status.RUNNING):
                raise UsageError(f"{key} is {checkpoint.status.value}; only a stuck or parked action can be retried")
            # Parked, since the poll of a process that runs already looks for what is due.
            return replace(checkpoint, status=Status.PARKED, wake_at=now, attempts=0, faults=0)

        return await self._write(key, EventKind.RETRY_WANTED, retried)

    async def pause_kind(self, kind: str) -> None:
        """Keep all actions of a kind from being driven; durable, seen by other processes within a second."""
        await self._store.set_kind_paused(kind, True)
        self._on_kind_change(kind)

    async def resume_kind(self, kind: str) -> None:
        """Let a paused kind go on."""
        await self._store.set_kind_paused(kind, False)
        self._on_kind_change(kind)

    async def prune(self, older_than: timedelta) -> int:
        """Forget the details of actions that ended long ago; id, result and facts stay for ever.

        Returns:
            How many were pruned.
        Raises:
            UsageError: the age is negative, or reaches back beyond the calendar.
        Durability: in batches; each action wholly or not at all.
        """
        try:
            before = await self._now() - older_than
        except OverflowError:
            raise UsageError("the age to prune by reaches back beyond the calendar") from None
        if older_than < timedelta(0):
            raise UsageError("the age to prune by is not negative")
        total = 0
        while True:
            pruned = await self._store.prune(before, limit=PRUNE_BATCH)
            total += pruned
            if pruned < PRUNE_BATCH:
                return total

    async def _now(self) -> datetime:
        """The fleet's time: an operator's machine may have another, and would park for as long as they differ."""
        store = shared(self._store)
        return (None if store is None else await store.now()) or self._clock.now()

    async def _write(
        self, key: ActionKey, event: EventKind, change: Callable[[Checkpoint, datetime], Checkpoint]
    ) -> Checkpoint:
        for _ in range(CONFLICT_TRIES):
            checkpoint = await self.show(key)
            if checkpoint.status.is_terminal:
                raise UsageError(f"{key} has already ended: {checkpoint.status.value}")
            now = await self._now()
            changed = replace(change(checkpoint, now), version=checkpoint.version + 1, updated_at=now)
            save = self._store.finish if changed.status.is_terminal else self._store.save
            try:
                await save(Write(checkpoint.version, changed, event.value))
            except VersionConflictError:
                continue  # the driver moved on: look again, and decide anew
            is_later = changed.wake_at is not None and changed.wake_at > changed.updated_at
            if event is not EventKind.RESUMED or not is_later:  # what was parked for later waits for its time
                self._on_change(key)
            self._tell(event, changed)
            return changed
        raise UsageError(f"{key} is moving too fast; pause its kind first")
