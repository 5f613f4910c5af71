# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of `create`, `save`, `finish` and `load`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wallet_actions.checkpoint import CancelState, ErrorRecord, Status
from wallet_actions.coins import Fact
from wallet_actions.errors import UsageError, VersionConflictError
from wallet_actions.store import Delta, NewAction, Store
from wallet_actions.testing.contract.base import (
    KIND,
    T0,
    StoreHooks,
    at,
    checkpoint,
    coin,
    done,
    everything,
    key,
    new,
    step,
)


class CreateContract(StoreHooks):
    """Starting an action."""

    async def test_create_writes_the_first_checkpoint(self, store: Store) -> None:
        """L-S1: the row, its history and its delta are there when `create` returns."""
        given = new("a", Delta(add=(coin("c"),), reserve=("c",), facts=(Fact("f", "k"),), counters=(("n", 3),)))
        created = await store.create(given)
        assert created.is_new
        assert created.checkpoint.row > 0
        assert created.checkpoint == replace(given.checkpoint, row=created.checkpoint.row)
        assert await store.load(key("a")) == created.checkpoint
        assert [(found.id, found.holder) for found in await store.coins()] == [("c", key("a"))]
        assert [fact for _, fact in await store.facts()] == [Fact("f", "k")]
        assert await store.counters() == {"n": 3}

    async def test_create_is_idempotent_by_kind_and_id(self, store: Store) -> None:
        """G6, L-S11: the second start answers with the row as it stands and writes nothing of its delta."""
        await store.create(new("a"))
        await store.save(step("a", 1, time=at(1)))
        before = await everything(store)
        delta = Delta(
            add=(coin("c"),), facts=(Fact("f", "k"),), counters=(("n", 1),), start=(new("child"),), reserve=("unknown",)
        )
        again = await store.create(new("a", delta, notes=("again",)))
        assert not again.is_new
        assert again.checkpoint == await store.load(key("a"))
        assert again.checkpoint.version == 1
        assert await everything(store) == before

    async def test_ids_of_two_kinds_are_apart(self, store: Store) -> None:
        """G6: an action is named by its kind and its id together."""
        assert (await store.create(new("a", kind="one"))).is_new
        assert (await store.create(new("a", kind="two"))).is_new

    @pytest.mark.parametrize("status", [Status.DONE, Status.FAILED, Status.CANCELLED])
    async def test_a_finished_action_is_not_started_again(self, store: Store, status: Status) -> None:
        """G6, L-D5: also after the end, and after its details are pruned, its id answers with how it ended."""
        reason = ErrorRecord("RejectedError", "the invoice has expired")
        await store.create(new("a"))
        await store.finish(step("a", 1, status=status, result='{"paid":1}', error=reason))
        for _ in range(2):
            again = await store.create(new("a", Delta(add=(coin("c"),))))
            assert not again.is_new
            found = again.checkpoint
            assert (found.status, found.result, found.error, found.version) == (status, '{"paid":1}', reason, 1)
            assert await store.coins() == []
            await store.prune(at(100))
        assert again.checkpoint.state is None

    @pytest.mark.parametrize("version", [1, -1])
    async def test_an_action_starts_at_version_0(self, store: Store, version: int) -> None:
        """L-S2: at any other one its history would have a gap; the same for a child, and nothing of the unit stands."""
        late = NewAction(checkpoint("late", version))
        for unit in (late, new("parent", Delta(start=(late,)))):
            with pytest.raises(UsageError):
                await store.create(unit)
        assert await store.list_actions() == []
        assert (await store.create(new("late"))).is_new

    async def test_a_time_without_a_zone_is_refused(self, store: Store) -> None:
        """Times are UTC: one that carries no zone cannot be put in order with the others."""
        naive = at(1).replace(tzinfo=None)
        await store.create(new("a"))
        for time, wake_at in ((naive, None), (at(1), naive)):
            with pytest.raises(UsageError):
                await store.create(new("b", status=Status.PARKED, time=time, wake_at=wake_at))
            with pytest.raises(UsageError):
                await store.save(step("a", 1, status=Status.PARKED, time=time, wake_at=wake_at))
        with pytest.raises(UsageError):
            await store.finish(step("a", 1, status=Status.DONE, time=naive))
        assert [(row.id, row.version) for row in await store.list_actions()] == [("a", 0)]

    async def test_rows_grow_in_the_order_of_starting(self, store: Store) -> None:
        """`Checkpoint.row` is a cursor: a child comes after its parent, and a later start after both."""
        first = await store.create(new("a", Delta(start=(new("child"), new("second child")))))
        last = await store.create(new("b"))
        child, second = await store.load(key("child")), await store.load(key("second child"))
        assert child is not None
        assert second is not None
        rows = [first.checkpoint.row, child.row, second.row, last.checkpoint.row]
        assert rows == sorted(set(rows))
        assert rows[0] > 0

    async def test_an_unknown_action_is_none(self, store: Store) -> None:
        """`load` tells what is not there, and what is there under another kind, by None."""
        await store.create(new("a", kind="other"))
        assert await store.load(key("a")) is None
        assert await store.history(key("a")) == []


