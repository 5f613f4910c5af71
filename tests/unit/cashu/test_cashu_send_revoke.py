"""A `Send` that is asked back: before the token exists, after it was claimed, partly claimed, and in a race."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from coincurve import PrivateKey

from tests.unit.cashu.fake_mint import URL, Json, Refusal
from tests.unit.cashu.swap_mint import (
    Bench,
    Queue,
    Sheet,
    SwapMint,
    bad_gateway_after,
    dies_with,
    lost,
    lost_after,
    refusing,
)
from tests.unit.cashu.test_cashu_send_steps import (
    EVERYTHING,
    again,
    claim,
    current,
    ended,
    fee,
    row_of,
    start,
    token_of,
)
from wallet_actions.cashu import Send, Sent
from wallet_actions.cashu.conditions import Condition, SigFlag, pay_to_key
from wallet_actions.cashu.proofs import BlindedMessage, Proof
from wallet_actions.cashu.send import NOT_WORTH_IT
from wallet_actions.cashu.sending import TokenCreated
from wallet_actions.cashu.witnesses import is_unlocked
from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.coins import CoinState
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

SOMEBODY = PrivateKey(bytes([9]) * 32).public_key.format().hex()


@pytest.fixture(params=[0, 100], ids=["free", "100 ppk"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with MemoryStore() as store:
        made = Bench(store, Sheet(1000, fee_ppk=request.param))
        made.mint.routes["GET /v1/info"] = lambda body: EVERYTHING
        yield made


async def row(bench: Bench, send: Send) -> Checkpoint:
    checkpoint = await bench.store.load(send.key)
    assert checkpoint is not None
    return checkpoint


async def handed_out(bench: Bench, amount: int = 20, **options: Any) -> Send:
    """A token that is out, of coins that a swap made of 64."""
    await bench.fund(64)
    send = await start(bench, amount, **options)
    await again(bench, send)
    return send


async def asked_back(bench: Bench, send: Send) -> DriveResult[Any]:
    assert await bench.operator.request_cancel(send.key)
    return await bench.drive(send)


async def taken_back(bench: Bench, send: Send, result: DriveResult[Any], cost: int, had: int = 64) -> None:
    """It ended with everything back but the fees."""
    assert result.outcome is Outcome.FAILED, result
    assert (await row(bench, send)).status is Status.CANCELLED
    assert "taken back" in str(result.error)
    assert sum(await bench.amounts()) == had - cost
    assert await bench.amounts(CoinState.RESERVED) == []
    assert await bench.transaction(send) == row_of(send, "revoked", **({"fee": cost} | extra(send)))


def extra(send: Send) -> Json:
    return {} if send.condition is None else {"counterpart": send.condition.data}


# Before there is a token


@pytest.mark.parametrize("amounts", [(64,), (20,)], ids=["swap", "exact"])
async def test_before_anything_was_sent(bench: Bench, amounts: tuple[int, ...]) -> None:
    await bench.fund(*amounts)
    send = await start(bench, 20)
    result = await asked_back(bench, send)
    assert (result.outcome, (await row(bench, send)).status) == (Outcome.FAILED, Status.CANCELLED)
    assert sum(await bench.amounts()) == sum(amounts)
    assert not bench.mint.swaps
    assert await bench.transaction(send) == row_of(send, "cancelled")


@pytest.mark.parametrize("turn", [lost, lost_after, bad_gateway_after], ids=["lost", "lost after", "502 after"])
async def test_while_the_swap_is_under_way(bench: Bench, turn: Any) -> None:
    """L-C8: it is carried through, and there is never a token; its coins are kept like any others."""
    await bench.fund(64)
    bench.mint.script = [turn]
    send = await start(bench, 20)
    if turn is lost:
        assert (await bench.drive(send)).outcome is Outcome.PARKED
    else:
        bench.mint.routes["POST /v1/checkstate"] = unavailable
        assert (await bench.drive(send)).outcome is Outcome.PARKED
        del bench.mint.routes["POST /v1/checkstate"]
    assert (await row(bench, send)).phase == "swap_requested"
    await asked_back(bench, send)
    result = await ended(bench, send)
    assert (await row(bench, send)).status is Status.CANCELLED
    assert "before it was handed out" in str(result.error)
    assert sum(await bench.amounts()) == 64 - fee(bench, 1)
    assert await bench.amounts(CoinState.SPENT) == [64]
    assert (await current(bench, send)).token is None
    assert await bench.transaction(send) == row_of(send, "cancelled", fee=fee(bench, 1))


async def test_while_the_mint_refuses_the_swap(bench: Bench) -> None:
    await bench.fund(64)
    bench.mint.script = [lost, *[refusing(20007)] * 3]
    send = await start(bench, 20)
    await bench.drive(send)
    await asked_back(bench, send)
    await ended(bench, send)
    assert (await row(bench, send)).status is Status.CANCELLED
    assert await bench.amounts() == [64]
    assert await bench.transaction(send) == row_of(send, "cancelled")


async def test_while_the_mint_will_not_sign_these_outputs(bench: Bench) -> None:
    """No other ones are made for a token that nobody wants."""
    await bench.fund(64)

    def retired(mint: SwapMint, body: Json) -> Json:
        if mint.sheets[-1] is mint.sheets[0]:
            mint.rotate()
        return mint.swap(body)

    bench.mint.script = [lost, retired]
    send = await start(bench, 20)
    await bench.drive(send)
    await asked_back(bench, send)
    await ended(bench, send)
    assert len(set(bench.mint.swaps)) == 1
    assert (await row(bench, send)).status is Status.CANCELLED
    assert await bench.amounts() == [64]


async def test_while_a_swap_for_somebody_elses_key_is_under_way(bench: Bench) -> None:
    """Its coins would be theirs: the request is refused, and the token made."""
    await bench.fund(64)
    bench.mint.script = [lost]
    send = await start(bench, 20, condition=pay_to_key(SOMEBODY))
    await bench.drive(send)
    await asked_back(bench, send)
    await again(bench, send)
    assert (await token_of(bench, send)).amount == 20
    assert (await row(bench, send)).status is Status.PARKED


async def test_while_a_swap_for_a_key_of_ours_is_under_way(bench: Bench) -> None:
    await bench.fund(64)
    bench.mint.script = [lost]
    send = await start(bench, 20, condition=pay_to_key(await bench.wallet.keys.new()))
    await bench.drive(send)
    await asked_back(bench, send)
    result = await ended(bench, send)
    await taken_back(bench, send, result, 2 * fee(bench, 1))


# Once it is out


@pytest.mark.parametrize("exact", [False, True], ids=["swap", "exact"])
async def test_an_unclaimed_token_is_taken_back(bench: Bench, exact: bool) -> None:
    """By a swap: what the payee holds is worth nothing then."""
    await bench.fund(*((4, 16, 64) if exact else (64,)))
    had = 84 if exact else 64
    send = await start(bench, 20)
    await again(bench, send)
    token = await token_of(bench, send)
    swaps = len(bench.mint.swaps)
    assert swaps == (not exact)
    result = await asked_back(bench, send)
    await taken_back(bench, send, result, fee(bench, 1) * (2 - exact), had=had)
    assert len(bench.mint.swaps) == swaps + 1
    assert {bench.mint.states[proof.y] for proof in token.proofs} == {"SPENT"}
    assert not {proof.y for proof in token.proofs} & {coin.id for coin in await bench.coins()}
    phases = [entry.phase for entry in await bench.store.history(send.key)]
    assert phases[-2:] == ["rolling_back", "rolling_back"]
    (cost,) = {entry.error.message for entry in await bench.store.history(send.key) if entry.error is not None}
    assert cost == ("taken back" if not fee(bench, 1) else f"taken back, for a fee of {2 - exact}")


async def test_recovery_never_takes_it_back(bench: Bench) -> None:
    """L-C8: only a person does."""
    send = await handed_out(bench)
    for _ in range(5):
        bench.clock.set_wall(bench.clock.now() + timedelta(days=400))
        assert (await bench.drive(send)).outcome is Outcome.PARKED
    assert len(bench.mint.swaps) == 1


async def test_a_claimed_token_is_not(bench: Bench) -> None:
    send = await handed_out(bench)
    claim(bench, (await token_of(bench, send)).proofs)
    result = await asked_back(bench, send)
    assert result.result == Sent(mint=URL, unit="sat", amount=20, fee=fee(bench, 1))
    assert (await row(bench, send)).status is Status.DONE
    assert len(bench.mint.swaps) == 1
    assert await bench.transaction(send) == row_of(send, "done", fee=fee(bench, 1))


async def test_of_a_partly_claimed_token_the_rest_is(bench: Bench) -> None:
    """The row tells what was claimed: that much has moved."""
    send = await handed_out(bench)
    proofs = (await token_of(bench, send)).proofs
    (four,) = [proof for proof in proofs if proof.amount == 4]
    claim(bench, (four,))
    result = await asked_back(bench, send)
    cost = 2 * fee(bench, 1)
    assert result.result == Sent(mint=URL, unit="sat", amount=4, fee=cost)
    assert await bench.transaction(send) == row_of(send, "done", fee=cost) | {"amount": 4}
    assert sum(await bench.amounts()) == 64 - 4 - cost
    assert await bench.notes(send) == [f"{16 - fee(bench, 1)} were taken back"]


@pytest.mark.parametrize("amount", [4, 16, 20])
async def test_a_race_that_the_payee_wins(bench: Bench, amount: int) -> None:
    """Between the look at the coins and the swap, some or all of them are claimed."""
    send = await handed_out(bench)
    proofs = (await token_of(bench, send)).proofs
    theirs = tuple(proof for proof in proofs if amount in (20, proof.amount))

    def claimed_first(mint: SwapMint, body: Json) -> Json:
        claim(bench, theirs)
        return mint.swap(body)

    bench.mint.script = [claimed_first]
    assert await bench.operator.request_cancel(send.key)
    result = await ended(bench, send)
    cost = fee(bench, 1) * (1 if amount == 20 else 2)
    assert result.result == Sent(mint=URL, unit="sat", amount=amount, fee=cost)
    assert sum(await bench.amounts()) == 64 - amount - cost
    assert await bench.amounts(CoinState.RESERVED) == []
    assert await bench.transaction(send) == row_of(send, "done", fee=cost) | {"amount": amount}


async def test_that_all_is_claimed_is_believed_at_the_third_look(bench: Bench) -> None:
    """L-P6: the swap was ours, and for a moment the mint does not show what it signed."""
    send = await handed_out(bench)
    bench.mint.script = [lost_after]
    bench.mint.routes["POST /v1/restore"] = lambda body: {"outputs": [], "signatures": []}
    await asked_back(bench, send)
    await bench.drive(send)
    assert (await row(bench, send)).phase == "rolling_back"
    assert sum(await bench.amounts(CoinState.RESERVED)) == 20
    del bench.mint.routes["POST /v1/restore"]
    await taken_back(bench, send, await ended(bench, send), 2 * fee(bench, 1))


async def test_that_a_part_is_claimed_is_believed_at_the_third_look(bench: Bench) -> None:
    """L-P6, L-C3: what the mint calls spent for a moment must not be given up: a spent coin never comes back."""
    send = await handed_out(bench)
    four = next(proof for proof in (await token_of(bench, send)).proofs if proof.amount == 4)

    def confused(mint: SwapMint, body: Json) -> Json:
        mint.states[four.y] = "SPENT"
        raise Refusal(11001)

    bench.mint.script = [confused]
    await asked_back(bench, send)
    assert (await row(bench, send)).phase == "rolling_back"
    del bench.mint.states[four.y]
    await taken_back(bench, send, await ended(bench, send), 2 * fee(bench, 1))


@pytest.mark.parametrize("turn", [lost, lost_after, bad_gateway_after], ids=["lost", "lost after", "502 after"])
async def test_a_lost_answer_is_found_again(bench: Bench, turn: Any) -> None:
    send = await handed_out(bench)
    bench.mint.script = [turn]
    assert await bench.operator.request_cancel(send.key)
    await taken_back(bench, send, await ended(bench, send), 2 * fee(bench, 1))
    assert len(set(bench.mint.swaps[1:])) == 1, "the same bytes"


async def test_the_payee_is_about_to_claim_it(bench: Bench) -> None:
    """The mint calls the coins pending: it waits, and the payee has them."""
    send = await handed_out(bench)
    proofs = (await token_of(bench, send)).proofs
    bench.mint.states |= {proof.y: "PENDING" for proof in proofs}
    result = await asked_back(bench, send)
    assert result.outcome is Outcome.PARKED
    assert (await row(bench, send)).phase == "rolling_back"
    claim(bench, proofs)
    assert (await ended(bench, send)).result == Sent(mint=URL, unit="sat", amount=20, fee=fee(bench, 1))


async def test_coins_that_stay_pending_for_ever(bench: Bench) -> None:
    """Trap 2: the mint died in the act. A person is told, and the coins are kept apart."""
    send = await handed_out(bench)
    bench.mint.script = [dies_with(is_signed=False)]
    assert await bench.operator.request_cancel(send.key)
    result = await ended(bench, send)
    assert result.outcome is Outcome.STUCK
    assert "stuck at the mint" in str(result.error)
    assert sum(await bench.amounts(CoinState.RESERVED)) == 20
    bench.mint.states = {y: state for y, state in bench.mint.states.items() if state != "PENDING"}
    await bench.operator.retry(send.key)
    await taken_back(bench, send, await ended(bench, send), 2 * fee(bench, 1))


async def test_the_keyset_is_retired_meanwhile(bench: Bench) -> None:
    send = await handed_out(bench)

    def retiring(mint: SwapMint, body: Json) -> Json:
        mint.rotate()
        return mint.swap(body)

    bench.mint.script = [retiring]
    assert await bench.operator.request_cancel(send.key)
    await taken_back(bench, send, await ended(bench, send), 2 * fee(bench, 1))


async def test_a_late_copy_of_a_request_that_was_given_up(bench: Bench) -> None:
    """Its answer is lost, others are made, and then it is carried out after all: its coins are ours too."""
    send = await handed_out(bench)
    queue = Queue()

    def late(mint: SwapMint, body: Json) -> Json:
        queue.deliver(mint)
        return mint.swap(body)

    bench.mint.script = [queue, refusing(11003), late]
    assert await bench.operator.request_cancel(send.key)
    await taken_back(bench, send, await ended(bench, send), 2 * fee(bench, 1))
    assert len(set(bench.mint.swaps[1:])) == 2


async def test_a_mint_that_refuses_ends_nothing(bench: Bench) -> None:
    """The token can still be claimed, or taken back later: it goes on until one of both has happened."""
    send = await handed_out(bench)
    bench.mint.script = [refusing(20007)] * 6
    assert await bench.operator.request_cancel(send.key)
    for _ in range(6):
        assert (await bench.drive(send)).outcome is Outcome.PARKED
    await taken_back(bench, send, await ended(bench, send), 2 * fee(bench, 1))


async def test_a_mint_that_refuses_all_outputs_is_not_asked_in_a_hot_loop(bench: Bench) -> None:
    """L-D8."""
    send = await handed_out(bench)
    bench.mint.script = [refusing(11003)] * 20
    assert (await asked_back(bench, send)).outcome is Outcome.PARKED
    assert len(bench.mint.swaps) == 1 + 4
    bench.mint.script.clear()
    await taken_back(bench, send, await ended(bench, send), 2 * fee(bench, 1))


async def test_a_mint_that_does_not_tell_leaves_the_request_standing(bench: Bench) -> None:
    """It is neither refused nor granted; the token stays what it is."""
    send = await handed_out(bench)
    text = (await current(bench, send)).token

    def refuse(body: Json) -> Json:
        raise Refusal(10000)

    for route in (refuse, unavailable):
        bench.mint.routes["POST /v1/checkstate"] = route
        assert (await asked_back(bench, send)).outcome is Outcome.PARKED
        assert (await row(bench, send)).phase == "token_created"
        assert (await row(bench, send)).cancel is CancelState.REQUESTED
        assert (await current(bench, send)).token == text
    del bench.mint.routes["POST /v1/checkstate"]
    await taken_back(bench, send, await bench.drive(send), 2 * fee(bench, 1))


async def test_a_token_that_the_fee_would_eat_up_is_left_alone(bench: Bench) -> None:
    if not fee(bench, 1):
        return
    await bench.fund(1)
    send = await start(bench, 1)
    await again(bench, send)
    assert (await asked_back(bench, send)).outcome is Outcome.PARKED
    assert (await row(bench, send)).phase == "token_created"
    assert await (await current(bench, send)).obstacle(bench.wallet) == NOT_WORTH_IT
    assert not bench.mint.swaps


async def test_a_fee_that_grew_meanwhile_ends_the_attempt(bench: Bench) -> None:
    """The token is out as before, and can be claimed."""
    send = await handed_out(bench)
    sheet = bench.mint.sheets[0]

    def dearer(mint: SwapMint, body: Json) -> Json:
        sheet.id  # noqa: B018 it is what it was, whatever the fee
        sheet.fee_ppk = 50_000
        return mint.swap(body)

    bench.mint.script = [dearer]
    before = fee(bench, 1)
    text = (await current(bench, send)).token
    assert (await asked_back(bench, send)).outcome is Outcome.PARKED
    assert NOT_WORTH_IT in await bench.notes(send)
    phase = (await current(bench, send)).phase
    assert isinstance(phase, TokenCreated)
    assert phase.token.get_secret_value() == text
    claim(bench, (await token_of(bench, send)).proofs)
    assert (await bench.drive(send)).result == Sent(mint=URL, unit="sat", amount=20, fee=before)


# Locked tokens


@pytest.mark.parametrize("flag", list(SigFlag))
async def test_a_token_for_a_key_of_ours_is_taken_back_with_it(bench: Bench, flag: SigFlag) -> None:
    send = await handed_out(bench, condition=pay_to_key(await bench.wallet.keys.new(), sigflag=flag))
    bench.mint.script = [lost]
    assert await bench.operator.request_cancel(send.key)
    await taken_back(bench, send, await ended(bench, send), 2 * fee(bench, 1))
    assert len(set(bench.mint.swaps[1:])) == 1, "the same signatures"
    body = json.loads(bench.mint.swaps[-1])
    inputs = [Proof.model_validate(proof) for proof in body["inputs"]]
    outputs = [BlindedMessage.model_validate(output) for output in body["outputs"]]
    assert is_unlocked(inputs, now=bench.clock.now(), outputs=outputs)


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_token_for_somebody_elses_key_is_theirs_until_the_refund(bench: Bench, is_ours: bool) -> None:
    """After the locktime a refund key of ours will do; where there is none, anybody may have it, and so may we."""
    locktime = bench.clock.now() + timedelta(days=2)
    refund = (await bench.wallet.keys.new(),) if is_ours else ()
    send = await handed_out(bench, condition=pay_to_key(SOMEBODY, locktime=locktime, refund=refund))
    assert (await asked_back(bench, send)).outcome is Outcome.PARKED
    assert (await row(bench, send)).phase == "token_created"
    obstacle = await (await current(bench, send)).obstacle(bench.wallet)
    assert obstacle is not None
    assert f"they can be taken back after {locktime + timedelta(seconds=1):%Y-%m-%d %H:%M} UTC" in obstacle
    assert len(bench.mint.swaps) == 1
    bench.clock.set_wall(locktime + timedelta(minutes=1))
    assert await (await current(bench, send)).obstacle(bench.wallet) is None
    await taken_back(bench, send, await asked_back(bench, send), 2 * fee(bench, 1))


async def test_a_token_for_somebody_elses_key_is_theirs_for_ever(bench: Bench) -> None:
    send = await handed_out(bench, condition=pay_to_key(SOMEBODY))
    assert (await asked_back(bench, send)).outcome is Outcome.PARKED
    assert await (await current(bench, send)).obstacle(bench.wallet) == (
        "the coins are locked to a key that this wallet does not have"
    )
    claim(bench, (await token_of(bench, send)).proofs)
    assert (await bench.drive(send)).outcome is Outcome.DONE


async def test_locked_coins_are_never_spendable(bench: Bench) -> None:
    """What the wallet holds for somebody else's key is no coin of ours, however the action ends."""
    condition: Condition = pay_to_key(SOMEBODY)
    send = await handed_out(bench, condition=condition)
    assert sum(await bench.amounts()) == 44 - fee(bench, 1)
    claim(bench, (await token_of(bench, send)).proofs)
    await bench.drive(send)
    assert sum(await bench.amounts()) == 44 - fee(bench, 1)


def unavailable(body: Json) -> Any:
    return httpx.Response(503)
