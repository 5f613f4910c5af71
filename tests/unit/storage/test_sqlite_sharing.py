"""A file that several workers share: what it costs, and what a file of one process does not pay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.unit.storage.sqlite_kit import at, count_commits, in_writer, key, new, rows_of, step
from wallet_actions.checkpoint import Status
from wallet_actions.errors import UsageError
from wallet_actions.fleet import Claim, Worker
from wallet_actions.store import open_store
from wallet_actions_storage import SQLiteStore
from wallet_actions_storage.sqlite.lanes import MOST_LANES

pytestmark = pytest.mark.anyio

LEASE = timedelta(seconds=30)
INDEXES = "SELECT name FROM sqlite_schema WHERE name = 'wa_actions_lanes'"


def asks(owner: str, seconds: float = 0, limit: int = 100) -> Claim:
    return Claim(owner, at(seconds), LEASE, {"pay": 1}, limit)


async def test_it_is_shared_by_its_url(tmp_path: Path) -> None:
    """And a file of one process has no index of lanes to pay for."""
    path = tmp_path / "w.db"
    for url, is_shared in ((f"sqlite:///{path}", False), (f"sqlite:///{path}?shared=true", True)):
        store = open_store(url)
        assert isinstance(store, SQLiteStore)
        assert store.is_shared is is_shared
        async with store:
            assert bool(rows_of(path, INDEXES)) is is_shared
    with pytest.raises(UsageError, match="exclusive or shared"):
        open_store(f"sqlite:///{path}?shared=true&exclusive=true")
    with pytest.raises(UsageError, match="shared is true or false"):
        open_store(f"sqlite:///{path}?shared=perhaps")


async def test_a_claim_that_finds_nothing_writes_nothing(tmp_path: Path) -> None:
    """Each worker asks twice a second; the others must not wait for it."""
    async with SQLiteStore(tmp_path / "w.db", shared=True) as store:
        await store.create(new("later", status=Status.PARKED, wake_at=at(50)))
        commits: list[str] = await in_writer(store, count_commits)
        for _ in range(5):
            assert await store.claim(asks("one")) == []
        assert commits == []
        assert len(await store.claim(asks("one", 50))) == 1
        assert len(commits) == 1


async def test_the_fleets_clock_is_the_machines(tmp_path: Path) -> None:
    """As SQLite tells it, so that a process with another one does no harm."""
    async with SQLiteStore(tmp_path / "w.db", shared=True) as store:
        before = datetime.now(UTC) - timedelta(milliseconds=1)
        now = await store.now()
        assert before <= now <= datetime.now(UTC) + timedelta(milliseconds=1)


async def test_who_does_not_share_keeps_the_lanes_right(tmp_path: Path) -> None:
    """A file goes from one to many and back: by an app of one process, and by a fleet."""
    path = tmp_path / "w.db"
    async with SQLiteStore(path, shared=True) as store:
        for name in ("a", "b", "c"):
            await store.create(new(name))
        await store.claim(asks("one", limit=1))
    async with SQLiteStore(path) as store:
        (held,) = [row for row in await store.list_actions() if row.owner is not None]
        free = [row.id for row in await store.list_actions() if row.owner is None]
        await store.save(step(held.id, held.version + 1, status=Status.PARKED, wake_at=at(9)))
        await store.finish(step(free[0], 1, status=Status.DONE))
        await store.create(new("d"))
    async with SQLiteStore(path, shared=True) as store:
        assert {row.id for row in await store.claim(asks("two", 5))} == {free[1], "d"}
        assert {row.id for row in await store.claim(asks("two", 9))} == {held.id}
        assert (await store.load(key(free[0]))).status is Status.DONE  # type: ignore[union-attr]
    assert rows_of(path, "PRAGMA integrity_check") == [("ok",)]


async def test_more_lanes_than_a_claim_walks(tmp_path: Path) -> None:
    """What is due is found at once, however many tenants have something that is not."""
    path = tmp_path / "w.db"
    async with SQLiteStore(path, shared=True) as store:
        await store.create(new("first"))
        columns = "kind, id, version, schema_version, state, phase, status, created_at, updated_at, wake_at, attempts"
        many = 4 * MOST_LANES
        await in_writer(
            store,
            lambda connection: connection.executemany(
                f"INSERT INTO wa_actions ({columns}, faults, cancel, tenant)"
                " VALUES ('pay', ?, 0, 1, '{}', 'p', 'parked', 0, 0, ?, 0, 0, 'none', ?)",
                [(f"{n}", 1 if n % 100 == 99 else 2**60, f"t{n:05}") for n in range(many)],
            ),
        )
        due = await store.claim(asks("one"))
        assert {row.id for row in due} == {"first", *(f"{n}" for n in range(99, many, 100))}
        assert await store.claim(asks("one")) == []


async def test_a_running_actions_write_moves_no_index_of_claims(tmp_path: Path) -> None:
    """ADR 3: the statement of a step names none of their columns."""
    from wallet_actions_storage.sqlite.actions import _GO_ON

    path = tmp_path / "w.db"
    async with SQLiteStore(path, shared=True) as store:
        await store.renew(Worker("one", "n", at(0), at(0)), at=at(0), lease=LEASE)
    named = {part.split(" =")[0].strip() for part in _GO_ON[1].split("SET ")[1].split(" WHERE")[0].split(",")}
    for index in ("wa_actions_lanes", "wa_actions_owned"):
        (sql,) = rows_of(path, f"SELECT sql FROM sqlite_schema WHERE name = '{index}'")[0]
        words = set(sql.replace("(", " ").replace(")", " ").replace(",", " ").split())
        assert not words & named, index
