"""The child process as its parent sees it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio
from pydantic import BaseModel, SecretStr

from wallet_actions.errors import WalletActionError
from wallet_actions.testing.demos.child import KillPoint

DEADLINE = timedelta(seconds=120)
MOST_RECOVERY_WRITES = 50

Line = dict[str, Any]


class ChildError(WalletActionError):
    """The child process ended in a way that nobody had ordered."""


@dataclass(slots=True)
class Run:
    """What a child said and how it ended.

    Attributes:
        lines: in order.
        was_killed: whether it ended by SIGKILL.
    """

    lines: list[Line] = field(default_factory=list)
    was_killed: bool = False

    def of(self, what: str) -> list[Line]:
        """The lines of one sort."""
        return [line for line in self.lines if line["what"] == what]

    @property
    def recovered(self) -> Line | None:
        """What it said once it had recovered, unless it died before."""
        return next(iter(self.of("recovered")), None)

    @property
    def finished(self) -> Line | None:
        """What it said at its end, unless it died before."""
        return next(iter(self.of("finished")), None)

    @property
    def recovery(self) -> list[Line]:
        """What it said until it had recovered, or died."""
        recovered = self.recovered
        return self.lines if recovered is None else self.lines[: self.lines.index(recovered)]

    @property
    def write_points(self) -> Iterator[tuple[str, KillPoint]]:
        """Where a process can die that does the same operation: for people, and for the next order."""
        for line in self.of("write"):
            where = f"{line['moment']} write {line['write']}" + (f" ({line['phase']})" if line["phase"] else "")
            yield where, KillPoint(write=line["write"], moment=line["moment"])


def course_of(lines: Iterable[Line]) -> list[str]:
    """The phases that actions reached, and how they ended."""
    events = [line for line in lines if line["what"] == "event"]
    return [line["phase"] if line["event"] == "next" else line["event"] for line in events]


async def run_child(
    order: BaseModel, *, on_recovered: Callable[[int], object] = lambda pid: None, deadline: timedelta = DEADLINE
) -> Run:
    """Run a child process to its end, or to its death.

    Args:
        order: what it is to do; the module that defines its class is what is run.
        on_recovered: called with its pid once it has recovered and waits to begin.
    Raises:
        ChildError: it failed, hung, or died of something else than SIGKILL.
    """
    run = Run()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", type(order).__module__, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdin is not None  # noqa: S101 we asked for pipes
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    errors = asyncio.create_task(process.stderr.read())
    status: int | None = None
    try:
        with anyio.fail_after(deadline.total_seconds()):
            await _tell(process.stdin, json.dumps(_body(order)))
            async for text in process.stdout:
                if not text.endswith(b"\n"):
                    break  # it died while it spoke
                run.lines.append(json.loads(text))
                if run.lines[-1]["what"] == "recovered":
                    on_recovered(process.pid)
                    await _tell(process.stdin, "go")
            status = await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        stderr = (await errors).decode(errors="replace").strip().splitlines()
    if status is None:
        raise ChildError(f"the process hung; its last words: {run.lines[-1:]}, and in its log: {stderr[-3:]}")
    run.was_killed = status == -signal.SIGKILL
    if status and not run.was_killed:
        told = [line["message"] for line in run.of("error")] or (stderr or ["no message"])[-1:]
        raise ChildError(f"the process failed with status {status}: {told[0]}")
    return run


async def kill_recoveries(child: Callable[[KillPoint], Awaitable[Run]]) -> list[Run]:
    """Kill a recovery before and after its first write, the next after its second, …, until one lives on.

    Args:
        child: runs a child process that only recovers, and is killed there.
    Returns:
        All of them; the last one lived.
    Raises:
        ChildError: none lives on.
    """
    runs = [await child(KillPoint(write=1, moment="before", since="process"))]
    while runs[-1].was_killed:
        if len(runs) >= MOST_RECOVERY_WRITES:
            raise ChildError("the recovery goes on writing for ever")
        runs.append(await child(KillPoint(write=len(runs), moment="after", since="process")))
    return runs


def _body(order: BaseModel) -> dict[str, Any]:
    secrets = {name: value.get_secret_value() for name, value in order if isinstance(value, SecretStr)}
    return order.model_dump(mode="json") | secrets


async def _tell(stdin: asyncio.StreamWriter, line: str) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it is dead already; its status tells
        stdin.write(line.encode() + b"\n")
        await stdin.drain()
