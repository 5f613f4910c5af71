"""`Issue` at a real mint: every way to the coins, and every fault on the way."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.integration.cashu_kit import KEYS, KEYSETS, MINT, MINT_QUOTE, RESTORE, Bank, Liar, Purse, app, plain
from wallet_actions.cashu import Issue, MintClient
from wallet_actions.cashu.errors import MintError
from wallet_actions.cashu.facts import Transaction, TransactionState
from wallet_actions.cashu.proofs import proof_of
from wallet_actions.checkpoint import Status
from wallet_actions.coins import CoinState
from wallet_actions.errors import ActionFailedError, RejectedError, TransientError, UsageError
from wallet_actions.events import Event, EventKind
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions.testing.boundaries import Boundary, watched
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
from wallet_actions.testing.proxy import (
    Status as Answer,
)

pytestmark = pytest.mark.anyio

INFO = r"^/v1/info$"
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


@pytest.fixture
async def bank(mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(mint, tmp_path) as bank:
        yield bank


async def test_a_paid_quote_becomes_coins(bank: Bank) -> None:
    purse = await bank.purse()
    issue = await purse.issue(100)
    assert (await purse.finish(issue)).outcome is Outcome.DONE
    assert sorted(coin.amount for coin in await purse.coins(CoinState.SPENDABLE)) == [4, 32, 64]
    assert await purse.story(issue) == ["start", "secrets_prepared", "mint_requested", "done"]
    assert await purse.transactions() == {f"cashu_issue/{issue.id}": transaction_of(issue)}


async def test_the_requests_of_a_smooth_issue(bank: Bank) -> None:
    """No request that the protocol does not need: what is known of the mint is asked for once."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(8)
        before = len(proxy.records)
        await purse.fund(100)
        made = [f"{record.method} {record.path.partition('/bolt11/')[0]}" for record in proxy.records[before:]]
    assert made == ["POST /v1/mint/quote/bolt11", "GET /v1/mint/quote", "POST /v1/mint/bolt11"]


@pytest.mark.parametrize("version", [1, 2])
async def test_at_a_mint_with_input_fees_of_either_sort_of_keyset(version: int, tmp_path: Path) -> None:
    config = MintConfig(input_fee_ppk=100, keyset_version=1 if version == 1 else 2)
    async with NutshellMint(config) as mint, Bank(mint, tmp_path) as bank:
        purse = await bank.purse()
        await purse.fund(63, 1)
        assert await purse.spendable() == 64
        melt = await purse.melt(await mint.invoice(10))
        assert (await purse.finish(melt)).outcome is Outcome.DONE
        assert await purse.spendable() == 64 - 10 - 1 - melt.input_fee
        assert melt.input_fee == 1


async def test_it_waits_until_it_is_paid(bank: Bank) -> None:
    """L-S10, L-C9: parked with a wake time, and nothing is allocated or held meanwhile."""
    await bank.mint.set(fakewallet_brr=False)
    purse = await bank.purse()
    issue = await purse.issue(8)
    before = await purse.store.counters()
    for _ in range(3):
        result = await purse.drive(issue)
        assert result.outcome is Outcome.PARKED
        assert result.error is None
        assert result.wake_at is not None
    assert await purse.store.counters() == before

    await bank.mint.set(fakewallet_brr=True)
    assert (await purse.finish(issue)).outcome is Outcome.DONE
    assert await purse.spendable() == 8


async def test_an_invoice_that_nobody_paid_expires(bank: Bank) -> None:
    """A day after its end, by a clock that may be some hours ahead."""
    await bank.mint.set(fakewallet_brr=False)
    clock = FakeClock(datetime.now(UTC))
    liar = Liar()
    purse = await bank.purse(clock=clock, liar=liar)
    issue = await purse.issue(8)
    assert issue.expires_at is not None
    assert (await purse.drive(issue)).outcome is Outcome.PARKED
    clock.set_wall(issue.expires_at + timedelta(days=9))
    assert (await purse.drive(issue)).outcome is Outcome.PARKED, "the mint's own clock says that it can be paid"
    liar.lies[MINT_QUOTE] = lambda answer: answer  # and does not tell the time any more
    clock.set_wall(issue.expires_at + timedelta(hours=23))
    assert (await purse.drive(issue)).outcome is Outcome.PARKED
    clock.set_wall(issue.expires_at + timedelta(days=1, seconds=1))
    result = await purse.drive(issue)
    assert result.outcome is Outcome.FAILED
    assert (await purse.row(issue)).status is Status.FAILED
    assert await purse.transaction(issue) == transaction_of(issue, state="expired")


