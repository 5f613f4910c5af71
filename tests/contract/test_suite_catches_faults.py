"""The contract suite fails on a store that breaks the contract: each fault here is one that a real store could have."""

from __future__ import annotations

import inspect
from asyncio import sleep
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_memory_store import TestMemoryStore as MemoryContract
from wallet_actions.checkpoint import CancelState, Checkpoint
from wallet_actions.coins import ActionKey, CoinState, Fact
from wallet_actions.store import Delta, Saved, Write
from wallet_actions_storage.memory import MemoryStore
from wallet_actions_storage.memory.tables import Record, Tables, with_holder
from wallet_actions_storage.memory.unit import Unit

pytestmark = pytest.mark.anyio

Install = Callable[[pytest.MonkeyPatch], None]
_write = MemoryStore._write


def skips_the_version_check(patch: pytest.MonkeyPatch) -> None:
    def write(self: MemoryStore, write: Write) -> Saved:
        record = self._tables.records.get((write.checkpoint.kind, write.checkpoint.id))
        if record is not None:
            record.version = write.expected_version
        return _write(self, write)

    patch.setattr(MemoryStore, "_write", write)


def inserts_on_save(patch: pytest.MonkeyPatch) -> None:
    def write(self: MemoryStore, write: Write) -> Saved:
        row = write.checkpoint
        if (row.kind, row.id) not in self._tables.records:
            self._tables.insert(Record(row, write.notes))
            return Saved(row.version, is_cancel_requested=False)
        return _write(self, write)

    patch.setattr(MemoryStore, "_write", write)


def goes_on_after_the_end(patch: pytest.MonkeyPatch) -> None:
    def write(self: MemoryStore, write: Write) -> Saved:
        record = self._tables.records.get((write.checkpoint.kind, write.checkpoint.id))
        if record is not None and record.status.is_terminal:
            self._tables.ended.remove((record.updated_at, record.row))
            record.status = type(record.status).STUCK
        return _write(self, write)

    patch.setattr(MemoryStore, "_write", write)


def checks_and_writes_in_two_turns(patch: pytest.MonkeyPatch) -> None:
    async def save(self: MemoryStore, write: Write) -> Saved:
        record = self._tables.records[write.checkpoint.key]
        is_current = record.version == write.expected_version
        await sleep(0)
        if is_current:
            record.version = write.expected_version
        return _write(self, write)

    patch.setattr(MemoryStore, "save", save)


def writes_coins_before_it_checks_facts(patch: pytest.MonkeyPatch) -> None:
    def change(self: Unit, key: ActionKey, delta: Delta) -> None:
        _change(self, key, replace(delta, facts=()))
        for coin in self._coins.values():
            self._tables.put_coin(coin)
        _change(self, key, Delta(facts=delta.facts))

    _change = Unit.change
    patch.setattr(Unit, "change", change)


def forgets_the_childs_failure(patch: pytest.MonkeyPatch) -> None:
    def start(self: Unit, delta: Delta) -> None:
        for child in delta.start:
            try:
                self.create(child)
            except Exception:  # noqa: BLE001 - the fault
                continue

    patch.setattr(Unit, "start", start)


def releases_others_coins(patch: pytest.MonkeyPatch) -> None:
    def release(self: Unit, key: ActionKey, coin_ids: tuple[str, ...]) -> None:
        for coin_id in coin_ids:
            coin = self._known(key, coin_id)
            if coin.state is CoinState.RESERVED:
                self._coins[coin_id] = with_holder(coin, CoinState.SPENDABLE, None)

    patch.setattr(Unit, "_release", release)


def frees_spent_coins_at_the_end(patch: pytest.MonkeyPatch) -> None:
    def release_all(self: Unit, key: ActionKey) -> None:
        for coin in self._tables.coins.values():
            if coin.holder == key:
                self._coins[coin.id] = with_holder(coin, CoinState.SPENDABLE, None)

    patch.setattr(Unit, "release_all", release_all)


def keeps_coins_at_the_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Unit, "release_all", lambda self, key: None)


