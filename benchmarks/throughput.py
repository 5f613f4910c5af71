"""Transitions a second: 1, 100 and 1,000 actions at once, against what SQLite itself can do on the same disk.

Run it with `python -m benchmarks.throughput [--folder DIR] [--rounds N] [--json FILE]`. The work is an action of 10
trivial transitions with a state of about 600 bytes; history is on, durability full. The limits are the standard
library's sqlite3 with the same pragmas: one commit a transition for one action at a time, and groups of as many
transitions as there are actions for many. Both sides are run in turns, and the median of the rounds is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from wallet_actions import Action, Done, Executor, Next, Phase, Transition, open_store
from wallet_actions.registry import Registry

TRANSITIONS = 10
PADDING = "x" * 500
SCHEMA = """
CREATE TABLE actions (
    row INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL,
    updated_at INTEGER NOT NULL, UNIQUE (kind, id)
) STRICT;
CREATE TABLE history (row INTEGER NOT NULL, version INTEGER NOT NULL, at INTEGER NOT NULL, event TEXT NOT NULL) STRICT;
"""


class Step(Phase):
    """One of the trivial steps."""

    number: int = 0
    padding: str = PADDING


class Walk(Action[None, Step], kind="benchmark_walk"):
    """Ten transitions, the last of which is the end."""

    name: str

    @property
    def id(self) -> str:
        """Scattered, as ids are."""
        return self.name

    async def advance(self, wallet: None) -> Transition[Self]:
        """Go on to the next step."""
        if self.phase.number == TRANSITIONS - 1:
            return Done()
        return Next(self.at(Step(number=self.phase.number + 1)))


@dataclass(frozen=True, slots=True)
class Figure:
    """What one line of the table says; rates in transitions a second, medians of the rounds."""

    actions_at_once: int
    ours: float
    ours_range: tuple[float, float]
    limit_name: str
    limit: float
    ratio: float


async def engine_rate(folder: Path, at_once: int, batches: int) -> float:
    """Transitions a second of the engine, starts not counted."""
    name = f"{time.monotonic_ns():x}"
    async with open_store(f"sqlite:///{folder / f'ours-{name}.db'}") as store:
        executor = Executor(store, None, Registry([Walk]))
        spent_s = 0.0
        for batch in range(batches):
            walks = [Walk(name=f"{hash((name, batch, index)):x}", phase=Step()) for index in range(at_once)]
            for walk in walks:
                await executor.start(walk)
            begun_s = time.perf_counter()
            await asyncio.gather(*(executor.drive(walk.key) for walk in walks))
            spent_s += time.perf_counter() - begun_s
        return batches * at_once * TRANSITIONS / spent_s


def raw_rate(folder: Path, group: int, groups: int) -> float:
    """Transitions a second of sqlite3 alone: an update and a history row each, `group` of them in a transaction."""
    connection = sqlite3.connect(folder / f"raw-{time.monotonic_ns():x}.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(SCHEMA)
        ids = [f"{hash(('raw', index)):x}" for index in range(group)]
        state = json.dumps({"name": "raw", "phase": {"number": 0, "padding": PADDING, "tag": "step"}})
        connection.execute("BEGIN")
        rows = [(None, "raw", id_, 0, state, 0) for id_ in ids]
        connection.executemany("INSERT INTO actions VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
        begun_s = time.perf_counter()
        for version in range(groups):
            updates = [(version + 1, state, version, "raw", id_, version) for id_ in ids]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "UPDATE actions SET version = ?, state = ?, updated_at = ? WHERE kind = ? AND id = ? AND version = ?",
                updates,
            )
            connection.executemany(
                "INSERT INTO history VALUES (?, ?, ?, ?)", [(row, version, 0, "next") for row in range(group)]
            )
            connection.execute("COMMIT")
        return groups * group / (time.perf_counter() - begun_s)
    finally:
        connection.close()


def measure(folder: Path, rounds: int) -> list[Figure]:
    """Measure both sides in turns."""
    figures = []
    for at_once in (1, 100, 1000):
        batches = max(1, 300 // at_once)
        groups = batches * TRANSITIONS
        ours, limits = [], []
        for number in range(rounds):
            ours.append(asyncio.run(engine_rate(folder, at_once, batches)))
            limits.append(raw_rate(folder, at_once, groups))
            _progress(f"{at_once} at once: round {number + 1} of {rounds}")
        name = "sqlite3, a commit each" if at_once == 1 else f"sqlite3, groups of {at_once}"
        figures.append(
            Figure(
                at_once,
                statistics.median(ours),
                (min(ours), max(ours)),
                name,
                statistics.median(limits),
                statistics.median(mine / limit for mine, limit in zip(ours, limits, strict=True)),
            )
        )
    return figures


def _progress(text: str) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    print(text.ljust(60), end=end, file=sys.stderr, flush=True)


def report(figures: Sequence[Figure]) -> str:
    """The table as text."""
    lines = [f"{'actions at once':>15}  {'ours, tr/s':>12}  {'range':>19}  {'limit, tr/s':>12}  {'ratio':>6}  limit"]
    for figure in figures:
        low, high = figure.ours_range
        lines.append(
            f"{figure.actions_at_once:>15,}  {figure.ours:>12,.0f}  {low:>8,.0f} – {high:>8,.0f}"
            f"  {figure.limit:>12,.0f}  {figure.ratio:>6.2f}  {figure.limit_name}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Transitions a second, against raw SQLite.")
    parser.add_argument("--folder", type=Path, help="where to put the databases (default: a temporary folder)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="wallet_actions_bench_") as folder:
        figures = measure(Path(folder), options.rounds)
        print(f"SQLite {sqlite3.sqlite_version}, Python {sys.version.split()[0]}, databases in {Path(folder).parent}")
    print(report(figures))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2))


if __name__ == "__main__":
    main()