class SaveContract(StoreHooks):
    """Saving and finishing."""

    async def test_save_writes_the_row_and_counts_up(self, store: Store) -> None:
        """L-S2, L-S10: what the driver wrote stands, with the version after the expected one."""
        await store.create(new("a"))
        error = ErrorRecord("TransientError", "the mint did not answer")
        row = replace(
            checkpoint("a", 1, status=Status.PARKED, time=at(5), wake_at=at(9), state='{"n":1}', error=error),
            schema_version=7,
            attempts=3,
            faults=2,
        )
        saved = await store.save(replace(step("a", 1), checkpoint=row))
        assert saved == (1, False)
        found = await store.load(key("a"))
        assert found is not None
        assert found == replace(row, row=found.row, created_at=T0)

    async def test_a_save_replaces_every_field(self, store: Store) -> None:
        """L-S10: a wake time, an error, attempts and faults of the version before do not linger."""
        await store.create(new("a"))
        row = checkpoint("a", 1, status=Status.PARKED, wake_at=at(9), error=ErrorRecord("E", "m"))
        await store.save(replace(step("a", 1), checkpoint=replace(row, attempts=3, faults=2)))
        await store.save(step("a", 2))
        found = await store.load(key("a"))
        assert found is not None
        assert (found.wake_at, found.error, found.attempts, found.faults) == (None, None, 0, 0)

    async def test_a_save_keeps_what_the_store_owns(self, store: Store) -> None:
        """`cancel`, `created_at`, `traceparent`, `owner`, `lease_until` and `row` are not written by a save."""
        first = replace(checkpoint("a"), traceparent="00-trace", owner="worker", lease_until=at(60))
        created = await store.create(replace(new("a"), checkpoint=first))
        await store.request_cancel(key("a"), at(1))
        other = replace(
            checkpoint("a", 1, time=at(2)),
            created_at=at(77),
            traceparent="00-other",
            owner="thief",
            lease_until=at(99),
            row=4711,
            cancel=CancelState.ACCEPTED,
        )
        await store.save(replace(step("a", 1), checkpoint=other))
        found = await store.load(key("a"))
        assert found is not None
        assert (found.created_at, found.traceparent, found.owner, found.lease_until) == (
            T0,
            "00-trace",
            "worker",
            at(60),
        )
        assert (found.row, found.cancel) == (created.checkpoint.row, CancelState.REQUESTED)

    @pytest.mark.parametrize("version", [1, 2, 4, 5])
    async def test_a_lost_version_check_raises_and_writes_nothing(self, store: Store, version: int) -> None:
        """G2, L-S2, L-S4: at version 2 only "2 becomes 3" is accepted, whatever else is in the unit."""
        await store.create(new("a", Delta(add=(coin("c"),))))
        await store.save(step("a", 1))
        await store.save(step("a", 2))
        before = await everything(store)
        delta = Delta(
            add=(coin("d"),), reserve=("c",), facts=(Fact("f", "k"),), counters=(("n", 9),), start=(new("child"),)
        )
        with pytest.raises(VersionConflictError) as caught:
            await store.save(step("a", version, delta))
        assert (caught.value.kind, caught.value.id, caught.value.expected_version) == (KIND, "a", version - 1)
        with pytest.raises(VersionConflictError):
            await store.finish(step("a", version, delta, status=Status.DONE))
        assert await everything(store) == before

    async def test_a_late_driver_is_told_of_the_conflict_first(self, store: Store) -> None:
        """L-S4: that its coins and facts are no longer its own is no fault of an action that went on elsewhere."""
        await store.create(new("a", Delta(add=(coin("c"),), reserve=("c",))))
        await store.save(step("a", 1, Delta(release=("c",))))
        await store.create(new("b", Delta(reserve=("c",), facts=(Fact("f", "k", "[1]"),))))
        for delta in (
            Delta(spend=("c",)),
            Delta(release=("c",)),
            Delta(reserve=("c",)),
            Delta(facts=(Fact("f", "k", "[2]"),)),
            Delta(start=(new("child", Delta(reserve=("c",))),)),
        ):
            with pytest.raises(VersionConflictError):
                await store.save(step("a", 1, delta))

    async def test_a_save_never_inserts(self, store: Store) -> None:
        """L-S2: a row that does not exist is a conflict, not a new row."""
        before = await everything(store)
        for version in (1, 2):
            with pytest.raises(VersionConflictError):
                await store.save(step("ghost", version))
            with pytest.raises(VersionConflictError):
                await store.finish(step("ghost", version, status=Status.FAILED))
        assert await everything(store) == before

    @pytest.mark.parametrize("status", [Status.DONE, Status.FAILED, Status.CANCELLED])
    async def test_the_end_is_final(self, store: Store, status: Status) -> None:
        """L-S9: a late failure never overwrites a success, and nothing goes on after the end, at whatever version."""
        await store.create(new("a"))
        await store.finish(step("a", 1, status=status, result='"first"'))
        before = await everything(store)
        for version in (1, 2, 3):
            with pytest.raises(VersionConflictError):
                await store.save(step("a", version))
            for late in (Status.DONE, Status.FAILED, Status.CANCELLED):
                with pytest.raises(VersionConflictError):
                    await store.finish(step("a", version, status=late, result='"late"'))
        assert await everything(store) == before
        await store.prune(at(100))
        with pytest.raises(VersionConflictError):
            await store.save(step("a", 2))

    async def test_save_and_finish_are_told_apart(self, store: Store) -> None:
        """A terminal status belongs to `finish`, any other to `save`: a `UsageError`, and nothing written."""
        await store.create(new("a"))
        before = await everything(store)
        for status in Status:
            method = store.save if status.is_terminal else store.finish
            with pytest.raises(UsageError):
                await method(step("a", 1, Delta(add=(coin("c"),)), status=status))
        assert await everything(store) == before

    @pytest.mark.parametrize("status", [status for status in Status if not status.is_terminal])
    async def test_every_status_can_be_saved(self, store: Store, status: Status) -> None:
        """An action that is stuck, paused or quarantined goes on from there (G9)."""
        await store.create(new("a"))
        await store.save(step("a", 1, status=status))
        found = await store.load(key("a"))
        assert found is not None
        assert found.status is status
        assert await store.save(step("a", 2)) == (2, False)

    async def test_finish_keeps_the_result(self, store: Store) -> None:
        """G7, L-D5: status, result and error stand after the end."""
        await store.create(new("a"))
        assert await done(store, "a") == (1, False)
        found = await store.load(key("a"))
        assert found is not None
        assert (found.status, found.result, found.version) == (Status.DONE, '"ok"', 1)

    async def test_finish_takes_a_whole_delta(self, store: Store) -> None:
        """L-S1, L-S12: coins, facts, counters and children of the last write are there with it."""
        await store.create(new("a", Delta(add=(coin("old"),), reserve=("old",))))
        delta = Delta(
            add=(coin("change"),),
            spend=("old",),
            counters=(("n", 2),),
            facts=(Fact("payment", "hash"),),
            start=(new("child", Delta(reserve=("change",))),),
        )
        await store.finish(step("a", 1, delta, status=Status.DONE))
        change, old = await store.coins()
        assert (change.holder, old.holder, old.state.value) == (key("child"), key("a"), "spent")
        assert await store.counters() == {"n": 2}
        assert [fact.key for _, fact in await store.facts()] == ["hash"]

    async def test_the_clock_may_go_back(self, store: Store) -> None:
        """L-B5: the time of the last write of an action, and of its history, never goes back."""
        await store.create(new("a", time=at(100)))
        await store.save(step("a", 1, time=at(50)))
        found = await store.load(key("a"))
        assert found is not None
        assert (found.created_at, found.updated_at) == (at(100), at(100))
        await store.save(step("a", 2, time=at(150)))
        await store.request_cancel(key("a"), at(10))
        await store.finish(step("a", 3, status=Status.FAILED, time=at(20)))
        found = await store.load(key("a"))
        assert found is not None
        assert (found.created_at, found.updated_at) == (at(100), at(150))
        assert [entry.at for entry in await store.history(key("a"))] == [at(100), at(100), at(150), at(150)]
