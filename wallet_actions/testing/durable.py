"""Worlds whose processes really die: everything that outlives a process is in a folder, or at a real peer (T2).

    class BankWorld(DurableWorld[Wallet]):
        kinds = [TopUp]

        def __init__(self, folder: Path | None = None) -> None:
            super().__init__(folder)
            self.bank = Bank(self.folder / "bank.json")  # a peer in a file; or the address of a real one

    report = await sweep(make, BankWorld, crashes=[CrashKind.SIGKILL])

Each life then runs in a process of its own and is ended by SIGKILL at its boundary: no `finally` runs, nothing is
flushed. The process that sweeps makes the world too, to fill the store, and to ask the oracles afterwards.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from wallet_actions.clock import SystemClock
from wallet_actions.events import Observer
from wallet_actions.executor import Executor
from wallet_actions.store import Store
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.life import Life
from wallet_actions.testing.world import WalletT, World
from wallet_actions.transition import Start
from wallet_actions_storage import SQLiteStore

if TYPE_CHECKING:
    from wallet_actions.testing.nursery import Nursery

DATABASE = "wallet.db"


class DurableWorld(World[WalletT]):
    """A world that other processes can make again, given its folder.

    The store is a SQLite file there. Whatever `wallet` needs to reach the peers has to be found from the folder, or in
    the environment: write it in `prepare`, which runs once, before the first life. The clock shows the time of day, as
    real peers do, and waits for nobody; it never goes back behind what is in the store.

    Args:
        folder: where everything is; None makes one, which `close` removes.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.clock = FakeClock(SystemClock().now(), auto=True, patience=timedelta(0))
        self.nursery: Nursery | None = None
        self._is_ours = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="wallet_actions_")) if folder is None else folder

    def store(self) -> Store:
        """The file in the folder. Its commits are not flushed to the disk: a process dies here, and not the machine."""
        return SQLiteStore(self.folder / DATABASE, durability="normal")

    async def close(self) -> None:
        """Remove the folder, if it is ours."""
        if self._is_ours:
            shutil.rmtree(self.folder, ignore_errors=True)

    @asynccontextmanager
    async def process(self, life: Life, observers: Sequence[Observer] = ()) -> AsyncIterator[Executor]:
        """One process of the app; its clock goes on from where that of the last one stood."""
        async with self.store() as store:
            last = await store.last_write_at()
        if last is not None and last > self.clock.now():
            self.clock.set_wall(last)
        async with super().process(life, observers) as executor:
            yield executor

    async def live(self, life: Life, starts: Sequence[Start], *, observers: Sequence[Observer] = ()) -> None:
        """One life, in this process or, where there is a nursery, in one of its own.

        Raises:
            Crashed: as planned.
            ChildError: the process failed or hung.
        """
        if self.nursery is None:
            await super().live(life, starts, observers=observers)
        else:
            await self.nursery.live(self.folder, life)
