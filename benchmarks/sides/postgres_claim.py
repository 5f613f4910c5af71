"""Claims of 100 due actions among very many parked ones on PostgreSQL, of 1,000 tenants.

Those that come due are scattered over the table, and were parked just before, as what retries is. What was claimed
stays claimed: its leases do not lapse meanwhile, as a worker that renews them sees to.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time

import asyncpg

from benchmarks.load import SEED
from benchmarks.sides import options
from benchmarks.sides.postgres import FAR, dsn, settle
from benchmarks.work import Step, Walk
from wallet_actions import open_store
from wallet_actions.coins import ActionKey
from wallet_actions.fleet import LONGEST_LEASE, Claim
from wallet_actions.registry import Registry
from wallet_actions_storage.sqlite.rows import from_micros

SCHEMA = "parked"
DUE, TENANTS = 100, 1_000
WARM_UP = 10
SECOND = 1_000_000
BEGIN = 1_700_000_000 * SECOND
LEASE = LONGEST_LEASE
FILL = f"""
INSERT INTO {SCHEMA}.wa_actions (kind, id, tenant, version, schema_version, status, phase, wake_at, attempts, faults,
    created_at, updated_at, wrote, cancel, state)
SELECT $1, id, 't' || (i * 31 % {TENANTS}), 0, 1, 'parked', 'step', {FAR} + i * 7919 % $2::bigint * {SECOND},
    0, 0, {BEGIN}, {BEGIN}, 0, 'none', replace($3, $4, id)
FROM (SELECT i, md5(i::text) AS id FROM generate_series(1, $2::bigint) AS i) AS named
"""
PARK = f"""
UPDATE {SCHEMA}.wa_actions AS a SET wake_at = given.wake_at
FROM (SELECT md5(i::text) AS id, wake_at FROM unnest($2::bigint[], $3::bigint[]) AS given (i, wake_at)) AS given
WHERE a.kind = $1 AND a.id = given.id
"""
PUT_AWAY = f"UPDATE {SCHEMA}.wa_actions SET owner = NULL, lease_until = NULL, wake_at = {FAR} WHERE owner IS NOT NULL"


async def fill(address: str, count: int) -> None:
    """Make the schema, unless it is there."""
    connection = await asyncpg.connect(address)
    if await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = $1", SCHEMA):
        await connection.close()
        return
    async with open_store(f"{address}&schema={SCHEMA}"):
        pass
    name = "0" * 32
    state = Registry([Walk]).named(ActionKey(Walk.kind, name)).encode(Walk(name=name, phase=Step()))
    indexes = await connection.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename = 'wa_actions'"
        " AND indexname <> 'wa_actions_pkey'",
        SCHEMA,
    )
    for index, _ in indexes:
        await connection.execute(f"DROP INDEX {SCHEMA}.{index}")
    await connection.execute("SET synchronous_commit = off")
    await connection.execute(FILL, Walk.kind, count, state, name)
    for _, definition in indexes:
        await connection.execute(definition)
    await settle(connection, SCHEMA)


async def main() -> None:
    """Claim again and again."""
    given = options.read()
    address = dsn(given.folder)
    await fill(address, given.others)
    claims = range(given.batches + WARM_UP)
    connection = await asyncpg.connect(address)
    chosen = random.Random(f"{SEED}{given.turn}").sample(range(1, given.others + 1), len(claims) * DUE)
    due = [BEGIN + place // DUE * SECOND for place in range(len(chosen))]
    await connection.execute(PARK, Walk.kind, chosen, due)
    times_ms = []
    async with open_store(f"{address}&schema={SCHEMA}") as store:
        for second in claims:
            claim = Claim("bench", from_micros(BEGIN + second * SECOND), LEASE, {Walk.kind: 1}, DUE)
            cpu_s, begun_s = time.process_time(), time.perf_counter()
            claimed = await store.claim(claim)  # type: ignore[attr-defined]
            times_ms.append(((time.perf_counter() - begun_s) * 1e3, (time.process_time() - cpu_s) * 1e3))
            if len(claimed) != DUE and given.turn >= 0:
                raise SystemExit(f"{len(claimed)} were claimed")
    await connection.execute(PUT_AWAY)
    await connection.close()
    measured = times_ms[WARM_UP:]
    options.answer(
        claim_ms=statistics.median(wall for wall, _ in measured),
        least_ms=min(wall for wall, _ in measured),
        cpu_ms=statistics.median(cpu for _, cpu in measured),
    )


if __name__ == "__main__":
    asyncio.run(main())