async def test_a_quote_paid_long_ago_is_still_collected(bank: Bank) -> None:
    """A phone that was switched off for a month: the quote is looked up before anything is given up."""
    clock = FakeClock(datetime.now(UTC))
    purse = await bank.purse(clock=clock)
    issue = await purse.issue(8)
    clock.set_wall(clock.now() + timedelta(days=30))
    assert (await purse.finish(issue)).outcome is Outcome.DONE


async def test_one_refusal_after_a_long_time_does_not_end_it(bank: Bank) -> None:
    """L-D7: the mint answers its own faults with 400 as well, and the quote may be paid."""
    clock = FakeClock(datetime.now(UTC))
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url, clock=clock)
        issue = await purse.issue(8)
        clock.set_wall(clock.now() + timedelta(days=30))
        proxy.use(Rule(Answer(400, REFUSAL, JSON), path=MINT_QUOTE))
        assert (await purse.drive(issue)).outcome is Outcome.PARKED
        assert (await purse.finish(issue)).outcome is Outcome.DONE


async def test_a_paid_quote_is_not_given_up_for_want_of_a_keyset(bank: Bank) -> None:
    clock = FakeClock(datetime.now(UTC))
    liar = Liar()
    purse = await bank.purse(clock=clock, liar=liar)
    issue = await purse.issue(8)
    again = await bank.purse(like=purse, path=purse.path, clock=clock, liar=liar)
    clock.set_wall(clock.now() + timedelta(days=30))
    liar.lies[KEYSETS] = lambda answer: {"keysets": [{**keyset, "active": False} for keyset in answer["keysets"]]}
    for _ in range(10):
        assert (await again.drive(issue)).outcome is Outcome.PARKED
    liar.be_honest()
    assert (await again.finish(issue)).outcome is Outcome.DONE


async def test_a_quote_that_the_mint_does_not_know_any_more_ends_after_a_week(bank: Bank) -> None:
    await bank.mint.set(fakewallet_brr=False)
    clock = FakeClock(datetime.now(UTC))
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url, clock=clock)
        issue = await purse.issue(8)
        proxy.use(Rule(Answer(400, b'{"detail": "quote not found", "code": 0}', JSON), path=MINT_QUOTE, once=False))
        for _ in range(10):
            assert (await purse.drive(issue)).outcome is Outcome.PARKED
        clock.set_wall(clock.now() + timedelta(days=8))
        result = await purse.finish(issue)
    assert result.outcome is Outcome.FAILED
    assert "quote not found" in str(result.error)
    assert (await purse.transaction(issue))["state"] == "failed"


async def test_it_can_be_cancelled_while_unpaid(bank: Bank) -> None:
    """L-D11."""
    await bank.mint.set(fakewallet_brr=False)
    purse = await bank.purse()
    issue = await purse.issue(8)
    assert (await purse.drive(issue)).outcome is Outcome.PARKED
    assert await purse.operator.request_cancel(issue.key)
    assert (await purse.drive(issue)).outcome is Outcome.FAILED
    assert (await purse.row(issue)).status is Status.CANCELLED
    assert await purse.transaction(issue) == transaction_of(issue, state="cancelled")


async def test_a_cancel_that_comes_after_the_payment_is_refused(bank: Bank) -> None:
    purse = await bank.purse()
    issue = await purse.issue(8)
    assert await purse.operator.request_cancel(issue.key)
    assert (await purse.finish(issue)).outcome is Outcome.DONE
    assert EventKind.CANCEL_REFUSED in {event.kind for event in purse.events}
    assert await purse.spendable() == 8


