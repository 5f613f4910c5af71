"""The limit: the standard library's sqlite3 doing the same writes. Variants: `history`, `no-history`, `bare`.

An update of the action's row under its version, checked, and a row of history for each transition; one transaction for
as many of them as there are actions at once, which for one action is a commit each. Pragmas are those of our store, but
for checkpoints, which are rarer: that is faster, and nobody waits for an answer here. A running action's update names
no column of an index. Each action has a state of its own, which is made into JSON, and a history that is found by its
key, as ours have. `bare` leaves those two out: one text serves all actions of a batch, and the history is only appended
to, so that nobody could find an action's part of it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from pathlib import Path

from benchmarks.load import PADDING, TRANSITIONS, names, rounds_of
from benchmarks.sides import options

SCHEMA = """
CREATE TABLE actions (
    row INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, status TEXT NOT NULL,
    phase TEXT NOT NULL, updated_at INTEGER NOT NULL, wake_at INTEGER, state TEXT NOT NULL, UNIQUE (kind, id)
) STRICT;
CREATE INDEX due ON actions (status, wake_at, row) WHERE status = 'parked';
CREATE TABLE history (
    action INTEGER NOT NULL, version INTEGER NOT NULL, at INTEGER NOT NULL,
    event TEXT NOT NULL, status TEXT NOT NULL, phase TEXT NOT NULL, PRIMARY KEY (action, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE bare_history (
    row INTEGER PRIMARY KEY, action INTEGER NOT NULL, version INTEGER NOT NULL, at INTEGER NOT NULL,
    event TEXT NOT NULL, status TEXT NOT NULL, phase TEXT NOT NULL
) STRICT;
"""
GO_ON = "UPDATE actions SET version = ?, state = ?, phase = ?, updated_at = ? WHERE kind = ? AND id = ? AND version = ?"
END = GO_ON.replace("version = ?,", "status = 'done', version = ?,", 1)
APPEND = "INSERT INTO history (action, version, at, event, status, phase) VALUES (?, ?, ?, ?, ?, ?)"
APPEND_BARE = APPEND.replace("history", "bare_history")
KIND = "benchmark_walk"


def fresh_file(given: options.Options, all_names: list[str]) -> Path:
    """A file with all actions in it; made once in the folder, and copied for each run."""
    template, path = given.folder / f"raw-{given.others}.db", given.folder / "raw.db"
    if not template.exists():
        connection = sqlite3.connect(template, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA)
        rows = [(None, KIND, name, 0, "running", "step", 0, None, text(0)) for name in all_names]
        connection.execute("BEGIN")
        connection.executemany(f"INSERT INTO actions VALUES ({', '.join('?' * len(rows[0]))})", rows)
        connection.execute("COMMIT")
        connection.close()
    shutil.copyfile(template, path)
    return path


def text(number: int, name: str = "0" * 32) -> str:
    """A state as ours is written."""
    return json.dumps({"name": name, "padding": PADDING, "phase": {"number": number, "tag": "step"}})


def main() -> None:
    """Write, and tell how fast that went."""
    given = options.read()
    all_names = names(given.others)
    connection = sqlite3.connect(fresh_file(given, all_names), isolation_level=None)
    for pragma in ("synchronous = FULL", "cache_size = -16000", "wal_autocheckpoint = 4000"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    is_bare, has_history = given.variant == "bare", given.variant != "no-history"
    begun_s = time.perf_counter()
    for batch in rounds_of(given.at_once, given.batches, given.others):
        for version in range(TRANSITIONS):
            is_end = version == TRANSITIONS - 1
            status = "done" if is_end else "running"
            states = [text(version)] * len(batch) if is_bare else [text(version, all_names[place]) for place in batch]
            connection.execute("BEGIN IMMEDIATE")
            written = connection.executemany(
                END if is_end else GO_ON,
                [
                    (version + 1, state, "step", version, KIND, all_names[place], version)
                    for place, state in zip(batch, states, strict=True)
                ],
            )
            if written.rowcount != len(batch):
                raise SystemExit("a version check was lost")
            if has_history:
                connection.executemany(
                    APPEND_BARE if is_bare else APPEND,
                    [(place + 1, version + 1, version, "next", status, "step") for place in batch],
                )
            connection.execute("COMMIT")
    spent_s = time.perf_counter() - begun_s
    connection.close()
    options.answer(rate=given.at_once * given.batches * TRANSITIONS / spent_s)


if __name__ == "__main__":
    main()
