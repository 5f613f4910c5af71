"""The child process as its parent sees it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio

from wallet_actions.demo_saga.child import Order
from wallet_actions.errors import WalletActionError

DEADLINE = timedelta(seconds=120)

Line = dict[str, Any]


class ChildError(WalletActionError):
    """The child process ended in a way that nobody had ordered."""


@dataclass(slots=True)
class Run:
    """What a child said and how it ended.

    Attributes:
        recovery: what it said before it had recovered, in order.
        lines: what it said afterwards.
    """

    recovery: list[Line] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    was_killed: bool = False


async def run_child(order: Order, *, on_recovered: Callable[[int], object] = lambda pid: None) -> Run:
    """Run a child process to its end, or to its death.

    Args:
        on_recovered: called with its pid once it has recovered and waits to begin.
    Raises:
        ChildError: it failed, hung, or died of something else than SIGKILL.
    """
    run = Run()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wallet_actions.demo_saga.child", stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdin is not None  # noqa: S101 we asked for pipes
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    errors = asyncio.create_task(process.stderr.read())
    said = run.recovery
    try:
        with anyio.fail_after(DEADLINE.total_seconds()):
            await _tell(process.stdin, order.model_dump_json())
            async for text in process.stdout:
                if not text.endswith(b"\n"):
                    break  # it died while it spoke
                line: Line = json.loads(text)
                said.append(line)
                if line["what"] == "recovered":
                    said = run.lines
                    on_recovered(process.pid)
                    await _tell(process.stdin, "go")
            status = await process.wait()
    except TimeoutError:
        raise ChildError(f"the process hung; its last words: {said[-1:]}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        stderr = (await errors).decode(errors="replace")
    run.was_killed = status == -9
    if status not in (0, -9):
        told = [line["message"] for line in said if line["what"] == "error"] or stderr.strip().splitlines()[-1:]
        raise ChildError(f"the process failed with status {status}: {' '.join(told)}")
    return run


async def _tell(stdin: asyncio.StreamWriter, line: str) -> None:
    try:
        stdin.write(line.encode() + b"\n")
        await stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it is dead already; its status tells
