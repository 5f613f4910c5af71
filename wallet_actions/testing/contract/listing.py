# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of the lists: actions, wakes, idle, running; of paused kinds and of pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wallet_actions.checkpoint import Checkpoint, Status, Wake
from wallet_actions.coins import CoinState, Fact
from wallet_actions.store import Delta, Store
from wallet_actions.testing.contract.base import (
    KIND,
    T0,
    StoreHooks,
    all_actions,
    at,
    coin,
    done,
    everything,
    holding,
    key,
    new,
    pages,
    step,
)


class ListContract(StoreHooks):
    """Listing and counting actions."""

    async def test_actions_are_listed_in_pages(self, store: Store) -> None:
        """L-S3: in the order of their start, whole rows, none twice and none left out while others are added."""
        for n in range(7):
            await store.create(new(f"a{n}"))
        seen: list[str] = []

        async def read(last: Checkpoint | None) -> Sequence[Checkpoint]:
            return await store.list_actions(after=0 if last is None else last.row, limit=3)

        async for page in pages(read, 3):
            assert [await store.load(row.key) for row in page] == list(page)
            seen += [row.id for row in page]
            if len(seen) == 3:
                await store.save(step("a0", 1))
                await done(store, "a5")
                await store.create(new("b"))
        assert seen == [*(f"a{n}" for n in range(7)), "b"]

    async def test_actions_are_filtered(self, store: Store) -> None:
        """By statuses and kinds; an empty choice holds nothing, None everything; pages count what passes."""
        for n, kind in enumerate(("x", "y", "x", "z", "x", "y")):
            await store.create(new(f"{n}", kind=kind))
        await store.save(step("2", 1, kind="x", status=Status.PARKED))
        await store.save(step("5", 1, kind="y", status=Status.STUCK))
        await store.finish(step("0", 1, kind="x", status=Status.DONE))

        async def ids(**filters: object) -> list[str]:
            return [row.id for row in await store.list_actions(**filters)]  # type: ignore[arg-type]

        assert await ids() == ["0", "1", "2", "3", "4", "5"]
        assert await ids(kinds={"x", "z"}) == ["0", "2", "3", "4"]
        assert await ids(statuses=[Status.PARKED, Status.STUCK]) == ["2", "5"]
        assert await ids(statuses={status for status in Status if not status.is_terminal}, kinds=("x",)) == ["2", "4"]
        assert await ids(statuses=()) == []
        assert await ids(kinds=()) == []
        assert await ids(kinds=("unknown",)) == []
        assert await ids(kinds=("x",), limit=2) == ["0", "2"]
        last = (await store.list_actions(kinds=("x",), limit=2))[-1].row
        assert await ids(kinds=("x",), after=last, limit=2) == ["4"]

    async def test_actions_are_counted(self, store: Store) -> None:
        """By kind and status; what is not there is not counted; pruned ones are."""
        assert await store.count_actions() == {}
        for n, kind in enumerate(("x", "y", "x")):
            await store.create(new(f"{n}", kind=kind))
        assert await store.count_actions() == {("x", Status.RUNNING): 2, ("y", Status.RUNNING): 1}
        await store.save(step("1", 1, kind="y", status=Status.PARKED))
        await store.finish(step("0", 1, kind="x", status=Status.DONE))
        await store.prune(at(100))
        assert await store.count_actions() == {
            ("x", Status.DONE): 1,
            ("x", Status.RUNNING): 1,
            ("y", Status.PARKED): 1,
        }

    async def test_the_latest_write_is_told(self, store: Store) -> None:
        """L-B5: None at first, then the greatest time of any write or request to cancel, never less."""
        assert await store.last_write_at() is None
        await store.create(new("a", time=at(5)))
        assert await store.last_write_at() == at(5)
        await store.create(new("b", time=at(3)))
        assert await store.last_write_at() == at(5)
        await store.save(step("b", 1, time=at(9)))
        await done(store, "b", 2, time=at(8))
        await store.prune(at(100))
        assert await store.last_write_at() == at(9)
        await store.request_cancel(key("a"), at(7))
        assert await store.last_write_at() == at(9)
        await store.request_cancel(key("a"), at(11))
        assert await store.last_write_at() == at(11)

    async def test_the_latest_write_is_told_to_the_microsecond(self, store: Store) -> None:
        """L-B5: of writes that follow each other at once too, and when what was written last is forgotten."""
        for number in range(4):
            await store.create(new(str(number), time=at(5 + number * 1e-6)))
            await store.save(step(str(number), 1, time=at(5 + number * 1e-3)))
        await store.save(step("0", 2, time=at(5.004)))
        assert await store.last_write_at() == at(5.004)
        await done(store, "1", 2, time=at(5.006))
        await store.save(step("0", 3, time=at(5.005)))
        assert await store.last_write_at() == at(5.006)
        assert await store.prune(at(5.007)) == 1
        assert await store.last_write_at() == at(5.006)
        await store.save(step("0", 4, time=at(5.007)))
        assert await store.last_write_at() == at(5.007)


