"""A fixed cost for flushes: a small shared object that is built from C when it is wanted."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "flush.c"
COMPILERS = ("cc", "gcc", "clang")


def build(folder: Path) -> Path | None:
    """Build it.

    Returns:
        The shared object; None where this machine has no C compiler, or not the libraries that it needs.
    """
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        return None
    target = folder / "flush.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(target), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, check=False)
    return target if done.returncode == 0 else None


def environment(shim: Path | None, cost_ms: float) -> dict[str, str]:
    """What a process needs in its environment for its flushes to cost that much; nothing without a shim."""
    return {} if shim is None else {"LD_PRELOAD": str(shim), "BENCH_FLUSH_NS": str(round(cost_ms * 1_000_000))}
