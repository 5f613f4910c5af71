"""A file with very many parked actions. Variants: `open`, `start`, `memory`, `drive`.

`open` finds what is due; `start` has a runner take it up, counting what is decoded; `memory` weighs that runner;
`drive` takes others through their transitions, together.
"""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import sqlite3
import time
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.load import PADDING, SEED, TRANSITIONS
from benchmarks.sides import options
from benchmarks.work import Step, Walk
from wallet_actions import Executor, Runner, Store, open_store
from wallet_actions.checkpoint import Checkpoint
from wallet_actions.clock import SystemClock
from wallet_actions.coins import ActionKey
from wallet_actions.errors import VersionConflictError
from wallet_actions.registry import Kind, Registry
from wallet_actions.store import Saved, Write
from wallet_actions_storage.sqlite.rows import to_micros

DUE = 100
MANY = 1_000_000
URL = "sqlite:///{}"
# The others are due one after another, in the order of nothing else.
FILL = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count),
    named (i, id) AS MATERIALIZED (SELECT i, lower(hex(randomblob(16))) FROM n)
INSERT INTO wa_actions (kind, id, version, schema_version, status, phase, wake_at, attempts, faults, created_at,
    updated_at, cancel, state)
SELECT :kind, id, 0, :schema_version, 'parked', :phase,
    CASE WHEN i <= :due THEN :now - 1000000 ELSE :now + 3600000000 + (i * 7919 % :count) * 1000000 END,
    0, 0, :now - 2000000, :now - 2000000, 'none', replace(:state, :name, id)
FROM named
"""


def due(given: options.Options) -> int:
    """How many are due."""
    return min(DUE, given.others // 2)


async def filled_file(given: options.Options) -> Path:
    """A file with that many parked actions; made once in the folder."""
    path = given.folder / f"parked-{given.others}.db"
    if path.exists():
        return path
    making = path.with_suffix(".part")
    async with open_store(URL.format(making)):
        pass
    name = "0" * 32
    kind = Registry([Walk]).named(ActionKey(Walk.kind, name))
    values = {
        "kind": Walk.kind,
        "schema_version": kind.schema_version,
        "phase": "step",
        "name": name,
        "state": kind.encode(Walk(name=name, padding=PADDING, phase=Step())),
        "count": given.others,
        "due": due(given),
        "now": to_micros(SystemClock().now()),
    }
    connection = sqlite3.connect(making, isolation_level=None)
    for pragma in ("synchronous = OFF", "cache_size = -2000000", "journal_mode = MEMORY"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute(FILL, values)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.close()
    making.rename(path)
    return path


def decoded() -> set[ActionKey]:
    """The actions whose state is decoded from now on."""
    keys: set[ActionKey] = set()
    decode = Kind.decode

    def noting(kind: Kind, checkpoint: Checkpoint) -> Any:
        keys.add(checkpoint.key)
        return decode(kind, checkpoint)

    Kind.decode = noting  # type: ignore[method-assign, assignment]
    return keys


async def opened(path: Path) -> None:
    """Open the file and find what is due, as a start does."""
    begun_s = time.perf_counter()
    async with open_store(URL.format(path)) as store:
        found = await store.wakes(until=SystemClock().now(), limit=DUE)
        spent_s = time.perf_counter() - begun_s
    options.answer(open_ms=spent_s * 1e3, found=len(found))


async def started(path: Path, others: int, *, is_weighed: bool) -> None:
    """Have a runner take up the file, on a copy of what is written."""
    seen = decoded()
    async with open_store(URL.format(path)) as store:
        executor = Executor(Idle(store), None, Registry([Walk]))
        found = {wake.key for wake in await store.wakes(until=SystemClock().now(), limit=DUE)}
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if is_weighed:
            tracemalloc.start()
        begun_s = time.perf_counter()
        async with Runner(executor, poll=None, drain=timedelta(0)) as runner:
            await runner.recovered()
            spent_s = time.perf_counter() - begun_s
            weight, peak = tracemalloc.get_traced_memory() if is_weighed else (0, 0)
            kept = runner.parked
        after_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    options.answer(
        start_ms=spent_s * 1e3,
        decoded=len(seen),
        decoded_early=len(seen - found),
        kept=kept,
        bytes_each=weight / others,
        peak_bytes_each=peak / others,
        resident_bytes_each=(after_kb - before_kb) * 1024 / others,
    )


class Idle:
    """The store, but what is saved stays as it was, so that the file serves again; a driver that lost is answered."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def save(self, write: Write) -> Saved:
        """Write nothing."""
        raise VersionConflictError(write.checkpoint.kind, write.checkpoint.id, write.expected_version)

    finish = save


async def driven(path: Path, given: options.Options) -> None:
    """Take some of them through their transitions."""
    count = given.at_once * given.batches
    chosen = random.Random(f"{SEED}{given.turn}").sample(range(due(given) + 1, given.others + 1), count)
    connection = sqlite3.connect(path)
    find = "SELECT kind, id FROM wa_actions WHERE row = ?"
    keys = [ActionKey(*connection.execute(find, (row,)).fetchone()) for row in chosen]
    connection.close()
    async with open_store(URL.format(path)) as store:
        executor = Executor(store, None, Registry([Walk]))
        begun_s = time.perf_counter()
        for first in range(0, count, given.at_once):
            await asyncio.gather(*(executor.drive(key) for key in keys[first : first + given.at_once]))
        spent_s = time.perf_counter() - begun_s
    options.answer(cost_us=spent_s / (count * TRANSITIONS) * 1e6)


async def main() -> None:
    """Do what the variant says."""
    given = options.read()
    path = await filled_file(given)
    match given.variant:
        case "open":
            await opened(path)
        case "drive":
            if given.others < MANY:  # else hardly any is met twice
                path = Path(shutil.copyfile(path, given.folder / "driven.db"))
            await driven(path, given)
        case variant:
            await started(path, given.others, is_weighed=variant == "memory")


if __name__ == "__main__":
    asyncio.run(main())
