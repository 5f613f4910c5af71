"""Steps of `Receive` that no honest mint leads to, one at a time, at a mint in this process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from coincurve import PrivateKey

from tests.unit.cashu.fake_mint import URL, Refusal
from tests.unit.cashu.giving import bare, given, token_of
from tests.unit.cashu.swap_mint import (
    Bench,
    Queue,
    Sheet,
    bad_gateway_after,
    carry_out,
    dies_with,
    lost,
    lost_after,
    refusing,
)
from wallet_actions.action import Action
from wallet_actions.cashu import Receive, Received
from wallet_actions.cashu.conditions import SigFlag, hash_lock, pay_to_key
from wallet_actions.cashu.keys import COUNTER, OwnKeys
from wallet_actions.cashu.receive import GIVE_UP_AFTER, MOST_PLANS
from wallet_actions.checkpoint import Status
from wallet_actions.errors import InvariantError, TransientError
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

KEY = bytes([9]) * 32
PUBKEY = PrivateKey(KEY).public_key.format().hex()
PREIMAGE = "07" * 32
HASH = hash_lock(hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest())


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


@pytest.fixture
def bench(store: MemoryStore) -> Bench:
    return Bench(store)


async def begun(bench: Bench, *amounts: int) -> Receive:
    return await taking(bench, token_of(given(bench.mint, *amounts)))


async def taking(bench: Bench, token: str, **options: Any) -> Receive:
    receive = await Receive.of(bench.wallet, token, **options)
    await bench.start(receive)
    return receive


async def ended(bench: Bench, action: Action[Any, Any, Any], *, tries: int = 20) -> DriveResult[Any]:
    """Drive it at its wake times, until it has ended."""
    for _ in range(tries):
        result = await bench.drive(action)
        if result.outcome is not Outcome.PARKED:
            return result
        assert result.wake_at is not None
        bench.clock.set_wall(result.wake_at)
    raise AssertionError(f"it still parks: {result.error}")


def reopen(bench: Bench) -> None:
    """Another process goes on: what the last one knew of the mint is gone."""
    bench.wallet = bench.reopened()
    bench.executor._wallet = bench.wallet


# How it ends


@pytest.mark.parametrize("turn", [lost, lost_after, bad_gateway_after, refusing(None), refusing(11000)])
async def test_whatever_becomes_of_the_first_request_the_second_is_the_same(bench: Bench, turn: Any) -> None:
    """L-S7, L-P2: byte for byte, and the row is that of a smooth run."""
    bench.mint.script = [turn]
    receive = await begun(bench, 4, 16)
    result = await ended(bench, receive)
    assert result.result == Received(mint=URL, unit="sat", amount=20, fee=0)
    assert len(set(bench.mint.swaps)) == 1
    assert await bench.amounts() == [4, 16]
    assert (await bench.transaction(receive))["state"] == "done"


@pytest.mark.parametrize("locked", [pay_to_key(PUBKEY, sigflag=SigFlag.SIG_ALL), HASH])
async def test_what_unlocks_is_made_anew_the_same_each_time(bench: Bench, locked: Any) -> None:
    """L-S7; also by another process. Keys are never on disk."""
    bench.mint.script = [lost, lost]
    bench.wallet.keys = OwnKeys(bench.store, bench.wallet._seed, [KEY])
    receive = await taking(bench, token_of(given(bench.mint, 2, 8, condition=locked)), preimages=[PREIMAGE])
    assert (await ended(bench, receive)).outcome is Outcome.DONE
    assert len(bench.mint.swaps) == 3
    assert len(set(bench.mint.swaps)) == 1
    row = await bench.store.load(receive.key)
    assert row is not None
    assert row.state is not None
    assert KEY.hex() not in row.state
    assert PREIMAGE not in repr(receive)


async def test_nothing_of_the_token_is_shown(bench: Bench) -> None:
    receive = await taking(
        bench, token_of(given(bench.mint, 2, 8, condition=HASH), memo="for you"), preimages=[PREIMAGE]
    )
    shown = f"{receive!r} {receive} {receive.id} {receive.phase!r}"
    for proof in receive.proofs:
        assert proof.secret not in shown
        assert proof.C not in shown
    assert PREIMAGE not in shown


async def test_a_memo_without_end_is_cut_short(bench: Bench) -> None:
    """It stands in the history for ever."""
    receive = await taking(bench, token_of(given(bench.mint, 2), memo="ab" * 1000))
    assert receive.memo == "ab" * 500
    assert (await bench.transaction(receive))["memo"] == receive.memo


async def test_a_word_of_the_mint_is_not_enough_to_lose_the_token(bench: Bench) -> None:
    """L-C6: it calls the coins spent twice, and takes them then."""
    receive = await begun(bench, 4, 16)
    for proof in receive.proofs:
        bench.mint.states[proof.y] = "SPENT"
    for _ in range(2):
        result = await bench.drive(receive)
        assert (result.outcome, str(result.error)) == (Outcome.PARKED, "the token has been spent already")
    bench.mint.states.clear()
    assert (await bench.drive(receive)).outcome is Outcome.DONE


async def test_a_spent_token_has_failed_within_two_seconds(bench: Bench) -> None:
    receive = await begun(bench, 4, 16)
    for proof in receive.proofs:
        bench.mint.states[proof.y] = "SPENT"
    began = bench.clock.now()
    result = await ended(bench, receive)
    assert "the token has been spent already" in str(result.error)
    assert bench.clock.now() - began == timedelta(seconds=2)
    assert (await bench.transaction(receive))["state"] == "failed"
    # For ever: the same token is the same action.
    assert (await Receive.of(bench.wallet, token_of(receive.proofs))).id == receive.id


async def test_coins_are_spent_one_after_another_while_it_is_at_it(bench: Bench) -> None:
    """L-C13: each time it goes on with those that are left."""
    receive = await begun(bench, 4, 16, 32)
    for place, left in ((0, 48), (2, 16)):
        bench.mint.states[receive.proofs[place].y] = "SPENT"
        for _ in range(2):
            result = await bench.drive(receive)
            assert str(result.error) == "a part of the token has been spent already"
        bench.mint.script = [carry_out, lost] if place == 0 else []
        result = await bench.drive(receive)
        assert sum(output["amount"] for output in json.loads(bench.mint.swaps[-1])["outputs"]) == left
    assert result.result == Received(mint=URL, unit="sat", amount=16, fee=0, spent=36)
    assert await bench.notes(receive) == ["1 of 3 coins had been spent already", "2 of 3 coins had been spent already"]
    row = await bench.transaction(receive)
    assert (row["amount"], row["fee"], row["state"]) == (16, 0, "done")


async def test_it_was_we_who_spent_the_coins_after_all(bench: Bench) -> None:
    """A mint that answers from a copy behind does not know the signatures yet: the first plan is looked up as well."""
    bench.mint.script = [lost_after, carry_out, carry_out, lost]
    bench.mint.routes["POST /v1/restore"] = lambda body: {"outputs": [], "signatures": []}
    receive = await begun(bench, 4, 16, 32)
    await bench.drive(receive)
    hidden = receive.proofs[2].y
    bench.mint.states[hidden] = "UNSPENT"
    for _ in range(2):
        await bench.drive(receive)
    assert len(set(bench.mint.swaps)) == 2
    bench.mint.states[hidden] = "SPENT"
    del bench.mint.routes["POST /v1/restore"]
    result = await ended(bench, receive)
    assert result.result == Received(mint=URL, unit="sat", amount=52, fee=0)


# Other outputs


async def test_a_late_copy_of_a_refused_request_is_carried_out_after_all(bench: Bench) -> None:
    """L-P2: the plan was given up for another keyset's; what is signed in the end is ours either way."""
    late = Queue()
    bench.mint.script = [late]
    receive = await begun(bench, 4, 16)
    await bench.drive(receive)
    old = bench.mint.sheets[0]
    bench.mint.rotate()

    def overtaken(mint: Any, body: Any) -> Any:
        old.is_active = True
        late.deliver(mint)
        raise Refusal(11001)

    bench.mint.script = [carry_out, overtaken]
    assert (await ended(bench, receive)).outcome is Outcome.DONE
    assert {json.loads(coin.payload)["id"] for coin in await bench.coins()} == {old.id}


