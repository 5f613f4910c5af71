"""`Swap`: each of its ends, at a mint that does as it is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.unit.cashu.fake_mint import URL, Json, Refusal
from tests.unit.cashu.swap_mint import (
    Bench,
    Queue,
    Sheet,
    Turn,
    bad_gateway_after,
    dies_with,
    lost,
    lost_after,
    refusing,
)
from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.cashu import Cashu, CashuWallet, Exchanged, Issue, MintClient, Seed, Swap
from wallet_actions.cashu.doubt import PATIENCE
from wallet_actions.cashu.swap import MOST_PLANS, ProofsReserved, SwapRequested
from wallet_actions.checkpoint import Status
from wallet_actions.coins import CoinState
from wallet_actions.errors import InvariantError, RejectedError, TransientError
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions.transition import Changes, Park
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


@pytest.fixture
def bench(store: MemoryStore) -> Bench:
    return Bench(store)


async def begun(bench: Bench, **wanted: Any) -> Swap:
    swap: Swap = await bench.start(await Swap.of(bench.wallet, URL, **wanted))
    return swap


async def phase_of(bench: Bench, swap: Swap) -> ProofsReserved | SwapRequested:
    row = await bench.store.load(swap.key)
    assert row is not None
    assert row.state is not None
    return Swap.model_validate_json(row.state).phase


async def to_the_end(bench: Bench, swap: Swap, *, tries: int = 60) -> DriveResult[Any]:
    for _ in range(tries):
        result = await bench.drive(swap)
        if result.outcome is not Outcome.PARKED:
            return result
        assert result.wake_at is not None
        bench.clock.set_wall(result.wake_at)
    raise AssertionError("it parks for ever")


@pytest.mark.parametrize("turn", [lost, lost_after, bad_gateway_after, dies_with(is_signed=True)])
@pytest.mark.parametrize("fee_ppk", [0, 100])
async def test_the_end_is_the_same_whatever_became_of_the_answer(store: MemoryStore, turn: Turn, fee_ppk: int) -> None:
    """L-S11: coins and history as if nothing had happened."""
    bench = Bench(store, Sheet(1000, fee_ppk=fee_ppk))
    await bench.fund(3, 3, 3)
    swap = await begun(bench)
    pending = await bench.transaction(swap)
    bench.mint.script = [turn]
    result = await to_the_end(bench, swap)
    fee = 1 if fee_ppk else 0
    assert result.result == Exchanged(mint=URL, unit="sat", amount=8, fee=fee, coins=1)
    assert await bench.amounts() == ([8] if fee else [1, 8])
    expected = pending | {"state": "done", "fee": fee}
    assert await bench.transaction(swap) == expected
    assert (pending["state"], pending["amount"]) == ("pending", 8)


async def test_the_new_coins_come_with_the_old_ones_gone(bench: Bench) -> None:
    """L-C4, L-C7: a write that fails leaves both as they were."""
    await bench.fund(3, 3)
    swap = await begun(bench)
    await bench.drive(swap)
    assert sorted(swap.inputs) == [coin.id for coin in await bench.coins(CoinState.SPENT)]


async def test_the_plan_is_on_disk_before_the_request_leaves(bench: Bench) -> None:
    """L-S6, L-P1."""
    await bench.fund(3, 3)
    swap = await begun(bench)

    seen: list[ProofsReserved | SwapRequested] = []

    class Watching(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(await phase_of(bench, swap))
            return bench.mint.handle(request)

    bench.executor._wallet = CashuWallet(
        bench.store,
        Seed.from_mnemonic(MNEMONIC),
        connect=lambda url: MintClient(url, transport=Watching()),
        clock=bench.clock,
    )
    assert (await bench.drive(swap)).outcome is Outcome.DONE
    phase = seen[-1]
    assert isinstance(phase, SwapRequested)
    body = json.loads(bench.mint.swaps[0])
    assert [output.blinded_message for output in phase.plan.outputs(bench.reopened())] == [
        output["B_"] for output in body["outputs"]
    ]


async def test_a_refusal_with_a_reason_fails_at_the_third_look_and_frees_the_coins(bench: Bench) -> None:
    await bench.fund(3, 3)
    swap = await begun(bench)
    bench.mint.script = [refusing(11006)] * 3
    assert [(await bench.drive(swap)).outcome for _ in range(2)] == [Outcome.PARKED] * 2
    assert await bench.amounts(CoinState.RESERVED) == [1, 1, 2]
    assert (await bench.drive(swap)).outcome is Outcome.FAILED
    assert await bench.amounts() == [1, 1, 2, 2]
    assert (await bench.transaction(swap))["state"] == "failed"
    assert len(set(bench.mint.swaps)) == 1, "the same request each time"


async def test_coins_spent_elsewhere_are_gone_and_the_others_free(bench: Bench) -> None:
    """L-C13."""
    await bench.fund(3, 3)
    swap = await begun(bench)
    gone = (await bench.coins(CoinState.RESERVED))[0]
    bench.mint.states[gone.id] = "SPENT"
    result = await to_the_end(bench, swap)
    assert result.outcome is Outcome.FAILED
    assert [coin.id for coin in await bench.coins(CoinState.SPENT)] == [gone.id]
    assert len(await bench.coins()) == 3
    assert await bench.notes(swap) == ["1 of the coins had been spent elsewhere"]


async def test_coins_that_stay_pending_leave_the_action_stuck_until_the_mint_frees_them(bench: Bench) -> None:
    """L-C7, trap (2): a terminal answer; the coins apart, the others usable; a person may have it look again."""
    await bench.fund(3, 3)
    swap = await begun(bench)
    bench.mint.script = [dies_with(is_signed=False)]
    began = bench.clock.now()
    result = await to_the_end(bench, swap)
    assert result.outcome is Outcome.STUCK
    assert isinstance(result.error, InvariantError)
    assert "stuck at the mint" in str(result.error)
    assert PATIENCE <= bench.clock.now() - began < 2 * PATIENCE
    assert await bench.amounts(CoinState.RESERVED) == [1, 1, 2]
    assert (await bench.transaction(swap))["state"] == "pending"
    await bench.fund(5, 5)
    assert (await to_the_end(bench, await begun(bench))).outcome is Outcome.DONE, "the other coins are usable"

    await bench.operator.retry(swap.key)
    assert (await bench.drive(swap)).outcome is Outcome.STUCK
    bench.mint.states = {y: state for y, state in bench.mint.states.items() if state != "PENDING"}
    await bench.operator.retry(swap.key)
    assert (await bench.drive(swap)).outcome is Outcome.DONE
    assert await bench.amounts() == [4, 4, 8]


async def test_coins_that_were_pending_and_are_spent_bring_their_outputs(bench: Bench) -> None:
    """The mint's operator carried the swap out by hand."""
    await bench.fund(3, 3)
    swap = await begun(bench)
    queue = Queue()
    bench.mint.script = [queue]
    assert (await bench.drive(swap)).outcome is Outcome.PARKED
    bench.mint.states = dict.fromkeys(swap.inputs, "PENDING")
    assert (await to_the_end(bench, swap)).outcome is Outcome.STUCK
    bench.mint.states.clear()
    queue.deliver(bench.mint)
    await bench.operator.retry(swap.key)
    assert (await bench.drive(swap)).outcome is Outcome.DONE
    assert await bench.amounts() == [2, 4]


