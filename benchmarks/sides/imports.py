"""What it costs to import something, in an interpreter of its own. The variant is the statement."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.sides import options

MEASURE = """
import time
begun_s = time.process_time()
{}
print((time.process_time() - begun_s) * 1e3)
"""


def main() -> None:
    """Import it, and tell the processor time."""
    given = options.read()
    command = [sys.executable, "-c", MEASURE.format(given.variant)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    options.answer(import_ms=float(done.stdout))


if __name__ == "__main__":
    main()
