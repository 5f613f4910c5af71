"""Where processes are born that are to be killed.

One process imports the world and the actions once, and forks for each life: a fork takes a millisecond, imports take a
second. What it is told and what it says is in `child`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import importlib
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Self

import anyio

from wallet_actions.coins import ActionKey
from wallet_actions.errors import UsageError, WalletActionError
from wallet_actions.testing.boundaries import Boundary
from wallet_actions.testing.durable import DurableWorld
from wallet_actions.testing.life import Crashed, CrashKind, Life

logger = logging.getLogger(__name__)

DEADLINE = timedelta(seconds=60)


class ChildError(WalletActionError):
    """A process of a sweep could not be made, hung, or ended in a way that nobody had ordered."""


def reference_to(thing: Any, what: str) -> str:
    """How another process finds a class or a function: `module:qualname`.

    Args:
        thing: of a `functools.partial`, the function in it: the arguments stay in this process.
        what: for the message.
    Raises:
        UsageError: it cannot be imported by a name.
    """
    while isinstance(thing, functools.partial):
        thing = thing.func
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise UsageError(f"SIGKILL needs {what} that other processes can import: a function or a class, with a name")
    if module == "__main__" or "<" in name:
        raise UsageError(
            f"SIGKILL needs {what} that other processes can import, and {module}:{name} is not: "
            "define it at the top of a module that is not the program itself, not as a lambda or inside of a function"
        )
    try:
        found = resolve(f"{module}:{name}")
    except (ImportError, AttributeError) as error:
        raise UsageError(f"SIGKILL needs {what} that other processes can import: {module}:{name}: {error}") from None
    if found is not thing:
        raise UsageError(f"SIGKILL needs {what} that other processes can import, and {module}:{name} is something else")
    return f"{module}:{name}"


def resolve(reference: str) -> Any:
    """What a reference names.

    Raises:
        ImportError, AttributeError: there is no such thing.
    """
    module, _, name = reference.partition(":")
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))


class Nursery:
    """Runs the lives of a durable world in processes of their own, for as long as `async with` lasts.

    Args:
        world, make: as for `sweep`; other processes must be able to import them.
        deadline: for one life, in real time.

    Raises:
        UsageError: one of them cannot be imported, or processes cannot be forked here.
    """

    def __init__(self, world: Callable[..., Any], make: Callable[..., Any], *, deadline: timedelta = DEADLINE) -> None:
        if not hasattr(os, "fork"):
            raise UsageError("SIGKILL needs a system with fork")
        self._world = world
        self._setup = {
            "world": reference_to(world, "a world"),
            "make": reference_to(make, "a function that makes the actions"),
            "path": sys.path,
        }
        self._deadline = deadline
        self._reports: asyncio.StreamReader
        self._transport: asyncio.ReadTransport
        self._output: IO[bytes]
        self._process: asyncio.subprocess.Process

    def world(self) -> DurableWorld[Any]:
        """A fresh world whose lives are run here.

        Raises:
            UsageError: it is not a durable one.
        """
        made: object = self._world()
        if not isinstance(made, DurableWorld):
            raise UsageError(
                f"SIGKILL needs a DurableWorld, and {type(made).__name__} is none: its store and its peers "
                "would die with each process"
            )
        made.nursery = self
        return made

    async def __aenter__(self) -> Self:
        reading, writing = os.pipe()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 closed on leaving
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "wallet_actions.testing.child",
            str(writing),
            stdin=asyncio.subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            pass_fds=[writing],
        )
        os.close(writing)
        self._reports = asyncio.StreamReader(limit=1 << 24)
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reports), os.fdopen(reading, "rb")
        )
        try:
            await self._tell(self._setup)
            answer = await self._report()
        except BaseException:
            await self.__aexit__()
            raise
        if "failed" in answer:
            await self.__aexit__()
            raise UsageError(f"another process cannot import what it needs: {answer['failed']}")
        return self

    async def __aexit__(self, *exc: object) -> None:
        with anyio.CancelScope(shield=True):
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            self._transport.close()
            self._output.close()

    async def live(self, folder: Path, life: Life) -> None:
        """Run a life in a process of its own, and note its boundaries.

        Raises:
            Crashed: it crashed as planned.
            ChildError: it failed or hung; the message says how.
        """
        await self._tell({"folder": str(folder), "plan": dataclasses.asdict(life.plan)})
        pid = 0
        try:
            async with asyncio.timeout(self._deadline.total_seconds()):
                while "ended" not in (report := await self._report()):
                    pid = report.get("pid", pid)
                    self._note(report, life)
        except TimeoutError:
            if pid:
                os.kill(pid, signal.SIGKILL)
                while "ended" not in await self._report():
                    pass
            raise ChildError(f"the process hung for {self._deadline.total_seconds():g} s") from None
        self._listen()
        self._judge(report["ended"], life)

    def _judge(self, status: int, life: Life) -> None:
        was_planned = life.plan.crash is CrashKind.SIGKILL and len(life.boundaries) == life.plan.crash_at
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and was_planned:
            life.is_over = True
            raise Crashed
        if status:
            raise ChildError(f"the process ended with status {status}")

    def _note(self, report: dict[str, Any], life: Life) -> None:
        if "boundary" in report:
            life.boundaries.append(_boundary(report["boundary"]))
        if "said" in report:
            # Said again in this process, for whoever listens here.
            logger.debug("%s", report["said"])
        for violation, boundary in report.get("violations", {}).items():
            life.violations[violation] = _boundary(boundary)
        for violation in report.get("found", ()):
            if not life.boundaries:
                raise ChildError(violation)
            life.violations.setdefault(violation, life.boundaries[-1])
        if report.get("is_over"):
            life.is_over = True

    def _listen(self) -> None:
        self._output.seek(0)
        for line in self._output.read().decode(errors="replace").splitlines():
            logger.debug("%s", line)
        self._output.seek(0)
        self._output.truncate()

    async def _tell(self, order: dict[str, Any]) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 we asked for a pipe
        stdin.write(json.dumps(order).encode() + b"\n")
        await stdin.drain()

    async def _report(self) -> dict[str, Any]:
        line = await self._reports.readline()
        if not line:
            self._output.seek(0)
            last = self._output.read().decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise ChildError(f"the process that makes others has died: {last[0]}")
        report: dict[str, Any] = json.loads(line)
        return report


def _boundary(fields: dict[str, Any]) -> Boundary:
    key = fields.pop("key")
    return Boundary(**fields, key=ActionKey(*key) if key else None)
