"""Where the time goes: `python -m benchmarks.profile FOLDER`, 100 actions at once on SQLite, 0.1 ms flushes.

py-spy, of the peers' environment, samples the process from outside and draws a flame graph (`flame.svg`); where it is
not there or may not look into processes, cProfile writes a table (`profile.txt`) of the event loop's thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.ground import Ground, ground
from benchmarks.measuring import ROOT
from benchmarks.peers.environment import PeersMissingError, ensure_environment

AT_ONCE, BATCHES, FLUSH_MS = 100, 90, 0.1
SORTED = """
import pstats
pstats.Stats({!r}).sort_stats("tottime").print_stats(60)
"""


def main() -> None:
    """Profile, and tell where the result is."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".cache/profile").absolute()
    target.mkdir(parents=True, exist_ok=True)
    with ground() as place:
        work = ["benchmarks.sides.ours", "--folder", str(place.folder), "--at-once", str(AT_ONCE)]
        # Makes the file first, so that what is seen is the driving.
        _run([sys.executable, "-m", *work, "--batches", "1"], place)
        work += ["--batches", str(BATCHES)]
        if not _with_py_spy(work, target, place):
            _with_cprofile(work, target, place)


def _with_py_spy(work: list[str], target: Path, place: Ground) -> bool:
    try:
        recorder = ensure_environment().parent / "py-spy"
    except PeersMissingError as error:
        print(error)
        return False
    flame = target / "flame.svg"
    command = [str(recorder), "record", "-r", "400", "-t", "-o", str(flame), "--", sys.executable, "-m", *work]
    if _run(command, place) != 0:
        return False
    print(f"{flame}: samples by thread; wide is where the time goes")
    return True


def _with_cprofile(work: list[str], target: Path, place: Ground) -> None:
    numbers, table = target / "profile.pstats", target / "profile.txt"
    _run([sys.executable, "-m", "cProfile", "-o", str(numbers), "-m", *work], place)
    command = [sys.executable, "-c", SORTED.format(str(numbers))]
    table.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"{table}: by function, in the event loop's thread")


def _run(command: list[str], place: Ground) -> int:
    environment = os.environ | place.environment(FLUSH_MS)
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
    return done.returncode


if __name__ == "__main__":
    main()
