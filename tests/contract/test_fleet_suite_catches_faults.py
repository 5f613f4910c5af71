"""The contract of shared stores fails on one that breaks it: each fault here is one that a real store could have."""

from __future__ import annotations

import inspect
from asyncio import sleep
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_memory_store import TestSharedMemoryStore as SharedContract
from wallet_actions.checkpoint import Checkpoint
from wallet_actions.fleet import Claim, Limit
from wallet_actions_storage.memory import MemoryStore, sharing
from wallet_actions_storage.memory.tables import Record, Tables

pytestmark = pytest.mark.anyio

Install = Callable[[pytest.MonkeyPatch], None]
_claim, _own, _write = sharing.claim, sharing.own, MemoryStore._write


def raises_no_version(patch: pytest.MonkeyPatch) -> None:
    def claim(tables: Tables, claim: Claim, after: Any) -> Any:
        rows, after = _claim(tables, claim, after)
        for row in rows:
            tables.records[row.key].version -= 1
        return [tables.records[row.key].checkpoint() for row in rows], after

    patch.setattr(sharing, "claim", claim)


def looks_and_takes_in_two_turns(patch: pytest.MonkeyPatch) -> None:
    async def claim(self: MemoryStore, claim: Claim) -> list[Checkpoint]:
        tables = self._tables
        await sleep(0)
        due = [row for row in tables.rows if row.status.value == "running" and row.owner is None][: claim.limit]
        await sleep(0)
        for record in due:
            _own(tables, record, claim.owner, claim.at + claim.lease)
            record.version += 1
        return [record.checkpoint() for record in due]

    patch.setattr(MemoryStore, "claim", claim)


def heeds_no_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sharing, "_is_live", lambda until, at: False)


def never_lapses(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sharing, "_is_live", lambda until, at: until is not None)


def believes_every_clock(patch: pytest.MonkeyPatch) -> None:
    def is_live(until: datetime | None, at: datetime) -> bool:
        return until is not None and at < until

    patch.setattr(sharing, "_is_live", is_live)


def takes_what_is_not_due(patch: pytest.MonkeyPatch) -> None:
    def lane(tables: Tables, lane: Any, at: datetime, latest: datetime) -> list[Record]:
        return [tables.rows[row - 1] for _, row in tables.lanes[lane].after(None)]

    patch.setattr(sharing, "_lane", lambda *where: iter(lane(*where)))


def keeps_the_owner(patch: pytest.MonkeyPatch) -> None:
    def write(self: MemoryStore, write: Any) -> Any:
        record = self._tables.records.get(write.checkpoint.key)
        owner, until = (record.owner, record.lease_until) if record is not None else (None, None)
        saved = _write(self, write)
        if record is not None and owner is not None and record.owner is None:
            _own(self._tables, record, owner, until)
        return saved

    patch.setattr(MemoryStore, "_write", write)


def loses_the_owner_while_it_runs(patch: pytest.MonkeyPatch) -> None:
    def write(self: MemoryStore, write: Any) -> Any:
        saved = _write(self, write)
        _own(self._tables, self._tables.records[write.checkpoint.key], None, None)
        return saved

    patch.setattr(MemoryStore, "_write", write)


def ignores_pauses(patch: pytest.MonkeyPatch) -> None:
    def is_open(self: Any, kind: str, *, is_late: bool = False) -> bool:
        return kind in self._claim.schemas

    patch.setattr(sharing._Rooms, "is_open", is_open)


def takes_what_it_cannot_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sharing._Rooms, "admit", lambda self, record: True)


def serves_in_order_of_time_alone(patch: pytest.MonkeyPatch) -> None:
    def due(tables: Tables, claim: Claim, rooms: Any, after: Any) -> list[Record]:
        rows = [row for row in tables.rows if row.owner is None and sharing._is_due(row, claim.at)]
        return sorted(rows, key=lambda row: (row.written.wake_at or row.created_at, row.row))

    patch.setattr(sharing, "_due", due)


def begins_with_the_same_lane(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sharing, "lane_of", lambda record: ("", ""))


def counts_no_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Limit, "room", lambda self, held, since, at: None)


def limits_each_claim_by_itself(patch: pytest.MonkeyPatch) -> None:
    room, rate_room = Limit.room, Limit.rate_room
    patch.setattr(Limit, "room", lambda self, held, since, at: room(self, 0, None, at))
    patch.setattr(Limit, "rate_room", lambda self, since, at: rate_room(self, None, at))


def forgets_what_lapsed(patch: pytest.MonkeyPatch) -> None:
    def room(self: Any, kind: str, limit: Limit) -> int | None:
        claim, rows = self._claim, self._tables.owned.values()
        live = (sharing._is_live(one.lease_until, claim.at) for some in rows for one in some.values())
        return limit.room(sum(live), self._tables.spent.get(kind), claim.at)

    patch.setattr(sharing._Rooms, "_room", room)


