# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of requests to cancel, of history, and of children."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from wallet_actions.checkpoint import CancelState, ErrorRecord, HistoryEntry, Status, Wake
from wallet_actions.coins import Coin, Fact
from wallet_actions.errors import ReservationError, VersionConflictError
from wallet_actions.store import Delta, Store
from wallet_actions.testing.contract.base import (
    T0,
    StoreHooks,
    at,
    checkpoint,
    coin,
    done,
    everything,
    key,
    new,
    pages,
    step,
)


class CancelContract(StoreHooks):
    """Requests to cancel."""

    async def test_a_request_leaves_the_version_alone(self, store: Store) -> None:
        """L-D11, L-S5: the driver's next write goes through, and tells of the request."""
        await store.create(new("a"))
        assert await store.request_cancel(key("a"), at(1))
        found = await store.load(key("a"))
        assert found is not None
        assert (found.version, found.cancel) == (0, CancelState.REQUESTED)
        assert len(await store.history(key("a"))) == 1
        assert await store.save(step("a", 1)) == (1, True)

    async def test_a_save_does_not_lose_a_request(self, store: Store) -> None:
        """L-D11: a write that says nothing of it leaves the request standing, and every answer repeats it."""
        await store.create(new("a"))
        await store.request_cancel(key("a"), at(1))
        for version in (1, 2, 3):
            assert await store.save(step("a", version, time=at(2))) == (version, True)
        found = await store.load(key("a"))
        assert found is not None
        assert found.cancel is CancelState.REQUESTED

    @pytest.mark.parametrize("answer", [CancelState.NONE, CancelState.ACCEPTED])
    async def test_a_write_answers_a_request(self, store: Store, answer: CancelState) -> None:
        """L-D11: `Write.cancel` sets the state with the transition, and the answer shows it."""
        await store.create(new("a"))
        await store.request_cancel(key("a"), at(1))
        assert await store.save(step("a", 1, cancel=answer)) == (1, False)
        found = await store.load(key("a"))
        assert found is not None
        assert found.cancel is answer
        assert await store.save(step("a", 2)) == (2, False)

    async def test_a_conflict_does_not_answer_a_request(self, store: Store) -> None:
        """L-D11: the answer is fenced by the version."""
        await store.create(new("a"))
        await store.save(step("a", 1))
        await store.request_cancel(key("a"), at(1))
        with pytest.raises(VersionConflictError):
            await store.save(step("a", 1, cancel=CancelState.NONE))
        found = await store.load(key("a"))
        assert found is not None
        assert found.cancel is CancelState.REQUESTED

    async def test_a_request_may_come_twice(self, store: Store) -> None:
        """L-D11: it is idempotent, a refused one may be made again, and an accepted one stays accepted."""
        await store.create(new("a"))
        assert await store.request_cancel(key("a"), at(1))
        assert await store.request_cancel(key("a"), at(2))
        assert await store.save(step("a", 1, cancel=CancelState.NONE)) == (1, False)
        assert await store.request_cancel(key("a"), at(3))
        assert await store.save(step("a", 2)) == (2, True)
        await store.save(step("a", 3, cancel=CancelState.ACCEPTED))
        assert await store.request_cancel(key("a"), at(4))
        found = await store.load(key("a"))
        assert found is not None
        assert found.cancel is CancelState.ACCEPTED
        assert await store.save(step("a", 4)) == (4, False)

    async def test_a_request_wakes_a_parked_action(self, store: Store) -> None:
        """L-D11: it is due at once, so that its driver comes to answer; when it parked is told as before."""
        rows = {name: (await store.create(new(name))).checkpoint.row for name in ("idle", "late", "early", "runs")}
        for name, wake_at in (("idle", None), ("late", at(60)), ("early", at(3))):
            await store.save(step(name, 1, status=Status.PARKED, time=at(2), wake_at=wake_at))
        await store.save(step("runs", 1, time=at(2)))
        for seconds in (5, 7):
            for name in rows:
                assert await store.request_cancel(key(name), at(seconds))
        due = (("early", at(3)), ("idle", at(5)), ("late", at(5)))
        assert await store.wakes(until=at(5)) == [Wake(key(name), wake_at, at(2), rows[name]) for name, wake_at in due]
        assert await store.idle() == []
        assert [wake.key.id for wake in await store.running(before=at(60))] == ["runs"]
        for name in rows:
            found = await store.load(key(name))
            assert found is not None
            assert (found.version, found.wake_at) == (1, dict(due).get(name))

    async def test_a_request_wakes_until_it_is_accepted(self, store: Store) -> None:
        """L-D11, G8: asking again wakes again; once it is accepted, the roll-back keeps its own back-off."""
        await store.create(new("a"))
        await store.request_cancel(key("a"), at(1))
        await store.save(step("a", 1, status=Status.PARKED, wake_at=at(60)))
        await store.request_cancel(key("a"), at(2))
        assert [wake.wake_at for wake in await store.wakes(until=None)] == [at(2)]
        await store.save(step("a", 2, status=Status.PARKED, wake_at=at(60), cancel=CancelState.ACCEPTED))
        assert await store.request_cancel(key("a"), at(3))
        assert [wake.wake_at for wake in await store.wakes(until=None)] == [at(60)]

    async def test_what_has_ended_or_never_was_cannot_be_cancelled(self, store: Store) -> None:
        """L-D11, L-S9: the answer is False, and nothing is written."""
        await store.create(new("a"))
        await done(store, "a")
        before = await everything(store)
        assert not await store.request_cancel(key("a"), at(9))
        assert not await store.request_cancel(key("ghost"), at(9))
        assert await everything(store) == before

    async def test_a_finish_tells_of_a_request_that_came_too_late(self, store: Store) -> None:
        """L-D11: the end stands; the answer says that somebody had asked."""
        await store.create(new("a"))
        await store.request_cancel(key("a"), at(1))
        assert await done(store, "a") == (1, True)


