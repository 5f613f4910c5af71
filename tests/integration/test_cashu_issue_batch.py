"""`IssueBatch` at a real mint: several invoices, one request, and every fault on the way (NUT-29)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.cashu_kit import RESTORE, Bank, Liar, Purse, app, plain
from wallet_actions.cashu import Issue, IssueBatch, IssuedBatch, MintClient
from wallet_actions.cashu.facts import Transaction, TransactionState
from wallet_actions.cashu.issue_batch_phases import Offer
from wallet_actions.checkpoint import Status
from wallet_actions.coins import CoinState
from wallet_actions.errors import UsageError
from wallet_actions.outcome import Outcome
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions.testing.proxy import (
    Duplicate,
    Fault,
    FaultProxy,
    Kill,
    Late,
    LoseAnswer,
    ResetBefore,
    Rule,
    StatusAfter,
)
from wallet_actions.testing.proxy import Status as Answer

pytestmark = pytest.mark.anyio

INFO = r"^/v1/info$"
BATCH = r"^/v1/mint/bolt11/batch$"
SINGLE = r"^/v1/mint/bolt11$"
LOOK_UP = r"^/v1/mint/quote/bolt11/check$"
ONE_QUOTE = r"^/v1/mint/quote/bolt11/(?!check)."
JSON = (("content-type", "application/json"),)
REFUSAL = json.dumps({"detail": "try again", "code": 11000}).encode()
FAULTS: dict[str, Fault] = {
    "reset before": ResetBefore(),
    "answer lost": LoseAnswer(),
    "502 after": StatusAfter(),
    "403 of a proxy, after": StatusAfter(403),
    "refusal of the protocol": Answer(400, REFUSAL, JSON),
    "refusal of the protocol, after": StatusAfter(400, REFUSAL, JSON),
    "late": Late(0.05),
    "duplicated, first answer": Duplicate("first"),
    "duplicated, second answer": Duplicate("second"),
}


@pytest.fixture
async def bank(mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(mint, tmp_path) as bank:
        yield bank


@pytest.fixture(scope="module")
async def module_mint() -> AsyncIterator[NutshellMint]:
    """A mint whose keysets may be rotated and whose books may be written to."""
    async with NutshellMint(MintConfig(input_fee_ppk=100)) as mint:
        yield mint


@pytest.fixture
async def own_bank(module_mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(module_mint, tmp_path) as bank:
        yield bank
        await module_mint.reset()


def without(*nuts: str) -> Any:
    """A mint that lacks parts of the protocol."""
    return lambda answer: {
        **answer,
        "nuts": {name: value for name, value in answer["nuts"].items() if name not in nuts},
    }


async def batch_of(purse: Purse, *amounts: int) -> IssueBatch:
    batch = await IssueBatch.of(purse.wallet, purse.mint_url, amounts)
    await purse.executor.start(batch, batch.opening)
    return batch


async def pay(bank: Bank, offer: Offer) -> None:
    """Have one invoice paid, and no other."""
    await bank.mint.set(fakewallet_brr=True)
    async with MintClient(bank.mint.url, transport=plain()) as client:
        await client.mint_quote(offer.quote.get_secret_value())
    await bank.mint.set(fakewallet_brr=False)


async def test_several_invoices_become_coins_with_one_request(bank: Bank) -> None:
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        batch = await batch_of(purse, 10, 20, 33)
        before = len(proxy.records)
        result = await purse.finish(batch)
        made = [f"{record.method} {record.path}" for record in proxy.records[before:]]
    assert made == ["POST /v1/mint/quote/bolt11/check", "POST /v1/mint/bolt11/batch"]
    requests = tuple(offer.request for offer in batch.offers)
    assert result.result == IssuedBatch(mint=purse.mint_url, unit="sat", amount=63, paid=requests, unpaid=())
    assert sorted(coin.amount for coin in await purse.coins(CoinState.SPENDABLE)) == [1, 2, 4, 8, 16, 32]
    assert await purse.story(batch) == ["start", "mint_requested", "done"]
    assert await purse.transactions() == {f"cashu_issue_batch/{batch.id}": transaction_of(batch)}
    assert [offer.key_counter for offer in batch.offers] == [0, 1, 2]


@pytest.mark.parametrize("nuts", [("29",), ("20",), ("20", "29")])
async def test_a_mint_without_batches_or_locks(bank: Bank, nuts: tuple[str, ...]) -> None:
    liar = Liar({INFO: without(*nuts)})
    purse = await bank.purse(liar=liar)
    batch = await batch_of(purse, 10, 20, 33)
    assert (await purse.finish(batch)).outcome is Outcome.DONE
    assert await purse.spendable() == 63
    assert (await purse.story(batch)).count("mint_requested") == (3 if "29" in nuts else 1)
    assert {offer.key_counter is None for offer in batch.offers} == {"20" in nuts}


async def test_a_whole_app_issues_a_batch(bank: Bank) -> None:
    purse = await bank.purse()
    async with app(purse) as cashu:
        batch = await cashu.issue_many(bank.mint.url, [1, 2])
        assert (await cashu.issued_many(batch.id)).amount == 3
        with pytest.raises(UsageError, match="an amount or more"):
            await cashu.issue_many(bank.mint.url, [])
        with pytest.raises(UsageError, match="from 1 to"):
            await cashu.issue_many(bank.mint.url, [1, 0])
    assert len(await purse.actions()) == 1


async def test_it_waits_for_all_for_a_while_and_then_takes_what_is_paid(bank: Bank) -> None:
    """Paid quotes do not wait until their own end: a mint may refuse to sign for one that has passed."""
    await bank.mint.set(fakewallet_brr=False)
    clock = FakeClock(datetime.now(UTC))
    purse = await bank.purse(clock=clock)
    batch = await batch_of(purse, 1, 2, 4)
    await pay(bank, batch.offers[1])
    assert (await purse.drive(batch)).outcome is Outcome.PARKED
    assert await purse.spendable() == 0
    clock.set_wall(clock.now() + timedelta(minutes=11))
    assert (await purse.drive(batch)).outcome is Outcome.PARKED
    assert await purse.spendable() == 2
    await pay(bank, batch.offers[0])
    assert (await purse.drive(batch)).outcome is Outcome.PARKED
    assert await purse.spendable() == 3
    await pay(bank, batch.offers[2])
    assert (await purse.finish(batch)).outcome is Outcome.DONE
    assert await purse.spendable() == 7
    assert await purse.transaction(batch) == transaction_of(batch)


@pytest.mark.parametrize("count", [0, 2])
async def test_invoices_that_nobody_paid_are_dropped(bank: Bank, count: int) -> None:
    await bank.mint.set(fakewallet_brr=False)
    clock = FakeClock(datetime.now(UTC))
    purse = await bank.purse(clock=clock, liar=Liar({LOOK_UP: lambda answer: answer, ONE_QUOTE: lambda answer: answer}))
    batch = await batch_of(purse, 1, 2, 4)
    for offer in batch.offers[:count]:
        await pay(bank, offer)
    assert (await purse.drive(batch)).outcome is Outcome.PARKED
    end = batch.offers[0].expires_at
    assert end is not None
    clock.set_wall(end + timedelta(days=1, minutes=1))
    result = await purse.finish(batch)
    if count:
        assert result.result == IssuedBatch(
            mint=purse.mint_url,
            unit="sat",
            amount=3,
            paid=tuple(offer.request for offer in batch.offers[:2]),
            unpaid=(batch.offers[2].request,),
        )
        assert await purse.transaction(batch) == transaction_of(batch, amount=3)
    else:
        assert (result.outcome, str(result.error).partition(": ")[2]) == (Outcome.FAILED, "the invoices expired unpaid")
        assert await purse.transaction(batch) == transaction_of(batch, state="expired")
    assert await purse.spendable() == (3 if count else 0)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_no_fault_of_a_request_costs_anything(bank: Bank, fault: Fault) -> None:
    """L-P2, L-C6, L-S11: whichever request it hits, all of the money comes, once, and is booked the same."""
    async with FaultProxy(bank.mint.url) as proxy:
        for path in (LOOK_UP, BATCH):
            first = await bank.purse(url=proxy.url)
            batch = await batch_of(first, 10, 11)
            purse = await bank.purse(like=first, path=first.path)  # knows nothing but what is in the file
            proxy.use(Rule(fault, path=path))
            result = await purse.finish(batch)
            proxy.use()
            assert fault in [record.fault for record in proxy.records], path
            assert result.outcome is Outcome.DONE
            assert await purse.spendable() == 21
            assert await purse.transactions() == {f"cashu_issue_batch/{batch.id}": transaction_of(batch)}


async def test_a_lost_answer_whose_look_ups_are_lost_too(bank: Bank) -> None:
    """L-P2, L-S7: the same request goes out again, byte for byte, signatures and all."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        batch = await batch_of(purse, 10, 11)
        proxy.use(
            Rule(LoseAnswer(), path=BATCH), Rule(LoseAnswer(), path=LOOK_UP, nth=2), Rule(LoseAnswer(), path=RESTORE)
        )
        assert (await purse.finish(batch)).outcome is Outcome.DONE
        requests = [record.body for record in proxy.records if record.path == "/v1/mint/bolt11/batch"]
    assert len(requests) > 1
    assert len(set(requests)) == 1
    assert await purse.spendable() == 21