def saves_up_what_is_not_used(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Limit, "_accrued_since", lambda self, since, at: since or at - timedelta(seconds=1))


def renews_what_is_others(patch: pytest.MonkeyPatch) -> None:
    def renew(tables: Tables, worker: Any, at: datetime, lease: timedelta) -> Any:
        for rows in tables.owned.values():
            for record in rows.values():
                record.lease_until = at + lease
        return frozenset(record.key for rows in tables.owned.values() for record in rows.values())

    patch.setattr(sharing, "renew", renew)


def shortens_leases(patch: pytest.MonkeyPatch) -> None:
    _renew = sharing.renew

    def renew(tables: Tables, worker: Any, at: datetime, lease: timedelta) -> Any:
        owned = _renew(tables, worker, at, lease)
        for key in owned:
            tables.records[key].lease_until = at + lease
        return owned

    patch.setattr(sharing, "renew", renew)


def lets_others_go(patch: pytest.MonkeyPatch) -> None:
    def let_go(tables: Tables, owner: str, keys: Any) -> int:
        for record in [record for rows in tables.owned.values() for record in rows.values()]:
            _own(tables, record, None, None)
        return 1

    patch.setattr(sharing, "let_go", let_go)


CAUGHT: list[tuple[Install, str]] = [
    (raises_no_version, "test_a_zombie_writes_nothing"),
    (raises_no_version, "test_what_is_due_is_claimed"),
    (looks_and_takes_in_two_turns, "test_never_two_at_once"),
    (heeds_no_lease, "test_what_somebody_holds_is_left_alone"),
    (heeds_no_lease, "test_a_start_with_an_owner"),
    (never_lapses, "test_a_lapsed_lease_is_taken_over"),
    (never_lapses, "test_a_parked_action_that_was_claimed_and_left_is_taken_over"),
    (believes_every_clock, "test_a_lease_that_no_right_clock_gave_holds_up_nobody"),
    (takes_what_is_not_due, "test_what_is_due_is_claimed"),
    (keeps_the_owner, "test_what_parks_is_anybodys_when_it_is_due"),
    (keeps_the_owner, "test_an_end_clears_the_owner"),
    (loses_the_owner_while_it_runs, "test_the_owner_stays_while_it_runs_and_goes_when_it_waits"),
    (ignores_pauses, "test_paused_kinds_are_left_alone"),
    (takes_what_it_cannot_read, "test_a_rolling_upgrade"),
    (takes_what_it_cannot_read, "test_what_lapsed_and_is_newer_is_left_alone"),
    (serves_in_order_of_time_alone, "test_a_tenant_with_many_does_not_hold_up_the_others"),
    (serves_in_order_of_time_alone, "test_a_kind_with_many_does_not_hold_up_the_others"),
    (begins_with_the_same_lane, "test_many_tenants_all_get_their_turn"),
    (counts_no_limit, "test_a_limit_on_how_many_at_once"),
    (limits_each_claim_by_itself, "test_a_limit_on_how_many_at_once"),
    (limits_each_claim_by_itself, "test_a_limit_on_how_often"),
    (forgets_what_lapsed, "test_what_lapsed_counts_until_it_is_taken_over_and_needs_no_room_then"),
    (saves_up_what_is_not_used, "test_a_limit_on_how_often"),
    (renews_what_is_others, "test_a_renewal_prolongs_all_that_is_held"),
    (shortens_leases, "test_a_renewal_prolongs_all_that_is_held"),
    (lets_others_go, "test_what_is_let_go_is_due_at_once"),
]


async def run(name: str, tmp_path: Path) -> None:
    """Run one test of the suite on the memory store, for all its parameters, and let its failure out."""
    test = getattr(SharedContract, name)
    cases: list[dict[str, Any]] = [{}]
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize":
            cases = [{mark.args[0]: value} for value in mark.args[1]]
    for case in cases:
        contract = SharedContract()
        async with contract.make_store(tmp_path) as fleet, contract.make_store(tmp_path) as other:
            given = {"fleet": fleet, "other": other, **case}
            await test(contract, **{one: given[one] for one in inspect.signature(test).parameters if one != "self"})


@pytest.mark.parametrize("name", sorted({name for _, name in CAUGHT}))
async def test_the_sound_store_passes(name: str, tmp_path: Path) -> None:
    await run(name, tmp_path)


@pytest.mark.parametrize(("fault", "name"), CAUGHT, ids=lambda value: getattr(value, "__name__", value))
async def test_a_fault_is_caught(fault: Install, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    with pytest.raises((AssertionError, ValueError, pytest.fail.Exception)):
        await run(name, tmp_path)
