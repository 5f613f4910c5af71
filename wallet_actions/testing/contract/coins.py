# ruff: noqa: S101 - assertions are what a contract suite is made of
"""The contract of adding, reserving, releasing and spending coins."""

from __future__ import annotations

from asyncio import gather
from pathlib import Path

import pytest

from wallet_actions.checkpoint import Status
from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.errors import InvariantError, ReservationError
from wallet_actions.store import Delta, Store
from wallet_actions.testing.contract.base import (
    MINT,
    SECRET,
    StoreHooks,
    at,
    coin,
    done,
    everything,
    holding,
    key,
    new,
    states,
    step,
)

FREE = (CoinState.SPENDABLE, None)


class CoinContract(StoreHooks):
    """Adding, reserving, releasing and spending."""

    async def test_added_coins_are_spendable(self, store: Store) -> None:
        """L-C1: state and holder are written by the store alone, whatever the action says of them."""
        pretended = Coin("d", MINT, "sat", 5, "p", CoinState.SPENT, key("a"))
        await store.create(new("a", Delta(add=(coin("c", 7), pretended))))
        assert await store.coins() == [coin("c", 7), Coin("d", MINT, "sat", 5, "p")]

    async def test_adding_is_find_or_create(self, store: Store) -> None:
        """L-S11, L-C3: a coin that is there stays as it stands, in every state; a spent one never comes back."""
        await holding(store, "a", "held", "spent")
        await store.save(step("a", 1, Delta(spend=("spent",), add=(coin("free"),))))
        before = await store.coins()
        again = tuple(coin(name, payload="another") for name in ("free", "held", "spent"))
        await store.save(step("a", 2, Delta(add=(*again, *again))))
        await store.create(new("b", Delta(add=again)))
        assert await store.coins() == before

    @pytest.mark.parametrize(
        "other", [coin("c", 2), coin("c", account="https://other.example"), coin("c", unit="usd")], ids=repr
    )
    async def test_a_coin_does_not_change_its_value(self, store: Store, other: Coin) -> None:
        """G4: the same id with another amount, account or unit is a bug, and nothing is written."""
        await store.create(new("a", Delta(add=(coin("c"),))))
        before = await everything(store)
        for delta in (Delta(add=(coin("d"), other)), Delta(add=(coin("new"), other))):
            with pytest.raises(InvariantError):
                await store.save(step("a", 1, delta))
            with pytest.raises(InvariantError):
                await store.create(new("b", delta))
        assert await everything(store) == before
        with pytest.raises(InvariantError):
            await store.save(step("a", 1, Delta(add=(coin("e", 1), coin("e", 2)))))
        assert await everything(store) == before

    async def test_reserving_names_the_holder(self, store: Store) -> None:
        """L-C1: by kind and id."""
        await store.create(new("a", Delta(add=(coin("c"), coin("d")))))
        await store.create(new("a", Delta(reserve=("c",)), kind="other"))
        assert await states(store, "c", "d") == [(CoinState.RESERVED, ActionKey("other", "a")), FREE]

    async def test_reserving_is_all_or_nothing(self, store: Store) -> None:
        """L-C2: one coin that is taken, and none is reserved; the error names those that were not to be had."""
        await holding(store, "a", "held", "spent")
        await store.save(step("a", 1, Delta(spend=("spent",), add=(coin("free"),))))
        await store.create(new("b"))
        before = await everything(store)
        for delta in (
            Delta(reserve=("free", "held", "spent")),
            Delta(add=(coin("x"),), reserve=("spent", "x", "held")),
        ):
            with pytest.raises(ReservationError) as caught:
                await store.save(step("b", 1, delta))
            assert sorted(caught.value.coin_ids) == ["held", "spent"]
            with pytest.raises(ReservationError):
                await store.create(new("d", delta))
        assert await everything(store) == before

    async def test_a_reservation_cannot_be_stolen(self, store: Store) -> None:
        """L-C2: neither by another action of the kind nor by one with the same id of another kind."""
        await holding(store, "a", "c")
        with pytest.raises(ReservationError):
            await store.create(new("b", Delta(reserve=("c",))))
        with pytest.raises(ReservationError):
            await store.create(new("a", Delta(reserve=("c",)), kind="other"))
        assert await states(store, "c") == [(CoinState.RESERVED, key("a"))]

    async def test_reserving_twice_is_harmless(self, store: Store) -> None:
        """A step that runs again may reserve what it holds; what it has spent is gone, to it as well (L-C3)."""
        await holding(store, "a", "c", "d")
        await store.save(step("a", 1, Delta(reserve=("c", "c"))))
        assert await states(store, "c") == [(CoinState.RESERVED, key("a"))]
        await store.save(step("a", 2, Delta(spend=("d",))))
        with pytest.raises(ReservationError):
            await store.save(step("a", 3, Delta(reserve=("d",))))

    async def test_one_of_many_gets_the_coin(self, store: Store) -> None:
        """L-C2, G1: of actions that reserve the same coin at once, one is started and the others leave nothing."""
        await store.create(new("a", Delta(add=(coin("c"),))))
        starts = (store.create(new(f"b{n}", Delta(reserve=("c",)))) for n in range(8))
        answers = await gather(*starts, return_exceptions=True)
        won = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert len(won) == 1
        assert [type(answer) for answer in answers if isinstance(answer, BaseException)] == [ReservationError] * 7
        assert await states(store, "c") == [(CoinState.RESERVED, won[0].checkpoint.key)]
        assert len(await store.list_actions()) == 2

    async def test_a_release_frees(self, store: Store) -> None:
        """L-C3: releasing twice is harmless, in one unit and in two; what is free can be had by another."""
        await holding(store, "a", "c")
        await store.save(step("a", 1, Delta(release=("c", "c"))))
        assert await states(store, "c") == [FREE]
        await store.save(step("a", 2, Delta(release=("c",))))
        assert await states(store, "c") == [FREE]
        await store.create(new("b", Delta(reserve=("c",))))
        assert await states(store, "c") == [(CoinState.RESERVED, key("b"))]

    async def test_releasing_what_another_holds_is_a_bug(self, store: Store) -> None:
        """L-C3: also where the two have one id and differ in kind; nothing is written."""
        await holding(store, "a", "c", "d")
        await holding(store, "b", "mine")
        await store.create(new("a", kind="other"))
        before = await everything(store)
        with pytest.raises(InvariantError):
            await store.save(step("b", 1, Delta(release=("mine", "c"))))
        with pytest.raises(InvariantError):
            await store.finish(step("b", 1, Delta(release=("c",)), status=Status.FAILED))
        with pytest.raises(InvariantError):
            await store.save(step("a", 1, Delta(release=("c",)), kind="other"))
        assert await everything(store) == before

    async def test_a_spent_coin_never_comes_back(self, store: Store) -> None:
        """L-C3, L-C4: no release, and no end of the action that spent it or of another, frees it."""
        await holding(store, "a", "c")
        await store.save(step("a", 1, Delta(spend=("c",))))
        spent = [(CoinState.SPENT, key("a"))]
        assert await states(store, "c") == spent
        await store.save(step("a", 2, Delta(release=("c",), add=(coin("c"),))))
        await store.create(new("b", Delta(release=("c",))))
        assert await states(store, "c") == spent
        await done(store, "b")
        await store.finish(step("a", 3, status=Status.FAILED))
        await store.prune(at(100))
        assert await states(store, "c") == spent

    async def test_spending_wants_the_holder(self, store: Store) -> None:
        """L-C4: what another holds or has spent, and what nobody holds, cannot be spent; nothing is written."""
        await holding(store, "a", "held", "spent")
        await store.save(step("a", 1, Delta(spend=("spent",), add=(coin("free"),))))
        await holding(store, "b", "mine")
        before = await everything(store)
        for other in ("held", "spent", "free", "unknown"):
            with pytest.raises(InvariantError):
                await store.save(step("b", 1, Delta(spend=("mine", other))))
        assert await everything(store) == before

    async def test_spending_twice_is_harmless(self, store: Store) -> None:
        """L-C4: a step that runs again may spend what it has spent."""
        await holding(store, "a", "c")
        await store.save(step("a", 1, Delta(spend=("c", "c"))))
        await store.save(step("a", 2, Delta(spend=("c",))))
        assert await states(store, "c") == [(CoinState.SPENT, key("a"))]

    async def test_unknown_coins_are_a_bug(self, store: Store) -> None:
        """A coin that does not exist can be neither reserved nor spent; it may have been mistyped, not taken."""
        await holding(store, "a", "c")
        before = await everything(store)
        for delta in (Delta(reserve=("unknown",)), Delta(spend=("unknown",))):
            with pytest.raises(InvariantError):
                await store.save(step("a", 1, delta))
        assert await everything(store) == before

    async def test_the_order_inside_a_unit(self, store: Store) -> None:
        """Add, release, reserve, spend: one unit may carry a coin through several states."""
        await holding(store, "a", "swap", "give")
        await store.save(
            step(
                "a",
                1,
                Delta(
                    add=(coin("used"), coin("held"), coin("extra")),
                    release=("swap", "give"),
                    reserve=("held", "used", "swap"),
                    spend=("used",),
                ),
            )
        )
        held = (CoinState.RESERVED, key("a"))
        assert await states(store, "used", "held", "swap", "give", "extra") == [
            (CoinState.SPENT, key("a")),
            held,
            held,
            FREE,
            FREE,
        ]
        with pytest.raises(InvariantError):
            await store.save(step("a", 2, Delta(release=("held",), spend=("held",))))
        assert await states(store, "held") == [held]

    async def test_finish_frees_what_is_left(self, store: Store) -> None:
        """L-C4, L-S1: reserved in this write or before; not what is spent, not what another holds."""
        await holding(store, "a", "early", "spent", "spent now")
        await store.save(step("a", 1, Delta(spend=("spent",), add=(coin("late"),))))
        await holding(store, "b", "other")
        delta = Delta(reserve=("late",), spend=("spent now",))
        await store.finish(step("a", 2, delta, status=Status.CANCELLED))
        spent = (CoinState.SPENT, key("a"))
        assert await states(store, "early", "late", "spent", "spent now", "other") == [
            FREE,
            FREE,
            spent,
            spent,
            (CoinState.RESERVED, key("b")),
        ]

    @pytest.mark.parametrize("status", [status for status in Status if not status.is_terminal])
    async def test_only_an_end_frees(self, store: Store, status: Status) -> None:
        """G5, L-C5, L-C11: no other status does, nor the time, nor a pruning, nor a request to cancel."""
        await holding(store, "a", "c")
        await store.save(step("a", 1, status=status))
        await store.request_cancel(key("a"), at(1))
        await store.prune(at(10**9))
        assert await states(store, "c") == [(CoinState.RESERVED, key("a"))]

    async def test_orphans_are_found_and_freed_by_word(self, tmp_path: Path) -> None:
        """L-C10, G5: only reserved coins whose action is gone are orphans, and only those named are freed."""
        async with self.make_store(tmp_path) as store:
            await holding(store, "a", "held", "spent")
            await store.save(step("a", 1, Delta(spend=("spent",))))
            await holding(store, "b", "lost 1", "lost 2", "free")
            await done(store, "b")
            assert await store.orphans() == []
        self.make_orphan(tmp_path, "lost 1", key("gone"))
        self.make_orphan(tmp_path, "lost 2", key("b"))
        async with self.make_store(tmp_path) as store:
            gone, ended = (CoinState.RESERVED, key("gone")), (CoinState.RESERVED, key("b"))
            assert [found.id for found in await store.orphans()] == ["lost 1", "lost 2"]
            assert len(await store.orphans(limit=1)) == 1
            assert await store.prune(at(100)) == 1
            assert [found.payload for found in await store.orphans()] == [SECRET, SECRET]
            assert await states(store, "lost 1", "lost 2") == [gone, ended]
            assert await store.release_orphans(["held", "spent", "free", "unknown", "lost 2"]) == 1
            assert await states(store, "held", "spent", "free", "lost 1", "lost 2") == [
                (CoinState.RESERVED, key("a")),
                (CoinState.SPENT, key("a")),
                FREE,
                gone,
                FREE,
            ]
            assert await store.release_orphans(["lost 2"]) == 0
            assert await store.release_orphans([]) == 0
            assert [found.id for found in await store.orphans()] == ["lost 1"]

    async def test_payloads_are_not_told(self, store: Store) -> None:
        """No payload stands in the repr of a coin that was read, or in an error."""
        created = await holding(store, "a", "c")
        (found,) = await store.coins()
        assert found.payload == SECRET
        assert SECRET not in repr((found, created))
        await store.create(new("b"))
        for delta in (
            Delta(reserve=("c",)),
            Delta(release=("c",)),
            Delta(spend=("c",)),
            Delta(add=(coin("c", 2),)),
            Delta(add=(coin("d"),), reserve=("unknown",)),
        ):
            with pytest.raises((InvariantError, ReservationError)) as caught:
                await store.save(step("b", 1, delta))
            error: BaseException | None = caught.value
            while error is not None:
                assert SECRET not in repr(error)
                error = error.__cause__ or error.__context__
