# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of a write as one unit: all or nothing, alone among its neighbours, whatever becomes of its caller."""

from __future__ import annotations

from asyncio import create_task, gather, sleep
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from wallet_actions.checkpoint import Status
from wallet_actions.coins import CoinState, Fact
from wallet_actions.errors import (
    InvariantError,
    ReservationError,
    StoreUnavailableError,
    VersionConflictError,
)
from wallet_actions.store import Created, Delta, Saved, Store
from wallet_actions.testing.contract.base import (
    StoreHooks,
    all_actions,
    at,
    coin,
    done,
    everything,
    holding,
    joined,
    key,
    new,
    states,
    step,
)

GOOD = Delta(
    add=(coin("added"),),
    release=("mine",),
    reserve=("free",),
    spend=("used",),
    counters=(("n", 77), ("new", 1)),
    facts=(Fact("f", "mine", "[2]"), Fact("f", "fresh")),
    start=(new("child", Delta(add=(coin("of child"),), facts=(Fact("f", "of child"),), counters=(("n", 99),))),),
)
"""What action "a" of `_prepared` may do."""

FAULTS = {
    "reserves an unknown coin": (Delta(reserve=("unknown",)), InvariantError),
    "reserves a taken coin": (Delta(reserve=("taken",)), ReservationError),
    "releases another's coin": (Delta(release=("taken",)), InvariantError),
    "spends an unknown coin": (Delta(spend=("unknown",)), InvariantError),
    "spends a free coin": (Delta(spend=("free too",)), InvariantError),
    "adds a coin with another amount": (Delta(add=(coin("taken", 2),)), InvariantError),
    "writes over another's fact": (Delta(facts=(Fact("f", "theirs", "[2]"),)), InvariantError),
    "starts a child that reserves a taken coin": (
        Delta(start=(new("bad", Delta(reserve=("taken",))),)),
        ReservationError,
    ),
    "starts a child that spends what it does not hold": (
        Delta(start=(new("bad", Delta(spend=("kept",))),)),
        InvariantError,
    ),
    "starts a child that writes over a fact": (
        Delta(start=(new("bad", Delta(facts=(Fact("f", "theirs", "[2]"),))),)),
        InvariantError,
    ),
    "starts a child that writes over a fact of the same unit": (
        Delta(start=(new("bad", Delta(facts=(Fact("f", "fresh", "[2]"),))),)),
        InvariantError,
    ),
    "starts a child whose child fails": (
        Delta(start=(new("fine", Delta(start=(new("bad", Delta(reserve=("taken",))),))),)),
        ReservationError,
    ),
}