async def test_a_mint_that_changes_its_fee_gets_it(store: MemoryStore) -> None:
    """Ids of version 1 do not cover the fee. What is refused is planned anew."""
    bench = Bench(store, Sheet(1000, version=1))
    receive = await begun(bench, 4, 16)
    bench.mint.sheets[0].fee_ppk = 500
    result = await ended(bench, receive)
    assert result.result == Received(mint=URL, unit="sat", amount=19, fee=1)
    row = await bench.transaction(receive)
    assert (row["amount"], row["fee"]) == (20, 1)


async def test_a_mint_that_wants_all_of_it_as_a_fee_gets_nothing(store: MemoryStore) -> None:
    bench = Bench(store, Sheet(1000, version=1))
    token = token_of(given(bench.mint, 1, 2))
    receive = await taking(bench, token)
    bench.mint.sheets[0].fee_ppk = 1500
    result = await ended(bench, receive)
    assert "worth 3 sat, and taking it would cost 3" in str(result.error)
    # It may change its mind, and the token is still good.
    bench.mint.sheets[0].fee_ppk = 0
    reopen(bench)
    again = await taking(bench, token)
    assert again.id == f"{receive.id}-1"
    assert (await ended(bench, again)).outcome is Outcome.DONE


async def test_a_mint_that_refuses_all_outputs_is_not_asked_in_a_hot_loop(bench: Bench) -> None:
    """L-D8. Some mints say of a secret that is too long what others say of outputs that were used."""
    bench.mint.script = [refusing(11003)] * 100
    receive = await begun(bench, 4, 16)
    began = bench.clock.now()
    for _ in range(20):
        result = await bench.drive(receive)
        assert result.outcome is Outcome.PARKED
        assert result.wake_at is not None
        bench.clock.set_wall(result.wake_at)
    assert bench.clock.now() - began > timedelta(minutes=5)
    assert len(set(bench.mint.swaps)) == MOST_PLANS
    assert len(bench.mint.swaps) < 25
    bench.mint.script.clear()
    assert (await bench.drive(receive)).outcome is Outcome.DONE


