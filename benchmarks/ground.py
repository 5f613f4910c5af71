"""Where it is measured: a folder on memory if there is one, a fixed cost for flushes, and which machine this is."""

from __future__ import annotations

import os
import platform
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import flush

MEMORY = Path("/dev/shm")
ROOM = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Ground:
    """Where databases are put, and what a flush costs there.

    Attributes:
        folder: empty at first.
        is_memory: whether it is on memory.
        shim: gives flushes their cost; None where it could not be built, and the folder's own flush is measured.
        flushes_ms: the costs to measure with; (0.0,) for the folder's own.
    """

    folder: Path
    is_memory: bool
    shim: Path | None

    @property
    def flushes_ms(self) -> tuple[float, ...]:
        """The costs to measure with, in milliseconds; (0.0,) for the folder's own."""
        return (0.0,) if self.shim is None else (0.1, 1.0)

    def environment(self, flush_ms: float) -> dict[str, str]:
        """What a process needs in its environment for its flushes to cost that much."""
        return flush.environment(self.shim, flush_ms)

    def described(self) -> str:
        """One sentence on it."""
        place = "on memory (tmpfs)" if self.is_memory else "in a temporary folder: no memory-backed one can be written"
        cost = (
            "a flush costs what the shim says" if self.shim is not None else "no C compiler: its own flush is measured"
        )
        return f"databases {place}; {cost}"


@contextmanager
def ground() -> Iterator[Ground]:
    """A ground for the time of a measurement; afterwards it is removed."""
    is_memory = os.access(MEMORY, os.W_OK) and _free(MEMORY) > ROOM
    with tempfile.TemporaryDirectory(prefix="bench-", dir=MEMORY if is_memory else None) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield Ground(folder, is_memory, flush.build(folder))


def machine() -> dict[str, Any]:
    """What this machine is."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def load() -> float:
    """The load of the last minute."""
    return round(os.getloadavg()[0], 2)


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