class HistoryContract(StoreHooks):
    """What is told of an action's past."""

    async def test_history_holds_every_version_once(self, store: Store) -> None:
        """L-S1, L-S11: each write left one entry, with its event, phase, status, attempts, error and notes."""
        error = ErrorRecord("TransientError", "the mint did not answer")
        await store.create(new("a", notes=("by hand", "by hand")))
        parked = replace(checkpoint("a", 1, status=Status.PARKED, time=at(1), error=error), attempts=2)
        await store.save(replace(step("a", 1, event="retry", notes=("", "será ✓")), checkpoint=parked))
        await store.save(step("a", 2, time=at(2)))
        await store.finish(step("a", 3, status=Status.DONE, time=at(3), event="done"))
        assert await store.history(key("a")) == [
            HistoryEntry(0, T0, "start", Status.RUNNING, "phase_0", notes=("by hand", "by hand")),
            HistoryEntry(1, at(1), "retry", Status.PARKED, "phase_1", 2, error, ("", "será ✓")),
            HistoryEntry(2, at(2), "next", Status.RUNNING, "phase_2"),
            HistoryEntry(3, at(3), "done", Status.DONE, "phase_3"),
        ]

    async def test_history_is_read_in_pages(self, store: Store) -> None:
        """The cursor is the version last seen, -1 to begin; no other action's past is in it."""
        await store.create(new("a"))
        await store.create(new("b"))
        for version in range(1, 8):
            await store.save(step("a", version))

        async def read(last: HistoryEntry | None) -> Sequence[HistoryEntry]:
            return await store.history(key("a"), after=-1 if last is None else last.version, limit=3)

        versions = [[entry.version for entry in page] async for page in pages(read, 3)]
        assert versions == [[0, 1, 2], [3, 4, 5], [6, 7]]

    async def test_children_have_a_history(self, store: Store) -> None:
        """L-S11: a child is started with the same entry as an action that the app starts."""
        await store.create(new("a", Delta(start=(new("child", notes=("from a",), time=at(4)),))))
        assert await store.history(key("child")) == [
            HistoryEntry(0, at(4), "start", Status.RUNNING, "phase_0", notes=("from a",))
        ]


class ChildContract(StoreHooks):
    """Further actions that a unit starts."""

    async def test_children_start_with_their_own_delta(self, store: Store) -> None:
        """L-S1: a child may use what the parent adds or frees in the same unit, and holds what it reserves."""
        await store.create(new("a", Delta(add=(coin("old"),), reserve=("old",))))
        grandchild = new("grandchild", Delta(reserve=("more",)))
        child = new("child", Delta(add=(coin("more"),), reserve=("old", "fresh"), start=(grandchild,)))
        await store.save(step("a", 1, Delta(add=(coin("fresh"),), release=("old",), start=(child,))))
        holders = {found.id: found.holder for found in await store.coins()}
        assert holders == {"old": key("child"), "fresh": key("child"), "more": key("grandchild")}
        found = await store.load(key("child"))
        assert found is not None
        assert found == replace(child.checkpoint, row=found.row)

    async def test_a_child_that_exists_is_left_alone(self, store: Store) -> None:
        """G6: its row stands, and the delta that came with it is dropped; the rest of the unit is written."""
        await store.create(new("child"))
        await store.save(step("child", 1))
        await store.create(new("ended"))
        await done(store, "ended")
        before = await everything(store)
        again = Delta(add=(Coin("c", "m", "sat", 1),), facts=(Fact("f", "k"),), reserve=("unknown",))
        delta = Delta(start=(new("child", again), new("ended", again), new("fresh"), new("fresh", again)))
        await store.create(new("a", delta))
        after = await everything(store)
        assert after[2:] == before[2:]
        assert [found.id for found in await store.list_actions()] == ["child", "ended", "a", "fresh"]
        assert len(await store.history(key("child"))) == 2

    async def test_a_parent_that_ends_frees_only_its_own(self, store: Store) -> None:
        """L-C4, L-C8: what the child holds stays held."""
        await store.create(new("a", Delta(add=(coin("c"), coin("d")), reserve=("c",))))
        child = new("child", Delta(reserve=("d",)))
        await store.finish(step("a", 1, Delta(start=(child,)), status=Status.FAILED))
        assert [(found.id, found.holder) for found in await store.coins()] == [("c", None), ("d", key("child"))]

    async def test_a_child_takes_over_what_its_parent_frees(self, store: Store) -> None:
        """L-S1, L-C2: at its end a parent hands coins over without a gap; while it goes on, they are its own."""
        await store.create(new("a", Delta(add=(coin("c"), coin("d")), reserve=("c", "d"))))
        heir = Delta(start=(new("child", Delta(reserve=("c",))),))
        with pytest.raises(ReservationError):
            await store.save(step("a", 1, heir))
        await store.finish(step("a", 1, heir, status=Status.DONE))
        assert [found.holder for found in await store.coins()] == [key("child"), None]
