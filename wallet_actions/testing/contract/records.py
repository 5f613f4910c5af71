# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of what comes back: as it went in, also after a restart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord, HistoryEntry, Status
from wallet_actions.coins import MAX_AMOUNT, ActionKey, Coin, Fact
from wallet_actions.errors import UsageError
from wallet_actions.store import Delta, NewAction, Statement, Store, Write
from wallet_actions.testing.contract.base import (
    KIND,
    SECRET,
    T0,
    StoreHooks,
    at,
    checkpoint,
    coin,
    done,
    everything,
    holding,
    key,
    new,
    pages,
    step,
)

ODD_TEXTS = (
    " ",
    "a ",
    " a",
    "A",
    "007",
    "7",
    "7.0",
    "1e3",
    "0x10",
    "null",
    "NULL",
    "%",
    "_",
    "\\",
    "'); DROP TABLE coins; --",
    '"quoted"',
    "?1 :name $2 {x} %s",
    "é",
    "e\u0301",
    "ﬀ İ ß ẞ",
    "漢字 ქართული עברית",
    "\u202ereversed\u202c",
    "\u200b\ufeff",
    "💰\U0010ffff",
    "\ud7ff\ue000\uffff",
    "tab\tline\nreturn\r\x01\x7f\x85\u2028",
    "x" * 500,
)
"""Texts that are easily taken for one another, or for something else. U+0000 is not among them: canonical JSON escapes
it, and ids are printable."""

TIMES = (
    T0,
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 30, 59, 999_999, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 8, 7, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
)


class FidelityContract(StoreHooks):
    """Records come back as they went in."""

    async def test_ids_that_look_alike_are_apart(self, store: Store) -> None:
        """L-B3, G6: no store folds case, trims, normalises, or takes a text for a number."""
        for text in ODD_TEXTS:
            assert (await store.create(new(text))).is_new, text
            assert (await store.create(new("a", kind=text))).is_new, text
        for text in ODD_TEXTS:
            found = await store.load(key(text))
            assert found is not None
            assert found.id == text
            assert await store.save(step(text, 1)) == (1, False)
            assert [row.id for row in await store.list_actions(kinds=[text])] == ["a"]
        for number, text in enumerate(ODD_TEXTS):
            assert await store.allocate(text) == 0
            await store.set_kind_paused(text, True)
            assert len(await store.paused_kinds()) == number + 1
        assert await store.counters() == dict.fromkeys(ODD_TEXTS, 1)

    async def test_texts_are_unchanged(self, store: Store) -> None:
        """L-B3: in state, phase, result, errors, notes, events, trace, coins and facts."""
        for text in ODD_TEXTS:
            error = ErrorRecord(text, text)
            row = replace(
                checkpoint(text, state=text, error=error, result=text), phase=text, traceparent=text, owner=text
            )
            fact = Fact(text, text, text)
            odd = Coin(text, text, text, 1, text)
            delta = Delta(add=(odd,), facts=(fact,))
            created = await store.create(NewAction(row, delta, (text, "", text)))
            assert created.checkpoint == replace(row, row=created.checkpoint.row), text
            assert await store.coins_by_id([text]) == [odd]
            assert [found for _, found in await store.facts(kind=text, key=text)] == [fact]
            await store.save(Write(0, replace(row, version=1), text, (text,)))
            assert await store.history(key(text)) == [
                HistoryEntry(0, T0, "start", Status.RUNNING, text, 0, error, (text, "", text)),
                HistoryEntry(1, T0, text, Status.RUNNING, text, 0, error, (text,)),
            ]
        assert [found.id for found in await store.coins()] == sorted(ODD_TEXTS)

        async def read(last: Coin | None) -> Sequence[Coin]:
            return await store.coins(after="" if last is None else last.id, limit=4)

        assert [found.id async for page in pages(read, 4) for found in page] == sorted(ODD_TEXTS)
        balances = [balance.account for balance in await store.balances()]
        assert balances == sorted(ODD_TEXTS)

    async def test_empty_is_not_missing(self, store: Store) -> None:
        """L-B3: an empty text comes back as such, and None as None."""
        row = replace(
            checkpoint("a", state="", error=ErrorRecord("", ""), result=""), phase="", traceparent="", owner=""
        )
        created = await store.create(NewAction(row, Delta(add=(coin("c", payload=""),), facts=(Fact("f", "k", ""),))))
        assert created.checkpoint == replace(row, row=created.checkpoint.row)
        assert [found.payload for found in await store.coins()] == [""]
        assert [fact.body for _, fact in await store.facts()] == [""]
        bare = await store.create(NewAction(checkpoint("b", state=None)))
        assert bare.checkpoint == replace(checkpoint("b", state=None), row=bare.checkpoint.row)
        (entry,) = await store.history(key("b"))
        assert (entry.error, entry.notes) == (None, ())

    async def test_large_values_fit(self, store: Store) -> None:
        """L-B3: a state, a note, a payload and a fact of a megabyte, many notes, and the extremes of amounts."""
        large = '{"x":"' + "ä€" * 400_000 + '"}'
        notes = (large, *(f"{n}" for n in range(1000)))
        coins = (coin("most", MAX_AMOUNT, payload=large), coin("least", 1))
        await store.create(
            NewAction(
                checkpoint("a", state=large, result=large), Delta(add=coins, facts=(Fact("f", "k", large),)), notes
            )
        )
        found = await store.load(key("a"))
        assert found is not None
        assert (found.state, found.result) == (large, large)
        assert await store.coins() == [coins[1], coins[0]]
        assert [fact.body for _, fact in await store.facts()] == [large]
        assert [entry.notes for entry in await store.history(key("a"))] == [notes]

    async def test_numbers_are_unchanged(self, store: Store) -> None:
        """L-S10: versions, schema versions, attempts and faults are whole numbers of 32 bits or more."""
        row = replace(checkpoint("a"), schema_version=2**31 - 1, attempts=2**31 - 1, faults=2**31 - 1)
        created = await store.create(NewAction(row))
        assert created.checkpoint == replace(row, row=created.checkpoint.row)

    @pytest.mark.parametrize("time", TIMES, ids=str)
    async def test_times_are_exact(self, store: Store, time: datetime) -> None:
        """L-B5, L-S10: in UTC, to the microsecond, from 1970 to the year 9999, wherever a time is told."""
        row = checkpoint("a", status=Status.PARKED, time=time, wake_at=time)
        await store.create(NewAction(replace(row, lease_until=time)))
        found = await store.load(key("a"))
        assert found is not None
        (entry,) = await store.history(key("a"))
        (wake,) = await store.wakes(until=time)
        last = await store.last_write_at()
        assert last is not None
        for told in (
            found.created_at,
            found.updated_at,
            found.wake_at,
            found.lease_until,
            entry.at,
            wake.wake_at,
            wake.parked_at,
            last,
        ):
            assert told == time
            assert told is not None
            assert told.utcoffset() == T0.utcoffset()
        assert await store.wakes(until=time, after=wake) == []
        assert await store.running(before=time) == []

    async def test_records_are_of_the_ports_types(self, store: Store) -> None:
        """Enumerations and keys come back as such, not as the texts that they are stored as."""
        await holding(store, "a", "c")
        await store.request_cancel(key("a"), at(1))
        found = await store.load(key("a"))
        assert type(found) is Checkpoint
        assert (type(found.status), type(found.cancel), type(found.created_at)) == (Status, CancelState, datetime)
        (held,) = await store.coins()
        assert type(held) is Coin
        assert held.holder == ActionKey(KIND, "a")
        assert type(held.holder) is ActionKey
        assert {type(status) for _, status in await store.count_actions()} == {Status}


