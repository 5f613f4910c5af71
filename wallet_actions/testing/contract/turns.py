# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of turns, limits, and of who is there."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from wallet_actions.checkpoint import Status
from wallet_actions.errors import UsageError
from wallet_actions.fleet import LONGEST_LEASE, REMEMBERED, Claim, Limit, SharedStore, Worker
from wallet_actions.store import NewAction
from wallet_actions.testing.contract.base import (
    KIND,
    T0,
    at,
    checkpoint,
    key,
    new,
    step,
)
from wallet_actions.testing.contract.workers import (
    KNOWN,
    LEASE,
    MANY,
    ONE,
    THREE,
    TWO,
    FleetHooks,
    asks,
    ids,
    of,
    worker,
)


class TurnContract(FleetHooks):
    """Each gets its turn, and nobody more than a limit lets through."""

    # Turns

    async def test_a_tenant_with_many_does_not_hold_up_the_others(self, fleet: SharedStore) -> None:
        """Counted in claims: those of one who came later are among the next few, whatever the status."""
        crowd = tuple(of("big", new(f"big-{n}", status=Status.PARKED, wake_at=T0)) for n in range(MANY))
        await asyncio.gather(*map(fleet.create, crowd))
        for n in range(6):
            status = Status.PARKED if n % 2 else Status.RUNNING
            wake_at = at(10) if n % 2 else None
            await fleet.create(of("small", new(f"small-{n}", status=status, wake_at=wake_at, time=at(9))))
        got = Counter[str]()
        for _ in range(3):
            rows = await fleet.claim(asks(ONE, at(20), limit=10))
            assert len(rows) == 10
            got.update(row.tenant for row in rows)
        assert got["small"] == 6

    async def test_a_kind_with_many_does_not_hold_up_the_others(self, fleet: SharedStore) -> None:
        """Kinds take turns as tenants do, and one place at a time goes round."""
        crowd = tuple(new(f"{n}", status=Status.PARKED, wake_at=T0) for n in range(200))
        await asyncio.gather(*map(fleet.create, crowd))
        for n in range(3):
            await fleet.create(new(f"{n}", kind="rare", status=Status.PARKED, wake_at=at(5)))
        schemas = {KIND: 1, "rare": 1}
        got = [await fleet.claim(asks(ONE, at(10), limit=1, schemas=schemas)) for _ in range(8)]
        assert Counter(row.kind for rows in got for row in rows)["rare"] == 3

    async def test_many_tenants_all_get_their_turn(self, fleet: SharedStore) -> None:
        """No tenant is passed over while the others come again and again."""
        news = (
            of(f"t{tenant:03}", new(f"{tenant}-{n}", status=Status.PARKED, wake_at=T0))
            for tenant in range(300)
            for n in range(3)
        )
        await asyncio.gather(*map(fleet.create, news))
        seen = Counter[str]()
        for _ in range(30):
            seen.update(row.tenant for row in await fleet.claim(asks(ONE, limit=20)))
        assert len(seen) == 300

    async def test_a_rush_after_a_quiet_time_holds_up_nobody_for_long(self, fleet: SharedStore) -> None:
        """While there is room for all that is due nobody needs turns; from the first full claim on there are some."""

        def due(tenant: str, name: str, seconds: int) -> NewAction:
            return of(tenant, new(name, status=Status.PARKED, wake_at=at(seconds)))

        idle = (due(f"t{tenant:03}", f"idle-{tenant}", 10_000) for tenant in range(100))
        await asyncio.gather(*map(fleet.create, idle))
        for second in range(6):
            await asyncio.gather(*(fleet.create(due(f"t{n:03}", f"{second}-{n}", second)) for n in range(20 * second)))
            taken = await fleet.claim(asks(ONE, at(second), limit=100))
            assert len(taken) == 20 * second
        await asyncio.gather(*(fleet.create(due("t050", f"rush-{n}", 6)) for n in range(500)))
        await asyncio.gather(*(fleet.create(due("t099", f"late-{n}", 7)) for n in range(3)))
        seen = Counter[str]()
        for _ in range(8):
            seen.update(row.tenant for row in await fleet.claim(asks(ONE, at(8), limit=20)))
        assert seen["t099"] == 3

    async def test_a_claim_is_filled(self, fleet: SharedStore) -> None:
        """However few of each there are, and whatever else is parked."""
        news = (
            of(f"t{tenant:03}", new(f"{tenant}", status=Status.PARKED, wake_at=at(tenant % 3))) for tenant in range(300)
        )
        await asyncio.gather(*map(fleet.create, news))
        rows = [await fleet.claim(asks(ONE, at(0), limit=40)) for _ in range(3)]
        assert [len(claimed) for claimed in rows] == [40, 40, 20]

    async def test_the_oldest_of_a_tenant_comes_first(self, fleet: SharedStore) -> None:
        """Within one kind and tenant, by when it was due."""
        for n in (3, 1, 2):
            await fleet.create(new(f"{n}", status=Status.PARKED, wake_at=at(n)))
        got = [ids(await fleet.claim(asks(ONE, at(10), limit=1))) for _ in range(3)]
        assert got == [["1"], ["2"], ["3"]]

    # Limits

    async def test_a_limit_on_how_many_at_once(self, fleet: SharedStore, other: SharedStore) -> None:
        """Exact, whoever claims at the same moment, in general or by name; other kinds go on."""
        for n in range(20):
            await fleet.create(new(f"{n:02}"))
            await fleet.create(new(f"{n:02}", kind="free"))
        limits = {KIND: Limit(concurrency=3)}
        schemas = {KIND: 1, "free": 1}
        answers = await asyncio.gather(
            *(store.claim(asks(ONE, limits=limits, limit=4, schemas=schemas)) for store in (fleet, other) * 3),
            *(other.claim(asks(f"by-name-{n}", limits=limits, keys=[key(f"{n:02}")])) for n in range(5)),
        )
        got = [row for rows in answers for row in rows]
        assert Counter(row.kind for row in got)[KIND] == 3
        held = next(row for row in got if row.kind == KIND)
        assert await other.claim(asks(THREE, at(1), limits=limits)) == []
        await fleet.save(step(held.id, 2, status=Status.PARKED, wake_at=at(100)))
        assert len(await other.claim(asks(THREE, at(1), limits=limits))) == 1
        assert await other.claim(asks(THREE, at(2), limits=limits)) == []

    async def test_what_lapsed_counts_until_it_is_taken_over_and_needs_no_room_then(self, fleet: SharedStore) -> None:
        """Or a fleet whose workers died could never go on; or one that comes back late would be on top of others."""
        for n in range(4):
            await fleet.create(new(f"{n}"))
        limits = {KIND: Limit(concurrency=2)}
        first = {row.key for row in await fleet.claim(asks(ONE, limits=limits))}
        others = [key(f"{n}") for n in range(4) if key(f"{n}") not in first]
        assert len(first) == 2
        assert await fleet.claim(asks(TWO, at(29), limits=limits)) == []
        assert await fleet.claim(asks(TWO, at(30), limits=limits, keys=others)) == []
        assert {row.key for row in await fleet.claim(asks(TWO, at(30), limits=limits))} == first
        assert await fleet.claim(asks(ONE, at(30), limits=limits)) == []
        assert await fleet.claim(asks(THREE, at(61), limits=limits, keys=others)) == []
        (named,) = await fleet.claim(asks(THREE, at(61), limits=limits, keys=[min(first)]))
        assert named.key == min(first)
        assert {row.key for row in await fleet.claim(asks(ONE, at(61), limits=limits))} == first - {named.key}

    async def test_who_claims_anew_what_it_holds_needs_no_room(self, fleet: SharedStore) -> None:
        """It drives no more than before."""
        await fleet.create(new("a"))
        limits = {KIND: Limit(concurrency=1)}
        await fleet.claim(asks(ONE, limits=limits))
        assert ids(await fleet.claim(asks(ONE, at(1), limits=limits, keys=[key("a")]))) == ["a"]

    async def test_a_limit_on_how_often(self, fleet: SharedStore, other: SharedStore) -> None:
        """Exact: a second's worth at once, then one as its time comes; what is not used is not saved up."""
        for n in range(40):
            await fleet.create(new(f"{n:02}"))
        limits = {KIND: Limit(per_second=4)}

        async def claimed(seconds: float) -> int:
            answers = await asyncio.gather(
                *(store.claim(asks(ONE, at(seconds), limits=limits, limit=3)) for store in (fleet, other) * 2)
            )
            return sum(map(len, answers))

        got = [await claimed(seconds) for seconds in (0, 0, 0.249, 0.25, 0.26, 1.0, 1.0, 61, 61.1)]
        assert got == [4, 0, 0, 1, 0, 3, 0, 4, 0]

    async def test_a_limit_below_one_a_second(self, fleet: SharedStore) -> None:
        """One at a time, and by name too."""
        for n in range(4):
            await fleet.create(new(f"{n}"))
        limits = {KIND: Limit(per_second=0.1)}
        got = [
            len(await fleet.claim(asks(ONE, at(seconds), limits=limits, keys=keys)))
            for seconds, keys in ((0, None), (9, [key("3")]), (10, [key("3")]), (19, None), (20, None))
        ]
        assert got == [1, 0, 1, 0, 1]

    async def test_a_rate_survives_a_clock_that_was_set_back(self, fleet: SharedStore) -> None:
        """L-B5: nobody waits until the clock has come that far again."""
        for n in range(4):
            await fleet.create(new(f"{n}"))
        limits = {KIND: Limit(per_second=1)}
        assert len(await fleet.claim(asks(ONE, at(3600), limits=limits))) == 1
        assert len(await fleet.claim(asks(TWO, at(0), limits=limits))) == 1
        assert len(await fleet.claim(asks(TWO, at(0.5), limits=limits))) == 0
        assert len(await fleet.claim(asks(TWO, at(1), limits=limits))) == 1

    async def test_a_rate_holds_where_clocks_differ_a_little(self, fleet: SharedStore) -> None:
        """Who is a little behind gets nothing twice."""
        for n in range(4):
            await fleet.create(new(f"{n}"))
        limits = {KIND: Limit(per_second=1)}
        assert len(await fleet.claim(asks(ONE, at(10), limits=limits))) == 1
        assert len(await fleet.claim(asks(TWO, at(9.5), limits=limits))) == 0

    # Who is there

    async def test_workers_are_told(self, fleet: SharedStore, other: SharedStore) -> None:
        """With what they hold, the lease of each, and when they were last seen."""
        assert await fleet.workers(at=T0) == []
        for name in ("b", "a"):
            await fleet.create(new(name))
        await fleet.renew(worker(TWO, name="two:2", started=at(1)), at=at(1), lease=LEASE)
        await other.renew(worker(ONE, name="one:1"), at=at(2), lease=LEASE)
        await fleet.claim(asks(ONE, at(3)))
        await other.renew(worker(ONE, name="one:1", started=at(4)), at=at(5), lease=LEASE)
        one = Worker(ONE, "one:1", T0, at(5), ((key("a"), at(35)), (key("b"), at(35))))
        two = Worker(TWO, "two:2", at(1), at(1))
        assert list(await fleet.workers(at=at(5))) == [one, two]
        assert await fleet.let_go(ONE) == 2
        assert list(await other.workers(at=at(6))) == [two]

    async def test_workers_that_are_long_gone_are_not_told(self, fleet: SharedStore) -> None:
        """A day later nobody wants to know; the next renewal forgets them for good."""
        await fleet.renew(worker(ONE), at=T0, lease=LEASE)
        assert [told.owner for told in await fleet.workers(at=T0 + REMEMBERED)] == [ONE]
        late = T0 + REMEMBERED + timedelta(seconds=1)
        assert await fleet.workers(at=late) == []
        await fleet.renew(worker(TWO), at=late, lease=LEASE)
        assert [told.owner for told in await fleet.workers(at=T0)] == [TWO]

    async def test_what_cannot_be_asked_for(self, fleet: SharedStore) -> None:
        """A lease that others would not heed, a time without a zone: nothing is written."""
        await fleet.create(new("a"))
        for lease in (timedelta(0), LONGEST_LEASE + timedelta(microseconds=1)):
            with pytest.raises(UsageError):
                Claim(ONE, T0, lease, KNOWN)
            with pytest.raises(UsageError):
                await fleet.renew(worker(ONE), at=T0, lease=lease)
        with pytest.raises(UsageError):
            await fleet.claim(asks(ONE, T0.replace(tzinfo=None)))
        assert await fleet.load(key("a")) == (await fleet.create(new("a"))).checkpoint
        assert await fleet.workers(at=T0) == []

    async def test_the_tenant_is_kept(self, fleet: SharedStore) -> None:
        """From the start to the end, through writes that do not name it."""
        await fleet.create(of("acme", new("a")))
        await fleet.save(step("a", 1))
        row = await fleet.load(key("a"))
        assert row is not None
        assert row.tenant == "acme"
        assert [row.tenant for row in await fleet.list_actions()] == ["acme"]
        (claimed,) = await fleet.claim(asks(ONE))
        assert claimed.tenant == "acme"
        row = checkpoint("b")
        assert row.tenant == ""

    async def test_the_clock_is_one(self, fleet: SharedStore, other: SharedStore) -> None:
        """Where the store has a clock, all workers read the same, and it goes on."""
        first, second = await fleet.now(), await other.now()
        if first is not None:
            assert second is not None
            assert first.tzinfo is not None
            assert timedelta(0) <= second - first < timedelta(minutes=1)
        else:
            assert second is None

    async def test_listening_begins_and_ends(self, fleet: SharedStore) -> None:
        """Calls may be lost, so nothing more is promised to everybody."""
        async with fleet.listen(lambda: None), fleet.listen(lambda: None):
            await fleet.create(new("a"))
