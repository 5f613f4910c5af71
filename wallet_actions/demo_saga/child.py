"""The process that gets killed: it recovers, runs one saga, and says what happens.

It reads one line of JSON (`Order`) from its standard input, and writes one line of JSON for each thing that happens to
its standard output. Once it has recovered it waits for a second line before it begins. Run it with
`python -m wallet_actions.demo_saga.child`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from wallet_actions.checkpoint import Status
from wallet_actions.clock import Clock, SystemClock
from wallet_actions.engine import Engine
from wallet_actions.errors import ActionFailedError, RejectedError
from wallet_actions.retry import QuadraticWait, RetryPolicy
from wallet_actions.saga import Context, Saga, SagaInfo, SagaResult, Step, list_sagas
from wallet_actions.saga.digitalocean import DigitalOcean, DropletSnapshot, SnapshotInput
from wallet_actions.saga.digitalocean.sandbox import TOKEN
from wallet_actions.store import Store, open_store
from wallet_actions.testing.boundaries import watched
from wallet_actions.testing.demos.child import Deaths, KillPoint, main, say, tell

QUICK = RetryPolicy(wait=QuadraticWait(timedelta(milliseconds=100)))


class Order(BaseModel):
    """What the process is to do.

    Attributes:
        store: the URL of its database.
        cloud: the address of the cloud.
        saga: the id of the saga that it starts; None only recovers.
        course: how it goes.
        kill: None lives on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str
    cloud: str
    saga: str | None = None
    course: Literal["done", "rolled back"] = "done"
    kill: KillPoint | None = None


class Account:
    """The wallet."""

    def __init__(self, digitalocean: DigitalOcean, clock: Clock) -> None:
        self.digitalocean = digitalocean
        self.clock = clock


class Backup(SnapshotInput):
    """What is backed up, and whether the check that follows says no."""

    is_broken: bool


class QuickSnapshot(DropletSnapshot, name="droplet_snapshot"):
    """As the shipped one, at the pace of a demo."""

    retry = QUICK
    poll = timedelta(milliseconds=250)
    grace = timedelta(milliseconds=300)
    lag = timedelta(milliseconds=500)


class Check(Step[Account, Backup, None], name="check"):
    """Says whether the backup will do."""

    async def execute(self, context: Context[Account, Backup]) -> None:
        """Refuse what is broken."""
        if context.input.is_broken:
            raise RejectedError("the backup will not do")

    async def compensate(self, context: Context[Account, Backup]) -> None:
        """There is nothing to undo."""


class TakeBackup(Saga[Account, Backup], kind="backup", steps=[QuickSnapshot, Check]):
    """Takes a snapshot, and keeps it if it will do."""

    retry = QUICK


async def settle(engine: Engine) -> None:
    """Wait until every saga has ended."""
    for info in await list_sagas(engine.store, statuses=[one for one in Status if not one.is_terminal], limit=1000):
        await ended(engine, info.key.id)


async def ended(engine: Engine, id: str) -> None:
    """Wait until a saga has ended, one way or the other."""
    try:
        await engine.result(TakeBackup, id)
    except ActionFailedError:
        return


async def books(store: Store) -> dict[str, object]:
    """How many sagas have ended how, the snapshots that they say are there, and how many have not ended."""
    infos = await list_sagas(store, limit=10_000)
    counts: dict[str, int] = {}
    for info in infos:
        counts[info.status.value] = counts.get(info.status.value, 0) + 1
    return {
        "sagas": counts,
        "unfinished": sum(not info.status.is_terminal for info in infos),
        "snapshots": [_snapshot(info) for info in infos if info.status is Status.DONE],
    }


def _snapshot(info: SagaInfo) -> str:
    return SagaResult.model_validate_json(info.checkpoint.result or "{}").of(QuickSnapshot).name


async def run(order: Order) -> None:
    """Recover, then do what was ordered."""
    deaths = Deaths(order.kill)
    clock = SystemClock()
    async with (
        watched(open_store(order.store), deaths) as store,
        DigitalOcean(TOKEN, clock, url=order.cloud) as client,
        Engine(store, Account(client, clock), kinds=[TakeBackup], observers=[tell], poll=None) as engine,
    ):
        await engine.recovered()
        await settle(engine)
        await deaths.begin()
        if order.saga is not None:
            is_broken = order.course == "rolled back"
            await engine.start(TakeBackup.new(order.saga, Backup(droplet_id=1, is_broken=is_broken), purpose="test"))
            await ended(engine, order.saga)
        say("finished", **await books(store))


if __name__ == "__main__":
    main(Order, run)
