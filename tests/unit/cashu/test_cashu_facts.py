"""The history: rows as they are written, read back, and turned round."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from wallet_actions.cashu.facts import (
    PAYMENT_PROOF,
    TRANSACTION,
    Transaction,
    TransactionState,
    latest,
    payment_proof_fact,
    transaction_fact,
    transactions,
)
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey, Fact
from wallet_actions.store import Delta, NewAction
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


async def put(store: MemoryStore, key: ActionKey, *facts: Fact) -> None:
    row = Checkpoint(key.kind, key.id, 0, 1, "{}", "open", Status.RUNNING, NOW, NOW)
    await store.create(NewAction(row, Delta(facts=facts)))


def row_of(number: int, state: TransactionState = TransactionState.DONE) -> tuple[ActionKey, Fact]:
    key = ActionKey("cashu_issue", f"i-{number}")
    return key, transaction_fact(key, mint="http://mint.test", unit="sat", amount=number, state=state, at=NOW)


async def test_a_row_reads_back_as_it_was_written(store: MemoryStore) -> None:
    key = ActionKey("cashu_melt", "m-1")
    fact = transaction_fact(
        key,
        mint="http://mint.test",
        unit="sat",
        amount=2**70,
        fee=-3,
        state=TransactionState.PENDING,
        at=NOW,
        counterpart="lnbc1",
        memo="tea ☕",
    )
    assert (fact.kind, fact.key) == (TRANSACTION, "cashu_melt/m-1")
    await put(store, key, fact, payment_proof_fact(key, "ab" * 32))
    assert [row async for row in transactions(store)] == [
        Transaction(
            operation="cashu_melt",
            id="m-1",
            mint="http://mint.test",
            unit="sat",
            amount=2**70,
            fee=-3,
            state=TransactionState.PENDING,
            at=NOW,
            counterpart="lnbc1",
            memo="tea ☕",
        )
    ]
    assert len(await store.facts(kind=PAYMENT_PROOF)) == 1


async def test_the_same_row_is_the_same_text() -> None:
    """L-S8: two runs write equal facts; what is not known is left out."""
    assert row_of(1) == row_of(1)
    assert set(json.loads(row_of(1)[1].body)) == {"operation", "id", "mint", "unit", "amount", "fee", "state", "at"}


async def test_an_operation_that_moves_several_units_has_a_row_for_each() -> None:
    key = ActionKey("cashu_restore", "r-0")
    fact = transaction_fact(
        key, mint="http://mint.test", unit="usd", amount=1, state=TransactionState.DONE, at=NOW, part="usd"
    )
    assert fact.key == "cashu_restore/r-0/usd"
    assert Transaction.model_validate_json(fact.body).id == "r-0"


async def test_both_directions_over_more_rows_than_a_page_holds(store: MemoryStore) -> None:
    count = 1203
    for number in range(count):
        await put(store, *row_of(number))
    assert [row.amount async for row in transactions(store)] == list(range(count))
    assert [row.amount for row in await latest(store, 3)] == [count - 1, count - 2, count - 3]
    assert [row.amount for row in await latest(store, 2 * count)] == list(reversed(range(count)))
    assert await latest(store, 0) == []


async def test_rows_of_a_wallet_from_before_they_told_their_id(store: MemoryStore) -> None:
    """L-U1: they were written only with the end, and without id and time."""
    key = ActionKey("cashu_issue", "old")
    body = {
        "operation": "cashu_issue",
        "mint": "http://mint.test",
        "unit": "sat",
        "amount": 5,
        "fee": 0,
        "state": "expired",
    }
    await put(store, key, Fact(TRANSACTION, "cashu_issue/old", json.dumps(body)))
    (row,) = await latest(store, 10)
    assert (row.id, row.at, row.state) == ("old", None, TransactionState.EXPIRED)


async def test_a_row_of_newer_code_does_not_hide_the_others(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """L-D12, L-U2: what it does not know of a row it passes over; a row that it cannot read is named in the log."""
    key, fact = row_of(1)
    body = json.loads(fact.body)
    await put(store, key, Fact(TRANSACTION, fact.key, json.dumps(body | {"colour": "red"})))
    await put(store, ActionKey("x", "2"), Fact(TRANSACTION, "x/2", json.dumps(body | {"state": "frozen"})))
    await put(store, ActionKey("x", "3"), Fact(TRANSACTION, "x/3", "[]"))
    await put(store, *row_of(4))
    assert [row.amount async for row in transactions(store)] == [1, 4]
    assert [record.fact_key for record in caplog.records] == ["x/2", "x/3"]  # type: ignore[attr-defined]
    assert [row.amount for row in await latest(store, 10)] == [4, 1]
