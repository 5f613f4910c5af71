"""The process that gets killed, and the one that makes it: `python -m wallet_actions.testing.child FD`.

It reads one line of JSON that says what to import, and then one for each life: the world's folder and the plan. It
writes one line of JSON for each thing that happens to the file descriptor: each boundary as it is reached, whatever is
logged, how it ended. All of a life is in a fork.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from wallet_actions.testing.boundaries import Boundary
from wallet_actions.testing.life import CrashKind, FaultKind, Incident, Life, Plan
from wallet_actions.testing.nursery import resolve
from wallet_actions.testing.trial import live, starts_in
from wallet_actions.testing.world import Listener

Say = Callable[..., None]


class _Reporter(Listener):
    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: Any) -> None:
        super().emit(record)
        self._say(said=self.said.pop())


def plan_of(fields: dict[str, Any]) -> Plan:
    """Read what `dataclasses.asdict` made of a plan."""
    plan = Plan(**fields)
    return dataclasses.replace(
        plan, crash=CrashKind(plan.crash), fault=FaultKind(plan.fault), incident=Incident(plan.incident)
    )


async def run(world: Any, make: Any, order: dict[str, Any], say: Say) -> None:
    """Live one life, and tell of it."""

    async def tell(boundary: Boundary) -> None:
        say(boundary=dataclasses.asdict(boundary))

    here = world(folder=Path(order["folder"]))
    life = Life(plan_of(order["plan"]), switch=tell)
    with _Reporter(say):
        try:
            found = await live(here, life, await starts_in(make, here))
        finally:
            await here.close()
    say(
        found=found,
        violations={text: dataclasses.asdict(boundary) for text, boundary in life.violations.items()},
        is_over=life.is_over,
    )


async def warm_up() -> None:
    """Have loaded what is loaded at first use, so that each fork need not."""
    with anyio.CancelScope():
        await asyncio.sleep(0)


def main() -> None:
    """Fork for each order."""
    report_to = int(sys.argv[1])

    def say(**report: object) -> None:
        os.write(report_to, json.dumps(report).encode() + b"\n")

    # Without a buffer, which would be forked with all that is in it.
    orders = os.fdopen(os.dup(0), "rb", buffering=0)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    setup = json.loads(orders.readline())
    sys.path[:] = setup["path"]
    try:
        world, make = resolve(setup["world"]), resolve(setup["make"])
    except Exception as error:  # noqa: BLE001 importing runs other people's code
        say(failed=f"{type(error).__name__}: {error}")
        return
    asyncio.run(warm_up())
    say(ready=True)
    gc.freeze()  # what a fork does not touch is not copied
    while line := orders.readline():
        pid = os.fork()
        if pid:
            _, status = os.waitpid(pid, 0)
            say(ended=status)
            continue
        status = 1
        try:
            say(pid=os.getpid())
            asyncio.run(run(world, make, json.loads(line), say))
            status = 0
        except BaseException:  # noqa: BLE001 of the fork nothing may return to the loop
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


if __name__ == "__main__":
    main()