class UnitContract(StoreHooks):
    """All or nothing."""

    @pytest.mark.parametrize("fault", FAULTS)
    async def test_a_unit_that_fails_leaves_nothing(self, store: Store, fault: str) -> None:
        """G1, L-S1: no coin, counter, fact, version, history entry or child of it is there, however it fails."""
        await _prepared(store)
        before = await everything(store)
        bad, error = FAULTS[fault]
        delta = joined(GOOD, bad)
        with pytest.raises(error):
            await store.save(step("a", 1, delta, time=at(9), notes=("n",)))
        assert await everything(store) == before
        with pytest.raises(error):
            await store.finish(step("a", 1, delta, status=Status.DONE, time=at(9)))
        assert await everything(store) == before
        mine = replace(delta, release=bad.release, spend=bad.spend, facts=(Fact("f", "fresh"), *bad.facts))
        with pytest.raises(error):
            await store.create(new("d", mine, time=at(9)))
        assert await everything(store) == before
        assert await store.save(step("a", 1, GOOD)) == (1, False)

    async def test_a_unit_that_succeeds_leaves_everything(self, store: Store) -> None:
        """G1, L-S1: each part of it is there when `save` returns."""
        await _prepared(store)
        await store.save(step("a", 1, GOOD))
        found = {held.id: (held.state, held.holder) for held in await store.coins()}
        free = (CoinState.SPENDABLE, None)
        assert found == {
            "added": free,
            "mine": free,
            "free": (CoinState.RESERVED, key("a")),
            "free too": free,
            "kept": (CoinState.RESERVED, key("a")),
            "of child": free,
            "taken": (CoinState.RESERVED, key("b")),
            "used": (CoinState.SPENT, key("a")),
        }
        assert await store.counters() == {"n": 99, "new": 1}
        assert [(fact.key, fact.body) for _, fact in await store.facts()] == [
            ("mine", "[2]"),
            ("theirs", "[1]"),
            ("fresh", "{}"),
            ("of child", "{}"),
        ]
        assert [(row.id, row.version) for row in await store.list_actions()] == [("a", 1), ("b", 0), ("child", 0)]

    async def test_one_of_many_saves_wins(self, store: Store) -> None:
        """G2, L-S4: of saves that expect one version, one is written, and each loser is told and leaves nothing."""
        await store.create(new("a"))
        saves = (
            store.save(step("a", 1, Delta(add=(coin(f"c{n}"),), facts=(Fact("f", f"{n}"),)), notes=(f"{n}",)))
            for n in range(20)
        )
        answers = await gather(*saves, return_exceptions=True)
        assert sum(isinstance(answer, Saved) for answer in answers) == 1
        assert sum(isinstance(answer, VersionConflictError) for answer in answers) == 19
        winner = next(n for n, answer in enumerate(answers) if isinstance(answer, Saved))
        assert [found.id for found in await store.coins()] == [f"c{winner}"]
        assert [fact.key for _, fact in await store.facts()] == [f"{winner}"]
        assert [entry.notes for entry in await store.history(key("a"))] == [(), (f"{winner}",)]

    async def test_one_of_many_starts_is_new(self, store: Store) -> None:
        """G6: of starts of one id at once, one writes, and all are answered with its row."""
        answers = await gather(*(store.create(new("a", Delta(add=(coin(f"c{n}"),)))) for n in range(20)))
        assert sum(answer.is_new for answer in answers) == 1
        assert len({answer.checkpoint.row for answer in answers}) == 1
        winner = next(n for n, answer in enumerate(answers) if answer.is_new)
        assert [found.id for found in await store.coins()] == [f"c{winner}"]

    async def test_a_failing_unit_fails_alone(self, store: Store) -> None:
        """L-B1: of units that are written at the same time, those that fail raise, and their neighbours commit."""
        await holding(store, "holder", "taken")
        for n in range(30):
            await store.create(new(f"{n}"))
        bad = {1: Delta(reserve=("taken",)), 2: Delta(spend=("taken",))}

        async def write(n: int) -> Saved:
            delta = joined(Delta(add=(coin(f"c{n}"),), facts=(Fact("f", f"{n}"),)), bad.get(n % 5, Delta()))
            return await store.save(step(f"{n}", 2 if n % 5 == 3 else 1, delta))

        answers = await gather(*map(write, range(30)), return_exceptions=True)
        expected = [Saved, ReservationError, InvariantError, VersionConflictError, Saved] * 6
        assert [type(answer) for answer in answers] == expected
        good = {n for n in range(30) if n % 5 in {0, 4}}
        versions = {row.id: row.version for row in await all_actions(store)}
        assert {n for n in range(30) if versions[f"{n}"] == 1} == good
        assert {found.id for found in await store.coins()} == {"taken", *(f"c{n}" for n in good)}
        assert {fact.key for _, fact in await store.facts()} == {f"{n}" for n in good}
        assert all([len(await store.history(key(f"{n}"))) == 1 + (n in good) for n in range(30)])

    async def test_kinds_of_writes_mix(self, store: Store) -> None:
        """L-B1: starts, saves, ends, requests, allocations and pauses at one time are each answered as if alone."""
        for n in range(10):
            await holding(store, f"{n}", f"c{n}")
        answers = await gather(
            *(store.save(step(f"{n}", 1, Delta(spend=(f"c{n}",)))) for n in range(5)),
            *(done(store, f"{n}") for n in range(5, 10)),
            *(store.create(new(f"{n}")) for n in range(8, 12)),
            *(store.allocate("n", 2) for _ in range(3)),
            store.request_cancel(key("ghost"), at(1)),
            store.set_kind_paused("x", True),
            store.save(step("ghost", 1)),
            return_exceptions=True,
        )
        assert answers[:10] == [(1, False)] * 10
        assert [answer.is_new for answer in answers[10:14] if isinstance(answer, Created)] == [False, False, True, True]
        assert sorted(answers[14:17]) == [0, 2, 4]  # type: ignore[type-var]
        assert answers[17:19] == [False, None]
        assert isinstance(answers[19], VersionConflictError)
        assert await states(store, "c0", "c9") == [(CoinState.SPENT, key("0")), (CoinState.SPENDABLE, None)]

    async def test_two_stores_on_the_same_data(self, tmp_path: Path) -> None:
        """G2, L-C2: what one process wrote the other sees, and of two that write one version one loses."""
        async with self.make_store(tmp_path) as one, self.make_store(tmp_path) as two:
            await one.create(new("a", Delta(add=(coin("c"),))))
            assert not (await two.create(new("a"))).is_new
            for version in range(1, 6):
                saves = (store.save(step("a", version, notes=(name,))) for store, name in ((one, "one"), (two, "two")))
                answers = await gather(*saves, return_exceptions=True)
                assert sorted(type(answer).__name__ for answer in answers) == ["Saved", "VersionConflictError"]
            starts = (store.create(new(f"b{n}", Delta(reserve=("c",)))) for n, store in enumerate((one, two)))
            reserved = await gather(*starts, return_exceptions=True)
            assert sorted(type(answer).__name__ for answer in reserved) == ["Created", "ReservationError"]
            assert {await one.allocate("n"), await two.allocate("n"), await one.allocate("n")} == {0, 1, 2}
            assert await one.request_cancel(key("a"), at(1))
            assert await two.save(step("a", 6)) == (6, True)
            assert await everything(one) == await everything(two)


