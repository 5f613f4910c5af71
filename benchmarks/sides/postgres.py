"""This engine on PostgreSQL; the folder is that of the server's socket.

The actions are parked among others and due, as a fleet's are: each group is claimed in one go, then driven together.
What is timed is both, from the claim to the last commit.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import asyncpg

from benchmarks.load import TRANSITIONS, names, rounds_of
from benchmarks.sides import options
from benchmarks.sides.ours import TimedWalk, steps_s
from benchmarks.work import Step, Walk
from wallet_actions import Executor, open_store
from wallet_actions.coins import ActionKey
from wallet_actions.registry import Registry

SCHEMA = "ours"
COLUMNS = (
    *("kind", "id", "tenant", "version", "schema_version", "status", "phase", "wake_at", "attempts", "faults"),
    *("created_at", "updated_at", "wrote", "cancel", "state"),
)
FAR = 2**60


def dsn(folder: Path, schema: str = "") -> str:
    """The server's address; with a schema, that of a store."""
    return f"postgresql://postgres@/postgres?host={folder}{schema and f'&schema={schema}'}"


async def fresh_schema(given: options.Options, all_names: list[str]) -> None:
    """A schema of its own, in which all actions are parked, those of the first group due first."""
    connection = await asyncpg.connect(dsn(given.folder))
    await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    async with open_store(dsn(given.folder, SCHEMA)):
        pass
    kind = Registry([TimedWalk]).named(ActionKey(Walk.kind, ""))
    due = dict.fromkeys(range(given.others), FAR)
    for turn, batch in enumerate(rounds_of(given.at_once, given.batches, given.others)):
        due.update(dict.fromkeys(batch, turn))
    rows = [
        (Walk.kind, name, "", 0, 1, "parked", "step", due[place], 0, 0, 0, 0, 0, "none", kind.encode(_walk(name)))
        for place, name in enumerate(all_names)
    ]
    await connection.copy_records_to_table("wa_actions", schema_name=SCHEMA, records=rows, columns=COLUMNS)
    await connection.execute(
        f"INSERT INTO {SCHEMA}.wa_history (kind, id, version, at, event, status, phase, attempts)"
        f" SELECT kind, id, 0, 0, 'start', 'running', 'step', 0 FROM {SCHEMA}.wa_actions"
    )
    await settle(connection, SCHEMA)


def _walk(name: str) -> Walk:
    return TimedWalk(name=name, phase=Step())


async def settle(connection: asyncpg.Connection, schema: str) -> None:
    """Have what was filled in stand as it does after a while, and the connection closed."""
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r'", schema
    )
    for (table,) in tables:
        await connection.execute(f"VACUUM (FREEZE, ANALYZE) {schema}.{table}")
    await connection.execute("CHECKPOINT")
    await connection.close()


async def main() -> None:
    """Park all actions, then drive the due ones, and tell how that went."""
    given = options.read()
    all_names = names(given.others)
    await fresh_schema(given, all_names)
    async with open_store(dsn(given.folder, SCHEMA)) as store:
        executor = Executor(store, None, Registry([TimedWalk]))
        leases = executor.leases
        if leases is None:
            raise SystemExit("the store is not shared")
        await leases.begin()
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        for _ in range(given.batches):
            claimed = await leases.claim_due(given.at_once)
            if len(claimed) < given.at_once:
                raise SystemExit(f"{len(claimed)} were claimed")
            await asyncio.gather(*(executor.drive(row.key) for row in claimed))
        spent_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    transitions = given.at_once * given.batches * TRANSITIONS
    spent = steps_s()
    options.answer(
        rate=transitions / spent_s,
        cpu_us=cpu_s / transitions * 1e6,
        p99_ms=spent[int(len(spent) * 0.99)] * 1e3,
    )


if __name__ == "__main__":
    asyncio.run(main())