async def test_the_mint_dies_and_comes_back(own_bank: Bank) -> None:
    async with FaultProxy(own_bank.mint.url) as proxy:
        purse = await own_bank.purse(url=proxy.url)
        batch = await batch_of(purse, 10, 11)
        proxy.use(Rule(Kill(own_bank.mint.kill, at="answered"), path=BATCH))
        assert (await purse.drive(batch)).outcome is Outcome.PARKED
        await own_bank.mint.restart()
        assert (await purse.finish(batch)).outcome is Outcome.DONE
    assert await purse.spendable() == 21


async def test_the_keyset_is_retired_in_the_middle_of_the_request(own_bank: Bank) -> None:
    async with FaultProxy(own_bank.mint.url) as proxy:
        purse = await own_bank.purse(url=proxy.url)
        batch = await batch_of(purse, 10, 11)
        proxy.use(Rule(Kill(own_bank.mint.rotate_keyset, at="before"), path=BATCH))
        assert (await purse.finish(batch)).outcome is Outcome.DONE
        assert await purse.spendable() == 21


async def test_counters_that_were_used_before_are_passed_over(bank: Bank) -> None:
    """L-C12."""
    first = await bank.purse()
    await first.fund(100, 63, 5)
    second = await bank.purse(like=first)
    batch = await batch_of(second, 30, 47)
    assert (await second.finish(batch)).outcome is Outcome.DONE
    assert await second.spendable() == 77
    assert not {coin.id for coin in await first.coins()} & {coin.id for coin in await second.coins()}


