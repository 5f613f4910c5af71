# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of claims: what is due, by name, one winner, and what is left alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from wallet_actions.checkpoint import CancelState, Status
from wallet_actions.errors import VersionConflictError
from wallet_actions.fleet import SharedStore
from wallet_actions.testing.contract.base import (
    KIND,
    at,
    done,
    holding,
    key,
    new,
    states,
    step,
)
from wallet_actions.testing.contract.workers import (
    ONE,
    THREE,
    TWO,
    FleetHooks,
    asks,
    ids,
)


class ClaimContract(FleetHooks):
    """Who gets what."""

    # What is claimed

    async def test_what_is_due_is_claimed(self, fleet: SharedStore) -> None:
        """Running ones that nobody holds, and parked ones whose time has come; owner, lease and version are new."""
        await fleet.create(new("running"))
        await fleet.create(new("due", status=Status.PARKED, wake_at=at(5)))
        await fleet.create(new("later", status=Status.PARKED, wake_at=at(5.000001)))
        await fleet.create(new("idle", status=Status.PARKED))
        for status in (Status.STUCK, Status.PAUSED, Status.QUARANTINED):
            await fleet.create(new(status.value, status=status))
        await fleet.create(new("done"))
        await done(fleet, "done")
        before = {row.id: row for row in await fleet.list_actions()}
        rows = await fleet.claim(asks(ONE, at(5)))
        assert ids(rows) == ["due", "running"]
        for row in rows:
            assert row == replace(before[row.id], version=1, owner=ONE, lease_until=at(35))
            assert row == await fleet.load(row.key)
        assert [row for row in await fleet.list_actions() if row.version != 1] == [
            before[name] for name in ("later", "idle", "stuck", "paused", "quarantined")
        ]

    async def test_a_claim_leaves_no_trace_in_the_past(self, fleet: SharedStore) -> None:
        """L-S11: the history tells of no claim, the time of the last write stays, and the story goes on behind it."""
        await fleet.create(new("a"))
        last = await fleet.last_write_at()
        await fleet.claim(asks(ONE, at(100)))
        assert [entry.version for entry in await fleet.history(key("a"))] == [0]
        assert await fleet.last_write_at() == last
        await fleet.save(step("a", 2, time=at(101)))
        await fleet.save(step("a", 3, time=at(102)))
        assert [entry.version for entry in await fleet.history(key("a"))] == [0, 2, 3]
        assert [entry.version for entry in await fleet.history(key("a"), after=1)] == [2, 3]
        assert [entry.version for entry in await fleet.history(key("a"), after=2, limit=1)] == [3]

    async def test_no_more_than_asked_for(self, fleet: SharedStore) -> None:
        """And the rest is there for whoever asks next."""
        for n in range(5):
            await fleet.create(new(f"{n}"))
        assert await fleet.claim(asks(ONE, limit=0)) == []
        first = await fleet.claim(asks(ONE, limit=3))
        rest = await fleet.claim(asks(TWO, limit=3))
        assert (len(first), len(rest)) == (3, 2)
        assert ids([*first, *rest]) == ["0", "1", "2", "3", "4"]
        assert await fleet.claim(asks(THREE)) == []

    async def test_a_claim_survives(self, fleet: SharedStore, other: SharedStore) -> None:
        """G7: another worker sees it, coins and cancel requests stay as they are."""
        await holding(fleet, "a", "c")
        await fleet.request_cancel(key("a"), at(1))
        (row,) = await fleet.claim(asks(ONE, at(2)))
        assert row.cancel is CancelState.REQUESTED
        assert await other.load(key("a")) == row
        assert await states(other, "c") == [("reserved", key("a"))]

    # One winner

    async def test_never_two_at_once(self, fleet: SharedStore, other: SharedStore) -> None:
        """G2: of many claims at the same moment one gets each version."""
        for n in range(40):
            await fleet.create(new(f"{n:02}"))
        answers = await asyncio.gather(
            *(store.claim(asks(f"{n}", limit=7)) for n in range(6) for store in (fleet, other))
        )
        got = [row for rows in answers for row in rows]
        assert ids(got) == [f"{n:02}" for n in range(40)]
        assert {row.version for row in got} == {1}
        for row in got:
            assert await fleet.load(row.key) == row

    async def test_what_somebody_holds_is_left_alone(self, fleet: SharedStore, other: SharedStore) -> None:
        """Until the lease has lapsed, by nobody but by the worker itself by name."""
        await fleet.create(new("a"))
        await fleet.claim(asks(ONE))
        assert await other.claim(asks(TWO, at(29.999999))) == []
        assert await other.claim(asks(TWO, at(29), keys=[key("a")])) == []
        assert await other.claim(asks(ONE, at(29))) == []
        assert await other.claim(asks(ONE, at(31))) == []
        (again,) = await other.claim(asks(ONE, at(29), keys=[key("a")]))
        assert (again.version, again.lease_until) == (2, at(59))
        with pytest.raises(VersionConflictError):
            await fleet.save(step("a", 2))

    # By name

    async def test_a_claim_by_name(self, fleet: SharedStore) -> None:
        """Due or not, also what is stuck or idle; not what is paused, has ended, or is not there."""
        await fleet.create(new("running"))
        await fleet.create(new("later", status=Status.PARKED, wake_at=at(500)))
        for status in (Status.PARKED, Status.STUCK, Status.QUARANTINED, Status.PAUSED):
            await fleet.create(new(status.value, status=status))
        await fleet.create(new("done"))
        await done(fleet, "done")
        names = ["running", "later", "parked", "stuck", "quarantined", "paused", "done", "nobody", "running"]
        rows = await fleet.claim(asks(ONE, keys=[key(name) for name in names]))
        assert ids(rows) == ["later", "parked", "quarantined", "running", "stuck"]
        assert {row.version for row in rows} == {1}
        assert await fleet.claim(asks(TWO, keys=[])) == []

    # What is left alone

    async def test_paused_kinds_are_left_alone(self, fleet: SharedStore) -> None:
        """By name, too; also what was held when its kind was paused."""
        await fleet.create(new("a"))
        await fleet.create(new("b"))
        await fleet.claim(asks(ONE, keys=[key("a")]))
        await fleet.set_kind_paused(KIND, True)
        assert await fleet.claim(asks(TWO, at(100))) == []
        assert await fleet.claim(asks(TWO, at(100), keys=[key("a"), key("b")])) == []
        await fleet.set_kind_paused(KIND, False)
        assert ids(await fleet.claim(asks(TWO, at(100)))) == ["a", "b"]

    async def test_a_rolling_upgrade(self, fleet: SharedStore) -> None:
        """L-U2, G9: a worker leaves alone what its code does not know, and its turn is not lost on it."""
        for n in range(20):
            newer = new(f"newer-{n:02}")
            await fleet.create(replace(newer, checkpoint=replace(newer.checkpoint, schema_version=3)))
            await fleet.create(new(f"other-{n:02}", kind="other"))
        await fleet.create(new("a"))
        assert ids(await fleet.claim(asks(ONE, limit=5))) == ["a"]
        assert await fleet.claim(asks(ONE, schemas={KIND: 2}, keys=[key("newer-00"), key("other-00")])) == []
        assert await fleet.claim(asks(ONE, schemas={})) == []
        rows = await fleet.claim(asks(TWO, schemas={KIND: 3, "other": 1}))
        assert Counter(row.schema_version for row in rows) == {3: 20, 1: 20}

    async def test_what_lapsed_and_is_newer_is_left_alone(self, fleet: SharedStore) -> None:
        """L-U2: also what a newer worker left behind."""
        newer = new("a")
        await fleet.create(replace(newer, checkpoint=replace(newer.checkpoint, schema_version=2)))
        await fleet.claim(asks(ONE, schemas={KIND: 2}))
        assert await fleet.claim(asks(TWO, at(100))) == []
        assert ids(await fleet.claim(asks(TWO, at(100), schemas={KIND: 2}))) == ["a"]
