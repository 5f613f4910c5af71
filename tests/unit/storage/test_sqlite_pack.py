"""Many writes by few statements: as each would have been by itself (L-S2, L-S4), and dearer for nobody."""

from __future__ import annotations

import random
from asyncio import create_task, gather, sleep, wait_for
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.storage.sqlite_kit import (
    PATIENCE_S,
    at,
    coin,
    count_commits,
    follow,
    in_one_batch,
    in_writer,
    key,
    new,
    plain,
    put,
    rows_of,
)
from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord, Status
from wallet_actions.errors import StatementError, StoreUnavailableError, UsageError, VersionConflictError
from wallet_actions.store import Created, Delta, NewAction, Statement, Store, Write
from wallet_actions_storage import SQLiteStore
from wallet_actions_storage.memory import MemoryStore
from wallet_actions_storage.sqlite import pack, reads
from wallet_actions_storage.sqlite.many import parts
from wallet_actions_storage.sqlite.pack import Move

pytestmark = pytest.mark.anyio

MANY = 140


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    async with SQLiteStore(tmp_path / "w.db", busy_timeout=timedelta(seconds=0.05)) as store:
        yield store


async def together(store: SQLiteStore, writes: Sequence[Write]) -> list[Any]:
    return await in_one_batch(store, [put(store, write) for write in writes])


async def one_by_one(store: Store, writes: Sequence[Write]) -> list[Any]:
    return [(await gather(put(store, write), return_exceptions=True))[0] for write in writes]


async def started(store: Store, count: int) -> None:
    for n in range(count):
        await store.create(new(f"{n}", Delta(add=(coin(f"c{n}"),), reserve=(f"c{n}",))))


async def everything(store: Store, count: int, *, has_history: bool) -> list[Any]:
    """All that a store tells, in a form that does not depend on where it keeps its rows."""
    rows = [replace(row, row=0) for row in await store.list_actions(limit=10_000)]
    past = [await store.history(key(f"{n}")) for n in range(count)] if has_history else []
    coins = await store.coins(limit=10_000)
    told = [await store.count_actions(), await store.last_write_at()]
    return [sorted(rows, key=lambda row: row.id), past, coins, *told]


def drawn(chance: random.Random, found: Checkpoint, time: float) -> Write:
    """Some write of an action, as a driver makes it, or one that comes late."""
    version = max(1, found.version + chance.choice((1, 1, 1, 1, 1, 1, 0, 2)))
    status = chance.choice((Status.RUNNING,) * 4 + (Status.PARKED, Status.PARKED, Status.DONE, Status.FAILED))
    following = replace(
        found,
        version=version,
        status=status,
        state=f'{{"n":{chance.randrange(9)}}}',
        phase=chance.choice(("unpaid", "paid")),
        updated_at=at(time + chance.choice((0, 0, 0, -150))),
        wake_at=at(time + 9) if status is Status.PARKED and chance.random() < 0.7 else None,
        attempts=chance.choice((0, 0, 3)),
        faults=chance.choice((0, 0, 2)),
        error=ErrorRecord("TransientError", "no answer") if chance.random() < 0.15 else None,
        result='"r"' if status is Status.DONE else None,
    )
    notes = ("a note",) if chance.random() < 0.1 else ()
    cancel = CancelState.ACCEPTED if chance.random() < 0.05 else None
    return Write(version - 1, following, chance.choice(("next", "park", "done")), notes, cancel=cancel)


