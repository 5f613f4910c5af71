"""DBOS: a workflow of ten steps, each with a result of some 500 bytes. Variants: `installed`, `wal`, `postgres`.

On SQLite DBOS runs a DELETE journal as installed; `wal` sets its file to WAL before it is opened. On PostgreSQL the
folder is that of the server's socket, and each run has a database of its own. Only the steps are timed: all
workflows are started before the first of them may take a step, and their ends are not waited for. With `-whole` behind
its name a variant is timed from the first start to the last result instead.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

from dbos import DBOS  # type: ignore[import-not-found, unused-ignore]

from benchmarks.load import PADDING, TRANSITIONS, names
from benchmarks.sides import options


class Gate:
    """Holds the workflows until all are there, and notes when the last step of all is durable."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.ended_s = 0.0


GATES: list[Gate] = []


@DBOS.step()  # type: ignore[untyped-decorator, unused-ignore]
async def step(number: int, padding: str) -> dict[str, object]:
    """One of the trivial steps."""
    return {"number": number, "padding": padding}


@DBOS.workflow()  # type: ignore[untyped-decorator, unused-ignore]
async def walk(padding: str) -> None:
    """All of them."""
    gate = GATES[-1]
    await gate.opened.wait()
    for number in range(TRANSITIONS):
        await step(number, padding)
    gate.ended_s = time.perf_counter()


async def drive(at_once: int, *, is_whole: bool = False) -> float:
    """Drive some together.

    Returns:
        The seconds that it took.
    """
    GATES.append(Gate())
    if is_whole:
        GATES[-1].opened.set()
        begun_s = time.perf_counter()
        handles = await asyncio.gather(*(DBOS.start_workflow_async(walk, PADDING) for _ in range(at_once)))
        await asyncio.gather(*(handle.get_result() for handle in handles))
        return time.perf_counter() - begun_s
    handles = await asyncio.gather(*(DBOS.start_workflow_async(walk, PADDING) for _ in range(at_once)))
    begun_s = time.perf_counter()
    GATES[-1].opened.set()
    await asyncio.gather(*(handle.get_result() for handle in handles))
    return GATES[-1].ended_s - begun_s


def journal_of(path: Path, mode: str = "") -> str:
    """Read the file's journal mode, or set it."""
    connection = sqlite3.connect(path)
    found = connection.execute(f"PRAGMA journal_mode{mode and f' = {mode}'}").fetchone()[0]
    connection.close()
    return str(found)


async def main() -> None:
    """Drive batches one after another; the first warms up."""
    given = options.read()
    name = f"dbos_{names(1, salt=str(given.turn))[0][:8]}"
    path = given.folder / f"{name}.sqlite"
    url = f"sqlite:///{path}"
    journal, _, whole = given.variant.partition("-")
    if journal == "postgres":
        url = f"postgresql://postgres@/{name}?host={given.folder}"
    path.unlink(missing_ok=True)
    if journal == "wal":
        journal_of(path, "WAL")
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()
    await drive(1)
    spent_s = sum([await drive(given.at_once, is_whole=bool(whole)) for _ in range(given.batches)])
    mode = "" if journal == "postgres" else journal_of(path)
    DBOS.destroy()
    path.unlink(missing_ok=True)
    options.answer(rate=given.at_once * given.batches * TRANSITIONS / spent_s, journal=mode)


if __name__ == "__main__":
    asyncio.run(main())
