"""What a child process of the tests does: `python -m tests.unit.storage.sqlite_child COMMAND FILE …`."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from asyncio import Event, gather, run
from typing import Any

from tests.unit.storage.sqlite_kit import at, coin, follow, in_one_batch, in_writer, new, put, step
from wallet_actions.checkpoint import Status
from wallet_actions.coins import Fact
from wallet_actions.errors import VersionConflictError
from wallet_actions.store import Delta
from wallet_actions_storage import SQLiteStore


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def hold(file: str) -> None:
    """Have the file exclusively until killed."""
    async with SQLiteStore(file, exclusive=True):
        tell("open")
        await Event().wait()


async def write(file: str, name: str, count: int) -> None:
    """Write until killed, and tell of each write that was answered: of several actions, each with coins and facts."""

    async def drive(store: SQLiteStore, action_id: str) -> None:
        await store.create(new(action_id, Delta(add=(coin(f"{action_id} 0"),), reserve=(f"{action_id} 0",))))
        tell(f"{action_id} 0")
        for version in itertools.count(1):
            old, fresh = f"{action_id} {version - 1}", f"{action_id} {version}"
            facts = (Fact("f", fresh),) if version % 3 else ()
            delta = Delta(add=(coin(fresh),), reserve=(fresh,), spend=(old,), facts=facts)
            await store.save(step(action_id, version, delta))
            tell(f"{action_id} {version}")

    async with SQLiteStore(file) as store:
        await gather(*(drive(store, f"{name}{number}") for number in range(count)))


async def race(file: str, name: str, rounds: int) -> None:
    """Race others for the versions of one action; tell how many were won."""
    won = 0
    async with SQLiteStore(file) as store:
        await store.create(new("a"))
        tell("open")
        sys.stdin.readline()
        version = 0
        while version < rounds:
            try:
                await store.save(step("a", version + 1, Delta(facts=(Fact("won", f"{version + 1}", f'"{name}"'),))))
            except VersionConflictError:
                found = await store.load(new("a").checkpoint.key)
                assert found is not None
                version = found.version
            else:
                won += 1
                version += 1
    tell(f"{won}")


async def die(file: str, statement: int) -> None:
    """Write a batch of starts, steps, parks and ends, and be killed where one of its statements begins.

    Args:
        statement: which one, from 0; if there are fewer, all is written, and their number told.
    """
    ran: list[str] = []

    def look(sql: str) -> None:
        if len(ran) == statement:
            os.kill(os.getpid(), signal.SIGKILL)
        ran.append(sql)

    async with SQLiteStore(file) as store:
        changes: list[dict[str, Any]] = [{}, {"status": Status.PARKED, "wake_at": at(9)}, {"status": Status.DONE}]
        writes = [await follow(store, f"{n}", **changes[n % 3]) for n in range(30)]
        await in_writer(store, lambda connection: connection.set_trace_callback(look))
        starts = [store.create(new(f"{n}")) for n in range(30, 40)]
        told = await in_one_batch(store, [*starts, *(put(store, write) for write in writes)])
        tell(f"{len(ran)}")
        assert not any(isinstance(one, Exception) for one in told)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "hold":
        run(hold(*arguments))
    elif command == "die":
        run(die(arguments[0], int(arguments[1])))
    elif command == "write":
        run(write(arguments[0], arguments[1], int(arguments[2])))
    else:
        run(race(arguments[0], arguments[1], int(arguments[2])))
