"""The worlds in which sagas of earlier releases were recorded, one folder of files a course.

A saga's state is the library's own, so these files say for every release what stored sagas look like. To record what a
new one writes, and nothing else: `python -m tests.corpus.sagas`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from pydantic import JsonValue

from tests.unit.saga.kit import Job, ShopWorld, Work
from tests.unit.saga.nested import Outer, outer
from tests.unit.saga.snapshots import DROPLET, CloudWorld, TakeBackup, backup
from wallet_actions.action import Action
from wallet_actions.checkpoint import Status
from wallet_actions.executor import Executor
from wallet_actions.saga import Row, RowState, SagaResult
from wallet_actions.saga.digitalocean.sandbox import TOKEN
from wallet_actions.saga.rows import Backward, Blocked, Forward, Rows
from wallet_actions.testing.corpus import record
from wallet_actions.testing.oracles import all_actions
from wallet_actions.testing.world import World

FOLDER = Path(__file__).parent / "sagas"
THEN = datetime(2026, 11, 22, tzinfo=UTC)
NAME = f"wa-{hashlib.sha256(b'backup/s/droplet_snapshot').hexdigest()[:16]}"
MEMO: Mapping[str, JsonValue] = {
    "before": [7],
    "action_id": None,
    "is_ordered": False,
    "ready_at": None,
    "undo_at": None,
}


class StoredShop(ShopWorld):
    """A workshop whose books fit in a file."""

    kinds: ClassVar[Sequence[type[Action[Any, Any, Any]]]] = [Work, Outer]

    def __init__(self) -> None:
        super().__init__()
        self.clock.set_wall(THEN)

    def peers(self) -> JsonValue:
        books: Any = {"things": sorted(self.peer.things), "gone": sorted(self.peer.gone), "log": [*self.peer.log]}
        known: JsonValue = books | {"counts": {**self.peer.counts}}
        return known

    def set_peers(self, known: JsonValue) -> None:
        assert isinstance(known, Mapping)
        books: Any = known
        self.peer.things, self.peer.gone = set(books["things"]), set(books["gone"])
        self.peer.log, self.peer.counts = [*books["log"]], Counter(books["counts"])

    def make(self, *things: str) -> None:
        """Have things there already."""
        self.peer.things |= set(things)
        self.peer.log += [f"+{thing}" for thing in things]
        self.peer.counts.update(things)


class CancelledShop(StoredShop):
    """As soon as the saga waits, somebody asks it to cancel itself."""

    async def settle(self, executor: Executor) -> None:
        for action in await all_actions(executor.store):
            if action.status is Status.RUNNING:
                await executor.drive(action.key)
            await executor.store.request_cancel(action.key, self.clock.now())
        await super().settle(executor)


class StoredCloud(CloudWorld):
    """A cloud whose books fit in a file: what was ordered, and when that is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.clock.set_wall(THEN)

    def peers(self) -> JsonValue:
        return [[one.name, one.ready_at.isoformat()] for one in self.cloud._actions]

    def set_peers(self, known: JsonValue) -> None:
        assert isinstance(known, list)
        orders: Any = known
        for name, _ in orders:
            self.order(name)
        for action, (_, ready_at) in zip(self.cloud._actions, orders, strict=True):
            action.ready_at = datetime.fromisoformat(ready_at)

    def order(self, name: str) -> int:
        """Order a snapshot, as if no other was under way."""
        for action in self.cloud._actions:
            action.ready_at = action.started_at
        body = json.dumps({"type": "snapshot", "name": name}).encode()
        status, answer = self.cloud.answer("POST", f"/v2/droplets/{DROPLET}/actions", body, f"Bearer {TOKEN}")
        assert (status, answer is not None) == (201, True)
        return int((answer or {})["action"]["id"])


def whole(job: Job, plan: Sequence[str | Sequence[str]]) -> Work:
    labels = ["customer:1", "eu"]
    return Work.new("s", job, steps=plan, purpose="provision", triggered_by="ops", labels=labels)


