"""This engine on SQLite. Variants: `history` (the default) or `no-history`; `memory` for the engine alone.

What is timed is the driving, all actions having been started before; `whole` drives others, and times their starts too.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from benchmarks.load import TRANSITIONS, names, rounds_of
from benchmarks.sides import options
from benchmarks.work import Step, Walk
from wallet_actions import Executor, Transition, open_store
from wallet_actions.coins import ActionKey
from wallet_actions.registry import Registry
from wallet_actions_storage.sqlite.session import Session

URLS = {
    "history": "sqlite:///{}",
    "whole": "sqlite:///{}",
    "no-history": "sqlite:///{}?history=false",
    "memory": "memory://",
}
PAGE = 500


class TimedWalk(Walk, kind="benchmark_walk"):
    """Notes when each of its steps begins, with as little ado as can be: it is timed too."""

    async def advance(self, wallet: None) -> Transition[Self]:
        """Go on to the next step."""
        BEGUN.append((self.name, time.perf_counter()))
        return self.following()


BEGUN: list[tuple[str, float]] = []


def steps_s() -> list[float]:
    """How long each step took until the next one began, the shortest first."""
    last_s: dict[str, float] = {}
    spent_s = []
    for name, begun_s in BEGUN:
        if name in last_s:
            spent_s.append(begun_s - last_s[name])
        last_s[name] = begun_s
    return sorted(spent_s)


@contextmanager
def counted_commits() -> Iterator[list[int]]:
    """Count the transactions that are committed."""
    count = [0]
    commit = Session.commit

    def counting(session: Session) -> None:
        count[0] += 1
        commit(session)

    Session.commit = counting  # type: ignore[method-assign, assignment]
    try:
        yield count
    finally:
        Session.commit = commit  # type: ignore[method-assign]


async def start_all(executor: Executor, all_names: list[str]) -> None:
    """Make all actions durable."""
    for first in range(0, len(all_names), PAGE):
        page = [TimedWalk(name=name, phase=Step()) for name in all_names[first : first + PAGE]]
        await asyncio.gather(*(executor.start(walk) for walk in page))


async def fresh_file(given: options.Options, all_names: list[str]) -> Path:
    """A file in which all actions are started; made once in the folder, and copied for each run."""
    template, path = given.folder / f"ours-{given.others}.db", given.folder / "ours.db"
    if not template.exists():
        making = template.with_suffix(".part")
        async with open_store(URLS["history"].format(making)) as store:
            await start_all(Executor(store, None, Registry([TimedWalk])), all_names)
        making.rename(template)
    shutil.copyfile(template, path)
    return path


async def commits_of_one(executor: Executor) -> int:
    """The commits of one action, its start and end included."""
    with counted_commits() as commits:
        started = await executor.start(TimedWalk(name="alone", phase=Step()))
        await executor.drive(started.key)
    return commits[0]


async def drive_whole(executor: Executor, name: str) -> None:
    """An action from its start to its end."""
    started = await executor.start(TimedWalk(name=name, phase=Step()))
    await executor.drive(started.key)


def batches_of(
    executor: Executor, given: options.Options, all_names: list[str]
) -> Iterator[list[Coroutine[Any, Any, object]]]:
    """What is done together, batch after batch."""
    if given.variant == "whole":
        new = names(given.at_once * given.batches, salt="whole")
        for first in range(0, len(new), given.at_once):
            yield [drive_whole(executor, name) for name in new[first : first + given.at_once]]
        return
    for batch in rounds_of(given.at_once, given.batches, given.others):
        yield [executor.drive(ActionKey(Walk.kind, all_names[place])) for place in batch]


async def main() -> None:
    """Start all actions, then drive some of them, and tell how that went."""
    given = options.read()
    all_names = names(given.others)
    variant = given.variant or "history"
    path = given.folder if variant == "memory" else await fresh_file(given, all_names)
    async with open_store(URLS[variant].format(path)) as store:
        executor = Executor(store, None, Registry([TimedWalk]))
        if variant == "memory":
            await start_all(executor, all_names)
        commits = await commits_of_one(executor)
        BEGUN.clear()
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        for batch in batches_of(executor, given, all_names):
            await asyncio.gather(*batch)
        spent_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    transitions = given.at_once * given.batches * TRANSITIONS
    spent = steps_s()
    options.answer(
        rate=transitions / spent_s,
        cpu_us=cpu_s / transitions * 1e6,
        commits=commits,
        p99_ms=spent[int(len(spent) * 0.99)] * 1e3,
    )


if __name__ == "__main__":
    asyncio.run(main())
