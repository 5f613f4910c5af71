"""A swap at a mint that answers wrongly, late, twice, in part or not at all: what is concluded from what it says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
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
from wallet_actions.cashu.conditions import pay_to_key
from wallet_actions.cashu.crypto import y_of
from wallet_actions.cashu.errors import MintLiedError, MintUnreachableError
from wallet_actions.cashu.exchange import HeldAtMint, OtherOutputs, Refused, Swapped, fee_for, look_up, swap
from wallet_actions.cashu.outputs import unblind_all
from wallet_actions.cashu.plan import OutputPlan, SwapPlan
from wallet_actions.cashu.proofs import Proof
from wallet_actions.errors import TransientError
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

PAYEE = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


@pytest.fixture
def bench(store: MemoryStore) -> Bench:
    return Bench(store)


async def planned(bench: Bench, kept: int | Sequence[int], given: int = 0, **more: Any) -> SwapPlan:
    keyset = await bench.wallet.mint(URL).active_keyset("sat")
    return await SwapPlan.of(bench.wallet, keyset, kept=kept, given=given, **more)


def worth(proofs: Sequence[Proof]) -> list[int]:
    return sorted(proof.amount for proof in proofs)


async def test_a_smooth_swap_is_one_request_that_does_not_tell_what_is_given(bench: Bench) -> None:
    inputs = await bench.fund(13)
    plan = await planned(bench, 8, 5)
    before = len(bench.mint.requests)
    swapped = await swap(bench.wallet, URL, inputs, plan)
    assert bench.mint.requests[before:] == ["POST /v1/swap"]
    assert isinstance(swapped, Swapped)
    assert (swapped.plan, worth(swapped.kept), worth(swapped.given)) == (plan, [8], [1, 4])
    body = json.loads(bench.mint.swaps[0])
    assert [output["amount"] for output in body["outputs"]] == [1, 4, 8]
    assert all("dleq" not in proof for proof in body["inputs"]), "r would undo the blinding"
    assert all(proof.secret not in repr(swapped) for proof in swapped.kept), "a coin's secret is shown"


@pytest.mark.parametrize("turn", [lost_after, bad_gateway_after, dies_with(is_signed=True)])
async def test_a_swap_that_was_made_is_found_whatever_was_answered(bench: Bench, turn: Turn) -> None:
    """L-C6, L-P2. One mint dies between signing and saying so: its inputs stay pending, and its signatures count."""
    inputs = await bench.fund(13)
    bench.mint.script = [turn]
    swapped = await swap(bench.wallet, URL, inputs, await planned(bench, 8, 5))
    assert isinstance(swapped, Swapped)
    assert (worth(swapped.kept), worth(swapped.given)) == ([8], [1, 4])


@pytest.mark.parametrize("is_forgetful", [False, True])
async def test_after_a_crash_the_same_request_is_made_and_its_first_copy_is_found(
    bench: Bench, is_forgetful: bool
) -> None:
    """L-S7. A plan comes back from disk and gives the same bytes; the mint answers 11001 or, as some do, 11003."""
    inputs = await bench.fund(13)
    plan = await planned(bench, 8, 5, condition=pay_to_key(PAYEE))
    first = await swap(bench.wallet, URL, inputs, plan)
    again = SwapPlan.model_validate_json(plan.model_dump_json())
    bench.mint.script = [refusing(11003)] if is_forgetful else []
    second = await swap(bench.reopened(), URL, inputs, again)
    assert first == second
    assert bench.mint.swaps[0] == bench.mint.swaps[1]


async def test_a_lost_answer_proves_nothing(bench: Bench) -> None:
    """L-P2: all inputs are unspent, and the request may still be on its way. The same one is sent again."""
    inputs = await bench.fund(13)
    plan = await planned(bench, 13)
    bench.mint.script = [lost]
    with pytest.raises(TransientError, match="did not answer"):
        await swap(bench.wallet, URL, inputs, plan)
    assert isinstance(await swap(bench.wallet, URL, inputs, plan), Swapped)
    assert bench.mint.swaps[0] == bench.mint.swaps[1]


async def test_a_mint_says_when_to_come_back(bench: Bench) -> None:
    """L-P5."""
    inputs = await bench.fund(4)
    bench.mint.script = [lambda mint, body: httpx.Response(503, headers={"retry-after": "7"})]
    with pytest.raises(TransientError) as caught:
        await swap(bench.wallet, URL, inputs, await planned(bench, 4))
    assert caught.value.retry_after == timedelta(seconds=7)


async def test_no_connection_is_no_answer(bench: Bench) -> None:
    inputs = await bench.fund(4)
    plan = await planned(bench, 4)

    def unreachable(body: Json) -> Json:
        raise httpx.ConnectError("refused")

    bench.mint.routes = {"POST": unreachable}
    with pytest.raises(MintUnreachableError):
        await swap(bench.wallet, URL, inputs, plan)


# What the mint tells of the inputs


async def test_coins_that_were_spent_elsewhere_are_named_and_no_others(bench: Bench) -> None:
    """L-C13."""
    inputs = await bench.fund(7)
    bench.mint.states[inputs[0].y] = "SPENT"
    refused = await swap(bench.wallet, URL, inputs, await planned(bench, 7))
    assert refused == Refused("1 of the coins had been spent elsewhere", (inputs[0].y,))


@pytest.mark.parametrize("other", ["UNSPENT", "SPENT"])
async def test_what_is_pending_is_for_the_mint_to_end(bench: Bench, other: str) -> None:
    """L-C5, trap (2): also where other coins of the request are spent by now."""
    inputs = await bench.fund(7)
    bench.mint.states = {inputs[0].y: "PENDING", inputs[1].y: other, inputs[2].y: other}
    outcome = await swap(bench.wallet, URL, inputs, await planned(bench, 7))
    assert isinstance(outcome, HeldAtMint)
    assert outcome.pending == (inputs[0].y,)


async def test_a_mint_that_died_before_it_signed_holds_the_coins(bench: Bench) -> None:
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)
    bench.mint.script = [dies_with(is_signed=False)]
    for _ in range(2):
        outcome = await swap(bench.wallet, URL, inputs, plan)
        assert isinstance(outcome, HeldAtMint)
        assert set(outcome.pending) == {proof.y for proof in inputs}
    bench.mint.states.clear()
    assert isinstance(await swap(bench.wallet, URL, inputs, plan), Swapped)


@pytest.mark.parametrize("code", [11001, 11002])
async def test_a_mint_that_contradicts_itself_is_not_believed(bench: Bench, code: int) -> None:
    """L-P6: one part of it says that the coins are used, another, which may lag behind, that they are not."""
    inputs = await bench.fund(7)
    bench.mint.script = [refusing(code)]
    outcome = await swap(bench.wallet, URL, inputs, await planned(bench, 7))
    assert isinstance(outcome, HeldAtMint)
    assert "calls the same coins unspent" in outcome.reason


@pytest.mark.parametrize("code", [None, 0, 1, 9999, 50000])
async def test_a_mints_own_fault_is_no_refusal(bench: Bench, code: int | None) -> None:
    """L-C6: "database is locked" comes with 400 and code 0, and a copy may be carried out after it."""
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)
    queue = Queue()
    bench.mint.script = [queue, refusing(code)]
    with pytest.raises(TransientError):
        await swap(bench.wallet, URL, inputs, plan)
    assert isinstance(await swap(bench.wallet, URL, inputs, plan), HeldAtMint)
    queue.deliver(bench.mint)
    assert isinstance(await swap(bench.wallet, URL, inputs, plan), Swapped)


@pytest.mark.parametrize(("code", "status"), [(10001, 400), (11000, 400), (11006, 400), (None, 422)])
async def test_a_reason_of_the_protocol_counts(bench: Bench, code: int | None, status: int) -> None:
    inputs = await bench.fund(7)
    bench.mint.script = [refusing(code, status=status)]
    outcome = await swap(bench.wallet, URL, inputs, await planned(bench, 7))
    assert isinstance(outcome, Refused)
    assert (outcome.spent, outcome.code) == ((), code)


# Other outputs


async def test_outputs_that_were_signed_before_are_skipped(bench: Bench) -> None:
    """L-C12: an earlier life of the seed used the counters; the inputs stay unspent."""
    inputs = await bench.fund(7)
    keyset = await bench.wallet.mint(URL).active_keyset("sat")
    first = (await bench.store.counters())[f"cashu/{keyset.id}"]
    for output in bench.wallet.outputs(keyset.id, first, [1] * 150):
        bench.mint.sign(output.to_message(), 1)
    assert isinstance(await swap(bench.wallet, URL, inputs, await planned(bench, 7)), OtherOutputs)
    following = await planned(bench, 7)
    assert following.kept.first_counter >= first + 150
    assert isinstance(await swap(bench.wallet, URL, inputs, following), Swapped)


@pytest.mark.parametrize("code", [12002, 12001, 11000, 0])
async def test_a_retired_keyset_is_found_out_under_any_code(bench: Bench, code: int) -> None:
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)
    bench.mint.rotate()
    bench.mint.retired_code = code
    assert isinstance(await swap(bench.wallet, URL, inputs, plan), OtherOutputs)
    following = await planned(bench, 7)
    assert following.keyset_id == bench.mint.sheets[-1].id
    assert isinstance(await swap(bench.wallet, URL, inputs, following), Swapped)


async def test_a_keyset_of_version_1_may_change_its_fee(store: MemoryStore) -> None:
    """Its id does not cover the fee, as that of version 2 does."""
    bench = Bench(store, Sheet(1000, version=1))
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)
    bench.mint.sheets[0].fee_ppk = 400
    assert isinstance(await swap(bench.wallet, URL, inputs, plan), OtherOutputs)
    assert await fee_for(bench.wallet, URL, inputs) == 2
    assert isinstance(await swap(bench.wallet, URL, inputs, await planned(bench, 5)), Swapped)


async def test_a_fee_that_changed_before_the_keys_were_asked_for_is_no_lie(store: MemoryStore) -> None:
    bench = Bench(store, Sheet(1000, version=1))
    mint = bench.wallet.mint(URL)
    await mint.refresh()
    sheet = bench.mint.sheets[0]
    sheet.fee_ppk = 400
    bench.mint.routes["GET /v1/keys/"] = lambda body: {
        "keysets": [{"id": sheet.id, "unit": "sat", "keys": dict(sheet.keys), "input_fee_ppk": 400}]
    }
    assert (await mint.keyset(sheet.id)).input_fee_ppk == 400
    sheet.fee_ppk = 100
    other = bench.reopened().mint(URL)
    with pytest.raises(MintLiedError, match="another unit, fee or expiry"):
        await other.keyset(sheet.id)


async def test_a_late_copy_of_an_earlier_request_is_found(bench: Bench) -> None:
    """Its plan was given up for another one, but the request lay in a queue and was carried out after all."""
    inputs = await bench.fund(7)
    first, queue = await planned(bench, 4, 3), Queue()
    bench.mint.script = [queue, refusing(11003)]
    with pytest.raises(TransientError):
        await swap(bench.wallet, URL, inputs, first)
    assert isinstance(await swap(bench.wallet, URL, inputs, first), OtherOutputs)
    second = await planned(bench, 6, 1)
    queue.deliver(bench.mint)
    swapped = await swap(bench.wallet, URL, inputs, second, earlier=[first])
    assert isinstance(swapped, Swapped)
    assert (swapped.plan, worth(swapped.kept), worth(swapped.given)) == (first, [4], [1, 2])


async def test_coins_of_a_keyset_that_is_gone_are_refused_for_good(bench: Bench) -> None:
    """The mint does not list it any more, so its fee is not known: that must not hold the other coins for ever."""
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)
    bench.mint.rotate()
    plan = await planned(bench, 7)
    moved = SwapPlan(kept=OutputPlan(keyset_id=bench.mint.sheets[-1].id, first_counter=0, amounts=plan.kept.amounts))
    bench.mint.sheets[0].is_listed = False
    bench.mint.script = [refusing(12001)]
    outcome = await swap(bench.wallet, URL, inputs, moved)
    assert isinstance(outcome, Refused)
    assert "does not list a keyset" in outcome.reason


async def test_signatures_of_a_keyset_that_is_gone_are_kept_for_later(bench: Bench) -> None:
    """Its keys are remembered while the process lives; without them the coins are neither taken nor given up."""
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)
    bench.mint.script = [lost_after]
    bench.mint.rotate()
    bench.mint.sheets[0].is_active = True
    bench.mint.sheets[0].is_listed = False
    assert isinstance(await swap(bench.wallet, URL, inputs, plan), Swapped)
    with pytest.raises(TransientError, match="does not list"):
        await swap(bench.reopened(), URL, inputs, plan)


# Lies, and look-ups that fail


async def test_signatures_that_do_not_verify_are_not_taken_and_the_coins_not_given_up(bench: Bench) -> None:
    """The swap was made; a wrong DLEQ proof in its answer must not lose it."""
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)

    def with_wrong_proof(mint: Any, body: Json) -> Json:
        answer = json.loads(json.dumps(mint.swap(body)))
        answer["signatures"][0]["dleq"]["s"] = "ab" * 32
        return dict(answer)

    bench.mint.script = [with_wrong_proof]
    with pytest.raises(MintLiedError, match="DLEQ proof does not hold"):
        await swap(bench.wallet, URL, inputs, plan)
    assert isinstance(await swap(bench.wallet, URL, inputs, plan), Swapped)


async def test_a_mint_that_restores_no_good_signature_either_is_a_liar_each_time(bench: Bench) -> None:
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)
    bench.mint.script = [lost_after]

    def restored(body: Json) -> Json:
        return {
            "outputs": body["outputs"],
            "signatures": [
                bench.mint.signed[output["B_"]] | {"dleq": {"e": "ab" * 32, "s": "ab" * 32}}
                for output in body["outputs"]
            ],
        }

    bench.mint.routes["POST /v1/restore"] = restored
    for _ in range(4):
        with pytest.raises(MintLiedError):
            await swap(bench.wallet, URL, inputs, plan)


async def test_too_few_signatures_of_a_swap_that_was_not_made(bench: Bench) -> None:
    inputs = await bench.fund(7)
    bench.mint.script = [lambda mint, body: {"signatures": []}]
    with pytest.raises(MintLiedError, match="another number of signatures"):
        await swap(bench.wallet, URL, inputs, await planned(bench, 7))


async def test_a_mint_that_restores_only_some_of_the_outputs_is_waited_for(bench: Bench) -> None:
    """A copy that lags behind; to call the coins spent elsewhere would give up the rest."""
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)
    bench.mint.script = [lost_after]

    def subset(body: Json) -> Json:
        output = body["outputs"][1]
        return {"outputs": [output], "signatures": [bench.mint.signed[output["B_"]]]}

    bench.mint.routes["POST /v1/restore"] = subset
    outcome = await swap(bench.wallet, URL, inputs, plan)
    assert isinstance(outcome, HeldAtMint)
    assert "does not give all" in outcome.reason
    bench.mint.routes.clear()
    assert isinstance(await swap(bench.wallet, URL, inputs, plan), Swapped)


async def test_signatures_of_an_earlier_life_are_not_taken_for_those_of_the_swap(bench: Bench) -> None:
    """The counters were used before, for other amounts, and the inputs are spent elsewhere: both are true."""
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)
    for output in plan.kept_outputs(bench.wallet)[:2]:
        bench.mint.sign(output.to_message(), 128)
    bench.mint.states = {proof.y: "SPENT" for proof in inputs}
    outcome = await swap(bench.wallet, URL, inputs, plan)
    assert isinstance(outcome, Refused)
    assert len(outcome.spent) == len(inputs)


@pytest.mark.parametrize("shown", [3, 2], ids=["all", "a part"])
async def test_nor_are_those_for_the_same_amounts_once_they_are_spent(bench: Bench, shown: int) -> None:
    """L-C6, L-C12: a seed in a new file that was not restored. To take them would make coins out of nothing."""
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)
    for output in plan.kept_outputs(bench.wallet)[:shown]:
        bench.mint.sign(output.to_message(), output.amount)
        bench.mint.states[y_of(output.secret)] = "SPENT"
    bench.mint.states |= {proof.y: "SPENT" for proof in inputs}
    outcome = await swap(bench.wallet, URL, inputs, plan)
    assert isinstance(outcome, Refused)
    assert len(outcome.spent) == len(inputs)


@pytest.mark.parametrize("refused", ["POST /v1/checkstate", "POST /v1/restore", "GET /v1/keys"])
@pytest.mark.parametrize("code", [0, 11001])
async def test_a_look_up_that_is_refused_proves_nothing(bench: Bench, refused: str, code: int) -> None:
    """L-C6: a refusal would end the action, and free coins that are spent."""
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)
    bench.mint.script = [lost_after]

    def refuse(body: Json) -> Json:
        raise Refusal(code)

    bench.mint.routes[refused] = refuse
    wallet = bench.reopened()
    for _ in range(3):
        with pytest.raises(TransientError, match="does not tell what became of the coins"):
            await swap(wallet, URL, inputs, plan)
    bench.mint.routes.clear()
    assert isinstance(await swap(wallet, URL, inputs, plan), Swapped)


async def test_so_does_one_that_follows_the_signatures(bench: Bench) -> None:
    """The swap was made and answered; its keys, which are known to another process only, are refused."""
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)

    def refuse(body: Json) -> Json:
        raise Refusal(12001)

    bench.mint.routes["GET /v1/keys/"] = refuse
    wallet = bench.reopened()
    with pytest.raises(TransientError, match="does not tell"):
        await swap(wallet, URL, inputs, plan)
    assert bench.mint.states[inputs[0].y] == "SPENT"
    bench.mint.routes.clear()
    assert isinstance(await swap(wallet, URL, inputs, plan), Swapped)


@pytest.mark.parametrize(("code", "refused"), [(11003, "POST /v1/restore"), (12002, "GET /v1/keysets")])
async def test_so_does_one_that_follows_a_refusal(bench: Bench, code: int, refused: str) -> None:
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)

    def refuse(body: Json) -> Json:
        raise Refusal(0)

    bench.mint.routes[refused] = refuse
    bench.mint.script = [refusing(code)]
    with pytest.raises(TransientError, match="does not tell"):
        await swap(bench.wallet, URL, inputs, plan)


async def test_the_fee_of_coins_is_asked_for_where_it_is_not_known(store: MemoryStore) -> None:
    bench = Bench(store, Sheet(1000, fee_ppk=300))
    inputs = await bench.fund(15)
    assert await fee_for(bench.wallet, URL, inputs) == 2
    bench.mint.sheets[0].is_listed = False
    wallet = bench.reopened()
    for _ in range(2):
        with pytest.raises(TransientError, match="does not list"):
            await fee_for(wallet, URL, inputs)
    bench.mint.sheets[0].is_listed = True
    await bench.clock.advance(timedelta(minutes=2))
    assert await fee_for(wallet, URL, inputs) == 2

    def refuse(body: Json) -> Json:
        raise Refusal(0)

    bench.mint.routes["GET /v1/keysets"] = refuse
    with pytest.raises(TransientError):
        await fee_for(bench.reopened(), URL, inputs)


async def test_a_look_up_alone_finds_a_swap(bench: Bench) -> None:
    inputs = await bench.fund(7)
    plan = await planned(bench, 7)
    first = await swap(bench.wallet, URL, inputs, plan)
    found = await look_up(bench.wallet, URL, inputs, plan, error=TransientError("asked later"))
    assert found == first
    keyset = await bench.wallet.mint(URL).keyset(plan.keyset_id)
    outputs = plan.kept_outputs(bench.wallet)
    signatures = await bench.wallet.mint(URL).client.restore([output.to_message() for output in outputs])
    assert isinstance(found, Swapped)
    assert found.kept == unblind_all(outputs, [signatures[output.blinded_message] for output in outputs], keyset)
    assert bench.mint.count("POST /v1/swap") == 1
