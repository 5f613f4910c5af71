"""`Melt` at a real mint: paid at once, late, or not at all, and every fault on the way."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from tests.integration.cashu_kit import CHECK, KEYSETS, MELT, MELT_QUOTE, Bank, Liar, Purse, app, plain
from wallet_actions.cashu import InsufficientFundsError, Melt, MintClient, Paid
from wallet_actions.cashu.facts import Transaction, TransactionState
from wallet_actions.cashu.quotes import MeltQuoteState
from wallet_actions.cashu.starting import TRIES
from wallet_actions.checkpoint import Status
from wallet_actions.clock import SystemClock
from wallet_actions.coins import CoinState
from wallet_actions.errors import RejectedError, ReservationError, TransientError, UsageError
from wallet_actions.events import EventKind
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions.store import Store
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions.testing.proxy import (
    Duplicate,
    Fault,
    FaultProxy,
    Kill,
    Late,
    LoseAnswer,
    Refuse,
    ResetBefore,
    Rule,
    StatusAfter,
)
from wallet_actions.testing.proxy import Status as Answer

pytestmark = pytest.mark.anyio

REFUSAL = json.dumps({"detail": "try again", "code": 11000}).encode()
JSON = (("content-type", "application/json"),)
FAULTS: dict[str, Fault] = {
    "refused": Refuse(),
    "reset before": ResetBefore(),
    "answer lost": LoseAnswer(),
    "502": Answer(),
    "502 after": StatusAfter(),
    "400 of a proxy, after": StatusAfter(400),
    "403 of a proxy, after": StatusAfter(403),
    "refusal of the protocol": Answer(400, REFUSAL, JSON),
    "refusal of the protocol, after": StatusAfter(400, REFUSAL, JSON),
    "late": Late(0.05),
    "duplicated, first answer": Duplicate("first"),
    "duplicated, second answer": Duplicate("second"),
}
PENDING = {"fakewallet_pay_invoice_state": "PENDING", "fakewallet_payment_state": "PENDING"}
FAILED = {"fakewallet_pay_invoice_state": "FAILED", "fakewallet_payment_state": "FAILED"}


@pytest.fixture
async def bank(mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(mint, tmp_path) as bank:
        yield bank


@pytest.fixture(scope="module")
async def module_mint() -> AsyncIterator[NutshellMint]:
    async with NutshellMint(MintConfig(input_fee_ppk=100)) as mint:
        yield mint


@pytest.fixture
async def fee_bank(module_mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    """At a mint with input fees, whose keysets may be rotated."""
    async with Bank(module_mint, tmp_path) as bank:
        yield bank


async def test_a_payment_that_settles_at_once(bank: Bank) -> None:
    purse = await bank.purse()
    await purse.fund(100)
    melt = await purse.melt(await bank.mint.invoice(10))
    assert await purse.reserved() == 32, "10, and 20 in reserve: one coin is enough (L-C9)"
    result = await purse.finish(melt)
    assert result.outcome is Outcome.DONE
    assert result.result == Paid(amount=10, fee=1)
    assert await purse.spendable() == 89
    assert await purse.story(melt) == ["start", "melt_requested", "done"]
    assert await purse.transaction(melt) == transaction_of(melt, fee=1)
    assert await purse.coins(CoinState.RESERVED) == []


async def test_the_requests_of_a_smooth_payment(bank: Bank) -> None:
    """No request that the protocol does not need: keysets and keys are asked for once, whatever is paid."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(1024)
        before = len(proxy.records)
        for _ in range(2):
            melt = await purse.melt(await bank.mint.invoice(10))
            assert (await purse.finish(melt)).outcome is Outcome.DONE
        await bank.mint.set(**FAILED)
        assert (await purse.finish(await purse.melt(await bank.mint.invoice(10)))).outcome is Outcome.FAILED
        made = [f"{record.method} {record.path.partition('/bolt11/')[0]}" for record in proxy.records[before:]]
    quote, melted, look_up = "POST /v1/melt/quote/bolt11", "POST /v1/melt/bolt11", "GET /v1/melt/quote"
    assert made == [quote, melted, quote, melted, quote, melted, look_up, "POST /v1/checkstate", look_up]