def names_holders_by_id_alone(patch: pytest.MonkeyPatch) -> None:
    def change(self: Unit, key: ActionKey, delta: Delta) -> None:
        _change(self, ActionKey("pay", key.id), delta)

    _change = Unit.change
    patch.setattr(Unit, "change", change)


def reserves_what_it_can_get(patch: pytest.MonkeyPatch) -> None:
    def reserve(self: Unit, key: ActionKey, coin_ids: tuple[str, ...]) -> None:
        free = [coin_id for coin_id in coin_ids if self._known(key, coin_id).state is CoinState.SPENDABLE]
        _reserve(self, key, tuple(free))

    _reserve = Unit._reserve
    patch.setattr(Unit, "_reserve", reserve)


def writes_over_others_facts(patch: pytest.MonkeyPatch) -> None:
    def write_fact(self: Unit, key: ActionKey, fact: Fact) -> None:
        self._facts[fact.kind, fact.key] = (key, fact)

    patch.setattr(Unit, "_write_fact", write_fact)


def sets_counters_back(patch: pytest.MonkeyPatch) -> None:
    def change(self: Unit, key: ActionKey, delta: Delta) -> None:
        _change(self, key, delta)
        self._counters.update(delta.counters)

    _change = Unit.change
    patch.setattr(Unit, "change", change)


def loses_notes(patch: pytest.MonkeyPatch) -> None:
    def note(self: Record, event: str, notes: tuple[str, ...]) -> None:
        _note(self, event, ())

    _note = Record.note
    patch.setattr(Record, "note", note)


def loses_cancel_requests(patch: pytest.MonkeyPatch) -> None:
    def write(self: MemoryStore, write: Write) -> Saved:
        return _write(self, write if write.cancel is not None else replace(write, cancel=CancelState.NONE))

    patch.setattr(MemoryStore, "_write", write)


def follows_the_clock_back(patch: pytest.MonkeyPatch) -> None:
    def write(self: MemoryStore, write: Write) -> Saved:
        record = self._tables.records.get((write.checkpoint.kind, write.checkpoint.id))
        if record is not None:
            record.updated_at = min(record.updated_at, write.checkpoint.updated_at)
        return _write(self, write)

    patch.setattr(MemoryStore, "_write", write)


def cuts_times_to_seconds(patch: pytest.MonkeyPatch) -> None:
    def checkpoint(self: Record) -> Checkpoint:
        row = _checkpoint(self)
        return replace(row, created_at=row.created_at.replace(microsecond=0))

    _checkpoint = Record.checkpoint
    patch.setattr(Record, "checkpoint", checkpoint)


def pages_wakes_by_time_alone(patch: pytest.MonkeyPatch) -> None:
    async def wakes(self: MemoryStore, *, until: datetime | None, after: Any = None, limit: int = 100) -> Any:
        return await _wakes(self, until=until, after=after and replace(after, row=10**9), limit=limit)

    _wakes = MemoryStore.wakes
    patch.setattr(MemoryStore, "wakes", wakes)


def forgets_the_result_when_pruned(patch: pytest.MonkeyPatch) -> None:
    def prune(self: Record) -> None:
        _prune(self)
        self.written = replace(self.written, result=None)

    _prune = Record.prune
    patch.setattr(Record, "prune", prune)


def forgets_the_payload_of_coins_that_are_not_spent(patch: pytest.MonkeyPatch) -> None:
    async def prune(self: MemoryStore, before: datetime, *, limit: int = 500) -> int:
        for coin in list(self._tables.coins.values()):
            self._tables.coins[coin.id] = replace(coin, payload="")
        return await _prune(self, before, limit=limit)

    _prune = MemoryStore.prune
    patch.setattr(MemoryStore, "prune", prune)


def writes_in_two_turns(patch: pytest.MonkeyPatch) -> None:
    async def save(self: MemoryStore, write: Write) -> Saved:
        _write(self, replace(write, delta=Delta()))
        await sleep(0)
        unit = Unit(self._tables)
        unit.change(write.checkpoint.key, write.delta)
        unit.start(write.delta)
        unit.commit()
        return Saved(write.expected_version + 1, is_cancel_requested=False)

    patch.setattr(MemoryStore, "save", save)


