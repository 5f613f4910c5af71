"""What a `Restore` finds of the plans of actions under way: every plan of every phase, and nothing that is spoilt."""

from __future__ import annotations

import types
import typing
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Annotated, Any

import pytest
from pydantic import AwareDatetime, BaseModel, SecretStr

from tests.unit.cashu.swap_mint import Bench
from wallet_actions.action import Action
from wallet_actions.cashu import KINDS, Issue
from wallet_actions.cashu.claims import claimed
from wallet_actions.cashu.issue import Unpaid
from wallet_actions.cashu.plan import OutputPlan
from wallet_actions.checkpoint import Status
from wallet_actions.coins import ActionKey
from wallet_actions.store import NewAction
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

KEYSET = "00ad268c4d1f5826"
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def phases() -> Iterator[Any]:
    for kind in KINDS:
        annotation = kind.model_fields["phase"].annotation
        union = isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union
        for phase in typing.get_args(annotation) if union else (annotation,):
            yield pytest.param(kind, phase, id=f"{kind.kind}-{phase.tag}")


class Filler:
    """Fills a model with something in every place, each plan with counters of its own, where they follow from counters.

    Attributes:
        counters: that any of the plans has.
    """

    def __init__(self) -> None:
        self.counters: set[int] = set()
        self._next = count(0, 10)

    def model(self, of: type[BaseModel]) -> BaseModel:
        values = {name: self.value(field.annotation) for name, field in of.model_fields.items()}
        if "first_counter" in values:
            size = values["blanks"] if "blanks" in values else len(values["amounts"])
            values |= {"keyset_id": KEYSET, "first_counter": next(self._next)}
            self.counters |= set(range(values["first_counter"], values["first_counter"] + size))
        return of.model_construct(**values)

    def value(self, of: Any) -> Any:
        arguments = typing.get_args(of)
        if typing.get_origin(of) is Annotated:
            return self.value(arguments[0])
        if typing.get_origin(of) is tuple:
            return (self.value(arguments[0]), self.value(arguments[0]))
        if typing.get_origin(of) is dict:
            return {}
        if arguments:  # a union: whatever holds plans
            return self.value(next((one for one in arguments if one is OutputPlan), arguments[0]))
        if isinstance(of, type) and issubclass(of, BaseModel):
            return self.model(of)
        return {int: 2, str: "text", bool: False, SecretStr: SecretStr("secret"), AwareDatetime: NOW}[of]


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


async def put(store: MemoryStore, state: str, status: Status = Status.PARKED) -> None:
    """Some action with this state."""
    bench = Bench(store)
    issue = Issue.model_validate(
        {
            "mint": "http://mint.test",
            "unit": "sat",
            "amount": 1,
            "quote": "quote",
            "request": "lnbc1",
            "asked_at": NOW,
            "phase": Unpaid(),
        }
    )
    await bench.executor.start(issue)
    row = await store.load(issue.key)
    assert row is not None
    other = replace(row, id="another", kind=row.kind, state=state, status=status)
    await store.create(NewAction(other))
    assert (await store.load(ActionKey(row.kind, "another"))) is not None


@pytest.mark.parametrize(("kind", "phase"), list(phases()))
async def test_every_plan_of_every_phase_is_found(
    store: MemoryStore, kind: type[Action[Any, Any, Any]], phase: Any
) -> None:
    """L-C12: what an action has in hand is not for a restore to take, whichever phase names it."""
    filler = Filler()
    state = filler.model(phase).model_dump_json(serialize_as_any=True)
    await put(store, f'{{"phase": {state}}}')
    found = [counter for plan in await claimed(store, KEYSET) for counter in plan]
    assert set(found) == filler.counters
    assert len(found) == len(filler.counters)
    assert await claimed(store, "another") == ()


async def test_a_phase_with_plans_was_among_them() -> None:
    with_plans = set()
    for parameter in phases():
        filler = Filler()
        filler.model(parameter.values[1])
        if filler.counters:
            with_plans.add(parameter.id)
    assert with_plans >= {
        "cashu_issue-mint_requested",
        "cashu_issue_batch-unpaid",
        "cashu_melt-payment_pending",
        "cashu_melt-reclaiming",
        "cashu_receive-proofs_pending",
        "cashu_receive-swap_requested",
        "cashu_send-swap_requested",
        "cashu_send-rolling_back",
        "cashu_swap-swap_requested",
    }


@pytest.mark.parametrize("status", [Status.QUARANTINED, Status.STUCK])
async def test_a_state_that_is_spoilt_holds_nothing_up(
    store: MemoryStore, status: Status, caplog: pytest.LogCaptureFixture
) -> None:
    """L-D12: one bad action is isolated, also from a restore."""
    await put(store, f'{{"keyset_id": "{KEYSET}", ', status)
    assert await claimed(store, KEYSET) == ()
    assert "cannot be read" in caplog.text
    assert KEYSET not in caplog.text