async def test_a_large_coin_for_a_small_payment_comes_back_as_change(bank: Bank) -> None:
    """NUT-08: the blank outputs hold whatever the inputs exceed the amount by, not only the fee reserve."""
    purse = await bank.purse()
    await purse.fund(1 << 20)
    melt = await purse.melt(await bank.mint.invoice(1))
    assert (await purse.finish(melt)).outcome is Outcome.DONE
    assert await purse.spendable() == (1 << 20) - 2


async def test_input_fees_are_counted_once(fee_bank: Bank) -> None:
    purse = await fee_bank.purse()
    await purse.fund(*[1] * 12, 20)
    melt = await purse.melt(await fee_bank.mint.invoice(8))
    assert (len(melt.inputs), melt.input_total, melt.input_fee) == (12, 30, 2), "28, and 12 coins at 0.1 cost 2"
    result = await purse.finish(melt)
    assert (result.outcome, fee_of(result)) == (Outcome.DONE, 3)
    assert await purse.spendable() == 32 - 8 - 3
    assert await purse.transaction(melt) == transaction_of(melt, fee=3)


async def test_a_payment_that_fails_frees_the_coins(bank: Bank) -> None:
    """L-D7: and the next one works, with the same coins."""
    purse = await bank.purse()
    await purse.fund(32)
    await bank.mint.set(**FAILED)
    melt = await purse.melt(await bank.mint.invoice(10))
    result = await purse.finish(melt)
    assert result.outcome is Outcome.FAILED
    assert "the payment failed" in str(result.error)
    assert await purse.transaction(melt) == transaction_of(melt, state="failed")
    assert await purse.spendable() == 32
    async with client_of(purse) as client:
        assert (await client.melt_quote(melt.quote.get_secret_value())).state is MeltQuoteState.UNPAID

    await bank.mint.reset()
    again = await purse.melt(await bank.mint.invoice(10))
    assert again.inputs == melt.inputs
    assert (await purse.finish(again)).outcome is Outcome.DONE
    assert await purse.spendable() == 21


@pytest.mark.parametrize("end", ["SETTLED", "FAILED"])
async def test_a_payment_under_way(bank: Bank, end: str) -> None:
    """L-C5: neither pending nor unknown nor a fault of the look-up is a failure; the coins stay held meanwhile."""
    purse = await bank.purse()
    await purse.fund(32)
    await bank.mint.set(**PENDING)
    melt = await purse.melt(await bank.mint.invoice(10))
    for state, exception in [("PENDING", False), ("UNKNOWN", False), ("PENDING", True), ("PENDING", False)]:
        await bank.mint.set(fakewallet_payment_state=state, fakewallet_payment_state_exception=exception)
        result = await purse.drive(melt)
        assert result.outcome is Outcome.PARKED
        assert (result.error is not None) == exception
        assert result.wake_at is not None
        assert (await purse.reserved(), await purse.spendable()) == (32, 0)
    assert (await purse.row(melt)).phase == "payment_pending"

    await bank.mint.set(fakewallet_payment_state=end)
    result = await purse.finish(melt)
    if end == "SETTLED":
        assert (result.outcome, fee_of(result)) == (Outcome.DONE, 0), "a look-up tells the mint no fee"
        assert await purse.spendable() == 22
        assert await purse.transaction(melt) == transaction_of(melt, fee=0)
    else:
        assert result.outcome is Outcome.FAILED
        assert await purse.spendable() == 32
        assert await purse.transaction(melt) == transaction_of(melt, state="failed")


UNCLEAR: dict[str, tuple[dict[str, Any], Outcome]] = {
    "neither knows": (
        {"fakewallet_pay_invoice_state": "UNKNOWN", "fakewallet_payment_state": "UNKNOWN"},
        Outcome.FAILED,
    ),
    "unknown, then settled": (
        {"fakewallet_pay_invoice_state": "UNKNOWN", "fakewallet_payment_state": "SETTLED"},
        Outcome.DONE,
    ),
    "failed, then settled": (
        {"fakewallet_pay_invoice_state": "FAILED", "fakewallet_payment_state": "SETTLED"},
        Outcome.DONE,
    ),
    "exception, then settled": (
        {"fakewallet_pay_invoice_state_exception": True, "fakewallet_payment_state": "SETTLED"},
        Outcome.DONE,
    ),
    "exception, then failed": (
        {"fakewallet_pay_invoice_state_exception": True, "fakewallet_payment_state": "FAILED"},
        Outcome.FAILED,
    ),
    "exception, then pending": (
        {"fakewallet_pay_invoice_state_exception": True, "fakewallet_payment_state": "PENDING"},
        Outcome.PARKED,
    ),
    "exceptions only": (
        {"fakewallet_pay_invoice_state_exception": True, "fakewallet_payment_state_exception": True},
        Outcome.PARKED,
    ),
}