def row(step: str, state: RowState, **more: Any) -> Row:
    """A row that was begun; done where it has a `key`."""
    key = more.pop("key", None)
    done = {"result": {"key": key}, "done_at": THEN} if key else {}
    return Row(step=step, state=state, started_at=THEN, **done, **more)


def peace(world: StoredShop) -> Work:
    return whole(Job(waits=frozenset({"c"})), ["a", ["b", "c"]])


def midway(world: StoredShop) -> Work:
    world.make("s/a", "s/b")
    rows: Rows = (
        row("a", RowState.DONE, key="s/a"),
        row("b", RowState.RUNNING, memo={"made": "s/b"}, wake_at=THEN + timedelta(seconds=5)),
        row("c", RowState.RUNNING, attempts=2, faults=1, error="busy", wake_at=THEN + timedelta(seconds=4)),
        Row(step="d"),
    )
    return whole(Job(waits=frozenset({"b"})), ["a", ["b", "c"], "d"]).at(Forward(rows=rows))


def failed(world: StoredShop) -> Work:
    return whole(Job(fails=frozenset({"c"})), ["a", "b", "c", "d"])


def cancelled(world: StoredShop) -> Work:
    return whole(Job(waits=frozenset({"b"})), ["a", "b", "c"])


def undoing(world: StoredShop) -> Work:
    world.make("s/a", "s/b", "s/c", "s/d")
    world.peer.things.discard("s/d")
    world.peer.log.append("-s/d")
    rows: Rows = (
        row("a", RowState.COMPENSATION_FAILED, key="s/a", error="in use"),
        row("b", RowState.DONE, key="s/b"),
        row("c", RowState.COMPENSATING, key="s/c", memo=[1], attempts=1, error="busy", wake_at=THEN),
        row("d", RowState.COMPENSATED, error="the peer refuses"),
        Row(step="e"),
    )
    return whole(Job(), ["a", "b", "c", "d", "e"]).at(Backward(rows=rows, reason="the step d failed"))


def blocked(world: StoredShop) -> Work:
    world.make("s/a")
    rows: Rows = (row("a", RowState.COMPENSATION_FAILED, key="s/a", error="in use"), row("b", RowState.COMPENSATED))
    return whole(Job(), ["a", "b"]).at(Blocked(rows=rows, reason="it was cancelled"))


def reversal(world: StoredShop) -> Work:
    world.make("s/a", "s/b")
    return whole(Job(), ["a", "b"]).reversal(SagaResult(results={"a": {"key": "s/a"}, "b": {"key": "s/b"}}))


def nested(world: StoredShop) -> Outer:
    return outer(Job())


def snapshot(world: StoredCloud) -> TakeBackup:
    return backup()


def snapshot_ordered(world: StoredCloud) -> TakeBackup:
    return _snapshot({**MEMO, "action_id": world.order(NAME), "is_ordered": True})


def snapshot_unheard(world: StoredCloud) -> TakeBackup:
    """The process died between the order and its answer."""
    world.order(NAME)
    return _snapshot({**MEMO})


def _snapshot(memo: JsonValue) -> TakeBackup:
    saga = backup()
    rows = (row("droplet_snapshot", RowState.RUNNING, memo=memo), Row(step="check"))
    return saga.at(Forward(rows=rows))


COURSES: Mapping[Callable[[Any], Any], Callable[[], World[Any]]] = {
    peace: StoredShop,
    midway: StoredShop,
    failed: StoredShop,
    cancelled: CancelledShop,
    undoing: StoredShop,
    blocked: StoredShop,
    reversal: StoredShop,
    nested: StoredShop,
    snapshot: StoredCloud,
    snapshot_ordered: StoredCloud,
    snapshot_unheard: StoredCloud,
}


async def main() -> None:
    for make, world in COURSES.items():
        for path in await record(FOLDER / make.__name__, make, world):
            sys.stdout.write(f"{path.relative_to(FOLDER)}\n")


if __name__ == "__main__":
    asyncio.run(main())