async def test_a_mint_out_of_order_for_days_loses_nothing(bench: Bench) -> None:
    """It says no without a reason, so its word does not count; when it works again, the same request goes through."""
    await bench.fund(3, 3)
    swap = await begun(bench)
    bench.mint.script = [refusing(0)] * 200
    assert (await to_the_end(bench, swap)).outcome is Outcome.STUCK
    assert await bench.amounts(CoinState.RESERVED) == [1, 1, 2]
    bench.mint.script.clear()
    await bench.operator.retry(swap.key)
    assert (await bench.drive(swap)).outcome is Outcome.DONE
    assert len(set(bench.mint.swaps)) == 1


# Other outputs


@pytest.mark.parametrize("fee_ppk", [0, 100])
async def test_a_keyset_retired_between_choice_and_request(bench: Bench, fee_ppk: int) -> None:
    await bench.fund(3, 3, 3)
    swap = await begun(bench)
    bench.mint.rotate(fee_ppk)
    result = await bench.drive(swap)
    assert result.outcome is Outcome.DONE, "at once, without a wait"
    assert await bench.amounts() == [1, 8]
    assert bench.mint.sheets[1].id in (await bench.coins())[0].payload
    assert bench.mint.count("POST /v1/swap") == 2


async def test_a_fee_raised_between_choice_and_request(store: MemoryStore) -> None:
    """Keysets of version 1: the same coins cost more by now, and the result and the history say so."""
    bench = Bench(store, Sheet(1000, version=1))
    await bench.fund(3, 3, 3)
    swap = await begun(bench)
    bench.mint.sheets[0].fee_ppk = 300
    result = await bench.drive(swap)
    assert result.result == Exchanged(mint=URL, unit="sat", amount=6, fee=2, coins=2)
    row = await bench.transaction(swap)
    assert (row["amount"], row["fee"], row["state"]) == (6, 2, "done")
    assert await bench.amounts() == [1, 2, 4]


