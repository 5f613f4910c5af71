"""The history at a real mint: a row from the start on, one an operation, that adds up to what the wallet owns.

That rows are the same after a crash as without one is asked of every sweep: see `CashuWorld.check` and `.ending`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cashu_kit import MINT_QUOTE, Bank, Liar, Purse
from tests.integration.statement import change, history_faults, statement
from wallet_actions.action import Action
from wallet_actions.cashu import Issue, Melt, Restore, Send, Transaction, TransactionState
from wallet_actions.cashu.facts import latest, transaction_fact, transactions
from wallet_actions.coins import ActionKey
from wallet_actions.outcome import Outcome
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.transition import Changes

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bank(mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(mint, tmp_path) as bank:
        yield bank


async def rows(purse: Purse) -> list[Transaction]:
    return [row async for row in transactions(purse.store)]


async def begin(purse: Purse, action: Issue | Melt | Restore | Send) -> Transaction:
    """Start it, and look at its row before anybody drives it."""
    started: Action[Any, Any, Any] = action
    await purse.executor.start(started, action.opening)
    (row,) = await latest(purse.store, 1)
    assert (row.operation, row.id, row.state, row.fee) == (action.kind, action.id, TransactionState.PENDING, 0)
    return row


async def test_each_operation_is_a_row_from_its_start_to_its_end(bank: Bank) -> None:
    """L-S12: in the order of the starts, whichever ends first; pending rows move no money."""
    purse = await bank.purse()
    await purse.fund(64, 32)
    first = await Issue.of(purse.wallet, purse.mint_url, 10)
    melt = await Melt.of(purse.wallet, purse.mint_url, await bank.mint.invoice(20))
    actions: list[Issue | Melt | Restore | Send] = [first, melt]
    for action in actions:
        await begin(purse, action)
    send = await Send.of(purse.wallet, purse.mint_url, 11)
    assert (await begin(purse, send)).amount == 11
    restore = await Restore.of(purse.wallet, purse.mint_url)
    assert (await begin(purse, restore)).amount == 0
    actions += [send, restore]
    assert statement(await rows(purse)) == {(purse.mint_url, "sat"): 96}
    for action in reversed(actions):
        await purse.drive(action)
    assert [(row.operation, row.state.value) for row in (await rows(purse))[2:]] == [
        ("cashu_issue", "done"),
        ("cashu_melt", "done"),
        ("cashu_send", "pending"),
        ("cashu_restore", "done"),
    ]
    assert [row.counterpart for row in (await rows(purse))[2:4]] == [first.request, melt.request]
    assert not await history_faults(purse.store)
    assert [row.id for row in await latest(purse.store, 2)] == [actions[-1].id, actions[-2].id]


async def test_what_comes_to_nothing_stays_a_row(bank: Bank) -> None:
    """Expired, given up, failed: each says so, and costs nothing."""
    clock = FakeClock(datetime.now(UTC))
    liar = Liar({MINT_QUOTE: lambda answer: answer})  # which does not tell the time
    purse = await bank.purse(clock=clock, liar=liar)
    await purse.fund(64)
    await bank.mint.set(fakewallet_brr=False)
    expired = await Issue.of(purse.wallet, purse.mint_url, 5)
    given_up = await Issue.of(purse.wallet, purse.mint_url, 6)
    for issue in (expired, given_up):
        await begin(purse, issue)
    await purse.operator.request_cancel(given_up.key)
    await purse.finish(given_up)
    await bank.mint.set(fakewallet_pay_invoice_state="FAILED", fakewallet_payment_state="FAILED")
    failed = await Melt.of(purse.wallet, purse.mint_url, await bank.mint.invoice(7))
    await begin(purse, failed)
    assert (await purse.finish(failed)).outcome is Outcome.FAILED
    assert expired.expires_at is not None
    clock.set_wall(expired.expires_at + timedelta(days=2))
    assert (await purse.finish(expired)).outcome is Outcome.FAILED
    assert [(row.amount, row.state.value, change(row)) for row in (await rows(purse))[1:]] == [
        (5, "expired", 0),
        (6, "cancelled", 0),
        (7, "failed", 0),
    ]
    assert not await history_faults(purse.store)


@pytest.mark.parametrize(
    ("state", "amount", "complaint"),
    [
        (TransactionState.PENDING, 10, "the history says pending"),
        (TransactionState.FAILED, 10, "the history says failed"),
        (TransactionState.DONE, 11, "by its history the wallet owns"),
    ],
)
async def test_the_oracle_sees_a_wrong_row(bank: Bank, state: TransactionState, amount: int, complaint: str) -> None:
    """A row that stays pending, one that says otherwise, one that is off by a sat."""
    purse = await bank.purse()
    issue = await Issue.of(purse.wallet, purse.mint_url, 10)
    await purse.executor.start(issue, issue.opening)
    await purse.finish(issue)
    assert not await history_faults(purse.store)
    _write_over(purse, issue, state, amount)
    assert any(complaint in fault for fault in await history_faults(purse.store))


async def test_the_oracle_sees_a_missing_row_and_one_too_many(bank: Bank) -> None:
    purse = await bank.purse()
    swap = ActionKey("cashu_swap", "of nobody")
    issue = await Issue.of(purse.wallet, purse.mint_url, 10)
    stray = transaction_fact(
        swap, mint=purse.mint_url, unit="sat", amount=0, state=TransactionState.DONE, at=issue.asked_at
    )
    await purse.executor.start(issue, Changes(facts=[stray]))
    faults = await history_faults(purse.store)
    assert any("no row" in fault for fault in faults)
    assert any("is no action" in fault for fault in faults)
    await purse.finish(issue)


def _write_over(purse: Purse, action: Issue, state: TransactionState, amount: int) -> None:
    fact = transaction_fact(action.key, mint=purse.mint_url, unit="sat", amount=amount, state=state, at=None)
    with closing(sqlite3.connect(purse.path)) as connection, connection:
        connection.execute("UPDATE wa_facts SET body = ? WHERE key = ?", (fact.body, fact.key))
