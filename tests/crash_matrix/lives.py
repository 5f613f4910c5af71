"""Lives of a wallet process, as their parent sees them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO, Any, Self

import anyio

Line = dict[str, Any]

LONGEST_LINE = 1 << 24


class LifeError(Exception):
    """The process that makes the others could not be started, or has died: nothing can be learnt from it."""


@dataclass(slots=True)
class Life:
    """One life, as far as it has come.

    Attributes:
        lines: what it said, in order.
        pid: 0 until it is born.
        is_over: whether it has ended.
        was_killed: whether it ended by SIGKILL.
        has_hung: whether that was because it had not ended in time.
        status: its exit status.
    """

    lines: list[Line] = field(default_factory=list)
    pid: int = 0
    is_over: bool = False
    was_killed: bool = False
    has_hung: bool = False
    status: int = 0

    def kill(self) -> None:
        """End it with SIGKILL, unless it has ended."""
        if self.pid and not self.is_over:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def of(self, what: str) -> list[Line]:
        """The lines of one sort."""
        return [line for line in self.lines if line["what"] == what]

    def last(self, what: str) -> Line | None:
        """The last line of a sort."""
        return next(reversed(self.of(what)), None)


class Zygote:
    """A process that forks one wallet process after the other, for as long as `async with` lasts.

    Args:
        modules: to be imported before the first one.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._output: IO[bytes]
        self._process: asyncio.subprocess.Process
        self._reports: asyncio.StreamReader
        self._transport: asyncio.ReadTransport
        self._lives = 0

    async def __aenter__(self) -> Self:
        reading, writing = os.pipe()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 closed on leaving
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.crash_matrix.zygote", str(writing), *self._modules),
            stdin=asyncio.subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            pass_fds=[writing],
            # A Ctrl-C in the terminal is for the parent, which ends what it began.
            start_new_session=True,
        )
        os.close(writing)
        self._reports = asyncio.StreamReader(limit=LONGEST_LINE)
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reports), os.fdopen(reading, "rb")
        )
        try:
            await self._report()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        with anyio.CancelScope(shield=True):
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)  # with the life that is under way
            await self._process.wait()
            self._transport.close()
            self._output.close()

    async def live(
        self,
        run: str,
        order: dict[str, Any],
        *,
        life: Life | None = None,
        on_line: Callable[[Life, Line], Awaitable[None]] | None = None,
        deadline: timedelta = timedelta(seconds=60),
    ) -> Life:
        """Run a life to its end, or to its death.

        Args:
            run: the function that is its course, `module:function`; given the order, and a `Link`.
            life: filled in on the way; for whoever wants to kill it.
            on_line: is awaited for each thing it says.
        Raises:
            LifeError: there is nobody to fork it.
        """
        life = life if life is not None else Life()
        self._lives += 1
        await self._write({"life": self._lives, "run": run, "order": order})
        try:
            async with asyncio.timeout(deadline.total_seconds()):
                await self._listen(life, on_line)
        except TimeoutError:
            life.has_hung = True
            life.kill()
            await self._listen(life, None)
        return life

    async def tell(self, line: dict[str, Any]) -> None:
        """Say something to the life that is under way; if it dies before it hears it, nobody does."""
        await self._write({"life": self._lives, "line": line})

    async def _write(self, line: dict[str, Any]) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died; reading its last words tells
            stdin.write(json.dumps(line).encode() + b"\n")
            await stdin.drain()

    async def _listen(self, life: Life, on_line: Callable[[Life, Line], Awaitable[None]] | None) -> None:
        while (line := await self._report())["what"] != "ended":
            life.lines.append(line)
            if line["what"] == "born":
                life.pid = line["pid"]
            if on_line is not None:
                await on_line(life, line)
        life.is_over = True
        life.was_killed, life.status = line["signal"] == signal.SIGKILL, line["status"]

    async def _report(self) -> Line:
        text = await self._reports.readline()
        if not text.endswith(b"\n"):
            self._output.seek(0)
            last = self._output.read().decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise LifeError(f"the process that makes others has died: {last[0]}")
        line: Line = json.loads(text)
        return line


def phases_of(lives: Sequence[Life]) -> list[str]:
    """The phases and endings that were written, in order."""
    return [line["phase"] or line["name"] for life in lives for line in life.of("write") if line["moment"] == "after"]
