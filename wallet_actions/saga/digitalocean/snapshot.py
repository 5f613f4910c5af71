"""The snapshot of a droplet as a step of a saga.

There is no key to give to DigitalOcean, so before the snapshot is ordered the step writes down which ones the droplet
has had, and then looks before it leaps, each time:

    called again            looks for                                         and then
    ─────────────           ──────────────────────────────────────            ─────────────────────────────────
    with an action's id     how the action stands                             waits until it has ended, and is listed
    without one             a snapshot of our name in the listing             adopts it
                            a snapshot action that was not there before       adopts it
                            nothing of the kind                               orders it, and writes its action down

An order whose answer is lost may still be on its way: it is not repeated for `grace`. A snapshot that is ready shows in
the listing some seconds later, so "not listed" proves nothing for `lag`. Should two snapshots of our name turn up after
all, the one with the lowest id stays.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol

from wallet_actions.clock import Clock
from wallet_actions.errors import RejectedError, TransientError
from wallet_actions.saga.context import Context
from wallet_actions.saga.digitalocean.api import DigitalOcean, DropletAction
from wallet_actions.saga.step import Record, Step, Wait

AT_ONCE = timedelta(0)
SNAPSHOT = "snapshot"


class SnapshotInput(Record):
    """What the step wants of a saga's input; derive your own from it."""

    droplet_id: int


class Taken(Record):
    """A snapshot that is there."""

    snapshot_id: int
    name: str


class SnapshotWallet(Protocol):
    """What the step wants of the wallet."""

    @property
    def clock(self) -> Clock:
        """The engine's clock."""
        ...

    @property
    def digitalocean(self) -> DigitalOcean:
        """The client."""
        ...


class Memo(Record):
    """What is known between two calls.

    Attributes:
        before: the snapshot actions that the droplet had before ours.
        action_id: the action that takes the snapshot, …
        is_ordered: … which DigitalOcean has given to our own order; else it was found, and may be somebody else's.
        ready_at: when it was first seen to be completed, by our clock.
        undo_at: when undoing it first found nothing.
    """

    before: frozenset[int] = frozenset()
    action_id: int | None = None
    is_ordered: bool = False
    ready_at: datetime | None = None
    undo_at: datetime | None = None


class DropletSnapshot(Step[SnapshotWallet, SnapshotInput, Taken], name="droplet_snapshot"):
    """Takes a snapshot of a droplet; its compensation deletes it.

    Class attributes:
        poll: how often to look how it stands.
        grace: how long an order whose answer was lost may still be on its way.
        lag: how long a snapshot that is ready may be missing in the listing, …
        gone: … and how long one that was ordered may, until the step has failed: somebody has deleted it.
    """

    poll: ClassVar[timedelta] = timedelta(seconds=5)
    grace: ClassVar[timedelta] = timedelta(seconds=30)
    lag: ClassVar[timedelta] = timedelta(minutes=2)
    gone: ClassVar[timedelta] = timedelta(minutes=10)

    async def execute(self, context: Context[SnapshotWallet, SnapshotInput]) -> Taken | Wait:
        """Adopt by the context, then by the name, then order it; poll; wait out the listing's lag."""
        memo = _memo(context)
        if memo is not None and memo.action_id is not None:
            return await self._poll(context, memo, memo.action_id)
        if (taken := await _adopted(context)) is not None:
            return taken
        api, droplet_id = context.wallet.digitalocean, context.input.droplet_id
        actions = await api.actions_of(droplet_id)
        if memo is None:  # on disk before the order: from then on it may have been made
            return _wait(AT_ONCE, Memo(before=frozenset(action.id for action in actions if action.type == SNAPSHOT)))
        if found := _new(actions, memo):
            return _wait(AT_ONCE, Memo(before=memo.before, action_id=found[0].id))
        try:
            ordered = await api.take_snapshot(droplet_id, name_of(context))
        except TransientError as error:
            raise TransientError(str(error), retry_after=max(self.grace, error.retry_after or self.grace)) from error
        except RejectedError:
            # 422 is also what a droplet answers that is busy, perhaps with an order of ours of which we never heard.
            if any(action.status == "in-progress" for action in await api.actions_of(droplet_id)):
                return Wait(self.poll)
            raise
        return _wait(self.poll, Memo(before=memo.before, action_id=ordered.id, is_ordered=True))

    async def _poll(self, context: Context[SnapshotWallet, SnapshotInput], memo: Memo, action_id: int) -> Taken | Wait:
        action = await context.wallet.digitalocean.action(action_id)
        if action.status == "errored":
            raise RejectedError("DigitalOcean could not take the snapshot")
        if action.status != "completed":
            return Wait(self.poll)
        if (taken := await _adopted(context)) is not None:
            return taken
        now = context.wallet.clock.now()
        ready_at = min(memo.ready_at or now, now)  # the clock may have been set back
        if not memo.is_ordered and now - ready_at > self.lag:
            return _wait(AT_ONCE, Memo(before=memo.before | {action_id}))  # it was somebody else's: look on
        if now - ready_at > self.gone:
            raise RejectedError("the snapshot was taken and is not there: somebody may have deleted it")
        return _wait(self.poll, Memo(**{**dict(memo), "ready_at": ready_at}))

    async def compensate(self, context: Context[SnapshotWallet, SnapshotInput]) -> Wait | None:
        """Delete all that has our name; where there may be something on its way, wait until it has come."""
        api, droplet_id = context.wallet.digitalocean, context.input.droplet_id
        ids = {one.id for one in await api.snapshots(droplet_id, name_of(context))}
        if (taken := context.get(type(self))) is not None:
            ids.add(taken.snapshot_id)
        for snapshot_id in sorted(ids):
            await api.delete_snapshot(snapshot_id)
        memo = _memo(context)
        if ids or memo is None:
            return None
        actions = await api.actions_of(droplet_id)
        if any(action.status == "in-progress" for action in _new(actions, memo)):
            return Wait(self.poll)
        now = context.wallet.clock.now()
        undo_at = min(memo.undo_at or now, now)
        if now - undo_at > self.lag:
            return None
        return _wait(self.poll, Memo(**{**dict(memo), "undo_at": undo_at}))


def name_of(context: Context[Any, Any]) -> str:
    """The name of the snapshot: the same for the same step of the same saga, and no other's."""
    digest = hashlib.sha256(context.key.encode()).hexdigest()[:16]
    return f"wa-{digest}"


async def _adopted(context: Context[SnapshotWallet, SnapshotInput]) -> Taken | None:
    api, name = context.wallet.digitalocean, name_of(context)
    found = await api.snapshots(context.input.droplet_id, name)
    for double in found[1:]:
        await api.delete_snapshot(double.id)
    return Taken(snapshot_id=found[0].id, name=name) if found else None


def _new(actions: list[DropletAction], memo: Memo) -> list[DropletAction]:
    """The snapshots that were ordered since, oldest id first, but for those that took nothing."""
    ours = [action for action in actions if action.type == SNAPSHOT and action.status != "errored"]
    since = [action for action in ours if action.id not in memo.before]
    return sorted(since, key=lambda action: action.id)


def _memo(context: Context[Any, Any]) -> Memo | None:
    return Memo.model_validate(context.memo) if context.memo is not None else None


def _wait(after: timedelta, memo: Memo) -> Wait:
    return Wait(after, memo=memo.model_dump(mode="json"))
