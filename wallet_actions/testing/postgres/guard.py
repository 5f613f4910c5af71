"""Ends the server when the process that started it is gone, however it went: then its end of the pipe closes."""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

POLL_S = 0.05


def main(folder: Path) -> None:
    """Wait for the pipe's end, then end whatever server runs on the folder, and remove it."""
    sys.stdin.buffer.read()
    if not folder.exists():
        return
    with suppress(OSError, ValueError):
        pid = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGQUIT)
        while True:
            os.kill(pid, 0)
            time.sleep(POLL_S)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