@pytest.mark.parametrize(("seed", "has_history"), [*((seed, True) for seed in range(12)), (12, False), (13, False)])
async def test_many_together_are_written_as_one_by_one(tmp_path: Path, seed: int, has_history: bool) -> None:
    """G3: the same answers, rows, history, coins and counts as in the store that writes each by itself."""
    chance = random.Random(seed)
    async with SQLiteStore(tmp_path / "w.db", history=has_history) as packed, MemoryStore() as single:
        await started(packed, MANY)
        await started(single, MANY)
        for turn in range(6):
            for n in range(MANY):
                if chance.random() < 0.05:
                    asked = [await store.request_cancel(key(f"{n}"), at(100 * turn)) for store in (packed, single)]
                    assert asked[0] == asked[1]
            chosen = chance.sample(range(MANY), chance.randrange(1, MANY + 1))
            writes: dict[Store, list[Write]] = {packed: [], single: []}
            for n in chosen:
                draw = chance.random()
                for store, mine in writes.items():
                    found = await store.load(key(f"{n}"))
                    assert found is not None
                    mine.append(drawn(random.Random(draw), found, 100 * turn + 60))
            told, expected = await together(packed, writes[packed]), await one_by_one(single, writes[single])
            assert [_plain(one) for one in told] == [_plain(one) for one in expected]
            seen = [await everything(store, MANY, has_history=has_history) for store in (packed, single)]
            assert seen[0] == seen[1]
            # Nor is anything kept that nobody is told of.
            ((entries,),) = rows_of(tmp_path / "w.db", "SELECT count(*) FROM wa_history")
            assert entries == sum([len(await packed.history(key(f"{n}"))) for n in range(MANY)])


def _plain(answer: Any) -> Any:
    return type(answer) if isinstance(answer, BaseException) else answer


@pytest.mark.parametrize("count", [*range(1, 20), 31, 63, 64, 65, 127, 128, 140])
async def test_any_number_of_writes_fits(store: SQLiteStore, count: int) -> None:
    await started(store, count)
    writes = [await follow(store, f"{n}", state=f'{{"n":{n}}}') for n in range(count)]
    ran: list[str] = []
    await in_writer(store, lambda connection: connection.set_trace_callback(ran.append))

    assert await together(store, writes) == [(1, False)] * count
    assert len(ran) <= 4 + 2 * len(list(parts(writes))), [sql[:60] for sql in ran]

    for n in range(count):
        found = await store.load(key(f"{n}"))
        assert found is not None
        assert (found.version, found.state) == (1, f'{{"n":{n}}}')
        assert [entry.version for entry in await store.history(key(f"{n}"))] == [0, 1]


@pytest.mark.parametrize("has_history", [True, False])
async def test_many_take_few_statements(tmp_path: Path, has_history: bool) -> None:
    async with SQLiteStore(tmp_path / "w.db", history=has_history) as store:
        await started(store, 100)
        ran: list[str] = []
        await in_writer(store, lambda connection: connection.set_trace_callback(ran.append))
        writes = [await follow(store, f"{n}") for n in range(90)]
        writes += [await follow(store, f"{n}", status=Status.DONE) for n in range(90, 100)]

        assert await together(store, writes) == [(1, False)] * 100

        assert len(ran) <= 20, [sql[:60] for sql in ran]


async def test_of_several_writers_of_one_action_one_wins(store: SQLiteStore) -> None:
    """L-S2: both wait for the same batch, and both read the same version."""
    await started(store, 10)
    writes = [await follow(store, f"{n}", state=f'{{"n":{turn}}}') for turn in range(3) for n in range(10)]

    told = await together(store, writes)

    for n in range(10):
        of_one = [told[turn * 10 + n] for turn in range(3)]
        assert of_one.count((1, False)) == 1
        assert sum(isinstance(one, VersionConflictError) for one in of_one) == 2
        found = await store.load(key(f"{n}"))
        assert found is not None
        assert found.version == 1
        assert found.state == f'{{"n":{of_one.index((1, False))}}}'
        assert [entry.version for entry in await store.history(key(f"{n}"))] == [0, 1]


async def test_a_late_writer_among_many_is_refused_alone(store: SQLiteStore) -> None:
    """L-S4: it neither writes nor keeps the others from being written."""
    await started(store, 40)
    late = await follow(store, "7", state='{"n":7}')
    await store.save(await follow(store, "7", state='{"n":0}'))
    writes = [late if n == 7 else await follow(store, f"{n}") for n in range(40)]
    ran: list[str] = []
    await in_writer(store, lambda connection: connection.set_trace_callback(ran.append))

    told = await together(store, writes)

    assert [n for n, one in enumerate(told) if isinstance(one, VersionConflictError)] == [7]
    assert told.count((1, False)) == 39
    assert len(ran) <= 20, [sql[:60] for sql in ran]
    found = await store.load(key("7"))
    assert found is not None
    assert (found.version, found.state) == (1, '{"n":0}')