# Refusals that pass, and those that do not


async def test_a_refusal_is_waited_out_and_asked_about_more_and_more_rarely(bench: Bench) -> None:
    """Its reason may pass: by the mint's clock a lock has not opened yet, say."""
    bench.mint.script = [refusing(11000)] * 1000
    receive = await begun(bench, 4, 16)
    began, delays = bench.clock.now(), []
    while bench.clock.now() < began + GIVE_UP_AFTER:
        result = await bench.drive(receive)
        assert (result.outcome, type(result.error)) == (Outcome.PARKED, TransientError)
        assert result.wake_at is not None
        delays.append(result.wake_at - bench.clock.now())
        bench.clock.set_wall(result.wake_at)
    assert delays == sorted(delays)
    assert len(delays) < 150
    result = await ended(bench, receive)
    assert result.status is Status.FAILED
    assert "the mint refused: no (code 11000)" in str(result.error)
    assert (await bench.transaction(receive))["state"] == "failed"
    bench.mint.script.clear()
    again = await taking(bench, token_of(receive.proofs))
    assert again.id == f"{receive.id}-1"
    assert (await bench.drive(again)).outcome is Outcome.DONE


async def test_it_can_be_given_up_while_the_mint_keeps_refusing(bench: Bench) -> None:
    bench.mint.script = [refusing(11000)] * 100
    receive = await begun(bench, 4, 16)
    for _ in range(2):
        await bench.drive(receive)

    async def asked_to() -> Status | None:
        assert await bench.operator.request_cancel(receive.key)
        return (await bench.drive(receive)).status

    assert await asked_to() is Status.PARKED  # and is refused a third time
    bench.mint.states[receive.proofs[0].y] = "SPENT"
    assert await asked_to() is Status.PARKED
    bench.mint.states.clear()
    assert await asked_to() is Status.CANCELLED
    assert (await Receive.of(bench.wallet, token_of(receive.proofs))).id == f"{receive.id}-1"
    assert (await bench.transaction(receive))["state"] == "cancelled"


async def test_it_can_be_given_up_while_the_mint_says_nothing_sound(bench: Bench) -> None:
    """Code 0 is what some mints give to any fault of their own."""
    bench.mint.script = [refusing(0)] * 100
    receive = await begun(bench, 4, 16)
    assert (await bench.drive(receive)).outcome is Outcome.PARKED
    assert await bench.operator.request_cancel(receive.key)
    assert (await bench.drive(receive)).status is Status.CANCELLED


@pytest.mark.parametrize("code", [10001, 10003])
async def test_forged_coins_have_failed_within_two_seconds(bench: Bench, code: int) -> None:
    bench.mint.script = [refusing(code)] * 3
    began = bench.clock.now()
    result = await ended(bench, await begun(bench, 4, 16))
    assert result.status is Status.FAILED
    assert bench.clock.now() - began == timedelta(seconds=2)