def forgets_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    async def aenter(self: MemoryStore) -> MemoryStore:
        self._is_open = True
        self._tables.counters.clear()
        return self

    patch.setattr(MemoryStore, "__aenter__", aenter)


def answers_when_closed(patch: pytest.MonkeyPatch) -> None:
    def opened(self: MemoryStore) -> Tables:
        return self._tables

    patch.setattr(MemoryStore, "_opened", opened)


CAUGHT: list[tuple[Install, str]] = [
    (skips_the_version_check, "test_a_lost_version_check_raises_and_writes_nothing"),
    (skips_the_version_check, "test_one_of_many_saves_wins"),
    (inserts_on_save, "test_a_save_never_inserts"),
    (goes_on_after_the_end, "test_the_end_is_final"),
    (checks_and_writes_in_two_turns, "test_one_of_many_saves_wins"),
    (checks_and_writes_in_two_turns, "test_two_stores_on_the_same_data"),
    (writes_coins_before_it_checks_facts, "test_a_unit_that_fails_leaves_nothing"),
    (forgets_the_childs_failure, "test_a_unit_that_fails_leaves_nothing"),
    (releases_others_coins, "test_releasing_what_another_holds_is_a_bug"),
    (frees_spent_coins_at_the_end, "test_finish_frees_what_is_left"),
    (frees_spent_coins_at_the_end, "test_a_spent_coin_never_comes_back"),
    (keeps_coins_at_the_end, "test_finish_frees_what_is_left"),
    (names_holders_by_id_alone, "test_a_reservation_cannot_be_stolen"),
    (reserves_what_it_can_get, "test_reserving_is_all_or_nothing"),
    (reserves_what_it_can_get, "test_one_of_many_gets_the_coin"),
    (writes_over_others_facts, "test_a_fact_belongs_to_its_action"),
    (sets_counters_back, "test_a_unit_raises_a_counter_and_never_lowers_it"),
    (loses_notes, "test_history_holds_every_version_once"),
    (loses_cancel_requests, "test_a_save_does_not_lose_a_request"),
    (follows_the_clock_back, "test_the_clock_may_go_back"),
    (cuts_times_to_seconds, "test_create_writes_the_first_checkpoint"),
    (pages_wakes_by_time_alone, "test_wakes_are_read_in_pages"),
    (forgets_the_result_when_pruned, "test_pruning_forgets_the_details_alone"),
    (forgets_the_result_when_pruned, "test_a_finished_action_is_not_started_again"),
    (forgets_the_payload_of_coins_that_are_not_spent, "test_only_what_ended_before_is_pruned"),
    (forgets_the_payload_of_coins_that_are_not_spent, "test_orphans_are_found_and_freed_by_word"),
    (writes_in_two_turns, "test_a_cancelled_write_happened_wholly_or_not"),
    (forgets_at_a_restart, "test_values_survive_a_restart"),
    (answers_when_closed, "test_a_closed_store_answers_with_an_error"),
]

NAMES = sorted({name for _, name in CAUGHT})


async def run(name: str, tmp_path: Path) -> None:
    """Run one test of the suite on the memory store, for all its parameters, and let its failure out."""
    test = getattr(MemoryContract, name)
    cases: list[dict[str, object]] = [{}]
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize":
            cases = [{mark.args[0]: value} for value in mark.args[1]]
    for case in cases:
        contract = MemoryContract()
        wanted = inspect.signature(test).parameters
        if "tmp_path" in wanted:
            case["tmp_path"] = tmp_path
        async with contract.make_store(tmp_path) as store:
            if "store" in wanted:
                case["store"] = store
            await test(contract, **case)


@pytest.mark.parametrize("name", NAMES)
async def test_the_sound_store_passes(name: str, tmp_path: Path) -> None:
    await run(name, tmp_path)


@pytest.mark.parametrize(("fault", "name"), CAUGHT, ids=lambda value: getattr(value, "__name__", value))
async def test_a_fault_is_caught(fault: Install, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await run(name, tmp_path)
