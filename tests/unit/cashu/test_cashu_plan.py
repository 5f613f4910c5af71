"""Plans of outputs: no secret in them, and the same outputs each time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from tests.unit.cashu.fake_mint import URL
from tests.unit.cashu.swap_mint import Bench
from wallet_actions.cashu.conditions import pay_to_key
from wallet_actions.cashu.keysets import Keyset
from wallet_actions.cashu.plan import LockedPlan, OutputPlan, SwapPlan
from wallet_actions.errors import UsageError
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

PAYEE = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with MemoryStore() as store:
        yield Bench(store)


@pytest.fixture
async def keyset(bench: Bench) -> Keyset:
    return await bench.wallet.mint(URL).active_keyset("sat")


@pytest.mark.parametrize("is_locked", [False, True])
async def test_it_gives_the_same_outputs_in_another_life(bench: Bench, keyset: Keyset, is_locked: bool) -> None:
    """L-S6, L-S7."""
    condition = pay_to_key(PAYEE) if is_locked else None
    plan = await SwapPlan.of(bench.wallet, keyset, kept=11, given=6, condition=condition)
    assert isinstance(plan.given, LockedPlan if is_locked else OutputPlan)
    again = SwapPlan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert again.outputs(bench.reopened()) == plan.outputs(bench.wallet)
    assert {output.keyset_id for output in plan.outputs(bench.wallet)} == {plan.keyset_id}


async def test_it_holds_no_secret(bench: Bench, keyset: Keyset) -> None:
    plan = await SwapPlan.of(bench.wallet, keyset, kept=11, given=6, condition=pay_to_key(PAYEE))
    text = plan.model_dump_json() + repr(plan)
    for output in plan.outputs(bench.wallet):
        assert output.secret not in text
        assert output.blinding_factor.hex() not in text


async def test_the_order_of_the_request_does_not_tell_what_is_given(bench: Bench, keyset: Keyset) -> None:
    """NUT-03. Between equal amounts the blinded messages decide, which say nothing."""
    plan = await SwapPlan.of(bench.wallet, keyset, kept=[4, 1, 2, 1], given=[4, 1])
    outputs = plan.outputs(bench.wallet)
    assert [output.amount for output in outputs] == [1, 1, 1, 2, 4, 4]
    ones = [output.blinded_message for output in outputs[:3]]
    assert ones == sorted(ones)
    assert [output.amount for output in plan.kept_outputs(bench.wallet)] == [4, 1, 2, 1], "in the plan's own order"


async def test_no_counter_is_given_out_twice(bench: Bench, keyset: Keyset) -> None:
    """L-C12."""
    plans = [await SwapPlan.of(bench.wallet, keyset, kept=7, given=3) for _ in range(3)]
    points = [output.blinded_message for plan in plans for output in plan.outputs(bench.wallet)]
    assert len(points) == len(set(points)) == 15
    assert (await bench.store.counters())[f"cashu/{keyset.id}"] == 15


async def test_each_locked_plan_is_its_own(bench: Bench, keyset: Keyset) -> None:
    """The salt is drawn: two payments to one key share no nonce and no output."""
    first, second = (LockedPlan.of(keyset, [1, 2], pay_to_key(PAYEE)) for _ in range(2))
    points = {output.blinded_message for plan in (first, second) for output in plan.outputs(bench.wallet)}
    assert len(points) == 4
    assert (await bench.store.counters()).get(f"cashu/{keyset.id}") is None, "a locked output takes no counter"


@pytest.mark.parametrize(("kept", "given"), [(5, 0), (0, 5), ([], [4, 1])])
async def test_one_part_may_be_empty(bench: Bench, keyset: Keyset, kept: Any, given: Any) -> None:
    plan = await SwapPlan.of(bench.wallet, keyset, kept=kept, given=given)
    assert sum(output.amount for output in plan.outputs(bench.wallet)) == 5
    assert not plan.kept_outputs(bench.wallet) or not plan.given_outputs(bench.wallet)
    assert (plan.given is None) == (not given)


@pytest.mark.parametrize("sums", [{"kept": -1}, {"kept": 1, "given": -1}, {"kept": 2**9 * 1001}])
async def test_sums_that_no_coins_come_to_take_no_counters(bench: Bench, keyset: Keyset, sums: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        await SwapPlan.of(bench.wallet, keyset, **sums)
    assert (await bench.store.counters()).get(f"cashu/{keyset.id}", 0) <= 1


async def test_a_stored_plan_with_an_unknown_field_is_not_read(bench: Bench, keyset: Keyset) -> None:
    """L-U1: a field that this code does not know may matter."""
    plan = await OutputPlan.of(bench.wallet, keyset, [1])
    with pytest.raises(ValidationError):
        OutputPlan.model_validate({**plan.model_dump(), "lock": "later"})