async def test_an_action_that_came_to_anothers_row_is_not_taken_for_it(store: SQLiteStore) -> None:
    """G9: a row may be given away once its action was pruned."""
    await started(store, 3)
    (a, b), (c, _) = [[await follow(store, f"{n}") for n in pair] for pair in ((0, 1), (2, 0))]
    astray = replace(a, checkpoint=replace(a.checkpoint, row=c.checkpoint.row))

    assert await together(store, [astray, b]) == [(1, False), (1, False)]

    rows = {row.id: row.version for row in await store.list_actions(limit=10)}
    assert rows == {"0": 1, "1": 1, "2": 0}


async def test_what_is_parked_is_parked_on_and_ended_by_many(store: SQLiteStore) -> None:
    """A poll that finds nothing new, the most frequent write of a wallet that waits."""
    await started(store, 20)
    for turn in (1, 2):
        parked = [await follow(store, f"{n}", status=Status.PARKED, wake_at=at(turn * 10)) for n in range(20)]
        assert await together(store, parked) == [(turn, False)] * 20
    assert [wake.wake_at for wake in await store.wakes(until=at(99), after=None, limit=99)] == [at(20)] * 20

    ended = [await follow(store, f"{n}", status=Status.DONE, wake_at=None, result='"r"') for n in range(20)]
    assert await together(store, ended) == [(3, False)] * 20

    assert {row.result for row in await store.list_actions(limit=99)} == {'"r"'}
    assert not await store.wakes(until=at(99), after=None, limit=99)
    assert {balance.reserved for balance in await store.balances()} == {0}


async def test_a_statement_that_fails_in_the_middle_of_many_is_undone(store: SQLiteStore, tmp_path: Path) -> None:
    """L-S1: the history was appended to, and the actions could not be updated."""
    await started(store, 30)
    with plain(tmp_path / "w.db") as connection:
        connection.execute(
            "CREATE TRIGGER broken BEFORE UPDATE OF state ON wa_actions WHEN old.id = '25'"
            " BEGIN SELECT RAISE(ABORT, 'the disk is gone'); END"
        )
    writes = [await follow(store, f"{n}") for n in range(30)]

    told = await together(store, writes)

    # Tried once more, each guarded by itself: only the one that cannot be written is refused.
    assert [n for n, one in enumerate(told) if one != (1, False)] == [25]
    assert isinstance(told[25], UsageError)
    assert len(rows_of(tmp_path / "w.db", "SELECT 1 FROM wa_history WHERE version = 1")) == 29


@pytest.mark.parametrize("shared", [False, True])
async def test_a_step_of_many_moves_no_index(tmp_path: Path, shared: bool) -> None:
    """ADR 3: of all pages only those of the actions and of the history go to the log."""
    path = tmp_path / "w.db"
    async with SQLiteStore(path, shared=shared) as store:
        await started(store, 6)
        writes = [await follow(store, f"{n}") for n in range(6)]
        commits = await in_writer(store, count_commits)
        await in_writer(store, lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())

        assert await together(store, writes) == [(1, False)] * 6

        log = path.with_name("w.db-wal").read_bytes()
        size = int.from_bytes(log[8:12], "big") + 24
        pages = {int.from_bytes(log[start : start + 4], "big") for start in range(32, len(log), size)}
        roots = dict(rows_of(path, "SELECT rootpage, name FROM sqlite_schema"))
        assert len(commits) == 1
        assert {roots[page] for page in pages if page in roots} <= {"wa_actions", "wa_history", "wa_clock"}


@pytest.mark.parametrize("size", [1, 64])
async def test_coins_of_many_are_found_by_index(store: SQLiteStore, size: int) -> None:
    sql = pack.release_statement(size)
    plan = await in_writer(
        store, lambda connection: connection.execute(f"EXPLAIN QUERY PLAN {sql}", ("a", "pay") * size).fetchall()
    )
    lines = [line[3] for line in plan]
    (held,) = [line for line in lines if line.startswith("SEARCH held")]
    assert held.endswith("wa_coins_reserved (holder_id=? AND holder_kind=?)")  # newer ones say COVERING
    assert "SEARCH wa_coins USING PRIMARY KEY (id=?)" in lines