@pytest.mark.parametrize(("settings", "outcome"), UNCLEAR.values(), ids=UNCLEAR)
async def test_a_backend_that_does_not_know(bank: Bank, settings: dict[str, Any], outcome: Outcome) -> None:
    """L-C5: held until the mint is sure, whichever way."""
    purse = await bank.purse()
    await purse.fund(32)
    await bank.mint.set(**settings)
    melt = await purse.melt(await bank.mint.invoice(10))
    result = await purse.drive(melt)
    if result.outcome is Outcome.PARKED:
        result = await purse.drive(melt)
    assert result.outcome is outcome
    if outcome is Outcome.PARKED:
        assert await purse.reserved() == 32
        await bank.mint.reset()
        result = await purse.finish(melt)
        assert result.outcome is Outcome.DONE
    assert await purse.spendable() == (32 if result.outcome is Outcome.FAILED else 22)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_no_fault_of_a_request_costs_anything(bank: Bank, fault: Fault) -> None:
    """L-P2, L-C6, L-S11: whichever request it hits, the invoice is paid once, and booked the same."""
    async with FaultProxy(bank.mint.url) as proxy:
        first = await bank.purse(url=proxy.url)
        await first.fund(64)
        left = 64
        for path in (KEYSETS, MELT):
            melt = await first.melt(await bank.mint.invoice(10))
            purse = await bank.purse(like=first, path=first.path)  # knows nothing but what is in the file
            proxy.use(Rule(fault, path=path))
            result = await purse.finish(melt)
            assert fault in [record.fault for record in proxy.records], path
            proxy.use()
            if path == KEYSETS and isinstance(fault, Answer | StatusAfter) and fault.body == REFUSAL:
                assert result.outcome is Outcome.FAILED, "a refusal before anything was sent is an end without loss"
                assert await purse.spendable() == left
                continue
            assert (result.outcome, fee_of(result)) == (Outcome.DONE, 1)
            left -= 11
            assert await purse.spendable() == left
            assert await purse.transaction(melt) == transaction_of(melt, fee=1)
            assert set(await purse.story(melt)) - {"retry"} == {"start", "melt_requested", "done"}


@pytest.mark.parametrize("path", [MELT_QUOTE, CHECK])
async def test_no_fault_of_a_look_up_frees_coins(bank: Bank, path: str) -> None:
    """L-C5: the melt has failed, and the proof of it is lost on the way again and again."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(32)
        await bank.mint.set(**FAILED)
        melt = await purse.melt(await bank.mint.invoice(10))
        for fault in FAULTS.values():
            if isinstance(fault, Late | Duplicate):
                continue
            proxy.use(Rule(fault, path=path, once=False))
            assert (await purse.drive(melt)).outcome is Outcome.PARKED
            assert await purse.reserved() == 32
        proxy.use()
        assert (await purse.finish(melt)).outcome is Outcome.FAILED
    assert await purse.spendable() == 32


async def test_a_lost_answer_is_not_a_failure_even_if_the_quote_is_unpaid(bank: Bank) -> None:
    """L-P2: the request may still be on its way; the same one is sent again, byte for byte (L-S7)."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(32)
        melt = await purse.melt(await bank.mint.invoice(10))
        proxy.use(Rule(ResetBefore(), path=MELT, once=False))
        for _ in range(8):
            result = await purse.drive(melt)
            assert result.outcome is Outcome.PARKED
            assert isinstance(result.error, TransientError)
        proxy.use()
        assert (await purse.finish(melt)).outcome is Outcome.DONE
        requests = {record.body for record in proxy.records if record.path == "/v1/melt/bolt11"}
    assert len(requests) == 1


