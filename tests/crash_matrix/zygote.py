"""The process from which the wallets are forked that get killed: `python -m tests.crash_matrix.zygote FD MODULE …`.

It imports the modules once and then forks for each life: a fork takes milliseconds, the imports take most of a second.
It reads one line of JSON for each life, `{"life": 1, "run": "module:function", "order": {…}}`, from its standard input,
and writes one for each thing that happens to the file descriptor. While a life lasts, further lines are the life's to
read, `{"life": 1, "line": {…}}`. Those that it did not live to read are passed over.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import traceback
from typing import IO, Any

import anyio

LAST_LINES = 3
PR_SET_PDEATHSIG = 1


class Link:
    """What a life has of its parent."""

    def __init__(self, orders: IO[bytes], report_to: int) -> None:
        self._orders = orders
        self._report_to = report_to
        self._life = 0

    def say(self, what: str, **details: object) -> None:
        """Write one line, at once."""
        line = json.dumps({"what": what, **details}).encode() + b"\n"
        while line:
            line = line[os.write(self._report_to, line) :]

    async def hear(self) -> dict[str, Any]:
        """Wait for the parent's next line to this life."""
        while True:
            heard = await asyncio.to_thread(self._read)
            if heard is None:
                os.kill(os.getpid(), signal.SIGKILL)  # the parent has died, and nobody wants to know the rest
            elif heard.get("life") == self._life and "line" in heard:
                line: dict[str, Any] = heard["line"]
                return line

    def next_order(self) -> dict[str, Any] | None:
        """Wait for the next life; None when there will be none."""
        while (order := self._read()) is not None:
            if "run" in order:
                self._life = order["life"]
                return order
        return None

    def _read(self) -> dict[str, Any] | None:
        line = self._orders.readline()
        try:
            read: dict[str, Any] = json.loads(line)
        except ValueError:
            return {} if line else None  # the rest of a line that a life died over
        return read


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def live(setup: dict[str, Any], link: Link) -> int:
    """Live one life; its exit status."""
    try:
        _die_with_parent()
        link.say("born", pid=os.getpid())
        module, _, name = setup["run"].partition(":")
        run = getattr(importlib.import_module(module), name)
        asyncio.run(run(setup["order"], link))
    except BaseException as error:  # noqa: BLE001 of the fork nothing may return to the loop
        lines = [line.strip() for line in traceback.format_exception(error)[-LAST_LINES:]]
        link.say("crashed", error=type(error).__name__, lines=lines)
        return 1
    return 0


async def _warm_up() -> None:
    """Have loaded what is loaded at first use, so that each fork need not."""
    with anyio.CancelScope():
        await asyncio.sleep(0)


def main() -> None:
    """Fork for each order."""
    _die_with_parent()
    # Without a buffer, which would be forked with all that is in it.
    orders = os.fdopen(os.dup(0), "rb", buffering=0)
    link = Link(orders, int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    asyncio.run(_warm_up())
    link.say("ready")
    gc.collect()
    gc.freeze()  # what a fork does not touch is not copied
    while (setup := link.next_order()) is not None:
        if pid := os.fork():
            _, status = os.waitpid(pid, 0)
            link.say("ended", signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, status=status >> 8)
        else:
            os._exit(live(setup, link))


if __name__ == "__main__":
    main()