async def test_a_cancel_waits_for_the_mint(bank: Bank) -> None:
    """Whether the quote is unpaid is not known while the mint does not answer."""
    await bank.mint.set(fakewallet_brr=False)
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        issue = await purse.issue(8)
        await purse.operator.request_cancel(issue.key)
        proxy.use(Rule(LoseAnswer(), path=MINT_QUOTE))
        assert (await purse.drive(issue)).outcome is Outcome.PARKED
        assert (await purse.drive(issue)).outcome is Outcome.FAILED
    assert (await purse.row(issue)).status is Status.CANCELLED


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_no_fault_of_a_request_costs_anything(bank: Bank, fault: Fault) -> None:
    """L-P2, L-C6, L-S11: whichever request it hits, all of the money comes, once, and is booked the same."""
    async with FaultProxy(bank.mint.url) as proxy:
        for path in (MINT_QUOTE, KEYSETS, KEYS, MINT) if isinstance(fault, LoseAnswer) else (MINT_QUOTE, MINT):
            first = await bank.purse(url=proxy.url)
            issue = await first.issue(21)
            purse = await bank.purse(like=first, path=first.path)  # knows nothing but what is in the file
            proxy.use(Rule(fault, path=path))
            result = await purse.finish(issue)
            proxy.use()
            assert fault in [record.fault for record in proxy.records], path
            assert result.outcome is Outcome.DONE
            assert await purse.spendable() == 21
            assert await purse.transactions() == {f"cashu_issue/{issue.id}": transaction_of(issue)}
            assert set(await purse.story(issue)) == {"start", "secrets_prepared", "mint_requested", "done"} | (
                {"retry"} if purse.events[-1].version > 3 else set()
            )