@pytest.mark.parametrize("fee", [0, 1])
async def test_a_copy_of_the_request_that_arrives_after_the_failure(bank: Bank, fee_bank: Bank, fee: int) -> None:
    """L-C6: its coins were swapped for new ones; what that costs is in the history."""
    at = fee_bank if fee else bank
    async with FaultProxy(at.mint.url) as proxy:
        purse = await at.purse(url=proxy.url)
        await purse.fund(32)
        melt = await purse.melt(await at.mint.invoice(10))
        proxy.use(Rule(ResetBefore(), path=MELT))
        assert (await purse.drive(melt)).outcome is Outcome.PARKED
        await at.mint.set(**FAILED)
        assert (await purse.finish(melt)).outcome is Outcome.FAILED
        await at.mint.reset()
        late = next(record.body for record in proxy.records if record.path == "/v1/melt/bolt11")
        assert [record.path for record in proxy.records].count("/v1/swap") == 1
    async with httpx.AsyncClient(transport=plain()) as client:
        answer = await client.post(
            f"{at.mint.url}/v1/melt/bolt11", content=late, headers={"content-type": "application/json"}
        )
    assert (answer.status_code, answer.json()["code"]) == (400, 11001)
    assert await purse.spendable() == 32 - fee
    assert await purse.transaction(melt) == transaction_of(melt, fee=fee, state="failed")


async def test_a_400_for_a_payment_that_was_made(bank: Bank) -> None:
    """L-C6: a look-up settles the quote while the request is under way, whose answer is a refusal then."""
    await bank.mint.set(fakewallet_delay_outgoing_payment=0.3)
    async with FaultProxy(bank.mint.url) as proxy, MintClient(bank.mint.url, transport=plain()) as client:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(32)
        melt = await purse.melt(await bank.mint.invoice(10))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(purse.drive, melt)
            while (await client.melt_quote(melt.quote.get_secret_value())).state is not MeltQuoteState.PAID:
                pass
        (refused,) = [record for record in proxy.records if record.path == "/v1/melt/bolt11"]
        assert refused.peer_status == 400
    result = await purse.finish(melt)
    assert result.outcome is Outcome.DONE
    assert fee_of(result) in (0, 1), "both sign the change, and it is the mint's affair whose word counts"
    assert await purse.spendable() == 22 - fee_of(result)


@pytest.mark.parametrize("at", ["before", "answered"])
async def test_the_mint_dies_at_the_request_and_comes_back(tmp_path: Path, at: str) -> None:
    # A mint of its own: what other tests left pending at the shared one is settled when that starts again.
    async with NutshellMint() as mint, Bank(mint, tmp_path) as bank, FaultProxy(mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(32)
        melt = await purse.melt(await mint.invoice(10))
        proxy.use(Rule(Kill(mint.kill, at="before" if at == "before" else "answered"), path=MELT))
        assert (await purse.drive(melt)).outcome is Outcome.PARKED
        assert (await purse.drive(melt)).outcome is Outcome.PARKED
        assert await purse.reserved() == 32
        await mint.restart()
        assert (await purse.finish(melt)).outcome is Outcome.DONE
        assert await purse.spendable() == 21
        assert await purse.transaction(melt) == transaction_of(melt, fee=1)


async def test_the_mint_dies_in_the_middle_of_the_payment(tmp_path: Path) -> None:
    async with NutshellMint() as mint, Bank(mint, tmp_path) as bank:  # of its own, as above
        await mint.set(fakewallet_delay_outgoing_payment=60)
        purse = await bank.purse()
        await purse.fund(32)
        melt = await purse.melt(await mint.invoice(10))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(purse.drive, melt)
            while not _has_change_outputs(mint):
                await anyio.lowlevel.checkpoint()
            await mint.kill()
        assert purse.results[-1].outcome is Outcome.PARKED
        await mint.restart()
        assert (await purse.finish(melt)).outcome is Outcome.DONE
        assert await purse.spendable() == 22


async def test_change_that_the_look_up_has_lost_is_restored(bank: Bank) -> None:
    """L-C7: signatures are asked for by the outputs, where the quote does not show them."""
    liar = Liar({MELT: lambda answer: httpx.Response(502), MELT_QUOTE: lambda answer: {**answer, "change": None}})
    purse = await bank.purse(liar=liar)
    await purse.fund(1024)
    melt = await purse.melt(await bank.mint.invoice(10))
    result = await purse.finish(melt)
    assert (result.outcome, fee_of(result)) == (Outcome.DONE, 1)
    assert await purse.spendable() == 1024 - 11
    assert liar.told[MELT_QUOTE] >= 1


async def test_an_offer_that_has_expired_is_not_taken(bank: Bank) -> None:
    clock = FakeClock(datetime.now(UTC))
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url, clock=clock)
        await purse.fund(32)
        melt = await purse.melt(await bank.mint.invoice(10))
        assert melt.expires_at is not None
        clock.set_wall(melt.expires_at + timedelta(seconds=1))
        result = await purse.finish(melt)
        assert not [record for record in proxy.records if record.path == "/v1/melt/bolt11"]
    assert result.outcome is Outcome.FAILED
    assert "expired" in str(result.error)
    assert await purse.spendable() == 32
    assert await purse.transaction(melt) == transaction_of(melt, state="expired")


