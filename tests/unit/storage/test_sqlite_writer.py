"""Group commit: one writer, one transaction for all who wait, each answered by itself."""

from __future__ import annotations

import logging
import sqlite3
from asyncio import CancelledError, Task, create_task, gather, sleep, wait, wait_for
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from threading import Event
from typing import cast

import pytest
from anyio.to_thread import run_sync

from tests.unit.storage.sqlite_kit import (
    PATIENCE_S,
    SECRET,
    T0,
    Gate,
    at,
    checkpoint,
    coin,
    count_commits,
    in_writer,
    key,
    new,
    plain,
    rows_of,
    step,
)
from wallet_actions.checkpoint import Status
from wallet_actions.errors import (
    InvariantError,
    ReservationError,
    StoreUnavailableError,
    UsageError,
    VersionConflictError,
)
from wallet_actions.store import Created, Delta, NewAction, Saved, Statement, Store, Write
from wallet_actions_storage import SQLiteStore

pytestmark = pytest.mark.anyio

LARGEST_BATCH = 512


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    async with SQLiteStore(tmp_path / "w.db", busy_timeout=timedelta(seconds=0.05)) as store:
        yield store


async def started(store: Store, count: int) -> None:
    await gather(*(store.create(new(f"{n}")) for n in range(count)))


async def versions(store: Store) -> list[int]:
    return [row.version for row in await store.list_actions(limit=10_000)]


async def test_those_who_wait_share_a_commit(store: SQLiteStore) -> None:
    """400 saves at once need a handful of flushes, not 400."""
    await started(store, 400)
    commits = await in_writer(store, count_commits)
    for version in (1, 2, 3):
        answers = await gather(*(store.save(step(f"{n}", version)) for n in range(400)))
        assert answers == [(version, False)] * 400
    assert 3 <= len(commits) <= 9


async def test_an_answer_is_kept_back_for_no_statement_of_an_app(store: SQLiteStore) -> None:
    """What is durable is told just before the next flush, but not once that may take who knows how long."""
    await started(store, LARGEST_BATCH + 1)
    go_on = Event()
    hold = partial(Connection.create_function, name="hold", narg=0, func=lambda: go_on.wait(PATIENCE_S))
    await in_writer(store, hold)
    gate = Gate(store)
    first = [create_task(store.save(step(f"{n}", 1))) for n in range(LARGEST_BATCH)]
    delta = Delta(statements=(Statement("SELECT hold()"),))
    last = create_task(store.save(step(f"{LARGEST_BATCH}", 1, delta)))
    await sleep(0)
    await gate.open()
    assert await wait_for(gather(*first), PATIENCE_S) == [(1, False)] * LARGEST_BATCH
    assert not last.done()
    go_on.set()
    assert await last == (1, False)


async def test_answers_come_in_turn_around_a_lent_connection(store: SQLiteStore) -> None:
    """L-B1: units before, between and after transactions of the app; none is written inside of one, or forgotten."""
    await started(store, 60)
    gate = Gate(store)
    calls: list[Task[object]] = []
    for n in range(60):
        calls.append(create_task(store.save(step(f"{n}", 1))))
        if n % 7 == 3:
            calls.append(create_task(_borrow(store)))
    await sleep(0)
    await gate.open()
    answers = await wait_for(gather(*calls), PATIENCE_S)
    assert answers.count((1, False)) == 60
    assert await versions(store) == [1] * 60


async def _borrow(store: SQLiteStore) -> None:
    async with store.transaction() as conn:
        before = await (await conn.execute("SELECT sum(version) FROM wa_actions")).fetchone()
        await sleep(0)
        assert await (await conn.execute("SELECT sum(version) FROM wa_actions")).fetchone() == before


async def test_a_step_that_was_asked_to_cancel_meanwhile_is_told(store: SQLiteStore) -> None:
    """L-D11: with its row known, as it is from the second step of a drive on; and its past is as it would be."""
    created = await store.create(new("a"))
    row = created.checkpoint.row
    assert row > 0
    assert await store.save(_at_row(step("a", 1, time=at(10)), row)) == (1, False)
    assert await store.request_cancel(key("a"), at(11))
    assert await store.save(_at_row(step("a", 2, time=at(5)), row)) == (2, True)
    with pytest.raises(VersionConflictError):
        await store.save(_at_row(step("a", 2, time=at(20)), row))
    past = await store.history(key("a"))
    assert [(entry.version, entry.at) for entry in past] == [(0, at(0)), (1, at(10)), (2, at(10))]


