# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of what is read of coins, and of facts, counters and balances."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Sequence
from pathlib import Path

import pytest

from wallet_actions.checkpoint import Status
from wallet_actions.coins import MAX_AMOUNT, ActionKey, Balance, Coin, CoinState, Fact
from wallet_actions.errors import InvariantError, UsageError
from wallet_actions.store import Delta, Store
from wallet_actions.testing.contract.base import (
    MINT,
    StoreHooks,
    at,
    coin,
    done,
    everything,
    key,
    new,
    pages,
    step,
)


class CoinQueryContract(StoreHooks):
    """Reading coins and balances."""

    async def test_coins_are_read_by_id_in_pages(self, store: Store) -> None:
        """A page begins behind the id last seen, and coins that are added meanwhile upset nothing."""
        ids = [f"c{n:02}" for n in range(10)]
        await store.create(new("a", Delta(add=tuple(coin(name) for name in reversed(ids)))))
        seen: list[str] = []

        async def read(last: Coin | None) -> Sequence[Coin]:
            return await store.coins(after="" if last is None else last.id, limit=3)

        async for page in pages(read, 3):
            seen += [found.id for found in page]
            if len(seen) == 3:
                await store.create(new("b", Delta(add=(coin("a new first"), coin("z")))))
        assert seen == [*ids, "z"]

    async def test_coins_are_filtered(self, store: Store) -> None:
        """By account, unit, state and holder, each alone and together."""
        other = "https://other.example"
        coins = (coin("1"), coin("2", unit="usd"), coin("3", account=other), coin("4"), coin("5", account=other))
        await store.create(new("a", Delta(add=coins, reserve=("1", "2", "3", "4"), spend=("4",))))

        async def ids(**filters: object) -> list[str]:
            return [found.id for found in await store.coins(**filters)]  # type: ignore[arg-type]

        assert await ids(account=other) == ["3", "5"]
        assert await ids(unit="sat") == ["1", "3", "4", "5"]
        assert await ids(state=CoinState.RESERVED) == ["1", "2", "3"]
        assert await ids(state=CoinState.SPENT) == ["4"]
        assert await ids(holder=key("a")) == ["1", "2", "3", "4"]
        assert await ids(holder=key("b")) == []
        assert await ids(holder=ActionKey("other", "a")) == []
        assert await ids(holder=key("a"), state=CoinState.RESERVED, unit="sat", account=MINT) == ["1"]
        assert await ids(holder=key("a"), after="1", limit=2) == ["2", "3"]

    async def test_coins_are_read_by_their_ids(self, store: Store) -> None:
        """In the order of the ids, each once; unknown ids are left out; as many as are asked for."""
        ids = [f"c{n:04}" for n in range(1200)]
        await store.create(new("a", Delta(add=tuple(map(coin, ids)))))
        assert [found.id for found in await store.coins_by_id(["c0005", "unknown", "c0001", "c0005"])] == [
            "c0001",
            "c0005",
        ]
        assert await store.coins_by_id([]) == []
        assert [found.id for found in await store.coins_by_id([*reversed(ids), "unknown"])] == ids

    async def test_balances_are_exact(self, store: Store) -> None:
        """G4: by account and unit, sorted, spent coins left out, beyond what 64 bits hold."""
        large = tuple(coin(f"m{n}", MAX_AMOUNT) for n in range(3))
        odd = (coin("a1", 3, account="https://a.example"), coin("a2", 4, account="https://a.example", unit="msat"))
        gone = coin("gone", 5, account="https://z.example")
        await store.create(new("a", Delta(add=(*large, *odd, gone, coin("one")))))
        assert (await store.balances(MINT)) == [Balance(MINT, "sat", 3 * MAX_AMOUNT + 1, 0)]
        await store.create(new("b", Delta(reserve=("m0", "m1", "a1", "gone"), spend=("gone",))))
        assert await store.balances() == [
            Balance("https://a.example", "msat", 4, 0),
            Balance("https://a.example", "sat", 0, 3),
            Balance(MINT, "sat", MAX_AMOUNT + 1, 2 * MAX_AMOUNT),
        ]
        assert await store.balances("https://a.example") == (await store.balances())[:2]
        assert await store.balances("https://unknown.example") == []