@pytest.mark.parametrize("move", list(Move))
def test_a_statement_names_each_column_once(move: Move) -> None:
    given, emptied = move.value
    assert not set(given) & set(emptied)
    assert pack.update_statement(move, 2, has_history=False).count("?") == 2 * (8 + len(given))
    assert pack.update_statement(move, 2, has_history=True).count("?") == 2 * (9 + len(given))


# Starts


async def begin_together(store: SQLiteStore, starts: Sequence[NewAction]) -> list[Created]:
    return await in_one_batch(store, [store.create(one) for one in starts])


def drawn_start(chance: random.Random, id: str, time: float) -> NewAction:
    """Some start: most often nothing but a checkpoint."""
    status = chance.choice((Status.RUNNING,) * 5 + (Status.PARKED, Status.DONE))
    one = new(id, status=status, time=at(time), wake_at=at(time + 5) if status is Status.PARKED else None)
    one = replace(one, checkpoint=replace(one.checkpoint, tenant=chance.choice(("", "t1"))))
    if chance.random() < 0.1:
        one = replace(one, notes=("a note",))
    if chance.random() < 0.1:
        one = replace(one, delta=Delta(start=(new(f"child of {id}", time=at(time)),), counters=(("n", 3),)))
    if chance.random() < 0.1:
        one = replace(one, checkpoint=replace(one.checkpoint, error=ErrorRecord("E", "why"), attempts=2))
    return one


@pytest.mark.parametrize(("seed", "has_history"), [(0, True), (1, True), (2, True), (3, True), (4, False)])
async def test_many_are_started_together_as_one_by_one(tmp_path: Path, seed: int, has_history: bool) -> None:
    """G6: those that exist already are left alone and told as they stand."""
    chance = random.Random(seed)
    async with SQLiteStore(tmp_path / "w.db", history=has_history) as packed, MemoryStore() as single:
        for turn in range(5):
            ids = chance.sample(range(MANY), chance.randrange(1, MANY))
            starts = [drawn_start(chance, f"{n}", 10 * turn) for n in ids]
            told = await begin_together(packed, starts)
            expected = [await single.create(one) for one in starts]
            assert [_as_told(one) for one in told] == [_as_told(one) for one in expected]
            assert all([await packed.load(one.checkpoint.key) == one.checkpoint for one in told])
            seen = [await everything(store, MANY, has_history=has_history) for store in (packed, single)]
            assert seen[0] == seen[1]


def _as_told(created: Created) -> tuple[Checkpoint, bool]:
    return replace(created.checkpoint, row=0), created.is_new


async def test_of_several_starts_of_one_action_one_is_new(store: SQLiteStore) -> None:
    told = await begin_together(store, [new(f"{n % 10}", time=at(n)) for n in range(40)])

    assert sum(created.is_new for created in told) == 10
    assert len({created.checkpoint.row for created in told}) == 10
    assert [created.checkpoint for created in told[10:20]] == [created.checkpoint for created in told[:10]]
    assert len(await store.history(key("3"))) == 1


async def test_many_starts_take_few_statements(store: SQLiteStore) -> None:
    """Also where there is more history than actions, so that their rows have other numbers."""
    await started(store, 30)
    for n in range(7):
        await store.save(await follow(store, f"{n}"))
    ran: list[str] = []
    await in_writer(store, lambda connection: connection.set_trace_callback(ran.append))

    told = await begin_together(store, [new(f"{n}", time=at(1)) for n in range(30, 130)])
    assert all(created.is_new for created in told)
    assert len(ran) <= 15, [sql[:60] for sql in ran]

    ran.clear()
    told = await begin_together(store, [new(f"{n}", time=at(1)) for n in range(128, 200)])
    assert [created.is_new for created in told] == [False] * 2 + [True] * 70
    assert len(ran) <= 15, [sql[:60] for sql in ran]


async def test_starts_and_steps_share_a_commit(store: SQLiteStore) -> None:
    await started(store, 20)
    writes = [await follow(store, f"{n}") for n in range(20)]
    commits = await in_writer(store, count_commits)

    starts = [store.create(new(f"{n}")) for n in range(20, 40)]
    told = await in_one_batch(store, [*(put(store, write) for write in writes), *starts])

    assert told[:20] == [(1, False)] * 20
    assert all(created.is_new for created in told[20:])
    assert len(commits) == 1