class CancelledCallerContract(StoreHooks):
    """A caller may be cancelled at any time."""

    async def test_a_cancelled_write_happened_wholly_or_not(self, tmp_path: Path) -> None:
        """L-B1, G1: wherever its caller is cancelled, a unit is there with all its parts or with none."""
        async with self.make_store(tmp_path) as store:
            for turns in range(12):
                name = f"{turns}"
                await store.create(new(name))
                delta = Delta(
                    add=(coin(f"c{name}"), coin(f"d{name}")),
                    reserve=(f"c{name}",),
                    facts=(Fact("f", name),),
                    start=(new(f"child {name}"),),
                )
                task = create_task(store.save(step(name, 1, delta)))
                await _turns(turns)
                task.cancel()
                await gather(task, return_exceptions=True)
                assert (await store.create(new(f"next {name}"))).is_new
        async with self.make_store(tmp_path) as store:
            versions = {row.id: row.version for row in await all_actions(store)}
            coins = {found.id: found for found in await store.coins()}
            facts = {fact.key for _, fact in await store.facts()}
            for turns in range(12):
                name = f"{turns}"
                is_written = versions[name] == 1
                assert len(await store.history(key(name))) == (2 if is_written else 1)
                assert (f"child {name}" in versions, name in facts) == (is_written, is_written)
                assert (f"c{name}" in coins, f"d{name}" in coins) == (is_written, is_written)
                assert not is_written or coins[f"c{name}"].holder == key(name)
                assert await store.save(step(name, versions[name] + 1)) == (versions[name] + 1, False)

    async def test_a_cancelled_caller_harms_no_other(self, store: Store) -> None:
        """L-B1: those that are written with it are answered, and commit; no transaction stays open."""
        for n in range(16):
            await store.create(new(f"{n}"))
        for turns in range(4):
            tasks = [create_task(store.save(step(f"{n}", turns + 1))) for n in range(8, 16)]
            victims = [create_task(store.allocate("n")) for _ in range(8)]
            await _turns(turns)
            for victim in victims:
                victim.cancel()
            assert await gather(*tasks) == [(turns + 1, False)] * 8
            await gather(*victims, return_exceptions=True)
        for n in range(8):
            assert await store.save(step(f"{n}", 1)) == (1, False)
        before = await store.counters()
        assert await store.allocate("n") >= before.get("n", 0)

    async def test_a_cancelled_reader_harms_no_other(self, store: Store) -> None:
        """L-B1: a read that nobody waits for any more leaves nothing open either."""
        await store.create(new("a", Delta(add=(coin("c"),))))
        for turns in range(6):
            reads = [create_task(read) for read in (store.load(key("a")), store.coins(), store.list_actions())]
            await _turns(turns)
            for read in reads:
                read.cancel()
            await gather(*reads, return_exceptions=True)
            assert await store.save(step("a", turns + 1)) == (turns + 1, False)
        assert len(await store.history(key("a"))) == 7