class FactContract(StoreHooks):
    """What outlives an action."""

    async def test_facts_are_read_in_the_order_of_writing(self, store: Store) -> None:
        """Each with its cursor; filtered by kind and key; in pages."""
        await store.create(new("a", Delta(facts=(Fact("z", "1", "[1]"), Fact("a", "1", "[2]")))))
        await store.create(new("b", Delta(facts=(Fact("z", "0", "[3]"),))))
        every = await store.facts()
        assert [fact for _, fact in every] == [Fact("z", "1", "[1]"), Fact("a", "1", "[2]"), Fact("z", "0", "[3]")]
        cursors = [cursor for cursor, _ in every]
        assert cursors == sorted(set(cursors))
        assert cursors[0] > 0
        assert await store.facts(kind="z") == [every[0], every[2]]
        assert await store.facts(key="1") == every[:2]
        assert await store.facts(kind="z", key="0") == [every[2]]
        assert await store.facts(kind="z", key="9") == []
        assert await store.facts(after=cursors[0], limit=1) == [every[1]]
        assert await store.facts(after=cursors[2]) == []

    async def test_an_action_writes_over_its_own_fact(self, store: Store) -> None:
        """L-S11: with another body, at its old place; also in one unit."""
        await store.create(new("a", Delta(facts=(Fact("f", "k", "[1]"), Fact("f", "l", "[2]")))))
        (cursor, _), _ = await store.facts()
        await store.save(step("a", 1, Delta(facts=(Fact("f", "k", "[3]"), Fact("f", "k", "[4]")))))
        assert (await store.facts())[0] == (cursor, Fact("f", "k", "[4]"))
        assert len(await store.facts()) == 2
        await store.finish(step("a", 2, Delta(facts=(Fact("f", "k", "[5]"),)), status=Status.DONE))
        assert (await store.facts())[0] == (cursor, Fact("f", "k", "[5]"))

    async def test_a_fact_belongs_to_its_action(self, store: Store) -> None:
        """L-S9: another action's is a bug, also after that one ended and was pruned; an equal body is harmless."""
        strangers = (Fact("e", "k", "[8]"), Fact("f", "j", "[9]"))  # alike in one half of the name
        await store.create(new("z", Delta(facts=strangers)))
        await store.create(new("a", Delta(facts=(Fact("f", "k", "[1]"),))))
        await store.create(new("b"))
        equal = Delta(facts=(Fact("f", "k", "[1]"),))
        other = Delta(facts=(Fact("g", "k"), Fact("f", "k", "[2]")))
        for is_owner_done in (False, True):
            if is_owner_done:
                await done(store, "a")
                await store.prune(at(100))
            before = await everything(store)
            with pytest.raises(InvariantError):
                await store.save(step("b", 1, other))
            with pytest.raises(InvariantError):
                await store.create(new("a", other, kind="other"))
            assert await everything(store) == before
        await store.save(step("b", 1, equal))
        with pytest.raises(InvariantError):
            await store.save(step("b", 2, Delta(facts=(Fact("f", "k", "[3]"),))))
        assert [fact for _, fact in await store.facts()] == [*strangers, Fact("f", "k", "[1]")]


class CounterContract(StoreHooks):
    """Durable counters."""

    async def test_values_are_taken_in_order(self, store: Store) -> None:
        """L-C12: a new counter starts at 0, each has its own values, and none is given out twice."""
        assert await store.counters() == {}
        assert [await store.allocate("n"), await store.allocate("n", 5), await store.allocate("n")] == [0, 1, 6]
        assert await store.allocate("other") == 0
        assert await store.counters() == {"n": 7, "other": 1}

    async def test_nothing_is_not_allocated(self, store: Store) -> None:
        """A count below 1 is a `UsageError`."""
        for count in (0, -1):
            with pytest.raises(UsageError):
                await store.allocate("n", count)
        assert await store.counters() in ({}, {"n": 0})

    async def test_a_counter_ends(self, store: Store) -> None:
        """L-C12: values beyond 64 bits are refused, not wrapped or rounded; those before are still given out."""
        await store.create(new("a", Delta(counters=(("n", MAX_AMOUNT - 2),))))
        with pytest.raises(UsageError):
            await store.allocate("n", 3)
        assert await store.allocate("n", 2) == MAX_AMOUNT - 2
        with pytest.raises(UsageError):
            await store.allocate("n")
        assert await store.counters() == {"n": MAX_AMOUNT}

    async def test_ranges_taken_at_once_are_disjoint(self, store: Store) -> None:
        """L-C12: gaps are fine, reuse is not."""
        counts = [1, 7, 2, 3, 1, 30, 4, 2] * 4
        firsts = await gather(*(store.allocate("n", count) for count in counts))
        taken = [first + n for first, count in zip(firsts, counts, strict=True) for n in range(count)]
        assert len(set(taken)) == len(taken)
        assert await store.allocate("n") > max(taken)

    async def test_a_unit_raises_a_counter_and_never_lowers_it(self, store: Store) -> None:
        """L-C12: the next value is at least the one that was written."""
        await store.create(new("a", Delta(counters=(("n", 10), ("m", 4)))))
        assert await store.allocate("n", 2) == 10
        await store.save(step("a", 1, Delta(counters=(("n", 5), ("m", 4)))))
        assert await store.counters() == {"n": 12, "m": 4}
        await store.finish(step("a", 2, Delta(counters=(("n", 2**62), ("n", 3))), status=Status.DONE))
        assert await store.counters() == {"n": 2**62, "m": 4}
        assert await store.allocate("n") == 2**62

    async def test_values_survive_a_restart(self, tmp_path: Path) -> None:
        """L-C12, L-S6: what was given out before is not given out after."""
        async with self.make_store(tmp_path) as store:
            await store.allocate("n", 3)
            await store.create(new("a", Delta(counters=(("m", 8),))))
        async with self.make_store(tmp_path) as store:
            assert await store.allocate("n") == 3
            assert await store.counters() == {"n": 4, "m": 8}