async def test_a_fee_so_high_that_the_wish_cannot_be_met_frees_the_coins(store: MemoryStore) -> None:
    bench = Bench(store, Sheet(1000, version=1))
    await bench.fund(8)
    swap = await begun(bench, denominations={4: 2})
    bench.mint.sheets[0].fee_ppk = 300
    result = await to_the_end(bench, swap)
    assert result.outcome is Outcome.FAILED
    assert "cannot be made any more" in str(result.error)
    assert await bench.amounts() == [8]


async def test_a_keyset_without_the_wanted_coins_frees_them(bench: Bench) -> None:
    await bench.fund(256, 256)
    swap = await begun(bench, denominations={512: 1})
    bench.mint.rotate()
    bench.mint.sheets[1] = Sheet(9000, powers=4)
    result = await to_the_end(bench, swap)
    assert result.outcome is Outcome.FAILED
    assert "cannot be made any more" in str(result.error)
    assert await bench.amounts() == [256, 256]


async def test_a_unit_that_is_given_up_frees_the_coins(bench: Bench) -> None:
    await bench.fund(3, 3)
    swap = await begun(bench)
    bench.mint.sheets[0].is_active = False
    result = await to_the_end(bench, swap)
    assert result.outcome is Outcome.FAILED
    assert "no keyset in use" in str(result.error)
    assert await bench.amounts() == [1, 1, 2, 2]


async def test_a_mint_that_does_not_tell_its_new_keys_is_asked_again(bench: Bench) -> None:
    """L-C6: that it refuses to is no reason to give the swap up."""
    await bench.fund(3, 3)
    swap = await begun(bench)
    bench.mint.rotate()

    def refuse(body: Json) -> Json:
        raise Refusal(12001)

    bench.mint.routes["GET /v1/keys/"] = refuse
    for _ in range(4):
        assert (await bench.drive(swap)).outcome is Outcome.PARKED
    bench.mint.routes.clear()
    assert (await bench.drive(swap)).outcome is Outcome.DONE


async def test_a_mint_that_takes_no_outputs_at_all_is_not_asked_for_ever(bench: Bench) -> None:
    """L-D8. Each plan stays on the list."""
    await bench.fund(3, 3)
    swap = await begun(bench)
    bench.mint.script = [refusing(11003)] * 50
    result = await to_the_end(bench, swap)
    assert result.outcome is Outcome.FAILED
    assert len(set(bench.mint.swaps)) == MOST_PLANS
    assert len(bench.mint.swaps) <= MOST_PLANS + 2
    assert await bench.amounts() == [1, 1, 2, 2]


async def test_a_late_copy_of_a_plan_that_was_given_up(bench: Bench) -> None:
    """Its coins are the ones that there are now."""
    await bench.fund(3, 3, 3)
    swap = await begun(bench)
    queue = Queue()
    bench.mint.script = [queue, refusing(11003), lost]
    assert (await bench.drive(swap)).outcome is Outcome.PARKED
    assert (await bench.drive(swap)).outcome is Outcome.PARKED
    phase = await phase_of(bench, swap)
    assert isinstance(phase, SwapRequested)
    assert len(phase.earlier) == 1
    queue.deliver(bench.mint)
    assert (await bench.drive(swap)).outcome is Outcome.DONE
    assert await bench.amounts() == [1, 8]
    assert sum(bench.mint.count(f"POST /v1/{path}") for path in ("swap", "restore")) < 10


async def test_a_late_copy_after_the_end_is_found_by_the_next_that_spends_the_coins(bench: Bench) -> None:
    """The documented limit: the mint refused for a reason of the protocol, then carried an old copy out after all."""
    await bench.fund(3, 3)
    swap = await begun(bench)
    queue = Queue()
    bench.mint.script = [queue, *[refusing(11006)] * 3]
    assert (await to_the_end(bench, swap)).outcome is Outcome.FAILED
    queue.deliver(bench.mint)
    following = await begun(bench)
    result = await to_the_end(bench, following)
    assert result.outcome is Outcome.FAILED
    assert "had been spent elsewhere" in str(result.error)
    assert await bench.amounts() == [2]
    assert len(await bench.coins(CoinState.SPENT)) == 3
    (plan,) = {body["outputs"][0]["B_"] for body in map(json.loads, bench.mint.swaps[:1])}
    assert plan in bench.mint.signed, "its coins come back with the seed's counters"


# Steering


async def test_it_is_given_up_before_it_is_sent_and_not_after(bench: Bench) -> None:
    """L-C8."""
    await bench.fund(3, 3)
    swap = await begun(bench)
    await bench.operator.request_cancel(swap.key)
    assert (await bench.drive(swap)).outcome is Outcome.FAILED
    assert (await bench.transaction(swap))["state"] == "cancelled"
    assert await bench.amounts() == [1, 1, 2, 2]
    assert bench.mint.swaps == []

    swap = await begun(bench)
    bench.mint.script = [lost]
    assert (await bench.drive(swap)).outcome is Outcome.PARKED
    await bench.operator.request_cancel(swap.key)
    assert (await bench.drive(swap)).outcome is Outcome.DONE