def _at_row(write: Write, row: int) -> Write:
    return replace(write, checkpoint=replace(write.checkpoint, row=row))


async def test_a_read_that_fails_fails_alone(store: SQLiteStore) -> None:
    """Those that are asked for together are read together, and each is answered by itself."""
    await started(store, 3)
    keys = [key("0"), key("\ud800"), key("2"), key("nobody")]
    found = await gather(*map(store.load, keys), return_exceptions=True)
    assert isinstance(found[1], StoreUnavailableError)
    assert [one is not None and not isinstance(one, BaseException) for one in found] == [True, False, True, False]


async def test_a_batch_is_bounded(store: SQLiteStore) -> None:
    await started(store, 1300)
    commits = await in_writer(store, count_commits)
    await gather(*(store.save(step(f"{n}", 1)) for n in range(1300)))
    assert 3 <= len(commits) <= 6


async def test_one_transition_is_one_commit(store: SQLiteStore) -> None:
    """N transitions make N + 1 commits, start and end included."""
    commits = await in_writer(store, count_commits)
    await store.create(new("a"))
    for version in range(1, 10):
        await store.save(step("a", version))
    await store.finish(step("a", 10, status=Status.DONE))
    assert len(commits) == 11


async def test_a_conflict_among_plain_saves_fails_alone(store: SQLiteStore) -> None:
    """L-B1, L-S4: in one transaction with 200 others, which commit."""
    await started(store, 200)
    gate = Gate(store)
    saves = [create_task(store.save(step(f"{n}", 2 if n % 10 == 0 else 1))) for n in range(200)]
    await sleep(0)
    await gate.open()
    answers = await gather(*saves, return_exceptions=True)
    for n, answer in enumerate(answers):
        assert isinstance(answer, VersionConflictError) if n % 10 == 0 else answer == (1, False)
    assert await versions(store) == [int(n % 10 != 0) for n in range(200)]