async def test_a_batch_that_is_refused_again_and_again_is_divided(bank: Bank) -> None:
    """L-C13: each quote for itself, and not at the mint's first word."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        batch = await batch_of(purse, 10, 11, 12)
        proxy.use(Rule(Answer(400, b'{"detail": "too many quotes", "code": 11017}', JSON), path=BATCH, once=False))
        for _ in range(2):
            assert (await purse.drive(batch)).outcome is Outcome.PARKED
        assert (await purse.finish(batch)).outcome is Outcome.DONE
        assert len([record for record in proxy.records if record.path == "/v1/mint/bolt11"]) == 3
    assert await purse.spendable() == 33
    assert await purse.transaction(batch) == transaction_of(batch)


async def test_a_copy_of_the_batch_that_arrives_after_it_was_divided(bank: Bank) -> None:
    """L-C7: its outputs are on the list of each of the single requests."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        batch = await batch_of(purse, 10, 11)
        proxy.use(
            Rule(Answer(400, REFUSAL, JSON), path=BATCH, once=False), Rule(ResetBefore(), path=SINGLE, once=False)
        )
        for _ in range(3):
            assert (await purse.drive(batch)).outcome is Outcome.PARKED
        late = next(record.body for record in proxy.records if record.path == "/v1/mint/bolt11/batch")
        async with httpx.AsyncClient(transport=plain()) as client:
            answer = await client.post(
                f"{bank.mint.url}/v1/mint/bolt11/batch", content=late, headers={"content-type": "application/json"}
            )
        assert answer.status_code == 200
        proxy.use()
        result = await purse.finish(batch)
    assert (result.outcome, await purse.spendable()) == (Outcome.DONE, 21)