async def test_a_lost_answer_whose_look_ups_are_lost_too(bank: Bank) -> None:
    """L-P2: the same outputs go out again, and the mint's refusal of them is the proof that they are signed."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        issue = await purse.issue(21)
        proxy.use(
            Rule(LoseAnswer(), path=MINT),
            Rule(LoseAnswer(), path=MINT_QUOTE, nth=2),
            Rule(LoseAnswer(), path=RESTORE),
        )
        assert (await purse.finish(issue)).outcome is Outcome.DONE
        requests = [record.body for record in proxy.records if record.path == "/v1/mint/bolt11"]
    assert len(requests) > 1
    assert len(set(requests)) == 1, "a repeated request is the same, byte for byte (L-S7)"
    assert await purse.spendable() == 21


@pytest.mark.parametrize("at", ["before", "answered"])
async def test_the_mint_dies_and_comes_back(tmp_path: Path, at: str) -> None:
    # A mint of its own: what other tests left pending at the shared one is settled when that starts again.
    async with NutshellMint() as mint, Bank(mint, tmp_path) as bank, FaultProxy(mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        issue = await purse.issue(21)
        proxy.use(Rule(Kill(mint.kill, at="before" if at == "before" else "answered"), path=MINT))
        result = await purse.drive(issue)
        assert result.outcome is Outcome.PARKED
        assert isinstance(result.error, TransientError)
        assert (await purse.drive(issue)).outcome is Outcome.PARKED
        await mint.restart()
        assert (await purse.finish(issue)).outcome is Outcome.DONE
        assert await purse.spendable() == 21
        assert await purse.transaction(issue) == transaction_of(issue)


async def test_a_mint_that_died_between_signing_and_saying_so(tmp_path: Path) -> None:
    """L-C7: its quote stays PENDING for ever, and the signatures are there.

    The mint signs in one transaction and marks the quote in the next; what a kill in between leaves is written here.
    """
    async with NutshellMint() as mint, Bank(mint, tmp_path) as bank, FaultProxy(mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        issue = await purse.issue(21)
        proxy.use(Rule(Kill(mint.kill), path=MINT))
        assert (await purse.drive(issue)).outcome is Outcome.PARKED
        with sqlite3.connect(mint.log.parent / "mint" / "mint.sqlite3") as database:
            database.execute("UPDATE mint_quotes SET state = 'PENDING'")
        database.close()
        await mint.restart()
        assert (await purse.drive(issue)).outcome is Outcome.PARKED, "another request may be under way"
        assert (await purse.finish(issue)).outcome is Outcome.DONE
        assert await purse.spendable() == 21


async def test_a_mint_that_died_before_signing_keeps_the_issue_waiting(tmp_path: Path) -> None:
    """L-D9: the money is in the quote, so nothing is given up."""
    async with NutshellMint() as mint, Bank(mint, tmp_path) as bank:
        purse = await bank.purse()
        issue = await purse.issue(21)
        await purse.wallet.mint(purse.mint_url).client.mint_quote(issue.quote.get_secret_value())
        database = sqlite3.connect(mint.log.parent / "mint" / "mint.sqlite3")
        with database:
            database.execute("UPDATE mint_quotes SET state = 'PENDING'")
        for _ in range(10):
            assert (await purse.drive(issue)).outcome is Outcome.PARKED
        with database:
            database.execute("UPDATE mint_quotes SET state = 'PAID'")
        database.close()
        assert (await purse.finish(issue)).outcome is Outcome.DONE


async def test_the_keyset_is_retired_while_the_outputs_are_prepared(tmp_path: Path) -> None:
    """L-S6: they are made anew for the keyset that took its place; the old ones stay on the list."""

    class Stop(Exception):
        pass

    def die(boundary: Boundary) -> None:
        if (boundary.phase, boundary.moment) == ("secrets_prepared", "after"):
            raise Stop

    async with NutshellMint() as mint, Bank(mint, tmp_path) as bank:
        first = await bank.purse(around=lambda store: watched(store, die))
        issue = await first.issue(100)
        with pytest.raises(Stop):
            await first.drive(issue)
        assert (await first.row(issue)).phase == "secrets_prepared"
        newer = await mint.rotate_keyset(input_fee_ppk=100)

        purse = await bank.purse(like=first, path=first.path)
        assert (await purse.finish(issue)).outcome is Outcome.DONE
        assert await purse.spendable() == 100
        assert {json.loads(coin.payload)["id"] for coin in await purse.coins()} == {newer}
        assert await purse.transaction(issue) == transaction_of(issue)


async def test_the_keyset_is_retired_in_the_middle_of_the_request(tmp_path: Path) -> None:
    async with NutshellMint() as mint, Bank(mint, tmp_path) as bank, FaultProxy(mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        issue = await purse.issue(100)
        proxy.use(Rule(Kill(mint.rotate_keyset, at="before"), path=MINT))
        assert (await purse.finish(issue)).outcome is Outcome.DONE
        assert await purse.spendable() == 100


async def test_counters_that_were_used_before_are_passed_over(bank: Bank) -> None:
    """L-C12: the same seed in a new file begins at 0 again; the mint refuses, and nobody's coins are adopted."""
    first = await bank.purse()
    await first.fund(100, 63, 5)
    second = await bank.purse(like=first)
    issue = await second.issue(77)
    assert (await second.finish(issue)).outcome is Outcome.DONE
    assert await second.spendable() == 77
    assert not {coin.id for coin in await first.coins()} & {coin.id for coin in await second.coins()}
    assert await second.transaction(issue) == transaction_of(issue)
    await first.fund(31)
    await second.fund(15)


@pytest.mark.parametrize("lost", [1, 2])
async def test_used_counters_and_a_lost_answer(bank: Bank, lost: int) -> None:
    """L-C6: "already signed" is ambiguous: now it was us, now it was the past."""
    first = await bank.purse()
    await first.fund(100)
    async with FaultProxy(bank.mint.url) as proxy:
        second = await bank.purse(like=first, url=proxy.url)
        issue = await second.issue(100)
        proxy.use(Rule(LoseAnswer(), path=MINT, nth=lost))
        assert (await second.finish(issue)).outcome is Outcome.DONE
    assert await second.spendable() == 100
    assert not {coin.id for coin in await first.coins()} & {coin.id for coin in await second.coins()}


def without_locks(answer: dict[str, Any]) -> dict[str, Any]:
    """A mint that does not have NUT-20."""
    return {**answer, "nuts": {number: settings for number, settings in answer["nuts"].items() if number != "20"}}