async def test_a_value_that_cannot_be_stored_fails_alone(store: SQLiteStore) -> None:
    """L-B1: half a unit may stand by then, which is no more to be seen than its neighbours are harmed."""
    await started(store, 6)
    lone = "\ud800" + SECRET
    bad = [
        step("0", 1, state=lone),
        step("1", 1, Delta(counters=(("n", 2**70),))),
        step("2", 1, Delta(add=(coin("c"), coin("\ud800")))),
    ]
    answers = await gather(
        *map(store.save, bad), *(store.save(step(f"{n}", 1)) for n in (3, 4)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [UsageError] * 3 + [Saved] * 2
    for answer in answers[:3]:
        assert isinstance(answer, UsageError)
        assert SECRET not in repr((answer, answer.__cause__, answer.__context__))
    assert await versions(store) == [0, 0, 0, 1, 1, 0]
    assert [len(await store.history(key(f"{n}"))) for n in range(6)] == [1, 1, 1, 2, 2, 1]
    assert (await store.coins(), await store.counters()) == ([], {})


async def test_a_value_of_a_wrong_type_is_no_statement_of_the_app(store: SQLiteStore) -> None:
    """Without any delta: what the table refuses is the driver's mistake, and said to be that."""
    await started(store, 1)
    wrong = replace(step("0", 1), checkpoint=replace(checkpoint("0", 1), attempts=cast("int", "many")))
    with pytest.raises(UsageError, match="does not take a value of this unit"):
        await store.save(wrong)
    assert await versions(store) == [0]
    assert await store.save(step("0", 1)) == (1, False)


async def test_a_row_is_only_where_to_look_first(store: SQLiteStore) -> None:
    """L-S3: a checkpoint whose row number is that of another action is written to its own row, or not at all."""
    await store.create(new("0"))
    await store.create(NewAction(replace(checkpoint("0"), kind="send")))
    await store.create(new("1"))
    pay, send, other = await store.list_actions()
    for kept, row in ((send, pay.row), (other, pay.row), (pay, send.row), (send, 99)):
        expected = await store.load(kept.key)
        assert expected is not None
        moved = replace(expected, version=expected.version + 1, row=row, phase=f"of {kept.key}")
        assert await store.save(Write(expected.version, moved, "next")) == (expected.version + 1, False)
    assert [(one.kind, one.id, one.version, one.phase) for one in await store.list_actions()] == [
        ("pay", "0", 1, "of pay 0"),
        ("send", "0", 2, "of send 0"),
        ("pay", "1", 1, "of pay 1"),
    ]


async def test_deltas_that_fail_leave_their_neighbours(store: SQLiteStore) -> None:
    """L-B1, L-C2: in one transaction, in any order, each unit over what those before it wrote."""
    await store.create(new("bank", Delta(add=tuple(coin(f"c{n}") for n in range(10)))))
    await started(store, 30)
    gate = Gate(store)
    deltas = [
        (Delta(reserve=(f"c{n % 10}",)), Delta(spend=("c0",), add=(coin(f"d{n}"),)))[n % 7 == 6] for n in range(30)
    ]
    saves = [create_task(store.save(step(f"{n}", 1, deltas[n]))) for n in range(30)]
    await sleep(0)
    await gate.open()
    answers = await gather(*saves, return_exceptions=True)
    kinds = [type(answer) for answer in answers]
    assert kinds.count(Saved) == 10
    assert kinds.count(InvariantError) == 4
    assert kinds.count(ReservationError) == 16
    held = {found.id: found.holder for found in await store.coins()}
    winners = {f"c{n % 10}": key(f"{n}") for n, answer in enumerate(answers) if isinstance(answer, Saved)}
    assert held == winners


async def test_cancelled_callers_leave_nothing_open(store: SQLiteStore, tmp_path: Path) -> None:
    """L-B1: before their transaction, in the middle of it, and after; each unit wholly or not, the others untouched."""
    await started(store, 40)
    for version in range(1, 5):
        gate = Gate(store)
        saves = [create_task(store.save(step(f"{n}", version, Delta(facts=())))) for n in range(40)]
        for _ in range(version):
            await sleep(0)
        for save in saves[::2]:
            save.cancel()
        opening = create_task(gate.open())
        await sleep(0)
        for save in saves[::4]:
            save.cancel()
        answers = await gather(*saves, return_exceptions=True)
        await opening
        assert all(isinstance(answer, CancelledError) for answer in answers[::2])
        assert answers[1::2] == [(version, False)] * 20
        # Those whose driver was cancelled may have been written or not: they are brought to the same version.
        for n, row in enumerate(await store.list_actions()):
            if row.version < version:
                assert await store.save(step(f"{n}", version)) == (version, False)
    assert not await in_writer(store, lambda connection: connection.in_transaction)
    assert rows_of(tmp_path / "w.db", "SELECT count(*) FROM wa_history") == [(40 * 5,)]


async def test_a_cancelled_caller_in_the_middle_of_its_transaction(store: SQLiteStore) -> None:
    """L-B1: the transaction goes on without it, and commits."""
    await store.create(new("a"))
    inside, go_on = Event(), Event()

    def hold(sql: str) -> None:
        if sql.startswith("UPDATE wa_actions") and not inside.is_set():
            inside.set()
            go_on.wait(PATIENCE_S)

    await in_writer(store, lambda connection: connection.set_trace_callback(hold))
    save = create_task(store.save(step("a", 1)))
    await run_sync(inside.wait, PATIENCE_S)
    save.cancel()
    with pytest.raises(CancelledError):
        await save
    go_on.set()
    assert await store.save(step("a", 2)) == (2, False)


async def test_a_dead_writer_answers_all(store: SQLiteStore) -> None:
    """L-B1: those who wait, and those who come later, at once and with an error; what they wanted is not written."""
    await started(store, 3)
    gate = Gate(store)
    waiting = [create_task(store.save(step(f"{n}", 1))) for n in range(2)]
    await sleep(0)
    lent = create_task(_enter(store))
    more = create_task(store.save(step("2", 1)))
    await sleep(0)
    assert store._database is not None
    assert store._database.writer is not None
    store._database.writer._task.cancel()
    answers = await wait_for(gather(*waiting, lent, more, return_exceptions=True), PATIENCE_S)
    assert [type(answer) for answer in answers] == [StoreUnavailableError] * 4
    for late in (store.save(step("2", 1)), store.allocate("n"), _enter(store)):
        with pytest.raises(StoreUnavailableError):
            await wait_for(late, PATIENCE_S)
    await gate.open()
    await in_writer(store, lambda _: None)  # what was handed over before has had its turn
    assert await versions(store) == [0, 0, 0]


async def test_a_writer_that_breaks_answers_all(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """L-B1: whatever the reason."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wallet_actions_storage.sqlite.batch.BatchWriter.write", broken)
    with caplog.at_level(logging.CRITICAL + 1):
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                await wait_for(store.create(new("a")), PATIENCE_S)


async def test_a_writer_that_dies_under_a_transaction_leaves_nothing_open(store: SQLiteStore, tmp_path: Path) -> None:
    """L-B1: the app is told at the end of its block, and the file is free for others at once."""
    with pytest.raises(StoreUnavailableError):  # noqa: PT012
        async with store.transaction() as conn:
            await conn.execute("CREATE TABLE app (a)")
            assert store._database is not None
            assert store._database.writer is not None
            store._database.writer._task.cancel()
            await wait([store._database.writer._task])
            with plain(tmp_path / "w.db") as other:
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")
    assert rows_of(tmp_path / "w.db", "SELECT name FROM sqlite_schema WHERE name = 'app'") == []


async def _enter(store: SQLiteStore) -> None:
    async with store.transaction():
        pytest.fail("a transaction of a dead writer was opened")


async def test_closing_writes_what_is_queued(tmp_path: Path) -> None:
    """G7, L-D16: all who were accepted are answered."""
    async with SQLiteStore(tmp_path / "w.db") as store:
        gate = Gate(store)
        creates = [create_task(store.create(new(f"{n}"))) for n in range(1000)]
        await sleep(0)
        opening = create_task(gate.open())
    await opening
    assert all(isinstance(answer, Created) for answer in await gather(*creates))
    assert rows_of(tmp_path / "w.db", "SELECT count(*) FROM wa_actions") == [(1000,)]


async def test_a_busy_file_is_told_in_time(store: SQLiteStore, tmp_path: Path) -> None:
    """L-B2: another connection that holds the file longer than our patience; afterwards the same unit goes through."""
    await started(store, 2)
    with plain(tmp_path / "w.db") as other:
        other.execute("BEGIN IMMEDIATE")
        answers = await gather(*(store.save(step(f"{n}", 1)) for n in range(2)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailableError] * 2
        assert "busy" in str(answers[0])
        with pytest.raises(StoreUnavailableError, match="busy"):
            async with store.transaction():
                pytest.fail("a transaction was opened")
        other.execute("ROLLBACK")
    assert await gather(*(store.save(step(f"{n}", 1)) for n in range(2))) == [(1, False)] * 2


async def test_a_busy_file_is_waited_for(tmp_path: Path) -> None:
    """L-B2: the whole unit is tried again until the other is done."""
    async with SQLiteStore(tmp_path / "w.db", busy_timeout=timedelta(seconds=PATIENCE_S)) as store:
        await started(store, 1)
        with plain(tmp_path / "w.db") as other:
            other.execute("BEGIN IMMEDIATE")
            save = create_task(store.save(step("0", 1)))
            for _ in range(20):
                await store.load(key("0"))
            assert not save.done()
            other.execute("ROLLBACK")
            assert await wait_for(save, PATIENCE_S) == (1, False)


async def test_a_full_disk_is_told(store: SQLiteStore, tmp_path: Path) -> None:
    """G1: all of the batch are told what to do, nothing of it stands, and with room again it goes through."""
    await started(store, 20)
    pages = await in_writer(store, lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await in_writer(store, lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone())
    large = "x" * 3000
    answers = await gather(*(store.save(step(f"{n}", 1, state=large)) for n in range(20)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailableError] * 20
    assert "make room" in str(answers[0])
    assert await versions(store) == [0] * 20
    assert rows_of(tmp_path / "w.db", "SELECT count(*) FROM wa_history") == [(20,)]
    await in_writer(store, lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchone())
    assert await store.save(step("0", 1, state=large)) == (1, False)


async def test_a_full_disk_is_no_fault_of_a_unit_whose_neighbour_is_at_fault(store: SQLiteStore) -> None:
    """Units are guarded one by one then, and still none is told that its own values were the matter."""
    await started(store, 20)
    pages = await in_writer(store, lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await in_writer(store, lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone())
    states = ["\ud800", *["x" * 3000] * 19]
    saves = (store.save(step(f"{n}", 1, state=state)) for n, state in enumerate(states))
    answers = await gather(*saves, return_exceptions=True)
    assert [type(answer) for answer in answers[1:]] == [StoreUnavailableError] * 19
    assert await versions(store) == [0] * 20


async def test_a_file_that_cannot_be_written_is_told(store: SQLiteStore) -> None:
    await started(store, 1)
    await in_writer(store, lambda connection: connection.execute("PRAGMA query_only = ON").fetchall())
    with pytest.raises(StoreUnavailableError, match="cannot be written"):
        await store.save(step("0", 1))
    await in_writer(store, lambda connection: connection.execute("PRAGMA query_only = OFF").fetchall())
    assert await store.save(step("0", 1)) == (1, False)


async def test_a_commit_that_fails_fails_all(store: SQLiteStore) -> None:
    """G7: nobody is told that it is durable."""
    await started(store, 5)

    def refuse(action: int, first: str | None, *_: object) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION and first == "COMMIT" else sqlite3.SQLITE_OK

    before = await versions(store)
    await in_writer(store, lambda connection: connection.set_authorizer(refuse))
    answers = await gather(*(store.save(step(f"{n}", 1)) for n in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailableError] * 5
    assert await versions(store) == before
    await in_writer(store, lambda connection: connection.set_authorizer(None))
    assert await store.save(step("0", 1)) == (1, False)


async def test_nothing_that_is_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither by us nor by aiosqlite, which logs each call with its arguments."""
    with caplog.at_level(logging.DEBUG):
        async with SQLiteStore(tmp_path / "w.db") as store:
            await _write_secrets(store)
    assert any(record.name == "aiosqlite" for record in caplog.records)
    assert SECRET not in caplog.text


async def _write_secrets(store: SQLiteStore) -> None:
    await store.create(new("a", Delta(add=(coin("c"),)), state=SECRET))
    await store.save(step("a", 1, state=SECRET))
    await gather(store.save(step("a", 1, state=SECRET)), return_exceptions=True)
    assert (await store.coins())[0].payload == SECRET
    async with store.transaction() as conn:
        await conn.execute("CREATE TABLE app (a)")
        await conn.execute("INSERT INTO app VALUES (?)", (SECRET,))


async def test_without_a_history_none_is_written(tmp_path: Path) -> None:
    """What was written before is still told."""
    path = tmp_path / "w.db"
    async with SQLiteStore(path) as store:
        await store.create(new("a"))
        await store.save(step("a", 1))
    async with SQLiteStore(path, history=False) as store:
        await store.save(step("a", 2))
        await store.create(new("b"))
        await store.finish(step("b", 1, status=Status.DONE))
        assert [entry.version for entry in await store.history(key("a"))] == [0, 1]
        assert await store.history(key("b")) == []
    async with SQLiteStore(path) as store:
        await store.save(step("a", 3))
        assert [entry.version for entry in await store.history(key("a"))] == [0, 1, 3]
        await store.finish(step("a", 4, status=Status.DONE))
        assert await store.prune(T0 + timedelta(seconds=1)) == 2
    assert rows_of(path, "SELECT count(*) FROM wa_history") == [(0,)]


async def test_a_long_chain_of_children_is_started(store: SQLiteStore) -> None:
    """As deep as the data goes; nothing recurses."""
    deep = new("0")
    for n in range(1, 3000):
        deep = new(f"{n}", Delta(start=(deep,)))
    assert (await store.create(deep)).is_new
    assert len(await store.list_actions(limit=5000)) == 3000


async def test_a_counter_does_not_overflow(store: SQLiteStore) -> None:
    """L-C12: rather an error than a value twice."""
    assert await store.allocate("n", 2**63 - 2) == 0
    assert await store.allocate("n") == 2**63 - 2
    with pytest.raises(UsageError, match="left"):
        await store.allocate("n")
    assert await store.counters() == {"n": 2**63 - 1}
