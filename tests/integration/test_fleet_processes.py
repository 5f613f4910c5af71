"""Two processes on one SQLite file: one is killed, one is stopped past its lease and goes on."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.integration.fleet_worker import Pay, Peer, Ready
from wallet_actions.checkpoint import Status
from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.executor import Executor
from wallet_actions.registry import Registry
from wallet_actions.store import Store, open_store
from wallet_actions.testing.linear import violations
from wallet_actions.testing.oracles import history_complete
from wallet_actions.testing.recorder import operations, recorded
from wallet_actions.transition import Changes

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no file locks and no signals"),
]

ROOT = Path(__file__).parents[2]


class Fleet:
    """The file, the processes on it, and what the parent does itself."""

    def __init__(self, folder: Path, store: Store, lines: list[str], held: ExitStack) -> None:
        self.folder = folder
        self.store = store
        self.lines = lines
        self._held = held
        peer = Peer(folder / "books", is_slow=False)
        self.executor = Executor(store, peer, Registry([Pay]))

    def worker(self, name: str, mode: str) -> subprocess.Popen[str]:
        process = self._held.enter_context(worker(self.folder, name, mode))
        assert line(process) == "ready"
        return process

    async def start(self, name: str) -> ActionKey:
        coin = Coin(f"coin-{name}", "bank", "sat", 8, "payload")
        started = await self.executor.start(Pay(name=name, phase=Ready()), Changes(add=[coin], reserve=[coin]))
        return started.key

    async def judge(self, *keys: ActionKey) -> None:
        """Each is done, its coin spent, its peer asked; and all notes make one story."""
        rows = await self.store.list_actions()
        assert {row.key: row.status for row in rows} == dict.fromkeys(keys, Status.DONE)
        assert {row.owner for row in rows} == {None}
        coins = await self.store.coins()
        assert {coin.state for coin in coins} == {CoinState.SPENT}
        noted = operations([*self.lines, *(self.folder / "notes").read_text().splitlines()])
        assert violations(noted, {row.key: row.version for row in rows}, coins) == []
        assert await history_complete(self.store) == []
        for key in keys:
            history = await self.store.history(key)
            assert [entry.event for entry in history] == ["start", "next", "done"]


@contextmanager
def worker(folder: Path, name: str, mode: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.integration.fleet_worker"]
    arguments = [str(folder / "w.db"), str(folder / "notes"), name, mode]
    process = subprocess.Popen(
        [*command, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def stop(process: subprocess.Popen[str], database: Path) -> None:
    """Stop it, but not in the middle of a write, or SQLite would let nobody else write until it goes on."""
    while True:
        process.send_signal(signal.SIGSTOP)
        with closing(sqlite3.connect(database, timeout=0.1)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    (tmp_path / "books").mkdir()
    lines: list[str] = []
    store = recorded(open_store(f"sqlite:///{tmp_path / 'w.db'}?shared=true"), "parent", lines.append)
    with ExitStack() as held:
        async with store:
            yield Fleet(tmp_path, store, lines, held)


async def test_a_killed_worker_is_followed_by_another(fleet: Fleet) -> None:
    """G3, G2: SIGKILL in the middle of a step; the next worker takes over when the lease has lapsed."""
    first = fleet.worker("first", "slow")
    key = await fleet.start("a")
    assert await asyncio.to_thread(line, first) == "begun a"
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = fleet.worker("second", "quick")
    other = await fleet.start("b")
    told = [await asyncio.to_thread(line, second) for _ in range(4)]
    # What is free at once, what was held in its time: which of them is first depends on how long it took to start.
    for name in ("a", "b"):
        assert [text for text in told if text.endswith(name)] == [f"begun {name}", f"done {name}"]
    await fleet.judge(key, other)


async def test_a_worker_that_was_stopped_past_its_lease_writes_nothing(fleet: Fleet) -> None:
    """L-S4, L-D15: SIGSTOP in the middle of a step, a takeover, SIGCONT: its answer comes too late."""
    zombie = fleet.worker("zombie", "slow")
    key = await fleet.start("a")
    assert await asyncio.to_thread(line, zombie) == "begun a"
    stop(zombie, fleet.folder / "w.db")
    second = fleet.worker("second", "quick")
    assert [await asyncio.to_thread(line, second) for _ in range(2)] == ["begun a", "done a"]
    before = await fleet.store.load(key)
    assert zombie.stdin is not None
    zombie.stdin.write("go on\n")
    zombie.stdin.flush()
    zombie.send_signal(signal.SIGCONT)
    second.terminate()
    second.wait()
    other = await fleet.start("b")
    told = ""
    while told != "done b":
        # It hears of the takeover at its write or at its renewal, before the next action or beside it.
        told = await asyncio.to_thread(line, zombie)
        assert told in ("superseded a", "begun b", "done b")
        if told == "begun b":
            zombie.stdin.write("go on\n")
            zombie.stdin.flush()
    assert await fleet.store.load(key) == before
    await fleet.judge(key, other)
