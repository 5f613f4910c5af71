"""A saga that takes a snapshot between two other steps, and the world of its cloud."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from wallet_actions.action import Action
from wallet_actions.checkpoint import Status
from wallet_actions.clock import Clock
from wallet_actions.errors import RejectedError
from wallet_actions.saga import Context, Saga, Step, ledger, list_sagas
from wallet_actions.saga.digitalocean import DigitalOcean, DropletSnapshot, SnapshotInput
from wallet_actions.saga.digitalocean.sandbox import TOKEN, Cloud
from wallet_actions.store import Store
from wallet_actions.testing.life import FaultKind, Life
from wallet_actions.testing.peers import FaultyTransport
from wallet_actions.testing.world import World

DROPLET = 3164494


class Account:
    """The wallet."""

    def __init__(self, digitalocean: DigitalOcean, clock: Clock) -> None:
        self.digitalocean = digitalocean
        self.clock = clock


class Backup(SnapshotInput):
    """The input; `breaks` fails the step after the snapshot."""

    breaks: bool = False


class Check(Step[Account, Backup, None], name="check"):
    async def execute(self, context: Context[Account, Backup]) -> None:
        if context.input.breaks:
            raise RejectedError("the snapshot will not do")

    async def compensate(self, context: Context[Account, Backup]) -> None: ...


class TakeBackup(Saga[Account, Backup], kind="backup", steps=[DropletSnapshot, Check]):
    """Takes a snapshot, and keeps it if it will do."""


def backup(*, breaks: bool = False, droplet: int = DROPLET) -> TakeBackup:
    return TakeBackup.new("s", Backup(droplet_id=droplet, breaks=breaks))


class CloudWorld(World[Account]):
    kinds: ClassVar[Sequence[type[Action[Any, Any, Any]]]] = [TakeBackup]
    faults: ClassVar[Sequence[FaultKind]] = tuple(FaultKind)

    def __init__(self) -> None:
        super().__init__()
        self.cloud = Cloud(self.clock)

    def wallet(self, life: Life, store: Store) -> Account:
        transport = FaultyTransport(self.cloud.transport(), life)
        return Account(DigitalOcean(TOKEN, self.clock, url="http://cloud.test", transport=transport), self.clock)

    def effects(self) -> Mapping[str, int]:
        return self.cloud.made

    def exempt(self, fault: FaultKind, name: str) -> bool:
        """An order that a network repeats is beyond a peer without keys: at once it meets a busy droplet, later not."""
        return fault is FaultKind.DUPLICATED_LATE and name.startswith("POST")

    def secrets(self) -> Iterable[str]:
        return [TOKEN]

    async def check(self, said: Iterable[str] = ()) -> list[str]:
        found = await super().check(said)
        async with self.store() as store:
            for info in await list_sagas(store):
                left = self.cloud.there.total()
                rows = [row.state.value for row in await ledger(store, info.key)]
                if left != (info.status is Status.DONE):
                    found.append(f"{info.key} is {info.status.value} with {rows}, and {left} snapshots are there")
        return found
