"""The child process as its parent sees it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio

from wallet_actions.demo_lightning.child import Order
from wallet_actions.errors import WalletActionError

DEADLINE = timedelta(seconds=120)


class ChildError(WalletActionError):
    """The child process ended in a way that nobody had ordered."""


@dataclass(slots=True)
class Run:
    """What a child said and how it ended.

    Attributes:
        lines: in order.
        was_killed: whether it ended by SIGKILL.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    was_killed: bool = False

    def of(self, what: str) -> list[dict[str, Any]]:
        """The lines of one sort."""
        return [line for line in self.lines if line["what"] == what]


async def run_child(order: Order, *, on_recovered: Callable[[int], None] = lambda pid: None) -> Run:
    """Run a child process to its end, or to its death.

    Args:
        on_recovered: called with its pid once it has recovered and waits to begin.
    Raises:
        ChildError: it failed, hung, or died of something else than SIGKILL.
    """
    run = Run()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wallet_actions.demo_lightning.child", stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdin is not None  # noqa: S101 we asked for pipes
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    errors = asyncio.create_task(process.stderr.read())
    body = order.model_dump(mode="json") | {"macaroon": order.macaroon.get_secret_value()}
    try:
        with anyio.fail_after(DEADLINE.total_seconds()):
            await _tell(process.stdin, json.dumps(body))
            async for text in process.stdout:
                if not text.endswith(b"\n"):
                    break  # it died while it spoke
                run.lines.append(json.loads(text))
                if run.lines[-1]["what"] == "recovered":
                    on_recovered(process.pid)
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
        told = [line["message"] for line in run.of("error")] or (stderr.strip().splitlines() or ["no message"])[-1:]
        raise ChildError(f"the wallet process failed with status {status}: {told[0]}")
    return run


async def _tell(stdin: asyncio.StreamWriter, line: str) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it is dead already; its status tells
        stdin.write(line.encode() + b"\n")
        await stdin.drain()