async def test_refusals_do_not_make_a_later_word_on_spent_coins_more_credible(bench: Bench) -> None:
    bench.mint.script = [refusing(11000)] * 4
    receive = await begun(bench, 4, 16)
    for _ in range(4):
        await bench.drive(receive)
    for proof in receive.proofs:
        bench.mint.states[proof.y] = "SPENT"
    assert [(await bench.drive(receive)).outcome for _ in range(3)] == [
        *(Outcome.PARKED, Outcome.PARKED, Outcome.FAILED)
    ]


async def test_a_mint_without_a_keyset_in_use_is_waited_for(bench: Bench) -> None:
    receive = await begun(bench, 4, 16)
    bench.mint.sheets[0].is_active = False
    reopen(bench)
    result = await bench.drive(receive)
    assert (result.outcome, type(result.error)) == (Outcome.PARKED, TransientError)
    assert "no keyset in use" in str(result.error)
    bench.mint.rotate()
    assert (await ended(bench, receive)).outcome is Outcome.DONE


async def test_a_mint_that_died_in_the_act_is_waited_for_and_then_a_person_is_asked(bench: Bench) -> None:
    bench.mint.script = [dies_with(is_signed=False)]
    receive = await begun(bench, 4, 16)
    result = await ended(bench, receive, tries=100)
    assert result.outcome is Outcome.STUCK
    assert isinstance(result.error, InvariantError)
    assert "stuck at the mint" in str(result.error)
    bench.mint.states.clear()
    await bench.operator.retry(receive.key)
    assert (await bench.drive(receive)).outcome is Outcome.DONE


async def test_a_mint_that_died_after_signing_is_believed_once_it_says_so(bench: Bench) -> None:
    bench.mint.script = [dies_with(is_signed=True)]
    receive = await begun(bench, 4, 16)
    bench.mint.routes["POST /v1/restore"] = lambda body: {"outputs": [], "signatures": []}
    assert (await bench.drive(receive)).outcome is Outcome.PARKED
    bench.mint.states = dict.fromkeys(bench.mint.states, "SPENT")
    bench.mint.routes.clear()
    assert (await bench.drive(receive)).outcome is Outcome.DONE


# Locks


async def test_a_clock_that_is_set_back_behind_a_locktime_is_waited_for(bench: Bench) -> None:
    now = bench.clock.now()
    locked = pay_to_key(PUBKEY, locktime=now - timedelta(hours=1))
    receive = await taking(bench, token_of(given(bench.mint, 2, 8, condition=locked)))
    bench.clock.set_wall(now - timedelta(hours=2))
    result = await bench.drive(receive)
    assert (result.outcome, type(result.error)) == (Outcome.PARKED, TransientError)
    assert "the clock was set back" in str(result.error)
    bench.clock.set_wall(now)
    assert (await bench.drive(receive)).outcome is Outcome.DONE


async def test_a_key_of_a_restored_wallet_counts_as_shown_once_it_was_used(bench: Bench) -> None:
    (key,) = bench.wallet._seed.receiving_keys(9, 1)
    locked = pay_to_key(PrivateKey(key).public_key.format().hex())
    receive = await taking(bench, token_of(given(bench.mint, 2, 8, condition=locked)))
    assert COUNTER not in await bench.store.counters()
    assert (await bench.drive(receive)).outcome is Outcome.DONE
    assert (await bench.store.counters())[COUNTER] == 10


# The same token


async def test_a_token_that_only_looks_like_another_is_another(bench: Bench) -> None:
    """The same secret, and not the mint's signature: whoever brings it first cannot keep the real one out."""
    real, other = given(bench.mint, 4, 4)
    forged = bare(real, C=other.C)
    first = await taking(bench, token_of([forged]))
    second = await taking(bench, token_of([bare(real)]))
    assert first.id != second.id
    assert (await bench.drive(second)).outcome is Outcome.DONE


async def test_one_of_two_tokens_with_a_coin_in_common_gets_it(bench: Bench) -> None:
    coins = given(bench.mint, 1, 2, 4)
    one, two = await taking(bench, token_of(coins[:2])), await taking(bench, token_of(coins[1:]))
    assert (await ended(bench, one)).result == Received(mint=URL, unit="sat", amount=3, fee=0)
    assert (await ended(bench, two)).result == Received(mint=URL, unit="sat", amount=4, fee=0, spent=2)
    assert sum(await bench.amounts()) == 7
