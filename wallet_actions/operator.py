"""What a person may do to actions. Needs the database alone, not the code of the kinds.

Each of these is a versioned write, so a driver that works on the action at that moment loses its next one, stops, and
leaves no effect on the store (L-S4). Only a request to cancel leaves the version alone: the driver is to answer it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta

from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord, HistoryEntry, Status
from wallet_actions.clock import Clock, SystemClock
from wallet_actions.coins import ActionKey
from wallet_actions.errors import UnknownActionError, UsageError, VersionConflictError
from wallet_actions.store import Store, Write

CONFLICT_TRIES = 20
PRUNE_BATCH = 500


class Operator:
    """Looks at actions and steers them by hand.

    Args:
        store: open.
        on_change: told of each action that a driver should look at now.
        on_kind_change: told of each kind that was paused or resumed.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock | None = None,
        on_change: Callable[[ActionKey], None] = lambda key: None,
        on_kind_change: Callable[[str], None] = lambda kind: None,
    ) -> None:
        self._store = store
        self._clock: Clock = clock or SystemClock()
        self._on_change = on_change
        self._on_kind_change = on_kind_change

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
        await self.show(key)
        is_noted = await self._store.request_cancel(key, self._clock.now())
        if is_noted:
            self._on_change(key)
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

        def stopped(checkpoint: Checkpoint) -> Checkpoint:
            return replace(
                checkpoint,
                status=Status.CANCELLED,
                state=None,
                wake_at=None,
                error=ErrorRecord("Stopped", reason),
            )

        return await self._write(key, "stop", stopped)

    async def pause(self, key: ActionKey) -> Checkpoint:
        """Keep an action from being driven until it is resumed.

        Raises:
            UnknownActionError: there is no such action.
            UsageError: it has ended already.
        Durability: committed before it returns.
        """
        return await self._write(key, "pause", lambda checkpoint: replace(checkpoint, status=Status.PAUSED))

    async def resume(self, key: ActionKey) -> Checkpoint:
        """Let a paused action go on: when it was due if it was parked, now otherwise, or if it is to be cancelled.

        Raises:
            UnknownActionError: there is no such action.
            UsageError: it is not paused.
        Durability: committed before it returns.
        """

        def resumed(checkpoint: Checkpoint) -> Checkpoint:
            if checkpoint.status is not Status.PAUSED:
                raise UsageError(f"{key} is {checkpoint.status.value}, not paused")
            if checkpoint.wake_at is None or checkpoint.cancel is CancelState.REQUESTED:
                return replace(checkpoint, status=Status.RUNNING, wake_at=None)
            return replace(checkpoint, status=Status.PARKED)

        return await self._write(key, "resume", resumed)

    async def retry(self, key: ActionKey) -> Checkpoint:
        """Drive a stuck or parked action now, its failures forgiven.

        Raises:
            UnknownActionError: there is no such action.
            UsageError: it is neither stuck nor parked.
        Durability: committed before it returns.
        """

        def retried(checkpoint: Checkpoint) -> Checkpoint:
            if checkpoint.status not in (Status.STUCK, Status.PARKED, Status.RUNNING):
                raise UsageError(f"{key} is {checkpoint.status.value}; only a stuck or parked action can be retried")
            return replace(checkpoint, status=Status.RUNNING, wake_at=None, attempts=0, faults=0)

        return await self._write(key, "retry_now", retried)

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
            before = self._clock.now() - older_than
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

    async def _write(self, key: ActionKey, event: str, change: Callable[[Checkpoint], Checkpoint]) -> Checkpoint:
        for _ in range(CONFLICT_TRIES):
            checkpoint = await self.show(key)
            if checkpoint.status.is_terminal:
                raise UsageError(f"{key} has already ended: {checkpoint.status.value}")
            changed = replace(change(checkpoint), version=checkpoint.version + 1, updated_at=self._clock.now())
            save = self._store.finish if changed.status.is_terminal else self._store.save
            try:
                await save(Write(checkpoint.version, changed, event))
            except VersionConflictError:
                continue  # the driver moved on: look again, and decide anew
            self._on_change(key)
            return changed
        raise UsageError(f"{key} is moving too fast; pause its kind first")
