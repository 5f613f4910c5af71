"""Two workers on PostgreSQL. Variants: `takeover`, `wake`.

`takeover`: a process that drives an action is killed; how long after the lapse of its lease another worker drives it.
`wake`: one process starts actions and drives none; how long until another worker, which had nothing to do, drives them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from contextlib import suppress
from datetime import timedelta
from typing import Self

import asyncpg

from benchmarks.load import names
from benchmarks.sides import options
from benchmarks.sides.postgres import dsn
from wallet_actions import Action, Done, Engine, Executor, Next, Phase, Transition, open_store
from wallet_actions.registry import Registry

LEASE = timedelta(seconds=2)
SCHEMA = "fleet"
WAKES = 30
PATIENCE_S = 30.0
DRIVEN: dict[str, float] = {}
CHANGED = asyncio.Event()


class Begin(Phase):
    """Before anything."""


class Within(Phase):
    """In the middle."""


class Errand(Action[None, Begin | Within], kind="errand"):
    """Notes that it is driven; those that hang do so in the middle, in the process that has them first."""

    name: str
    hangs: bool = False

    @property
    def id(self) -> str:
        """Its name."""
        return self.name

    async def advance(self, wallet: None) -> Transition[Self]:
        """Go on, or hang."""
        DRIVEN.setdefault(self.name, time.monotonic())
        CHANGED.set()
        if isinstance(self.phase, Begin):
            return Next(self.at(Within()))
        if self.hangs and "--victim" in sys.argv:
            print("hanging", flush=True)
            await asyncio.Event().wait()
        return Done()


async def driven(name: str) -> float:
    """When an action was first driven here."""
    while name not in DRIVEN:
        CHANGED.clear()
        await CHANGED.wait()
    return DRIVEN[name]


async def victim(url: str, name: str) -> None:
    """Drive an action that hangs, for ever."""
    async with Engine(url, None, kinds=[Errand], lease=LEASE) as engine:
        await engine.start(Errand(name=name, hangs=True, phase=Begin()))
        await asyncio.Event().wait()


async def takeover(given: options.Options, url: str) -> None:
    """Kill a worker, and wait for the other."""
    name = names(1, salt=f"takeover{given.turn}")[0]
    arguments = ["--folder", str(given.folder), "--turn", str(given.turn), "--variant", name]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.sides.fleet", *arguments, "--victim", stdout=PIPE
    )
    connection = await asyncpg.connect(dsn(given.folder))
    try:
        if child.stdout is None or not await asyncio.wait_for(child.stdout.readline(), PATIENCE_S):
            raise SystemExit("the worker to be killed drives nothing")
        async with Engine(url, None, kinds=[Errand], lease=LEASE):
            await asyncio.sleep(LEASE.total_seconds() / 2)  # it renews meanwhile
            os.kill(child.pid, signal.SIGKILL)
            left_s, asked_s = await lease_left(connection, name), time.monotonic()
            begun_s = await asyncio.wait_for(driven(name), PATIENCE_S)
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    await connection.close()
    options.answer(behind_s=begun_s - asked_s - left_s)


async def lease_left(connection: asyncpg.Connection, name: str) -> float:
    """The seconds until an action's lease lapses, by the server's clock."""
    left_s = await connection.fetchval(
        f"SELECT lease_until / 1e6 - extract(epoch FROM clock_timestamp()) FROM {SCHEMA}.wa_actions WHERE id = $1", name
    )
    return float(left_s)


async def wake(given: options.Options, url: str) -> None:
    """Start actions one after another, each once the one before is driven."""
    waits_s = []
    async with Engine(url, None, kinds=[Errand]), open_store(url) as other:
        starter = Executor(other, None, Registry([Errand]))
        for name in names(WAKES, salt=f"wake{given.turn}"):
            await starter.start(Errand(name=name, phase=Begin()))
            started_s = time.monotonic()
            waits_s.append(await driven(name) - started_s)
    waits_s.sort()
    options.answer(wake_ms=waits_s[len(waits_s) // 2] * 1e3, latest_ms=waits_s[-1] * 1e3)


async def main() -> None:
    """Be one of the two."""
    is_victim = "--victim" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--victim"]
    given = options.read()
    url = dsn(given.folder, SCHEMA)
    if is_victim:
        sys.argv.append("--victim")
        await victim(url, given.variant)
    elif given.variant == "takeover":
        await takeover(given, url)
    else:
        await wake(given, url)


if __name__ == "__main__":
    asyncio.run(main())