class DurableContract(StoreHooks):
    """Durable when a write returns."""

    async def test_everything_is_there_after_a_restart(self, tmp_path: Path) -> None:
        """G1, G3, G7, G8: actions in every status, their past, coins, facts, counters, pauses and requests."""
        async with self.make_store(tmp_path) as store:
            for status in Status:
                name = status.value
                await holding(store, name, f"held {name}", f"spent {name}")
                delta = Delta(
                    spend=(f"spent {name}",), facts=(Fact("f", name, f'"{name}"'),), start=(new(f"child {name}"),)
                )
                write = step(name, 1, delta, status=status, time=at(1), wake_at=at(60), notes=(name,), result='"r"')
                await (store.finish if status.is_terminal else store.save)(write)
            await store.request_cancel(key("parked"), at(2))
            await store.allocate("n", 5)
            await store.set_kind_paused("x", True)
            await store.create(new("pruned", time=at(-9)))
            await done(store, "pruned", time=at(-9))
            assert await store.prune(at(-5)) == 1
            before = await everything(store), await store.wakes(until=None), await store.balances()
        for _ in range(2):
            async with self.make_store(tmp_path) as store:
                after = await everything(store), await store.wakes(until=None), await store.balances()
                assert after == before
                findings = await store.diagnose()
                assert findings
                assert all(finding.is_ok for finding in findings)
        async with self.make_store(tmp_path) as store:
            assert await store.save(step("parked", 2)) == (2, True)
            rows = {row.row for row in await store.list_actions()}
            assert (await store.create(new("later"))).checkpoint.row > max(rows)

    async def test_diagnosing_writes_nothing(self, store: Store) -> None:
        """A sound store has no finding that needs a person, and looking changes nothing."""
        await holding(store, "a", "c")
        before = await everything(store)
        findings = await store.diagnose()
        assert findings
        assert all(finding.is_ok and finding.finding and finding.topic for finding in findings)
        assert SECRET not in repr(findings)
        assert await everything(store) == before


class NoSqlContract(StoreHooks):
    """A store without SQL says so."""

    async def test_statements_are_refused(self, store: Store) -> None:
        """G1: a `UsageError`, and nothing of the unit is written."""
        await store.create(new("a"))
        before = await everything(store)
        delta = Delta(add=(coin("c"),), statements=(Statement("SELECT 1", (SECRET,)),))
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.save(step("a", 1, delta)),
            lambda: store.finish(step("a", 1, delta, status=Status.DONE)),
            lambda: store.create(new("b", delta)),
            lambda: store.save(step("a", 1, Delta(start=(new("child", delta),)))),
        ]
        for call in calls:
            with pytest.raises(UsageError) as caught:
                await call()
            assert SECRET not in repr(caught.value)
        assert await everything(store) == before

    async def test_transactions_are_refused(self, store: Store) -> None:
        """A `UsageError`, for the block and for a `conn` from somewhere else."""
        with pytest.raises(UsageError):
            async with store.transaction():
                pytest.fail("a transaction was opened")
        with pytest.raises(UsageError):
            await store.create(new("a"), conn=object())
        assert await store.list_actions() == []
