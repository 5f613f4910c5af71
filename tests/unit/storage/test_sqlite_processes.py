"""Several processes on one file: the guard, the race for a version, and death in the middle of a write."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from tests.unit.storage.sqlite_kit import coin, key, new, plain, rows_of, step
from wallet_actions.coins import CoinState
from wallet_actions.errors import StoreInUseError, StoreUnavailableError
from wallet_actions.store import Delta
from wallet_actions_storage import SQLiteStore
from wallet_actions_storage.sqlite.guard import CommitLock, ProcessGuard, sidecar

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no file locks and no SIGKILL"),
]

ROOT = Path(__file__).parents[3]
PATIENCE_S = 30.0


@contextmanager
def child(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.unit.storage.sqlite_child", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("exclusive", [True, False])
async def test_the_guard_names_the_process(tmp_path: Path, exclusive: bool) -> None:
    """One process a file: the second is told who has it, and it is free once that process was killed."""
    path = tmp_path / "w.db"
    with child("hold", path) as holder:
        assert line(holder) == "open"
        with pytest.raises(StoreInUseError) as caught:
            await SQLiteStore(path, exclusive=exclusive).__aenter__()
        assert caught.value.pid == holder.pid
        assert f"{holder.pid}" in str(caught.value)
        assert f"{path}" in str(caught.value)
        async with SQLiteStore(path, read_only=True) as reader:
            assert await reader.list_actions() == []
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    async with SQLiteStore(path, exclusive=exclusive) as store:
        assert (await store.create(new("a"))).is_new


async def test_the_guard_holds_within_a_process_too(tmp_path: Path) -> None:
    """Two stores would be two writing connections."""
    path = tmp_path / "w.db"
    async with SQLiteStore(path, exclusive=True):
        with pytest.raises(StoreInUseError) as caught:
            await SQLiteStore(path).__aenter__()
        assert caught.value.pid == os.getpid()
    async with SQLiteStore(path), SQLiteStore(path):
        with pytest.raises(StoreInUseError, match="open elsewhere") as caught:
            await SQLiteStore(path, exclusive=True).__aenter__()
        assert caught.value.pid is None
    async with SQLiteStore(path, exclusive=True) as store:
        assert await store.list_actions() == []


async def test_a_stale_pid_is_not_named(tmp_path: Path) -> None:
    """What a killed process left in the file is gone with the next who opens it."""
    path = tmp_path / "w.db"
    sidecar(path, "lock").write_text("4711\n")
    async with SQLiteStore(path):
        with pytest.raises(StoreInUseError) as caught:
            await SQLiteStore(path, exclusive=True).__aenter__()
        assert caught.value.pid is None


async def test_a_store_that_was_refused_leaves_nothing(tmp_path: Path) -> None:
    """Neither a lock nor a file."""
    path = tmp_path / "w.db"
    guard = ProcessGuard(path)
    guard.take(exclusive=True)
    with pytest.raises(StoreInUseError):
        await SQLiteStore(path).__aenter__()
    assert not path.exists()
    guard.release()
    async with SQLiteStore(path, exclusive=True):
        pass


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_locks(tmp_path: Path) -> None:
    """Otherwise a worker that outlives its parent would lock everybody out."""
    guard, lock = ProcessGuard(tmp_path / "w.db"), CommitLock(tmp_path / "w.db", 0)
    guard.take(exclusive=True)
    lock.open()
    with lock:
        context = multiprocessing.get_context("fork")
        inside, go_on = context.Event(), context.Event()
        worker = context.Process(target=_wait, args=(inside, go_on))
        worker.start()
        assert inside.wait(PATIENCE_S)
        # As if the parent had died: its descriptors are closed without unlocking.
        for held in (guard._lock, lock._lock):
            assert held is not None
            held.close()
        again, free = ProcessGuard(tmp_path / "w.db"), CommitLock(tmp_path / "w.db", 0)
        again.take(exclusive=True)
        free.open()
        with free:
            go_on.set()
        worker.join(PATIENCE_S)
        lock._lock = None
    again.release()
    free.close()


def _wait(inside: object, go_on: object) -> None:
    inside.set()  # type: ignore[attr-defined]
    go_on.wait(PATIENCE_S)  # type: ignore[attr-defined]


async def test_commits_keep_out_of_each_others_way(tmp_path: Path) -> None:
    """While another process commits, ours wait; for no longer than their patience."""
    path = tmp_path / "w.db"
    other = CommitLock(path, 0)
    async with SQLiteStore(path, busy_timeout=timedelta(seconds=0.02)) as store:
        other.open()
        await store.create(new("a"))
        with other:
            with pytest.raises(StoreUnavailableError, match="busy"):
                await store.save(step("a", 1))
            assert await store.load(key("a")) is not None
        assert await store.save(step("a", 1)) == (1, False)
        async with store.transaction():
            with pytest.raises(StoreUnavailableError, match="busy"), other:
                pytest.fail("the app's transaction did not hold the lock")
    with other:
        pass
    other.close()


async def test_an_exclusive_store_does_without_the_commit_lock(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "w.db", exclusive=True) as store:
        await store.create(new("a"))
    assert not sidecar(tmp_path / "w.db", "commit-lock").exists()


async def test_two_processes_race_for_an_action(tmp_path: Path) -> None:
    """G2, L-S4: each version is won by exactly one, and what the loser would have written is not there."""
    path, rounds = tmp_path / "w.db", 150
    with child("race", path, "x", rounds) as one, child("race", path, "y", rounds) as two:
        racers = (one, two)
        assert [line(racer) for racer in racers] == ["open", "open"]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        won = [int(line(racer)) for racer in racers]
        assert [racer.wait(PATIENCE_S) for racer in racers] == [0, 0]
    assert sum(won) == rounds
    async with SQLiteStore(path) as store:
        assert [entry.version for entry in await store.history(key("a"))] == list(range(rounds + 1))
        facts = await store.facts(kind="won")
        assert sorted(int(fact.key) for _, fact in facts) == list(range(1, rounds + 1))
        assert [sum(fact.body == f'"{name}"' for _, fact in facts) for name in "xy"] == won
        assert all(finding.is_ok for finding in await store.diagnose())


@pytest.mark.parametrize("seed", range(4))
async def test_a_killed_writer_loses_nothing(tmp_path: Path, seed: int) -> None:
    """G1, G7: after SIGKILL every write that was answered is there, and none is there by half; also the second time."""
    path, random, told = tmp_path / "w.db", Random(seed), dict[str, int]()
    for name in ("x", "y"):
        with child("write", path, name, 6) as writer:
            for _ in range(random.randrange(20, 250)):
                action_id, _, version = line(writer).partition(" ")
                told[action_id] = int(version)
            writer.send_signal(signal.SIGKILL)
            assert writer.stdout is not None
            for rest in writer.stdout.read().splitlines():
                action_id, _, version = rest.partition(" ")
                told[action_id] = int(version)
    async with SQLiteStore(path) as store:
        rows = {row.id: row for row in await store.list_actions()}
        assert set(told) <= set(rows)
        for action_id, row in rows.items():
            assert row.version >= told.get(action_id, 0)
            assert [entry.version for entry in await store.history(row.key)] == list(range(row.version + 1))
            coins = await store.coins(holder=row.key)
            assert {found.id for found in coins} == {f"{action_id} {n}" for n in range(row.version + 1)}
            held = [found.id for found in coins if found.state is CoinState.RESERVED]
            assert held == [f"{action_id} {row.version}"]
        facts = {fact.key for _, fact in await store.facts(limit=100_000)}
        assert facts == {
            f"{action_id} {n}" for action_id, row in rows.items() for n in range(1, row.version + 1) if n % 3
        }
        assert await store.orphans() == []
        assert all(finding.is_ok for finding in await store.diagnose())


async def test_a_file_that_was_being_made_is_made_again(tmp_path: Path) -> None:
    """G3: killed between making the file and its first commit, or between that and the log."""
    path = tmp_path / "w.db"
    path.touch(0o600)
    async with SQLiteStore(path) as store:
        await store.create(new("a"))
    with plain(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    async with SQLiteStore(path) as store:
        assert await store.load(key("a")) is not None
    assert rows_of(path, "PRAGMA journal_mode") == [("wal",)]


async def test_a_batch_of_packs_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """L-S1: killed at every one of its statements, COMMIT included; afterwards the same batch is written."""
    template = tmp_path / "template.db"
    async with SQLiteStore(template) as store:
        for n in range(30):
            await store.create(new(f"{n}", Delta(add=(coin(f"c{n}"),), reserve=(f"c{n}",))))
    many = 1
    for statement in range(100):
        path = tmp_path / f"{statement}.db"
        shutil.copyfile(template, path)
        with child("die", path, statement) as dying:
            told = line(dying)
            status = dying.wait(PATIENCE_S)
        async with SQLiteStore(path) as store:
            rows = {row.id: row for row in await store.list_actions(limit=99)}
            past = {name: await store.history(key(name)) for name in rows}
            reserved = await store.coins(state=CoinState.RESERVED, limit=99)
        ((entries,),) = rows_of(path, "SELECT count(*) FROM wa_history")
        assert entries == sum(map(len, past.values()))
        assert all(len(past[name]) == row.version + 1 for name, row in rows.items())
        if status == 0:
            many = int(told)
            assert (len(rows), len(reserved)) == (40, 20)
            assert {row.version for name, row in rows.items() if int(name) < 30} == {1}
            break
        assert status == -signal.SIGKILL
        assert (len(rows), len(reserved), {row.version for row in rows.values()}) == (30, 30, {0})
    assert statement == many > 10
