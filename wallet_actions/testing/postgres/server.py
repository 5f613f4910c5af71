"""Starts, kills and restarts a PostgreSQL server on loopback."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Self
from urllib.parse import urlsplit, urlunsplit

import anyio

from wallet_actions.testing.postgres.binaries import PostgresMissingError, find_binaries, open_to

VARIABLE = "WALLET_ACTIONS_TEST_POSTGRES"
UNPRIVILEGED = "nobody"
PATIENCE_S = 30.0
POLL_S = 0.01
FOR_TESTS = {
    # A killed server loses nothing by this: what it wrote is with the operating system. Only a crashed machine would.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "max_wal_size": "512MB",
    "autovacuum_naptime": "10s",
    "log_min_messages": "warning",
}


class PostgresServer:
    """A server of its own for as long as the block lasts, by `with` or, in an event loop, by `async with`.

    Where the environment variable `WALLET_ACTIONS_TEST_POSTGRES` holds a URL, no server is started: a database of its
    own is made on that one and dropped at the end, and `kill` and `restart` cannot be had.

    It is ended also when the body fails, and ends by itself when this process dies in any way. It holds nothing bound
    to an event loop, so that one server may serve tests that each have their own.

    Args:
        settings: for `postgresql.conf`, over those for tests (`FOR_TESTS`, which give up what only a crash of the
            machine needs).
        binaries: the folder with `initdb` and `postgres`; None looks for them.
        is_own: start a server also where the variable is set, for tests that kill it.

    Raises:
        PostgresMissingError: no server can be had.
    """

    def __init__(
        self, settings: Mapping[str, str] | None = None, *, binaries: Path | None = None, is_own: bool = False
    ) -> None:
        self._settings = {**FOR_TESTS, **(settings or {})}
        self._given = "" if is_own else os.environ.get(VARIABLE, "")
        self._binaries = binaries
        self._url = ""
        self._port = 0
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the database is, `postgresql://…`; the same after a restart."""
        return self._url

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1; 0 where the server is another's."""
        return self._port

    @property
    def is_running(self) -> bool:
        """Whether our server's process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process. Raises PostgresMissingError where there is none of ours."""
        if self._process is None:
            raise PostgresMissingError("the server is not running, or is not ours")
        return self._process.pid

    def __enter__(self) -> Self:
        if self._given:
            asyncio.run(self._make_database())
            return self
        try:
            self._prepare()
            self.start()
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._given:
            asyncio.run(self._drop_database())
        else:
            self._clear()

    async def __aenter__(self) -> Self:
        if self._given:
            await self._make_database()
            return self
        return self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        with anyio.CancelScope(shield=True):
            if self._given:
                await self._drop_database()
            else:
                self._clear()

    def start(self) -> None:
        """Start the server on its data, and wait until it takes connections.

        Raises:
            PostgresMissingError: it does not start; the message ends with its log.
        """
        folder, deadline = self._own_folder(), time.monotonic() + PATIENCE_S
        while True:
            with (folder / "log").open("ab") as log:
                self._process = self._spawn("postgres", ["-D", str(folder / "data")], log)
            if self._await_ready(deadline):
                return
            # After a kill its children may hold the memory that they shared for a moment more.
            if time.monotonic() > deadline or "shared memory" not in self._log():
                raise PostgresMissingError(f"the server did not start: {self._log()}")
            (folder / "log").write_bytes(b"")
            time.sleep(POLL_S)

    def kill(self) -> None:
        """End the server and all its children by SIGKILL, as a crash does."""
        process, self._process = self._process, None
        if process is None:
            return
        children = _children(process.pid)
        process.kill()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.wait(PATIENCE_S)

    def stop(self) -> None:
        """Shut the server down, ending its connections."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_S)

    def restart(self) -> None:
        """Start it again on the same data and port, whether it was killed or runs."""
        self.stop()
        self.start()

    def _prepare(self) -> None:
        binaries = self._binaries or find_binaries()
        # A short path: that of a socket must have fewer than 108 bytes.
        folder = self._folder = Path(tempfile.mkdtemp(prefix="wa-pg-"))
        self._guard = subprocess.Popen(  # noqa: S603 - our own guard
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), str(folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        if _user() is not None:
            # The server refuses to run for root.
            shutil.chown(folder, UNPRIVILEGED)
            binaries = open_to(binaries, folder, UNPRIVILEGED)
        self._binaries = binaries
        made = subprocess.run(  # noqa: S603 - the server's own program
            [
                str(binaries / "initdb"),
                *("-D", str(folder / "data"), "-U", "postgres", "-A", "trust"),
                *("-E", "UTF8", "--locale=C", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            check=False,
            user=_user(),
        )
        if made.returncode != 0:
            raise PostgresMissingError(f"initdb failed: {made.stderr[-500:]}")
        self._port = _free_port()
        own = {"listen_addresses": "127.0.0.1", "port": f"{self._port}", "unix_socket_directories": str(folder)}
        lines = "".join(f"{name} = '{value}'\n" for name, value in (self._settings | own).items())
        with (folder / "data" / "postgresql.conf").open("a") as conf:
            conf.write(lines)
        self._url = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def _spawn(self, program: str, arguments: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        if self._binaries is None:
            raise PostgresMissingError("the server is another's")
        return subprocess.Popen(  # noqa: S603 - the server's own program
            [str(self._binaries / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=_user(),
            start_new_session=True,
        )

    def _await_ready(self, deadline: float) -> bool:
        status = self._own_folder() / "data" / "postmaster.pid"
        while time.monotonic() < deadline:
            if not self.is_running:
                return False
            with suppress(OSError):
                lines = status.read_text().splitlines()
                # The last line becomes "ready" when it is; the file of a server that was killed stands there as well.
                if lines and lines[0] == str(self.pid) and lines[-1].strip() == "ready":
                    return True
            time.sleep(POLL_S)
        return False

    def _clear(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # nothing of it is needed any more
        self.stop()
        if self._guard is not None:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard.wait(PATIENCE_S)
        self._guard = self._folder = None

    def _own_folder(self) -> Path:
        if self._folder is None:
            raise PostgresMissingError("the server is another's, or is not open")
        return self._folder

    def _log(self) -> str:
        return (self._own_folder() / "log").read_text(errors="replace")[-1000:]

    async def _make_database(self) -> None:
        parts = urlsplit(self._given)
        name = f"wa_test_{secrets.token_hex(6)}"
        await _execute(self._given, f"CREATE DATABASE {name}")
        self._url = urlunsplit(parts._replace(path=f"/{name}"))

    async def _drop_database(self) -> None:
        name = urlsplit(self._url).path.removeprefix("/")
        await _execute(self._given, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def _execute(url: str, sql: str) -> None:
    import asyncpg  # only who names a server of their own needs the client here

    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError) as error:
        raise PostgresMissingError(f"the server of {VARIABLE} cannot be used: {type(error).__name__}") from None
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


def _user() -> str | None:
    return UNPRIVILEGED if hasattr(os, "geteuid") and os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _children(pid: int) -> list[int]:
    """Its child processes, where the system tells; elsewhere they end by themselves soon after their parent."""
    with suppress(OSError):
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
