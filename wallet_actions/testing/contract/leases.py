# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of leases: takeover, fences, renewal, and what a write does to them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from wallet_actions.checkpoint import CancelState, Status
from wallet_actions.errors import VersionConflictError
from wallet_actions.fleet import LONGEST_LEASE, SharedStore
from wallet_actions.store import Delta
from wallet_actions.testing.contract.base import (
    T0,
    at,
    coin,
    done,
    holding,
    key,
    new,
    states,
    step,
)
from wallet_actions.testing.contract.workers import (
    LEASE,
    ONE,
    THREE,
    TWO,
    FleetHooks,
    asks,
    ids,
    worker,
)


class LeaseContract(FleetHooks):
    """How long others keep away, and what happens then."""

    # Takeover

    @pytest.mark.parametrize("keys", [None, [key("a")]])
    async def test_a_lapsed_lease_is_taken_over(self, fleet: SharedStore, other: SharedStore, keys: object) -> None:
        """L-D15: and the version fences the former driver off, which may be alive."""
        await holding(fleet, "a", "c")
        await fleet.claim(asks(ONE))
        (row,) = await other.claim(asks(TWO, at(30), keys=keys))  # type: ignore[arg-type]
        assert (row.owner, row.version, row.lease_until) == (TWO, 2, at(60))
        await other.save(step("a", 3, time=at(31)))
        with pytest.raises(VersionConflictError):
            await fleet.save(step("a", 2, Delta(spend=("c",)), time=at(32)))
        with pytest.raises(VersionConflictError):
            await fleet.finish(step("a", 2, status=Status.DONE, time=at(32)))
        assert await states(fleet, "c") == [("reserved", key("a"))]
        assert await fleet.renew(worker(ONE), at=at(33), lease=LEASE) == frozenset()

    async def test_a_zombie_writes_nothing(self, fleet: SharedStore, other: SharedStore) -> None:
        """G2, L-S2: whatever a former driver writes after a takeover conflicts, and leaves no trace."""
        await holding(fleet, "a", "c")
        (held,) = await fleet.claim(asks(ONE))
        (taken,) = await other.claim(asks(TWO, at(40)))
        late = step("a", held.version + 1, Delta(release=("c",), add=(coin("d"),)), time=at(41))
        with pytest.raises(VersionConflictError):
            await fleet.save(late)
        with pytest.raises(VersionConflictError):
            await fleet.finish(replace(late, checkpoint=replace(late.checkpoint, status=Status.FAILED)))
        assert await other.load(key("a")) == taken
        assert await other.coins_by_id(["d"]) == []
        assert (await other.save(step("a", taken.version + 1, time=at(42)))).version == 3

    async def test_a_parked_action_that_was_claimed_and_left_is_taken_over(
        self, fleet: SharedStore, other: SharedStore
    ) -> None:
        """G8: a worker that died between its claim and its first write has held up nothing but for its lease."""
        await fleet.create(new("a", status=Status.PARKED, wake_at=at(1)))
        await fleet.claim(asks(ONE, at(1)))
        assert await other.claim(asks(TWO, at(30))) == []
        (row,) = await other.claim(asks(TWO, at(31)))
        assert (row.status, row.owner, row.version) == (Status.PARKED, TWO, 2)

    async def test_a_lease_that_no_right_clock_gave_holds_up_nobody(self, fleet: SharedStore) -> None:
        """L-B5: a worker whose clock was an hour ahead has died; others do not wait for an hour."""
        await fleet.create(new("a"))
        await fleet.create(new("b"))
        await fleet.claim(asks(ONE, at(3600)))
        rows = await fleet.claim(asks(TWO, at(3600) + LEASE - LONGEST_LEASE - timedelta(microseconds=1)))
        assert ids(rows) == ["a", "b"]
        assert await fleet.claim(asks(THREE, at(3600) - LONGEST_LEASE)) == []

    # The life of a lease

    async def test_the_owner_stays_while_it_runs_and_goes_when_it_waits(self, fleet: SharedStore) -> None:
        """In the same write, so that whoever is there when it is due may take it."""
        await fleet.create(new("a", status=Status.PARKED, wake_at=T0))
        version = 0
        for status in (Status.PARKED, Status.STUCK, Status.PAUSED, Status.QUARANTINED):
            await fleet.claim(asks(ONE, keys=[key("a")]))
            for following in (Status.RUNNING, Status.RUNNING):
                version += 1
                await fleet.save(step("a", version + 1, status=following))
                row = await fleet.load(key("a"))
                assert row is not None
                assert (row.owner, row.lease_until) == (ONE, at(30))
            version += 1
            wake_at = T0 if status is Status.PARKED else None
            await fleet.save(step("a", version + 1, status=status, wake_at=wake_at))
            row = await fleet.load(key("a"))
            assert row is not None
            assert (row.owner, row.lease_until) == (None, None)
            version += 1
            if status is Status.PAUSED:  # a person resumes it
                await fleet.save(step("a", version + 1, status=Status.PARKED, wake_at=T0))
                version += 1
        assert await fleet.renew(worker(ONE), at=at(1), lease=LEASE) == frozenset()

    async def test_an_end_clears_the_owner(self, fleet: SharedStore) -> None:
        """Nobody drives what has ended."""
        await fleet.create(new("a"))
        await fleet.claim(asks(ONE))
        await done(fleet, "a", 2)
        row = await fleet.load(key("a"))
        assert row is not None
        assert (row.status, row.owner, row.lease_until) == (Status.DONE, None, None)

    async def test_what_parks_is_anybodys_when_it_is_due(self, fleet: SharedStore, other: SharedStore) -> None:
        """Long before the lease of the one who parked it would have lapsed."""
        await fleet.create(new("a"))
        await fleet.claim(asks(ONE))
        await fleet.save(step("a", 2, status=Status.PARKED, wake_at=at(2)))
        assert await other.claim(asks(TWO, at(1))) == []
        assert ids(await other.claim(asks(TWO, at(2)))) == ["a"]

    async def test_a_start_with_an_owner(self, fleet: SharedStore, other: SharedStore) -> None:
        """Whoever starts an action may drive it at once; if it dies, others take over when the lease has lapsed."""
        begun = new("a")
        held = replace(begun, checkpoint=replace(begun.checkpoint, owner=ONE, lease_until=at(30)))
        made = (await fleet.create(held)).checkpoint
        assert (made.owner, made.lease_until, made.version) == (ONE, at(30), 0)
        assert await fleet.load(key("a")) == made
        assert await other.claim(asks(TWO, at(29))) == []
        assert await fleet.renew(worker(ONE), at=at(10), lease=LEASE) == {key("a")}
        await fleet.save(step("a", 1))
        assert ids(await other.claim(asks(TWO, at(40)))) == ["a"]

    async def test_a_renewal_prolongs_all_that_is_held(self, fleet: SharedStore, other: SharedStore) -> None:
        """L-S5: without a new version; what is shorter changes nothing, and nobody else's is touched."""
        await fleet.create(new("a"))
        await fleet.create(new("b"))
        await fleet.claim(asks(ONE, keys=[key("a")]))
        await other.claim(asks(TWO, keys=[key("b")]))
        assert await fleet.renew(worker(ONE), at=at(20), lease=LEASE) == {key("a")}
        assert await fleet.renew(worker(ONE), at=at(21), lease=timedelta(seconds=1)) == {key("a")}
        row, others = await fleet.load(key("a")), await fleet.load(key("b"))
        assert row is not None
        assert others is not None
        assert (row.version, row.lease_until) == (1, at(50))
        assert others.lease_until == at(30)
        assert await other.claim(asks(TWO, at(49), keys=[key("a")])) == []
        assert ids(await other.claim(asks(TWO, at(50), keys=[key("a")]))) == ["a"]
        assert await fleet.renew(worker(ONE), at=at(51), lease=LEASE) == frozenset()

    async def test_a_lapsed_lease_that_nobody_took_is_renewed(self, fleet: SharedStore) -> None:
        """A worker that was stopped for a while goes on where nobody minded."""
        await fleet.create(new("a"))
        await fleet.claim(asks(ONE))
        assert await fleet.renew(worker(ONE), at=at(100), lease=LEASE) == {key("a")}
        assert await fleet.claim(asks(TWO, at(129))) == []

    async def test_what_is_let_go_is_due_at_once(self, fleet: SharedStore, other: SharedStore) -> None:
        """Some of it or all of it; nobody else's; the version stays, so the next claim fences the former driver off."""
        for name in ("a", "b", "c"):
            await fleet.create(new(name))
        await fleet.create(new("d", status=Status.PARKED, wake_at=at(1)))
        await fleet.claim(asks(ONE, at(1), keys=[key("a"), key("b"), key("d")]))
        await other.claim(asks(TWO, at(1)))
        assert await fleet.let_go(ONE, [key("a"), key("c"), key("nobody")]) == 1
        row = await fleet.load(key("a"))
        assert row is not None
        assert (row.version, row.owner, row.lease_until) == (1, None, None)
        assert ids(await other.claim(asks(TWO, at(1)))) == ["a"]
        assert await fleet.let_go(ONE) == 2
        assert await fleet.let_go(ONE) == 0
        assert await fleet.let_go(ONE, []) == 0
        assert ids(await other.claim(asks(TWO, at(1)))) == ["b", "d"]
        with pytest.raises(VersionConflictError):
            await fleet.save(step("a", 2))

    async def test_a_request_to_cancel_wakes_it_for_all(self, fleet: SharedStore, other: SharedStore) -> None:
        """L-D11: whichever worker claims first answers."""
        await fleet.create(new("a", status=Status.PARKED, wake_at=at(500)))
        await fleet.request_cancel(key("a"), at(3))
        (row,) = await other.claim(asks(TWO, at(3)))
        assert row.cancel is CancelState.REQUESTED

    async def test_an_operators_write_interrupts_the_owner(self, fleet: SharedStore, other: SharedStore) -> None:
        """L-S4: a retry by hand takes the action from whoever drives it."""
        await fleet.create(new("a"))
        await fleet.claim(asks(ONE))
        await other.save(step("a", 2, status=Status.PARKED, wake_at=at(1), event="retry_now"))
        with pytest.raises(VersionConflictError):
            await fleet.save(step("a", 2))
        assert ids(await other.claim(asks(TWO, at(1)))) == ["a"]
