"""The child process as its parent sees it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio

from wallet_actions.demo.child import Order
from wallet_actions.errors import WalletActionError

DEADLINE = timedelta(seconds=120)

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


async def run_child(
    order: Order, *, on_recovered: Callable[[int], Awaitable[None]] | None = None, deadline: timedelta = DEADLINE
) -> Run:
    """Run a child process to its end, or to its death.

    Args:
        on_recovered: called with its pid once it has recovered and waits to begin.
    Raises:
        ChildError: it failed, hung, or died of something else than SIGKILL.
    """
    run = Run()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "wallet_actions.demo.child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None  # noqa: S101 we asked for pipes
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    errors = asyncio.create_task(process.stderr.read())
    body = order.model_dump(mode="json") | {"mnemonic": order.mnemonic.get_secret_value()}
    try:
        with anyio.fail_after(deadline.total_seconds()):
            await _tell(process.stdin, json.dumps(body))
            async for text in process.stdout:
                if not text.endswith(b"\n"):
                    break  # it died while it spoke
                line: Line = json.loads(text)
                run.lines.append(line)
                if line["what"] == "recovered":
                    if on_recovered is not None:
                        await on_recovered(process.pid)
                    await _tell(process.stdin, "go")
            status = await process.wait()
    except TimeoutError:
        raise ChildError(f"the wallet process hung; its last words: {run.lines[-1:]}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        stderr = (await errors).decode(errors="replace")
    run.was_killed = status == -9
    if status not in (0, -9):
        last = run.of("error")
        told = last[0]["message"] if last else (stderr.strip().splitlines() or ["no message"])[-1]
        raise ChildError(f"the wallet process failed with status {status}: {told}")
    return run


async def _tell(stdin: asyncio.StreamWriter, line: str) -> None:
    try:
        stdin.write(line.encode() + b"\n")
        await stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it is dead already; its status tells