async def test_coins_that_were_spent_elsewhere(bank: Bank, tmp_path: Path) -> None:
    """L-C13, L-C3: a copy of the file spends one of them; the payment fails, that coin is spent, the other is free."""
    first = await bank.purse()
    await first.fund(64, 32)
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(first.path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    second = await bank.purse(like=first, path=copy)
    elsewhere = await first.melt(await bank.mint.invoice(10))
    assert (await first.finish(elsewhere)).outcome is Outcome.DONE

    melt = await second.melt(await bank.mint.invoice(60))
    assert set(elsewhere.inputs) < set(melt.inputs)
    assert (await second.drive(melt)).outcome is Outcome.PARKED, "not at the mint's first word"
    assert await second.reserved() == 96
    result = await second.finish(melt)
    assert result.outcome is Outcome.FAILED
    assert "1 of the coins had been spent elsewhere" in str(result.error)
    assert {coin.id for coin in await second.coins(CoinState.SPENT)} == set(elsewhere.inputs)
    assert await second.spendable() == 64
    assert await second.transaction(melt) == transaction_of(melt, state="failed")


async def test_counters_that_were_used_before_are_passed_over(bank: Bank) -> None:
    """L-C12: "outputs already signed" is about the change; the payment need not fail for it."""
    first = await bank.purse()
    second = await bank.purse(like=first)
    await second.fund(64)
    await first.fund(64)
    melt = await second.melt(await bank.mint.invoice(10))
    result = await second.finish(melt)
    assert (result.outcome, fee_of(result)) == (Outcome.DONE, 1)
    assert (await second.story(melt)).count("melt_requested") == 2
    assert await second.spendable() == 53
    assert not {coin.id for coin in await first.coins()} & {coin.id for coin in await second.coins()}


async def test_the_keyset_is_retired_before_the_request_arrives(fee_bank: Bank) -> None:
    async with FaultProxy(fee_bank.mint.url) as proxy:
        purse = await fee_bank.purse(url=proxy.url)
        await purse.fund(64)
        melt = await purse.melt(await fee_bank.mint.invoice(10))
        newer: list[str] = []

        async def rotate() -> None:
            newer.append(await fee_bank.mint.rotate_keyset(input_fee_ppk=100))

        proxy.use(Rule(Kill(rotate, at="before"), path=MELT))
        result = await purse.finish(melt)
    assert (result.outcome, fee_of(result)) == (Outcome.DONE, 2)
    assert {json.loads(coin.payload)["id"] for coin in await purse.coins(CoinState.SPENDABLE)} == set(newer)


async def test_a_refusal_that_is_repeated_is_a_failure(bank: Bank) -> None:
    """L-D7, L-D6: the reason is not known, the quote is unpaid, the coins are unspent, three times over."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(32)
        melt = await purse.melt(await bank.mint.invoice(10))
        proxy.use(Rule(ResetBefore(), path=MELT, once=False))
        for _ in range(5):
            assert (await purse.drive(melt)).outcome is Outcome.PARKED
        proxy.use(Rule(Answer(400, b'{"detail": "melting is disabled", "code": 10000}', JSON), path=MELT, once=False))
        for _ in range(2):
            assert (await purse.drive(melt)).outcome is Outcome.PARKED, "an outage before does not make it credible"
            assert await purse.reserved() == 32
        result = await purse.drive(melt)
    assert result.outcome is Outcome.FAILED
    assert "melting is disabled" in str(result.error)
    assert await purse.spendable() == 32


async def test_it_can_be_cancelled_before_it_is_sent(bank: Bank) -> None:
    """L-C8."""
    purse = await bank.purse()
    await purse.fund(32)
    melt = await purse.melt(await bank.mint.invoice(10))
    assert await purse.operator.request_cancel(melt.key)
    assert (await purse.drive(melt)).outcome is Outcome.FAILED
    assert (await purse.row(melt)).status is Status.CANCELLED
    assert await purse.spendable() == 32
    assert await purse.transaction(melt) == transaction_of(melt, state="cancelled")


async def test_it_cannot_be_cancelled_once_it_was_sent(bank: Bank) -> None:
    """L-C8, L-D11: asked for in each phase after that."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(32)
        await bank.mint.set(**PENDING)
        melt = await purse.melt(await bank.mint.invoice(10))
        proxy.use(Rule(ResetBefore(), path=MELT))
        # The first request was reset, and refusing to cancel is no reason to wait: the second one goes out at once.
        for phase in ("melt_requested", "payment_pending"):
            assert (await purse.drive(melt)).outcome is Outcome.PARKED
            assert (await purse.row(melt)).phase == phase
            assert await purse.operator.request_cancel(melt.key)
            told = len(purse.events)
            assert (await purse.drive(melt)).outcome is Outcome.PARKED
            assert [event.kind for event in purse.events[told:]] == [EventKind.CANCEL_REFUSED, EventKind.PARKED]
            assert await purse.reserved() == 32
        await bank.mint.reset()
        assert (await purse.finish(melt)).outcome is Outcome.DONE


async def test_started_without_its_coins_it_never_reaches_the_mint(bank: Bank) -> None:
    """L-C2: paying first and finding out then that the coins are another action's would be too late."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(32)
        melt = await Melt.of(purse.wallet, purse.mint_url, await bank.mint.invoice(10))
        await purse.executor.start(melt)
        result = await purse.drive(melt)
        assert not [record for record in proxy.records if record.path == "/v1/melt/bolt11"]
    assert result.outcome is Outcome.STUCK
    assert "does not hold its coins" in str(result.error)
    assert await purse.spendable() == 32


REFUSED: dict[str, tuple[str, str, type[Exception]]] = {
    "too much": ("invoice of 45", "sat", InsufficientFundsError),
    "no invoice": ("pay me", "sat", RejectedError),
    "empty": ("", "sat", RejectedError),
    "an invoice cut short": ("lnbc100n1pj4apw9", "sat", RejectedError),
    "without an amount": ("lnbc1" + "p" * 60, "sat", RejectedError),
    "another unit": ("invoice of 1", "usd", RejectedError),
    "no unit": ("invoice of 1", "", RejectedError),
}


@pytest.mark.parametrize(("request_", "unit", "error"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_paid_is_refused_before_anything_is_written(
    bank: Bank, request_: str, unit: str, error: type[Exception]
) -> None:
    purse = await bank.purse()
    await purse.fund(64)
    if request_.startswith("invoice of"):
        request_ = await bank.mint.invoice(int(request_.split()[-1]))
    before = await purse.actions(), await purse.coins(), await purse.store.counters()
    async with app(purse) as cashu:
        with pytest.raises(error):
            await cashu.melt(bank.mint.url, request_, unit)
        with pytest.raises(UsageError, match="address"):
            await cashu.melt("ftp://mint.example", request_, unit)
    assert (await purse.actions(), await purse.coins(), await purse.store.counters()) == before


async def test_an_empty_wallet_says_what_it_lacks(bank: Bank) -> None:
    purse = await bank.purse()
    with pytest.raises(InsufficientFundsError, match="30 needed, 0 available") as caught:
        await purse.melt(await bank.mint.invoice(10))
    assert (caught.value.needed, caught.value.available) == (30, 0)


class Contended:
    """A store in which starts race for coins.

    Args:
        times: so often somebody else takes the coins first.
        together: the first so many starts wait for each other, once each has chosen its coins.

    Attributes:
        lost: how often a start lost its coins so far.
    """

    def __init__(self, store: Store, *, times: int = 0, together: int = 0) -> None:
        self.store = store
        self.times = times
        self.lost = 0
        self._missing = together
        self._all_there = asyncio.Event()

    async def __aenter__(self) -> Contended:
        await self.store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.store.__aexit__(*exc)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def create(self, new: Any, *, conn: object | None = None) -> Any:
        if new.delta.reserve:
            self._missing -= 1
            if self._missing > 0:
                await self._all_there.wait()
            self._all_there.set()
        try:
            if self.lost < self.times and new.delta.reserve:
                raise ReservationError(new.delta.reserve)
            return await self.store.create(new, conn=conn)
        except ReservationError:
            self.lost += 1
            raise


async def test_payments_at_once_choose_other_coins(bank: Bank) -> None:
    """L-C2: whoever loses the first choice chooses again; no coin is shared, and each is paid once."""
    contended: list[Contended] = []

    def around(store: Store) -> Store:
        contended.append(Contended(store, together=4))
        return contended[-1]

    purse = await bank.purse(around=around)
    await purse.fund(*[32] * 4)
    invoices = [await bank.mint.invoice(10) for _ in range(4)]
    melts: list[Melt] = []
    async with app(purse) as cashu:

        async def pay(invoice: str) -> None:
            melts.append(await cashu.melt(bank.mint.url, invoice))
            assert (await cashu.paid(melts[-1].id)).fee == 1

        async with anyio.create_task_group() as tasks:
            for invoice in invoices:
                tasks.start_soon(pay, invoice)
    assert len({coin for melt in melts for coin in melt.inputs}) == 4
    assert contended[0].lost >= 3
    assert await purse.spendable() == 4 * 21


async def test_coins_that_are_always_taken_first(bank: Bank) -> None:
    contended: list[Contended] = []

    def around(store: Store) -> Store:
        contended.append(Contended(store, times=1000))
        return contended[-1]

    purse = await bank.purse(around=around)
    await purse.fund(32)
    async with app(purse) as cashu:
        with pytest.raises(ReservationError):
            await cashu.melt(bank.mint.url, await bank.mint.invoice(10))
    assert contended[0].lost == TRIES
    assert [row.kind for row in await purse.actions()] == ["cashu_issue"]
    assert await purse.spendable() == 32


async def test_payments_race_for_the_last_coin(bank: Bank) -> None:
    """The loser is told that it is gone, and nothing is left of it."""
    purse = await bank.purse()
    await purse.fund(32)
    invoices = [await bank.mint.invoice(10) for _ in range(2)]
    results: list[str] = []
    async with app(purse) as cashu:

        async def pay(invoice: str) -> None:
            try:
                melt = await cashu.melt(bank.mint.url, invoice)
            except InsufficientFundsError:
                results.append("refused")
            else:
                await cashu.paid(melt.id)
                results.append("paid")

        async with anyio.create_task_group() as tasks:
            for invoice in invoices:
                tasks.start_soon(pay, invoice)
    assert sorted(results) == ["paid", "refused"]
    assert len(await purse.transactions()) == 2
    assert await purse.spendable() == 21


async def test_two_drivers_on_one_file_pay_once(bank: Bank) -> None:
    """G2, L-S4: every step of every payment is raced.

    A look-up that races a request makes this mint sign the change twice: for a sat more or less, or for as much again.
    """
    bank.slack = 3
    first = await bank.purse()
    await first.fund(32, 32, 32)
    second = await bank.purse(like=first, path=first.path)
    melts = [await purse.melt(await bank.mint.invoice(10)) for purse in (first, second, first)]
    outcomes: list[Outcome] = []

    async def finish(purse: Purse, melt: Melt) -> None:
        outcomes.append((await purse.wait(melt)).outcome)

    async with anyio.create_task_group() as tasks:
        for melt in melts:
            tasks.start_soon(finish, first, melt)
            tasks.start_soon(finish, second, melt)
    assert outcomes == [Outcome.DONE] * 6
    assert len({coin for melt in melts for coin in melt.inputs}) == 3
    assert {coin.id for coin in await first.coins(CoinState.SPENT)} == {coin for melt in melts for coin in melt.inputs}
    assert await first.coins(CoinState.RESERVED) == []


def _has_change_outputs(mint: NutshellMint) -> bool:
    """Whether the mint is as far as the payment: all that it needs to finish after a restart is in its database."""
    with closing(sqlite3.connect(mint.log.parent / "mint" / "mint.sqlite3", timeout=10)) as database:
        return bool(database.execute("SELECT count(*) FROM promises WHERE c_ IS NULL").fetchone()[0])


def fee_of(result: DriveResult[Any]) -> int:
    assert isinstance(result.result, Paid)
    return result.result.fee


def client_of(purse: Purse) -> MintClient:
    return MintClient(purse.mint_url, transport=plain(), clock=SystemClock())


def transaction_of(melt: Melt, *, fee: int = 0, state: str = "done") -> dict[str, object]:
    """The row of a payment, which says the same whatever happened on its way."""
    row = Transaction(
        operation="cashu_melt",
        id=melt.id,
        mint=melt.mint,
        unit="sat",
        amount=melt.amount,
        fee=fee,
        state=TransactionState(state),
        at=melt.asked_at,
        counterpart=melt.request,
    )
    return row.model_dump(mode="json", exclude_none=True)