async def test_one_quote_that_the_mint_will_not_sign_for(own_bank: Bank) -> None:
    """L-C13: its books are wrong about it. The others come, also one that is paid much later."""
    await own_bank.mint.set(fakewallet_brr=False)
    clock = FakeClock(datetime.now(UTC))
    purse = await own_bank.purse(clock=clock)
    batch = await batch_of(purse, 1, 2, 4, 8)
    for offer in batch.offers[:3]:
        await pay(own_bank, offer)
    books = own_bank.mint.log.parent / "mint" / "mint.sqlite3"
    quote = batch.offers[1].quote.get_secret_value()

    def book(amount: int) -> None:
        with closing(sqlite3.connect(books, timeout=10)) as database, database:
            database.execute("UPDATE mint_quotes SET amount = ? WHERE quote = ?", (amount, quote))

    book(3)
    clock.set_wall(clock.now() + timedelta(minutes=11))
    for _ in range(8):
        assert (await purse.drive(batch)).outcome is Outcome.PARKED
    assert await purse.spendable() == 5
    await pay(own_bank, batch.offers[3])
    for _ in range(4):
        assert (await purse.drive(batch)).outcome is Outcome.PARKED
    assert await purse.spendable() == 13
    book(2)
    assert (await purse.finish(batch)).outcome is Outcome.DONE
    assert await purse.spendable() == 15


async def test_a_quote_of_the_batch_that_somebody_else_collected(bank: Bank) -> None:
    """L-D7: of an unlocked quote. The others come, and the result says what is missing."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url, liar=Liar({INFO: without("20")}))
        thief = await bank.purse()
        batch = await batch_of(purse, 1, 2, 4)
        proxy.use(Rule(ResetBefore(), path=BATCH))
        assert (await purse.drive(batch)).outcome is Outcome.PARKED
        offer = batch.offers[1]
        stolen = Issue.model_validate(
            {
                "mint": thief.mint_url,
                "unit": "sat",
                "asked_at": batch.asked_at,
                "phase": {"tag": "unpaid"},
                **offer.model_dump(),
            }
        )
        await thief.executor.start(stolen, stolen.opening)
        assert (await thief.finish(stolen)).outcome is Outcome.DONE
        result = await purse.finish(batch)
    assert (result.outcome, await purse.spendable(), await thief.spendable()) == (Outcome.DONE, 5, 2)
    assert result.result is not None
    assert result.result.unpaid == (offer.request,)
    assert await purse.transaction(batch) == transaction_of(batch, amount=5)


async def test_all_quotes_were_collected_by_somebody_else(bank: Bank) -> None:
    liar = Liar({LOOK_UP: lambda answer: [{**quote, "state": "ISSUED"} for quote in answer]})
    purse = await bank.purse(liar=liar)
    batch = await batch_of(purse, 1, 2)
    for _ in range(2):
        assert (await purse.drive(batch)).outcome is Outcome.PARKED
    result = await purse.finish(batch)
    assert result.outcome is Outcome.FAILED
    assert "issued to another wallet" in str(result.error)
    assert (await purse.transaction(batch))["state"] == "failed"


async def test_it_can_be_given_up_while_nothing_is_paid(bank: Bank) -> None:
    """L-D11."""
    await bank.mint.set(fakewallet_brr=False)
    purse = await bank.purse()
    given_up, kept = await batch_of(purse, 1, 2), await batch_of(purse, 4, 8)
    await pay(bank, kept.offers[0])
    for batch in (given_up, kept):
        assert (await purse.drive(batch)).outcome is Outcome.PARKED
        assert await purse.operator.request_cancel(batch.key)
    assert (await purse.drive(given_up)).outcome is Outcome.FAILED
    assert (await purse.row(given_up)).status is Status.CANCELLED
    assert await purse.transaction(given_up) == transaction_of(given_up, state="cancelled")
    assert (await purse.drive(kept)).outcome is Outcome.PARKED
    await bank.mint.reset()
    assert (await purse.finish(kept)).outcome is Outcome.DONE
    assert await purse.spendable() == 12


def transaction_of(batch: IssueBatch, *, state: str = "done", amount: int | None = None) -> dict[str, object]:
    """The row of a batch, which says the same whatever happened on its way."""
    row = Transaction(
        operation="cashu_issue_batch",
        id=batch.id,
        mint=batch.mint,
        unit="sat",
        amount=sum(offer.amount for offer in batch.offers) if amount is None else amount,
        fee=0,
        state=TransactionState(state),
        at=batch.asked_at,
    )
    return row.model_dump(mode="json", exclude_none=True)