class WakeContract(StoreHooks):
    """What is to be driven, and when."""

    async def test_wakes_are_ordered_by_time_and_row(self, store: Store) -> None:
        """G8, L-S10: parked actions with a wake time, and no others; each tells when it parked."""
        wakes = {"a": at(30), "b": at(10), "c": None, "d": at(20), "e": at(10)}
        rows = {name: (await store.create(new(name))).checkpoint.row for name in [*wakes, "f", "g", "h"]}
        for name, wake_at in wakes.items():
            await store.save(step(name, 1, status=Status.PARKED, time=at(2), wake_at=wake_at))
        await store.save(step("g", 1, status=Status.PAUSED, wake_at=at(1)))
        await store.save(step("h", 1, status=Status.STUCK, wake_at=at(1)))
        expected = [Wake(key(name), wakes[name] or T0, at(2), rows[name]) for name in "beda"]
        assert await store.wakes(until=None) == expected
        assert await store.wakes(until=at(20)) == expected[:3]
        assert await store.wakes(until=at(19.999999)) == expected[:2]
        assert await store.wakes(until=at(9)) == []
        assert await store.wakes(until=None, limit=1) == expected[:1]

    async def test_wakes_are_read_in_pages(self, store: Store) -> None:
        """The cursor is the last wake seen, by time and row together, also where many are due at one moment."""
        for n in range(30):
            await store.create(new(f"{n}", status=Status.PARKED, wake_at=at(n // 12)))

        async def read(last: Wake | None) -> Sequence[Wake]:
            return await store.wakes(until=at(100), after=last, limit=5)

        assert [wake.key.id async for page in pages(read, 5) for wake in page] == [f"{n}" for n in range(30)]

    async def test_wakes_follow_each_write(self, store: Store) -> None:
        """G8: parking again moves a wake, anything else takes it off the list."""
        for name in "abcd":
            await store.create(new(name))
            await store.save(step(name, 1, status=Status.PARKED, wake_at=at(10)))
        await store.save(step("a", 2, status=Status.PARKED, wake_at=at(5)))
        await store.save(step("b", 2))
        await store.save(step("c", 2, status=Status.PARKED))
        await done(store, "d", 2)
        assert [(wake.key.id, wake.wake_at) for wake in await store.wakes(until=None)] == [("a", at(5))]
        assert [wake.key.id for wake in await store.idle()] == ["c"]
        assert [wake.key.id for wake in await store.running(before=at(1))] == ["b"]

    async def test_idle_actions_wait_without_a_time(self, store: Store) -> None:
        """Parked without a wake time, by row, in pages; `wake_at` is when they parked."""
        rows = {name: (await store.create(new(name))).checkpoint.row for name in "abcde"}
        for name in "dbac":
            await store.save(step(name, 1, status=Status.PARKED, time=at(4)))
        await store.save(step("e", 1, status=Status.STUCK))
        expected = [Wake(key(name), at(4), at(4), rows[name]) for name in "abcd"]
        assert await store.idle() == expected
        assert await store.idle(limit=2) == expected[:2]
        assert await store.idle(after=rows["b"], limit=9) == expected[2:]
        assert await store.idle(after=rows["d"]) == []

    async def test_running_actions_are_found_by_their_silence(self, store: Store) -> None:
        """L-D15: those that nobody has written since; the time of the last write is told; by row, in pages."""
        rows = {name: (await store.create(new(name))).checkpoint.row for name in "abcdef"}
        for name, seconds in (("d", 1), ("b", 2), ("a", 9), ("c", 3)):
            await store.save(step(name, 1, time=at(seconds)))
        await store.save(step("e", 1, status=Status.PARKED))
        await store.finish(step("f", 1, status=Status.DONE))
        expected = [Wake(key(name), at(n), at(n), rows[name]) for name, n in (("b", 2), ("c", 3), ("d", 1))]
        assert await store.running(before=at(9)) == expected
        assert await store.running(before=at(3)) == [expected[0], expected[2]]
        assert await store.running(before=at(9), limit=2) == expected[:2]
        assert await store.running(before=at(9), after=rows["b"], limit=1) == [expected[1]]
        assert [wake.key.id for wake in await store.running(before=at(10))] == list("abcd")

    async def test_paused_kinds_are_left_out(self, store: Store) -> None:
        """Pausing is durable, told, idempotent, and taken back; it hides a kind from what is to be driven alone."""
        for kind in ("x", "y"):
            await store.create(new("wakes", kind=kind, status=Status.PARKED, wake_at=at(1)))
            await store.create(new("idle", kind=kind, status=Status.PARKED))
            await store.create(new("runs", kind=kind))

        async def seen() -> list[list[str]]:
            lists = (await store.wakes(until=None), await store.idle(), await store.running(before=at(1)))
            return [[wake.key.kind for wake in found] for found in lists]

        assert await seen() == [["x", "y"]] * 3
        for _ in range(2):
            await store.set_kind_paused("x", True)
        await store.set_kind_paused("unknown", True)
        assert await store.paused_kinds() == {"x", "unknown"}
        assert await seen() == [["y"]] * 3
        assert [wake.key.kind for wake in await store.wakes(until=None, limit=1)] == ["y"]
        assert len(await store.list_actions()) == 6
        assert (await store.create(new("more", kind="x"))).is_new
        for _ in range(2):
            await store.set_kind_paused("x", False)
        assert await store.paused_kinds() == {"unknown"}
        assert await seen() == [["x", "y"], ["x", "y"], ["x", "y", "x"]]


class PruneContract(StoreHooks):
    """Forgetting the details of what ended long ago."""

    async def test_pruning_forgets_the_details_alone(self, store: Store) -> None:
        """G6, L-D5, L-B6: state, history and the payload of spent coins go; everything else stays for ever."""
        await holding(store, "a", "spent", "freed")
        delta = Delta(spend=("spent",), add=(coin("added", 3),), facts=(Fact("f", "k", "[1]"),), counters=(("n", 2),))
        await store.finish(step("a", 1, delta, status=Status.DONE, result='{"fee":1}'))
        before = await everything(store)
        ended = await store.load(key("a"))
        assert await store.prune(at(1)) == 1
        pruned = await store.load(key("a"))
        assert ended is not None
        assert pruned is not None
        assert pruned.state is None
        for name in ("kind", "id", "row", "version", "status", "error", "result", "created_at", "updated_at", "cancel"):
            assert getattr(pruned, name) == getattr(ended, name)
        assert await store.history(key("a")) == []
        spent, *others = sorted(await store.coins(), key=lambda found: found.id != "spent")
        assert spent == replace(coin("spent", payload=""), state=CoinState.SPENT, holder=key("a"))
        assert others == [coin("added", 3), coin("freed")]
        assert (await everything(store))[3:] == before[3:]
        assert await store.prune(at(1)) == 0

    async def test_only_what_ended_before_is_pruned(self, store: Store) -> None:
        """L-B6: not what goes on, however old, and not what ended at that time or later."""
        for name in ("old", "new", "parked", "runs"):
            await holding(store, name, f"coin of {name}", f"coin spent by {name}")
            await store.save(step(name, 1, Delta(spend=(f"coin spent by {name}",))))
        await done(store, "old", 2, time=at(10))
        await done(store, "new", 2, time=at(20))
        await store.save(step("parked", 2, status=Status.PARKED))
        untouched = [(row, await store.history(row.key)) for row in await all_actions(store) if row.id != "old"]
        coins = [found for found in await store.coins() if found.id != "coin spent by old"]
        assert await store.prune(at(10)) == 0
        assert await store.prune(at(20)) == 1
        assert [(row, await store.history(row.key)) for row in await all_actions(store) if row.id != "old"] == untouched
        assert [found for found in await store.coins() if found.id != "coin spent by old"] == coins
        found = await store.load(key("old"))
        assert found is not None
        assert found.state is None

    async def test_pruning_is_bounded(self, store: Store) -> None:
        """L-B6: at most `limit` a call, each wholly or not, and the rest by calling again."""
        for n in range(7):
            await holding(store, f"{n}", f"c{n}")
            await store.finish(step(f"{n}", 1, Delta(spend=(f"c{n}",)), status=Status.DONE))
        for pruned, count in ((3, 3), (6, 3), (7, 1), (7, 0)):
            assert await store.prune(at(1), limit=3) == count
            rows = await all_actions(store)
            assert sum(row.state is None for row in rows) == pruned
            for row in rows:
                (spent,) = await store.coins(holder=row.key)
                is_pruned = row.state is None
                assert (not spent.payload, not await store.history(row.key)) == (is_pruned, is_pruned)

    async def test_what_was_pruned_is_still_listed(self, store: Store) -> None:
        """L-D14: by status and kind, as before."""
        await store.create(new("a"))
        await done(store, "a")
        await store.prune(at(1))
        assert [row.id for row in await store.list_actions(statuses=[Status.DONE], kinds=[KIND])] == ["a"]

    async def test_spent_coins_of_others_keep_their_payload(self, store: Store) -> None:
        """L-B6: an action with the same id but another kind is another action."""
        for kind in (KIND, "other"):
            delta = Delta(add=(coin(kind),), reserve=(kind,), spend=(kind,))
            await store.create(new("a", delta, kind=kind))
        await done(store, "a")
        assert await store.prune(at(1)) == 1
        assert {found.id: bool(found.payload) for found in await store.coins()} == {KIND: False, "other": True}
