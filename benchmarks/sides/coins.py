"""The end of an action that holds coins, in a wallet with `--others` other coins."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Self

from benchmarks.load import names
from benchmarks.sides import options
from wallet_actions import Action, Changes, Coin, Done, Executor, Phase, Transition, open_store
from wallet_actions.registry import Registry

URL = "sqlite:///{}"
HELD = 5
FILL = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO wa_coins (id, account, unit, amount, state, payload)
SELECT lower(hex(randomblob(32))), 'mint', 'sat', 1 + i % 64, 'spendable', :payload FROM n
"""


class Held(Phase):
    """It holds its coins."""


class Hold(Action[None, Held], kind="benchmark_hold"):
    """Holds coins, and lets them go when it ends."""

    name: str

    @property
    def id(self) -> str:
        """Its name."""
        return self.name

    async def advance(self, wallet: None) -> Transition[Self]:
        """End."""
        return Done()


async def filled_file(given: options.Options) -> Path:
    """A wallet with that many coins; made once in the folder, and copied for each run."""
    template, path = given.folder / f"coins-{given.others}.db", given.folder / "coins.db"
    if not template.exists():
        making = template.with_suffix(".part")
        async with open_store(URL.format(making)):
            pass
        connection = sqlite3.connect(making, isolation_level=None)
        for pragma in ("synchronous = OFF", "cache_size = -2000000", "journal_mode = MEMORY"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute(FILL, {"count": given.others, "payload": "x" * 200})
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.close()
        making.rename(template)
    shutil.copyfile(template, path)
    return path


async def main() -> None:
    """Start the actions, each with coins of its own, then end them one after another."""
    given = options.read()
    path = await filled_file(given)
    async with open_store(URL.format(path)) as store:
        executor = Executor(store, None, Registry([Hold]))
        keys = []
        for name in names(given.batches, salt="hold"):
            coins = [Coin(f"{name}{number}", "mint", "sat", 8, "x" * 200) for number in range(HELD)]
            started = await executor.start(Hold(name=name, phase=Held()), Changes(add=coins, reserve=coins))
            keys.append(started.key)
        spent_s = []
        for key in keys:
            begun_s = time.perf_counter()
            await executor.drive(key)
            spent_s.append(time.perf_counter() - begun_s)
        held = len(await store.coins(holder=keys[0]))
    spent_s.sort()
    options.answer(end_us=spent_s[len(spent_s) // 2] * 1e6, held=held)


if __name__ == "__main__":
    asyncio.run(main())