async def test_what_was_packed_is_written_again_where_an_apps_statement_loses_the_transaction(
    store: SQLiteStore, tmp_path: Path
) -> None:
    """L-S1: a statement that rolls everything back takes its own unit down, and no start, step or end beside it."""
    await started(store, 20)
    await store.create(new("exists", time=at(3)))
    with plain(tmp_path / "w.db") as connection:
        connection.execute("CREATE TABLE app (n INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO app VALUES (1)")
    bad = Delta(statements=(Statement("INSERT OR ROLLBACK INTO app VALUES (1)"),))
    writes = [await follow(store, f"{n}") for n in range(10)]
    writes += [await follow(store, f"{n}", status=Status.DONE) for n in range(10, 19)]
    losing = replace(await follow(store, "19"), delta=bad)

    starts = [store.create(one) for one in (new("new", time=at(1)), new("exists", time=at(9)))]
    told = await in_one_batch(store, [*starts, *(put(store, write) for write in [*writes, losing])])

    assert [created.is_new for created in told[:2]] == [True, False]
    assert told[2:-1] == [(1, False)] * 19
    assert isinstance(told[-1], StatementError)
    assert (await store.count_actions())["pay", Status.DONE] == 9
    assert await store.last_write_at() == at(3)
    ((entries,),) = rows_of(tmp_path / "w.db", "SELECT count(*) FROM wa_history")
    assert entries == 20 + 2 + 19


async def test_two_stores_on_one_file_pack_in_turns(tmp_path: Path) -> None:
    """L-S4: a park and an end leave the worker that drove them, and a late one of the other store is refused."""
    path = tmp_path / "w.db"
    async with SQLiteStore(path, shared=True) as one, SQLiteStore(path, shared=True) as other:
        told = await begin_together(one, [_owned(f"{n}") for n in range(30)])
        assert all(created.is_new for created in told)
        late = [await follow(one, f"{n}") for n in range(30)]
        changes: list[dict[str, Any]] = [
            {"status": Status.PARKED, "wake_at": at(5)},
            {"status": Status.DONE},
            {"state": '{"n":2}'},
        ]
        writes = [await follow(other, f"{n}", **changes[n % 3]) for n in range(30)]
        assert await together(other, writes) == [(1, False)] * 30
        assert all(isinstance(refused, VersionConflictError) for refused in await together(one, late))
        for row in await one.list_actions(limit=99):
            assert (row.owner is None) == (row.status is not Status.RUNNING)
            assert (row.lease_until is None) == (row.status is not Status.RUNNING)
        more = await begin_together(one, [new(f"{n}") for n in range(25, 60)])
        assert [created.is_new for created in more] == [False] * 5 + [True] * 30


def _owned(id: str) -> NewAction:
    one = new(id)
    return replace(one, checkpoint=replace(one.checkpoint, owner="w1", lease_until=at(60)))


# Loads


async def test_many_are_loaded_together_each_for_itself(store: SQLiteStore) -> None:
    """More than a statement takes, some twice, some that nobody knows, and some while the reader is at work."""
    await started(store, MANY)
    names = [f"{n}" for n in range(MANY)] + ["nobody", "7", "7"]
    calls = [create_task(store.load(key(name))) for name in names]
    await sleep(0)
    calls += [create_task(store.load(key(name))) for name in names]
    found = await gather(*calls)
    assert [None if row is None else row.id for row in found] == [None if n == "nobody" else n for n in names] * 2


async def test_many_are_loaded_by_key(store: SQLiteStore) -> None:
    parameters = (None,) * (2 * reads.MANY)
    plan = await in_writer(
        store, lambda connection: connection.execute(f"EXPLAIN QUERY PLAN {reads._LOAD_MANY}", parameters).fetchall()
    )
    lines = [line[3] for line in plan]
    assert [line for line in lines if "wa_actions" in line] == [
        line for line in lines if line.startswith("SEARCH") and line.endswith("(kind=? AND id=?)")
    ]


async def test_a_database_that_was_closed_says_so_to_each_load(store: SQLiteStore) -> None:
    database = store._database
    assert database is not None
    await database.close()
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await wait_for(database.load(key("0")), PATIENCE_S)
