"""Actions that meet: two drivers of one of them, and a token of ours that is received and taken back at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.corpus.worlds import MintWorld, claimed_send, receive, restore, swap
from tests.unit.cashu.fake_mint import URL
from tests.unit.cashu.swap_mint import Bench, Queue, Sheet, Turn, dies_with, lost, lost_after
from tests.unit.cashu.test_cashu_send_steps import again, current, ended, start
from wallet_actions.cashu import Receive, Restore, Send
from wallet_actions.checkpoint import Status
from wallet_actions.coins import CoinState
from wallet_actions.outcome import Outcome
from wallet_actions.recovery import recover
from wallet_actions.testing.interleavings import interleavings
from wallet_actions_storage.memory import MemoryStore


@pytest.mark.parametrize(
    ("make", "depth", "crashes"),
    [(claimed_send, 10, 0), (claimed_send, 8, 1), (swap, 9, 0), (receive, 9, 0), (receive, 7, 1), (restore, 6, 0)],
    ids=["send", "send, one dies", "swap", "receive", "receive, one dies", "restore"],
)
def test_two_drivers_can_meet_in_any_way(make: Any, depth: int, crashes: int) -> None:
    """G2, L-S4: both ask the mint, one of them is refused for what the other one did, and one writes (T7)."""
    report = interleavings(make, MintWorld, depth=depth, crashes=crashes)
    assert report.is_ok, report
    assert report.explored > 10


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with MemoryStore() as store:
        yield Bench(store, Sheet(1000, fee_ppk=100))


async def in_time(bench: Bench, *actions: Any) -> None:
    """Drive them in turn, each in its time, until all have ended."""
    for _ in range(60):
        results = [await bench.drive(action) for action in actions]
        if all(result.outcome is not Outcome.PARKED for result in results):
            return
        wakes = [result.wake_at for result in results if result.wake_at is not None]
        bench.clock.set_wall(max(min(wakes), bench.clock.now()))
    raise AssertionError([result.error for result in results])


async def assert_nothing_is_lost(bench: Bench) -> None:
    """All that the mint has signed and not seen spent is in the ledger, free, and nothing else is."""
    coins = {coin.id: coin for coin in await bench.coins()}
    assert await bench.coins(CoinState.RESERVED) == []
    assert {bench.mint.states.get(y, "UNSPENT") for y in coins} <= {"UNSPENT"}
    spent = sum(state == "SPENT" for state in bench.mint.states.values())
    assert len(coins) == len(bench.mint.signed) - spent


@pytest.mark.anyio
@pytest.mark.parametrize("is_asked_first", [True, False])
@pytest.mark.parametrize("turn", [None, lost, lost_after], ids=["smooth", "lost", "lost after"])
@pytest.mark.parametrize("other", [None, lost, lost_after], ids=["smooth", "lost", "lost after"])
async def test_a_token_of_ours_is_received_and_taken_back_at_once(
    bench: Bench, is_asked_first: bool, turn: Turn | None, other: Turn | None
) -> None:
    """L-C6: one of both gets the coins, and the history tells which."""
    await bench.fund(64)
    send = await start(bench, 20)
    await again(bench, send)
    text = (await current(bench, send)).token
    assert text is not None
    taken = await bench.start(await Receive.of(bench.wallet, text))
    assert await bench.operator.request_cancel(send.key)
    bench.mint.script = [one for one in (turn, other) if one is not None]
    await in_time(bench, *((send, taken) if is_asked_first else (taken, send)))
    await assert_nothing_is_lost(bench)
    states = {(await bench.transaction(send))["state"], (await bench.transaction(taken))["state"]}
    assert states in ({"revoked", "failed"}, {"done"})
    rows = [await bench.transaction(action) for action in (send, taken)]
    gained = {"done": {Send.kind: -1, Receive.kind: 1}}
    moved = sum(gained.get(row["state"], {}).get(row["operation"], 0) * row["amount"] - row["fee"] for row in rows)
    assert sum(await bench.amounts()) == 64 + moved


@pytest.mark.anyio
@pytest.mark.parametrize("is_restarted", [True, False], ids=["restarted", "retried"])
async def test_what_is_stuck_at_the_mint_goes_on_once_the_mint_was_mended(bench: Bench, is_restarted: bool) -> None:
    """L-C7, L-D9: a person has it looked at again, or the app starts anew; each look without news leaves it stuck."""
    await bench.fund(64)
    bench.mint.script = [dies_with(is_signed=False)]
    send = await start(bench, 20)
    result = await ended(bench, send)
    assert result.outcome is Outcome.STUCK

    async def looked_at_again() -> Status:
        if is_restarted:
            await recover(bench.executor)
        else:
            await bench.operator.retry(send.key)
            await bench.drive(send)
        row = await bench.store.load(send.key)
        assert row is not None
        return row.status

    assert await looked_at_again() is Status.STUCK
    assert await bench.amounts(CoinState.RESERVED) == [64]
    bench.mint.states.clear()
    assert await looked_at_again() is Status.PARKED
    assert (await current(bench, send)).token is not None


@pytest.mark.anyio
async def test_a_restore_leaves_alone_what_a_late_answer_is_about_to_bring(bench: Bench) -> None:
    """L-C12: the swap was made, its answer never came, and the restore sees its coins before the action does."""
    await bench.fund(64)
    bench.mint.script = [late := Queue()]
    send = await start(bench, 20)
    await bench.drive(send)
    late.deliver(bench.mint)
    bench.mint.routes["GET /v1/info"] = lambda body: {"nuts": {nut: {"supported": True} for nut in ("7", "9", "12")}}
    restored = await bench.drive(await bench.start(await Restore.of(bench.wallet, URL)))
    assert restored.outcome is Outcome.DONE
    assert restored.result is not None
    assert restored.result.amounts == {}
    await again(bench, send)
    assert (await current(bench, send)).token is not None
    assert {coin.holder for coin in await bench.coins(CoinState.RESERVED)} == {send.key}
