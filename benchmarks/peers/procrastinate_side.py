"""procrastinate on PostgreSQL: chains of ten jobs, each of which defers the next; one worker, that many jobs at once.

The folder holds the server's socket. Only what happens between the worker's first job and its last is timed.
"""

from __future__ import annotations

import asyncio
import time

import procrastinate  # type: ignore[import-not-found, unused-ignore]

from benchmarks.load import PADDING, TRANSITIONS
from benchmarks.sides import options


async def main() -> None:
    """Defer the first job of each chain, then work until the last one."""
    given = options.read()
    connector = procrastinate.PsycopgConnector(
        conninfo=f"host={given.folder} user=postgres dbname=postgres", min_size=4, max_size=16
    )
    app = procrastinate.App(connector=connector)
    ended = asyncio.Event()
    left, times_s = given.at_once * given.batches, []

    @app.task(name="walk")  # type: ignore[untyped-decorator, unused-ignore]
    async def walk(number: int, padding: str) -> None:
        nonlocal left
        times_s.append(time.perf_counter())
        if number < TRANSITIONS - 1:
            await walk.defer_async(number=number + 1, padding=padding)
            return
        left -= 1
        if not left:
            ended.set()

    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        await walk.batch_defer_async(*({"number": 0, "padding": PADDING} for _ in range(left)))
        worker = asyncio.create_task(
            app.run_worker_async(concurrency=given.at_once, install_signal_handlers=False, wait=True)
        )
        await ended.wait()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    options.answer(rate=(len(times_s) - 1) / (times_s[-1] - times_s[0]))


if __name__ == "__main__":
    asyncio.run(main())
