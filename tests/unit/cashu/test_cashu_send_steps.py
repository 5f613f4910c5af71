"""`Send` up to the token, and until it is claimed, at a mint in this process that misbehaves by a script."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

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
from wallet_actions.cashu import InsufficientFundsError, Send, Sent
from wallet_actions.cashu.amounts import split
from wallet_actions.cashu.coin_selection import input_fee
from wallet_actions.cashu.conditions import Condition, ConditionKind, condition_of, hash_lock, pay_to_key
from wallet_actions.cashu.doubt import TIMES_TO_BELIEVE
from wallet_actions.cashu.keysets import Keyset
from wallet_actions.cashu.proofs import Proof
from wallet_actions.cashu.send import MOST_PLANS
from wallet_actions.cashu.sending import MAX_MEMO_CHARS, TokenCreated, face_value
from wallet_actions.cashu.tokens import Token, TokenVersion, decode_token, inspect_token
from wallet_actions.checkpoint import Status
from wallet_actions.coins import MAX_AMOUNT, CoinState
from wallet_actions.errors import RejectedError, UsageError
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

PUBKEY = PrivateKey(bytes([1]) * 32).public_key.format().hex()
DIGEST = hashlib.sha256(bytes([7]) * 32).hexdigest()
EVERYTHING: Json = {"nuts": {nut: {"supported": True} for nut in ("7", "9", "10", "11", "12", "14")}}


@pytest.fixture(params=[0, 100], ids=["free", "100 ppk"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with MemoryStore() as store:
        made = Bench(store, Sheet(1000, fee_ppk=request.param))
        made.mint.routes["GET /v1/info"] = lambda body: EVERYTHING
        yield made


async def start(bench: Bench, amount: int, **options: Any) -> Send:
    send: Send = await bench.start(await Send.of(bench.wallet, URL, amount, **options))
    return send


async def again(bench: Bench, send: Send, tries: int = 30) -> DriveResult[Any]:
    """Drive it until the token exists or it has ended."""
    for _ in range(tries):
        result = await bench.drive(send)
        checkpoint = await bench.store.load(send.key)
        assert checkpoint is not None
        if checkpoint.phase == TokenCreated.tag or result.outcome is not Outcome.PARKED:
            return result
    raise AssertionError(f"it still parks: {result.error}")


async def ended(bench: Bench, send: Send) -> DriveResult[Any]:
    """Drive it in its time until it has ended."""
    for _ in range(60):
        result = await bench.drive(send)
        if result.outcome is not Outcome.PARKED:
            return result
        assert result.wake_at is not None
        bench.clock.set_wall(max(result.wake_at, bench.clock.now()))
    raise AssertionError(f"it still parks: {result.error}")


async def current(bench: Bench, send: Send) -> Send:
    checkpoint = await bench.store.load(send.key)
    assert checkpoint is not None
    action = bench.executor.registry.decode(checkpoint)
    assert isinstance(action, Send)
    return action


async def token_of(bench: Bench, send: Send) -> Token:
    text = (await current(bench, send)).token
    assert text is not None
    return decode_token(text)


async def done(bench: Bench, send: Send) -> int:
    result = await bench.drive(send)
    assert isinstance(result.result, Sent)
    return result.result.amount


def claim(bench: Bench, proofs: tuple[Proof, ...]) -> None:
    bench.mint.states |= {proof.y: "SPENT" for proof in proofs}


def fee(bench: Bench, coins: int) -> int:
    return (bench.mint.sheets[0].fee_ppk * coins + 999) // 1000


def row_of(send: Send, state: str, **fields: Any) -> Json:
    row = {
        "operation": "cashu_send",
        "id": send.id,
        "mint": URL,
        "unit": "sat",
        "amount": send.amount,
        "fee": 0,
        "state": state,
        "at": send.asked_at.isoformat().replace("+00:00", "Z"),
    }
    return {**row, **fields}


# Without a swap


@pytest.mark.parametrize("version", list(TokenVersion))
async def test_coins_that_fit_are_handed_out_as_they_are(bench: Bench, version: TokenVersion) -> None:
    proofs = await bench.fund(4 + 16, 64)
    asked = len(bench.mint.requests)
    send = await start(bench, 20, memo="for the ☕", version=version)
    assert await bench.amounts(CoinState.RESERVED) == [4, 16]
    assert (await bench.drive(send)).outcome is Outcome.PARKED
    assert len(bench.mint.requests) == asked, "not one request"
    token = await token_of(bench, send)
    assert (token.mint, token.unit, token.memo, token.amount) == (URL, "sat", "for the ☕", 20)
    assert set(token.proofs) == {proof for proof in proofs if proof.amount != 64}
    assert inspect_token((await current(bench, send)).token or "").version is version
    assert await bench.transaction(send) == row_of(send, "pending", memo="for the ☕")
    claim(bench, token.proofs)
    result = await bench.drive(send)
    assert result.result == Sent(mint=URL, unit="sat", amount=20, fee=0)
    assert await bench.transaction(send) == row_of(send, "done", memo="for the ☕")
    assert (await bench.amounts(), await bench.amounts(CoinState.SPENT)) == ([64], [4, 16])


async def test_coins_of_several_keysets_fit_too(bench: Bench) -> None:
    """Retired ones first, and both of them in one token."""
    await bench.fund(4)
    bench.mint.rotate()
    await bench.wallet.mint(URL).refresh()
    await bench.fund(16, 4)
    send = await start(bench, 20)
    await bench.drive(send)
    token = await token_of(bench, send)
    assert {proof.amount: proof.id for proof in token.proofs} == {
        4: bench.mint.sheets[0].id,
        16: bench.mint.sheets[1].id,
    }
    assert not bench.mint.swaps


# With a swap


async def test_a_swap_makes_the_coins(bench: Bench) -> None:
    await bench.fund(64)
    asked = len(bench.mint.requests)
    send = await start(bench, 20, memo="rent")
    assert (await bench.drive(send)).outcome is Outcome.PARKED
    assert bench.mint.requests[asked:] == ["POST /v1/swap"], "one request, and nothing beside it"
    token = await token_of(bench, send)
    assert sorted(proof.amount for proof in token.proofs) == [4, 16]
    assert await bench.amounts(CoinState.RESERVED) == [4, 16]
    assert sum(await bench.amounts()) == 44 - fee(bench, 1)
    assert await bench.amounts(CoinState.SPENT) == [64]
    history = [entry.phase for entry in await bench.store.history(send.key)]
    assert history == ["proofs_reserved", "swap_requested", "token_created"]
    assert await bench.transaction(send) == row_of(send, "pending", fee=fee(bench, 1), memo="rent")
    claim(bench, token.proofs)
    result = await bench.drive(send)
    assert result.result == Sent(mint=URL, unit="sat", amount=20, fee=fee(bench, 1))
    assert await bench.transaction(send) == row_of(send, "done", fee=fee(bench, 1), memo="rent")


@pytest.mark.parametrize("count", [9, 10, 11])
async def test_change_is_right_to_the_satoshi(bench: Bench, count: int) -> None:
    """Ten coins at 100 ppk cost one, eleven two."""
    await bench.fund(*[8] * count)
    amount = 8 * count - 5
    send = await start(bench, amount)
    await bench.drive(send)
    assert len((await current(bench, send)).inputs) == count
    assert (await token_of(bench, send)).amount == amount
    assert sum(await bench.amounts()) == 5 - fee(bench, count)


@pytest.mark.parametrize("amounts", [(64,), (16, 8, 1)], ids=["swap", "exact"])
async def test_the_fee_of_whoever_claims_it_may_be_included(bench: Bench, amounts: tuple[int, ...]) -> None:
    """The token says more than the amount then, and the row tells what left the wallet."""
    await bench.fund(*amounts)
    if amounts == (16, 8, 1) and not bench.mint.sheets[0].fee_ppk:
        return
    send = await start(bench, 24, include_fee=True)
    await bench.drive(send)
    token = await token_of(bench, send)
    assert token.amount - fee(bench, len(token.proofs)) == 24
    assert send.is_exact is (len(amounts) > 1)
    swap_fee = 0 if send.is_exact else fee(bench, 1)
    assert await bench.transaction(send) == row_of(send, "pending", fee=swap_fee + token.amount - 24)
    assert sum(await bench.amounts()) == sum(amounts) - token.amount - swap_fee
    claim(bench, token.proofs)
    assert await done(bench, send) == 24


@pytest.mark.parametrize("fee_ppk", [0, 1, 100, 999, 1000, 2500])
def test_what_is_left_after_the_fee_is_never_less_than_the_amount(fee_ppk: int) -> None:
    sheet = Sheet(1000, fee_ppk=fee_ppk, powers=20)
    keyset = Keyset(id=sheet.id, unit="sat", keys=sheet.keys, input_fee_ppk=fee_ppk)
    for amount in range(1, 1100):
        face = face_value(amount, keyset, include_fee=True)
        left = face - input_fee([fee_ppk] * len(split(face, keyset.denominations)))
        assert amount <= left <= amount + max(1, 12 * fee_ppk // 1000)
        assert face_value(amount, keyset, include_fee=False) == amount


@pytest.mark.parametrize("condition", [pay_to_key(PUBKEY), hash_lock(DIGEST)], ids=["P2PK", "HTLC"])
async def test_a_condition_locks_the_coins(bench: Bench, condition: Condition) -> None:
    """Never the coins at hand, even where they fit."""
    await bench.fund(4 + 16 + 1)
    send = await start(bench, 20, condition=condition)
    await bench.drive(send)
    token = await token_of(bench, send)
    assert {condition_of(proof.secret) for proof in token.proofs} == {condition}
    assert len(bench.mint.swaps) == 1
    assert (await bench.transaction(send))["counterpart"] == condition.data
    assert await bench.amounts() == ([1] if not fee(bench, 1) else [])


# Bad input


@pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT + 1, 2**70, True, 1.0, "8", None])
async def test_what_is_no_amount_is_refused(bench: Bench, amount: Any) -> None:
    await bench.fund(64)
    with pytest.raises(UsageError, match="an amount must be an integer"):
        await Send.of(bench.wallet, URL, amount)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"memo": "x" * (MAX_MEMO_CHARS + 1)}, "a memo is text"),
        ({"memo": b"bytes"}, "a memo is text"),
        ({"memo": "\ud800"}, "the memo is text that UTF-8 cannot carry"),
        ({"version": "C"}, "version 3 or 4"),
        ({"condition": "02" * 33}, "a condition that nobody can meet"),
        ({"condition": Condition.model_construct(kind=ConditionKind.P2PK, data="02" + "0" * 64)}, "nobody can meet"),
        ({"condition": Condition.model_construct(kind=ConditionKind.HTLC, data="abc")}, "nobody can meet"),
    ],
)
async def test_what_no_token_can_carry_is_refused(bench: Bench, options: dict[str, Any], complaint: str) -> None:
    await bench.fund(64)
    before = await bench.store.counters(), len(bench.mint.requests)
    with pytest.raises(UsageError, match=complaint):
        await Send.of(bench.wallet, URL, 20, **options)
    assert (await bench.store.counters(), len(bench.mint.requests)) == before


async def test_a_condition_that_mints_refuse_for_its_length_is_refused(bench: Bench) -> None:
    """A mint sees the secret only when the coin is spent: nobody could claim it, ever."""
    keys = [PrivateKey(bytes([number]) * 32).public_key.format().hex() for number in range(1, 17)]
    await bench.fund(64)
    with pytest.raises(UsageError, match="so many keys"):
        await Send.of(bench.wallet, URL, 20, condition=pay_to_key(keys[0], pubkeys=tuple(keys[1:])))


@pytest.mark.parametrize(
    ("missing", "condition"),
    [("9", None), ("11", pay_to_key(PUBKEY)), ("14", hash_lock(DIGEST)), ("10", hash_lock(DIGEST))],
)
async def test_a_mint_that_lacks_what_it_takes_is_refused(
    bench: Bench, missing: str, condition: Condition | None
) -> None:
    await bench.fund(64)
    bench.wallet = bench.reopened()
    nuts = {nut: settings for nut, settings in EVERYTHING["nuts"].items() if nut != missing}
    bench.mint.routes["GET /v1/info"] = lambda body: {"nuts": nuts}
    with pytest.raises(RejectedError, match=f"does not offer NUT-{int(missing):02}"):
        await Send.of(bench.wallet, URL, 20, condition=condition)


async def test_more_than_there_is(bench: Bench) -> None:
    await bench.fund(16)
    with pytest.raises(InsufficientFundsError):
        await Send.of(bench.wallet, URL, 17)
    if fee(bench, 1):
        await start(bench, 16)
        with pytest.raises(InsufficientFundsError):
            await Send.of(bench.wallet, URL, 15, condition=pay_to_key(PUBKEY))


async def test_without_its_coins_it_never_reaches_the_mint(bench: Bench) -> None:
    await bench.fund(64)
    send = await Send.of(bench.wallet, URL, 20)
    await bench.executor.start(send)
    assert (await bench.drive(send)).outcome is Outcome.STUCK
    assert not bench.mint.swaps


# What may become of the swap


@pytest.mark.parametrize("turn", [lost, lost_after, bad_gateway_after], ids=["lost", "lost after", "502 after"])
async def test_a_lost_answer_is_found_again(bench: Bench, turn: Any) -> None:
    """L-P2: the same bytes again, and the same row as without a fault."""
    await bench.fund(64)
    bench.mint.script = [turn]
    send = await start(bench, 20)
    await again(bench, send)
    assert len(set(bench.mint.swaps)) == 1
    assert (await token_of(bench, send)).amount == 20
    assert await bench.transaction(send) == row_of(send, "pending", fee=fee(bench, 1))
    assert sum(await bench.amounts()) == 44 - fee(bench, 1)


async def test_counters_that_were_used_before_are_passed_over(bench: Bench) -> None:
    """L-C12: 11003 is about the outputs; the coins are unspent, and others are made of them."""
    await bench.fund(64)
    wallet, start_at = bench.wallet, (await bench.store.counters())
    (name,) = [name for name in start_at if name.startswith("cashu/")]
    used = wallet.outputs(bench.mint.sheets[0].id, start_at[name], [1] * 3)
    for output in used:
        bench.mint.sign(output.to_message(), 1)
    send = await start(bench, 20)
    await again(bench, send)
    assert len(bench.mint.swaps) == 2
    assert (await token_of(bench, send)).amount == 20
    assert sum(await bench.amounts()) == 44 - fee(bench, 1)


@pytest.mark.parametrize("condition", [None, pay_to_key(PUBKEY)], ids=["open", "locked"])
async def test_the_keyset_is_retired_between_plan_and_request(bench: Bench, condition: Condition | None) -> None:
    await bench.fund(64)

    def retiring(mint: SwapMint, body: Json) -> Json:
        mint.rotate(100)
        return mint.swap(body)

    bench.mint.script = [retiring]
    send = await start(bench, 20, condition=condition)
    await again(bench, send)
    token = await token_of(bench, send)
    assert {proof.id for proof in token.proofs} == {bench.mint.sheets[1].id}
    assert sum(await bench.amounts()) == 44 - fee(bench, 1), "the input is of the old keyset"


async def test_the_fee_changed(bench: Bench) -> None:
    """The mint lists another fee for the old keyset: the request does not balance, another one does."""
    await bench.fund(64)
    sheet = bench.mint.sheets[0]

    def dearer(mint: SwapMint, body: Json) -> Json:
        sheet.id  # noqa: B018 it is what it was, whatever the fee
        sheet.fee_ppk += 2000
        return mint.swap(body)

    bench.mint.script = [dearer]
    send = await start(bench, 20)
    await again(bench, send)
    assert sum(await bench.amounts()) == 44 - fee(bench, 1)
    assert await bench.transaction(send) == row_of(send, "pending", fee=fee(bench, 1))


async def test_the_fee_grew_beyond_the_coins(bench: Bench) -> None:
    await bench.fund(16, 8)
    sheet = bench.mint.sheets[0]
    send = await start(bench, 18)

    def dearer(mint: SwapMint, body: Json) -> Json:
        sheet.id  # noqa: B018 as above
        sheet.fee_ppk = 5000
        return mint.swap(body)

    bench.mint.script = [dearer]
    for _ in range(2):
        assert (await bench.drive(send)).outcome is Outcome.PARKED, "a late copy of the request may yet go through"
    result = await again(bench, send)
    assert result.outcome is Outcome.FAILED
    assert "charges more for the coins than when they were chosen" in str(result.error)
    assert await bench.amounts() == [8, 16]
    assert await bench.transaction(send) == row_of(send, "failed")


async def test_the_fee_grew_before_anything_was_sent(bench: Bench) -> None:
    await bench.fund(16, 8)
    sheet = bench.mint.sheets[0]
    send = await start(bench, 18)
    sheet.id  # noqa: B018 as above
    sheet.fee_ppk = 5000
    await bench.wallet.mint(URL).refresh()
    result = await bench.drive(send)
    assert result.outcome is Outcome.FAILED
    assert not bench.mint.swaps
    assert await bench.amounts() == [8, 16]


async def test_a_mint_that_refuses_whatever_it_is_given_is_not_asked_in_a_hot_loop(bench: Bench) -> None:
    """L-D8: it says each time that the outputs are used, and shows none."""
    await bench.fund(64)
    bench.mint.script = [refusing(11003)] * 20
    send = await start(bench, 20)
    result = await bench.drive(send)
    assert result.outcome is Outcome.PARKED
    assert len(bench.mint.swaps) == 4
    before = bench.clock.now()
    assert result.wake_at is not None
    assert result.wake_at > before
    result = await bench.drive(send)
    assert len(bench.mint.swaps) == 5
    bench.mint.script.clear()
    await again(bench, send)
    assert (await token_of(bench, send)).amount == 20


@pytest.mark.parametrize("condition", [None, pay_to_key(PUBKEY)], ids=["plain", "locked to somebody else"])
async def test_a_mint_that_refuses_all_outputs_for_ever_does_not_keep_the_coins(
    bench: Bench, condition: Condition | None
) -> None:
    """L-D7, L-D8: also where a cancel request is refused, since the token could not be taken back."""
    await bench.fund(64)
    bench.mint.script = [refusing(11003)] * 99
    send = await start(bench, 20, condition=condition)
    result = await ended(bench, send)
    assert result.outcome is Outcome.FAILED
    assert await bench.amounts() == [64]
    assert len(bench.mint.swaps) == MOST_PLANS + TIMES_TO_BELIEVE - 1
    row = await bench.transaction(send)
    assert (row["state"], row["fee"]) == ("failed", 0)


async def test_a_refusal_that_is_repeated_is_a_failure(bench: Bench) -> None:
    await bench.fund(64)
    bench.mint.script = [refusing(20007)] * 3
    send = await start(bench, 20)
    for _ in range(2):
        assert (await bench.drive(send)).outcome is Outcome.PARKED
        assert await bench.amounts(CoinState.RESERVED) == [64]
    result = await bench.drive(send)
    assert result.outcome is Outcome.FAILED
    assert await bench.amounts() == [64]
    assert await bench.transaction(send) == row_of(send, "failed")


async def test_coins_that_were_spent_elsewhere(bench: Bench) -> None:
    """L-C13: the others are free again."""
    await bench.fund(8, 16)
    send = await start(bench, 19)
    (proof,) = [proof for proof in await bench.wallet.proofs(send.inputs) if proof.amount == 8]
    claim(bench, (proof,))
    result = await again(bench, send)
    assert result.outcome is Outcome.FAILED
    assert "1 of the coins had been spent elsewhere" in str(result.error)
    assert (await bench.amounts(), await bench.amounts(CoinState.SPENT)) == ([16], [8])


@pytest.mark.parametrize("is_signed", [False, True])
async def test_a_mint_that_dies_in_the_act(bench: Bench, is_signed: bool) -> None:
    """Trap 2: what it has signed counts; otherwise its coins are pending for ever, and a person is told."""
    await bench.fund(64)
    bench.mint.script = [dies_with(is_signed=is_signed)]
    send = await start(bench, 20)
    result = await bench.drive(send)
    if is_signed:
        assert (await token_of(bench, send)).amount == 20
        return
    while result.outcome is Outcome.PARKED:
        assert result.wake_at is not None
        bench.clock.set_wall(result.wake_at)
        result = await bench.drive(send)
    assert result.outcome is Outcome.STUCK
    assert "stuck at the mint: the mint holds the coins of a swap as pending" in str(result.error)
    assert await bench.amounts(CoinState.RESERVED) == [64]
    bench.mint.states.clear()
    await bench.operator.retry(send.key)
    await again(bench, send)
    assert (await token_of(bench, send)).amount == 20


async def test_a_late_copy_of_a_request_that_was_given_up(bench: Bench) -> None:
    """Its answer is lost, the keyset is retired, and then it is carried out after all."""
    await bench.fund(64)
    queue = Queue()
    bench.mint.script = [queue]
    send = await start(bench, 20)
    await bench.drive(send)

    def late(mint: SwapMint, body: Json) -> Json:
        queue.deliver(mint)
        mint.rotate()
        return mint.swap(body)

    bench.mint.script = [lambda mint, body: refusing(11003)(mint, body), late]
    await again(bench, send)
    token = await token_of(bench, send)
    assert token.amount == 20
    phase = (await current(bench, send)).phase
    assert isinstance(phase, TokenCreated)
    assert sum(await bench.amounts()) == 44 - fee(bench, 1)


# Waiting


async def test_it_looks_more_and_more_rarely(bench: Bench) -> None:
    """L-S10: from a second to an hour, without an error, and without a change of the token."""
    await bench.fund(4 + 16)
    send = await start(bench, 20)
    result = await bench.drive(send)
    text = (await current(bench, send)).token
    delays: list[timedelta] = []
    looks = bench.mint.count("POST /v1/checkstate")
    began = bench.clock.now()
    while bench.clock.now() < began + timedelta(days=1):
        assert result.outcome is Outcome.PARKED
        assert result.error is None
        assert result.wake_at is not None
        delays.append(result.wake_at - bench.clock.now())
        bench.clock.set_wall(result.wake_at)
        result = await bench.drive(send)
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (timedelta(seconds=1), timedelta(hours=1))
    assert bench.mint.count("POST /v1/checkstate") - looks == len(delays) < 80
    assert (await current(bench, send)).token == text


async def test_a_part_is_claimed(bench: Bench) -> None:
    """What is gone is gone at once; it is done when all is."""
    await bench.fund(4 + 16)
    send = await start(bench, 20)
    await bench.drive(send)
    token = await token_of(bench, send)
    claim(bench, token.proofs[:1])
    assert (await bench.drive(send)).outcome is Outcome.PARKED
    assert len(await bench.amounts(CoinState.SPENT)) == 1
    bench.mint.states[token.proofs[1].y] = "PENDING"
    assert (await bench.drive(send)).outcome is Outcome.PARKED
    claim(bench, token.proofs)
    assert await done(bench, send) == 20


async def test_a_mint_that_does_not_tell_ends_nothing(bench: Bench) -> None:
    """L-D7."""
    await bench.fund(4 + 16)
    send = await start(bench, 20)
    await bench.drive(send)

    def refuse(body: Json) -> Json:
        raise Refusal(10000)

    bench.mint.routes["POST /v1/checkstate"] = refuse
    for _ in range(5):
        assert (await bench.drive(send)).outcome is Outcome.PARKED
    assert await bench.amounts(CoinState.RESERVED) == [4, 16]
    del bench.mint.routes["POST /v1/checkstate"]
    claim(bench, (await token_of(bench, send)).proofs)
    assert (await bench.drive(send)).outcome is Outcome.DONE


async def test_no_mint_is_needed_to_hand_out_what_fits(bench: Bench) -> None:
    await bench.fund(4 + 16)
    bench.mint.routes = {"": lambda body: (_ for _ in ()).throw(AssertionError("asked"))}
    send = await start(bench, 20)
    assert (await bench.drive(send)).outcome is Outcome.PARKED
    assert (await token_of(bench, send)).amount == 20


async def test_the_status_of_an_ended_send_keeps_its_token(bench: Bench) -> None:
    await bench.fund(4 + 16)
    send = await start(bench, 20)
    await bench.drive(send)
    token = (await current(bench, send)).token
    assert token is not None
    claim(bench, decode_token(token).proofs)
    await bench.drive(send)
    checkpoint = await bench.store.load(send.key)
    assert checkpoint is not None
    assert checkpoint.status is Status.DONE
    assert (await current(bench, send)).token == token
    assert token not in repr(checkpoint)
    assert token not in repr(await current(bench, send))