async def test_a_stolen_quote_is_worth_nothing(bank: Bank) -> None:
    """NUT-20: its key follows from the seed; also after a crash, in which only the file is left."""
    first = await bank.purse()
    thief = await bank.purse()
    issue = await first.issue(21)
    assert issue.key_counter == 0
    await thief.executor.start(issue)
    for _ in range(5):
        result = await thief.drive(issue)
        assert result.outcome is Outcome.PARKED
        assert "20008" in str(result.error)
    async with MintClient(bank.mint.url, transport=plain()) as client:
        outputs = [output.to_message() for output in thief.wallet.outputs(await keyset_of(client), 900, (1, 4, 16))]
        with pytest.raises(MintError, match="20008"):
            await client.mint(issue.quote.get_secret_value(), outputs)
    purse = await bank.purse(like=first, path=first.path)
    assert (await purse.finish(issue)).outcome is Outcome.DONE
    assert (await purse.issue(1)).key_counter == 1, "another key for each quote"
    assert await purse.spendable() == 21


@pytest.mark.parametrize("phase", ["unpaid", "mint_requested"])
async def test_a_quote_that_somebody_else_collected(bank: Bank, phase: str) -> None:
    """L-D7: a clear end, but not at the first word of it. The quote is not locked: the mint has no NUT-20."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url, liar=Liar({INFO: without_locks}))
        thief = await bank.purse()
        issue = await purse.issue(16)
        if phase == "mint_requested":
            proxy.use(Rule(ResetBefore(), path=MINT))
            assert (await purse.drive(issue)).outcome is Outcome.PARKED
        stolen = Issue.model_validate({**issue.__dict__, "mint": thief.mint_url})
        await thief.executor.start(stolen)
        assert (await thief.finish(stolen)).outcome is Outcome.DONE
        result = await purse.finish(issue)
    assert result.outcome is Outcome.FAILED
    assert "issued to another wallet" in str(result.error)
    assert await purse.coins() == []
    assert await purse.transaction(issue) == transaction_of(issue, state="failed")


async def test_a_stolen_quote_and_used_counters(bank: Bank) -> None:
    """L-C6: the signatures on our outputs are from an earlier life, and for other amounts."""
    first = await bank.purse()
    await first.fund(16, 8, 4, 2, 1)
    async with FaultProxy(bank.mint.url) as proxy:
        second = await bank.purse(like=first, url=proxy.url, liar=Liar({INFO: without_locks}))
        thief = await bank.purse()
        issue = await second.issue(31)  # 1, 2, 4, 8, 16
        proxy.use(Rule(ResetBefore(), path=MINT))
        assert (await second.drive(issue)).outcome is Outcome.PARKED
        stolen = Issue.model_validate({**issue.__dict__, "mint": thief.mint_url})
        await thief.executor.start(stolen)
        assert (await thief.finish(stolen)).outcome is Outcome.DONE
        result = await second.finish(issue)
    assert result.outcome is Outcome.FAILED
    assert "issued to another wallet" in str(result.error)
    assert await second.coins() == []


async def test_started_twice_it_is_issued_once(bank: Bank) -> None:
    """L-D5, G6: also after it has ended."""
    purse = await bank.purse()
    issue = await purse.issue(16)
    assert not (await purse.executor.start(issue)).is_new
    assert (await purse.finish(issue)).outcome is Outcome.DONE
    again = await purse.executor.start(issue)
    assert not again.is_new
    assert again.result is not None
    assert again.result.amount == 16
    assert (await purse.finish(issue)).outcome is Outcome.DONE
    assert await purse.spendable() == 16
    assert len(await purse.transactions()) == 1


async def test_two_drivers_on_one_file_issue_once(bank: Bank) -> None:
    """G2, L-S4: every step is raced; whoever loses leaves no effect."""
    first = await bank.purse()
    second = await bank.purse(like=first, path=first.path)
    issues = [await first.issue(21) for _ in range(3)]
    outcomes: list[Outcome] = []

    async def finish(purse: Purse, issue: Issue) -> None:
        outcomes.append((await purse.wait(issue)).outcome)

    async with anyio.create_task_group() as tasks:
        for issue in issues:
            tasks.start_soon(finish, first, issue)
            tasks.start_soon(finish, second, issue)
    assert outcomes == [Outcome.DONE] * 6
    assert await first.spendable() == 63
    assert len(await first.transactions()) == 3


@pytest.mark.parametrize("amount", [0, -1, 2**63, True, 1.5, "1"])
async def test_an_impossible_amount_is_refused_before_anything_is_written(bank: Bank, amount: object) -> None:
    purse = await bank.purse()
    async with FaultProxy(bank.mint.url) as proxy, app(purse) as cashu:
        with pytest.raises(UsageError, match="from 1 to"):
            await cashu.issue(proxy.url, amount)  # type: ignore[arg-type]
        assert not [record for record in proxy.records if record.method == "POST"]
    assert await purse.actions() == []


async def test_what_the_mint_refuses_is_refused_before_anything_is_written(bank: Bank) -> None:
    purse = await bank.purse()
    before = await purse.store.counters()
    async with app(purse) as cashu:
        with pytest.raises(RejectedError):
            await cashu.issue(bank.mint.url, 10, unit="pebbles")
        with pytest.raises(UsageError, match="address"):
            await cashu.issue("not a mint", 10)
        async with FaultProxy(bank.mint.url, Rule(Answer(), path="quote")) as proxy:
            with pytest.raises(TransientError):
                await cashu.issue(proxy.url, 10)
    assert await purse.actions() == []
    assert set((await purse.store.counters()).items()) - set(before.items()) == {("cashu-quote-key", 1)}


async def test_a_whole_app_issues_and_tells_what_it_owns(bank: Bank) -> None:
    purse = await bank.purse()
    ended: list[Event] = []
    async with app(purse, observers=[ended.append]) as cashu:
        issues = [await cashu.issue(bank.mint.url, amount) for amount in (10, 20, 30)]
        assert [(await cashu.issued(issue.id)).amount for issue in issues] == [10, 20, 30]
        (balance,) = await cashu.balances(bank.mint.url + "/")
        assert (balance.spendable, balance.reserved, balance.unit) == (60, 0, "sat")
    assert sum(event.kind is EventKind.DONE for event in ended) == 3


async def test_a_whole_app_hears_of_a_failure(bank: Bank) -> None:
    await bank.mint.set(fakewallet_brr=False)
    purse = await bank.purse()
    async with app(purse) as cashu:
        issue = await cashu.issue(bank.mint.url, 10)
        assert await cashu.engine.cancel(Issue, issue.id)
        with pytest.raises(ActionFailedError, match="given up before it was paid") as caught:
            await cashu.issued(issue.id)
    assert caught.value.status is Status.CANCELLED


async def test_the_search_for_secrets_finds_them(mint: NutshellMint, tmp_path: Path) -> None:
    """What every test here ends with can fail: in a log line of anybody's, and in an error's text."""
    async with Bank(mint, tmp_path) as bank:
        purse = await bank.purse()
        issue = await purse.issue(1)
        await purse.finish(issue)
        (coin,) = await purse.coins()
        for secret in (proof_of(coin).secret, proof_of(coin).C, issue.quote.get_secret_value(), purse.words):
            logging.getLogger("anybody").debug("look: %s", secret)
            with pytest.raises(AssertionError, match="secrets were told"):
                await bank.check_secrets()
            bank.forget_log()
        purse.results.append(DriveResult(Outcome.STUCK, issue.key, error=ValueError(coin.payload)))
        with pytest.raises(AssertionError, match="secrets were told"):
            await bank.check_secrets()
        purse.results.clear()


async def keyset_of(client: MintClient) -> str:
    return next(keyset.id for keyset in await client.keysets() if keyset.active and keyset.unit == "sat")


def transaction_of(issue: Issue, *, state: str = "done") -> dict[str, object]:
    """The row of an issue, which says the same whatever happened on its way."""
    row = Transaction(
        operation="cashu_issue",
        id=issue.id,
        mint=issue.mint,
        unit="sat",
        amount=issue.amount,
        fee=0,
        state=TransactionState(state),
        at=issue.asked_at,
        counterpart=issue.request,
    )
    return row.model_dump(mode="json", exclude_none=True)
