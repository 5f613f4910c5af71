# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of a write as one unit: all or nothing, and alone among its neighbours."""

from __future__ import annotations

from asyncio import gather
from dataclasses import replace
from pathlib import Path

import pytest

from wallet_actions.checkpoint import Status
from wallet_actions.coins import CoinState, Fact
from wallet_actions.errors import (
    InvariantError,
    ReservationError,
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


async def _prepared(store: Store) -> None:
    """Two actions, coins in every state, a fact of each, a counter."""
    mine, free = ("mine", "used", "kept"), ("free", "free too")
    fact = Fact("f", "mine", "[1]")
    coins = tuple(map(coin, (*mine, *free)))
    await store.create(new("a", Delta(add=coins, reserve=mine, facts=(fact,), counters=(("n", 5),))))
    await store.create(new("b", Delta(add=(coin("taken"),), reserve=("taken",), facts=(Fact("f", "theirs", "[1]"),))))