async def test_a_refusal_before_it_is_sent_ends_it(bench: Bench) -> None:
    """The mint has been asked for nothing that moves money, so its word is enough."""
    await bench.fund(3, 3)
    swap = await begun(bench)
    bench.executor._wallet = bench.reopened()

    def refuse(body: Json) -> Json:
        raise Refusal(0, "maintenance")

    bench.mint.routes["GET /v1/keysets"] = refuse
    assert (await bench.drive(swap)).outcome is Outcome.FAILED
    assert await bench.amounts() == [1, 1, 2, 2]


async def test_a_refusal_after_it_was_sent_never_ends_it(bench: Bench) -> None:
    """L-C5: whatever refuses, and whatever it is asked."""
    await bench.fund(3, 3)
    swap = await begun(bench)
    bench.mint.script = [lost]
    assert (await bench.drive(swap)).outcome is Outcome.PARKED
    requested = swap.at(await phase_of(bench, swap))
    assert isinstance(await requested.on_rejection(bench.wallet, RejectedError("no")), Park)


async def test_it_does_not_begin_without_its_coins(bench: Bench) -> None:
    """L-S7: started with less than its opening, it would spend coins that are not its own."""
    await bench.fund(3, 3)
    swap = await Swap.of(bench.wallet, URL)
    await bench.executor.start(swap, Changes(reserve=swap.inputs[:2]))
    result = await bench.drive(swap)
    assert result.outcome is Outcome.STUCK
    assert bench.mint.swaps == []


async def test_its_name_is_public_and_drawn_at_random(bench: Bench) -> None:
    await bench.fund(3, 3)
    first, second = [await Swap.of(bench.wallet, URL) for _ in range(2)]
    assert first.id != second.id
    assert first.inputs == second.inputs, "the choice itself is the same each time (L-S8)"
    assert isinstance(first.phase, ProofsReserved)
    secrets = [proof.secret for proof in await bench.wallet.proofs(first.inputs)]
    assert not any(secret in first.model_dump_json() for secret in secrets)


async def test_the_app_swaps_and_waits(bench: Bench) -> None:
    await bench.fund(3, 3, 3)
    async with Cashu(bench.store, Seed.from_mnemonic(MNEMONIC), connect=bench.mint.client, poll=None) as cashu:
        swap = await cashu.swap(URL)
        assert (await cashu.swapped(swap.id)).amount == 8
        with pytest.raises(RejectedError, match="nothing to swap"):
            await cashu.swap(URL)
        second = await cashu.swap(URL, denominations=[4, 4])
        assert (await cashu.swapped(second.id)).coins == 2
        row = await cashu.engine.operator.show(second.key)
        assert row.status is Status.DONE


async def test_the_keysets_are_asked_for_again_after_an_hour_and_missed_by_nobody(bench: Bench) -> None:
    """A wallet that is open for weeks learns of new keysets; one that is offline goes on with what it knew."""
    await bench.fund(3)
    mint = bench.wallet.mint(URL)
    before = bench.mint.count("GET /v1/keysets")
    await mint.active_keyset("sat")
    assert bench.mint.count("GET /v1/keysets") == before
    new = bench.mint.rotate()
    await bench.clock.advance(timedelta(minutes=61))
    assert (await mint.active_keyset("sat")).id == new.id

    def down(body: Json) -> Json:
        raise httpx.ConnectError("down")

    bench.mint.routes["GET /v1/keysets"] = down
    await bench.clock.advance(timedelta(minutes=61))
    asked = len(bench.mint.requests)
    for _ in range(3):
        assert (await mint.active_keyset("sat")).id == new.id
        assert await bench.wallet.select_exact(URL, "sat", 3) is not None
    assert len(bench.mint.requests) == asked + 1
    with pytest.raises(TransientError):
        await mint.refresh()


async def test_a_keyset_that_expired_since_it_was_listed_is_not_used(bench: Bench) -> None:
    await bench.fund(1)
    mint = bench.wallet.mint(URL)
    sheet = bench.mint.sheets[0]
    old = mint._infos[sheet.id]
    mint._infos[sheet.id] = old.model_copy(update={"final_expiry": int(bench.clock.now().timestamp()) - 1})
    new = bench.mint.rotate()
    assert (await mint.active_keyset("sat")).id == new.id
    assert isinstance(await Issue.of(bench.wallet, URL, 3), Issue)
