"""A PostgreSQL server for the time of a measurement: of the package that the tests have, on a socket, no port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wallet_actions.testing.postgres.binaries import PostgresMissingError, find_binaries, open_to, package_binaries

PATIENCE_S = 30.0
UNPRIVILEGED = "nobody"

__all__ = ["PostgresMissingError", "postgres"]


@contextmanager
def postgres(folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Run a server, its settings as installed.

    Args:
        folder: for its files; empty.
        environment: for the server's flushes.

    Returns:
        The folder of its socket.

    Raises:
        PostgresMissingError: it cannot be run here; the message says why.
    """
    programs = package_binaries() or find_binaries()
    user = None
    if os.geteuid() == 0:
        # It refuses to run for root.
        user = UNPRIVILEGED
        shutil.chown(folder, user)
        programs = open_to(programs, folder, user)
    data = folder / "data"
    made = _run(user, [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"])
    if made.returncode != 0:
        raise PostgresMissingError(f"initdb failed: {made.stderr[-300:]}")
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [str(programs / "postgres"), "-D", str(data), "-k", str(folder), "-c", "listen_addresses="],
        env=os.environ | environment,
        stdout=log,
        stderr=log,
        user=user,
    )
    try:
        _await_socket(server, folder)
        yield folder
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(PATIENCE_S)
        log.close()


def _run(user: str | None, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, user=user)


def _await_socket(server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    pid_file = folder / "data" / "postmaster.pid"
    # The last line of that file becomes "ready" when it is.
    while "ready" not in (pid_file.read_text() if pid_file.exists() else ""):
        if server.poll() is not None or time.monotonic() > deadline:
            raise PostgresMissingError(f"the server did not start: {(folder / 'log').read_text()[-300:]}")
        time.sleep(0.05)