class CloseContract(StoreHooks):
    """Closing, and what comes after."""

    async def test_a_closed_store_answers_with_an_error(self, tmp_path: Path) -> None:
        """Every method of a store that is closed, or not open yet, raises `StoreUnavailableError`; nothing hangs."""
        fresh, closed = self.make_store(tmp_path), self.make_store(tmp_path)
        async with closed:
            await closed.create(new("a"))
        for store in (fresh, closed):
            for call in _calls(store):
                with pytest.raises(StoreUnavailableError):
                    await call()
        async with self.make_store(tmp_path) as store:
            assert [(row.id, row.version) for row in await store.list_actions()] == [("a", 0)]

    async def test_closing_answers_all_who_wait(self, tmp_path: Path) -> None:
        """What is queued is written or refused, each caller is told which, and what was told is on disk (G7)."""
        for turns in range(4):
            async with self.make_store(tmp_path) as store:
                tasks = [create_task(store.create(new(f"{turns} {n}"))) for n in range(20)]
                await _turns(turns)
            answers = await gather(*tasks, return_exceptions=True)
            assert {type(answer) for answer in answers} <= {Created, StoreUnavailableError}
            written = {f"{turns} {n}" for n, answer in enumerate(answers) if isinstance(answer, Created)}
            async with self.make_store(tmp_path) as store:
                found = {row.id for row in await all_actions(store) if row.id.startswith(f"{turns} ")}
            assert found == written

    async def test_closing_after_an_error(self, tmp_path: Path) -> None:
        """An exception in the block passes through, and what was committed before stays."""

        async def block() -> None:
            async with self.make_store(tmp_path) as store:
                await store.create(new("a"))
                with pytest.raises(VersionConflictError):
                    await store.save(step("a", 5))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await block()
        async with self.make_store(tmp_path) as store:
            assert (await store.load(key("a"))) is not None


async def _prepared(store: Store) -> None:
    """Two actions, coins in every state, a fact of each, a counter."""
    mine, free = ("mine", "used", "kept"), ("free", "free too")
    fact = Fact("f", "mine", "[1]")
    coins = tuple(map(coin, (*mine, *free)))
    await store.create(new("a", Delta(add=coins, reserve=mine, facts=(fact,), counters=(("n", 5),))))
    await store.create(new("b", Delta(add=(coin("taken"),), reserve=("taken",), facts=(Fact("f", "theirs", "[1]"),))))


async def _turns(count: int) -> None:
    for _ in range(count):
        await sleep(0)


def _calls(store: Store) -> list[Callable[[], Awaitable[object]]]:
    """Every method of the port, but for `transaction`."""
    return [
        lambda: store.create(new("b")),
        lambda: store.save(step("a", 1)),
        lambda: done(store, "a"),
        lambda: store.request_cancel(key("a"), at(1)),
        lambda: store.load(key("a")),
        store.list_actions,
        store.count_actions,
        lambda: store.wakes(until=None),
        store.idle,
        lambda: store.running(before=at(1)),
        store.last_write_at,
        lambda: store.history(key("a")),
        lambda: store.prune(at(1)),
        lambda: store.set_kind_paused("x", True),
        store.paused_kinds,
        store.coins,
        lambda: store.coins_by_id(["c"]),
        store.balances,
        store.orphans,
        lambda: store.release_orphans(["c"]),
        store.facts,
        lambda: store.allocate("n"),
        store.counters,
        store.diagnose,
    ]
