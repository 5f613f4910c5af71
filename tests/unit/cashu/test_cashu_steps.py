"""Steps of `Issue` and `Melt` that no honest mint leads to, one at a time, at a mint in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Self

import pytest
from pydantic import BaseModel

from tests.unit.cashu.fake_mint import URL, FakeMint, Json, Refusal
from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.action import Action, Phase
from wallet_actions.cashu import KINDS, Cashu, CashuWallet, Issue, Melt, Paid, Seed
from wallet_actions.cashu.errors import WrongQuoteError
from wallet_actions.checkpoint import HistoryEntry, Status
from wallet_actions.coins import CoinState
from wallet_actions.errors import InvariantError, RejectedError, UsageError
from wallet_actions.executor import Executor
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions.registry import Registry
from wallet_actions.testing.clock import FakeClock
from wallet_actions.transition import Changes, Done, Transition
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

INVOICE = "lnbc100n1pjqqqqq"


class Bench:
    """A wallet in memory at a mint in this process."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.mint = FakeMint()
        self.clock = FakeClock()
        seed = Seed.from_mnemonic(MNEMONIC)
        self.wallet = CashuWallet(store, seed, connect=self.mint.client, clock=self.clock)
        self.executor = Executor(store, self.wallet, Registry(KINDS), clock=self.clock)

    async def drive(self, action: Action[Any, Any, Any]) -> DriveResult[Any]:
        return await self.executor.drive(action.key)

    async def issue(self, amount: int = 10) -> Issue:
        issue = await Issue.of(self.wallet, URL, amount)
        await self.executor.start(issue)
        return issue

    async def fund(self, amount: int) -> None:
        self.mint.quote = f"fund-{amount}"
        assert (await self.drive(await self.issue(amount))).outcome is Outcome.DONE
        self.mint.signed.clear()

    async def melt(self, invoice: str = INVOICE, **mint: Any) -> Melt:
        self.mint.quote, self.mint.state = "melt", "UNPAID"
        for name, value in mint.items():
            setattr(self.mint, name, value)
        melt = await Melt.of(self.wallet, URL, invoice)
        await self.executor.start(melt, Changes(reserve=melt.inputs))
        return melt

    async def history(self, action: Action[Any, Any, Any]) -> list[HistoryEntry]:
        return list(await self.store.history(action.key))

    async def total(self, state: CoinState) -> int:
        return sum(coin.amount for coin in await self.store.coins(state=state))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with MemoryStore() as store:
        yield Bench(store)


def refusing(code: int) -> Any:
    def refuse(body: Json) -> Json:
        raise Refusal(code)

    return refuse


async def test_an_amount_that_the_mints_coins_do_not_make_up_is_refused_before_it_is_paid(bench: Bench) -> None:
    """Its largest coin is 128: a thousand of them, and no more, go into one request."""
    with pytest.raises(UsageError, match="more than 1000 coins"):
        await Issue.of(bench.wallet, URL, 128 * 1001)
    assert "POST /v1/mint/quote/bolt11" not in bench.mint.requests


async def test_a_mint_without_a_usable_keyset_is_refused_before_it_is_paid(bench: Bench) -> None:
    future = {"id": "02" + "ab" * 32, "unit": "sat", "active": True}
    bench.mint.routes["GET /v1/keysets"] = lambda body: {"keysets": [future]}
    with pytest.raises(RejectedError, match="no keyset in use"):
        await Issue.of(bench.wallet, URL, 10)
    assert "POST /v1/mint/quote/bolt11" not in bench.mint.requests


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=5), timedelta(days=3)])
async def test_an_invoice_that_is_paid_after_its_end_by_our_clock_is_collected(bench: Bench, ahead: timedelta) -> None:
    """The mint's clock tells the end, and the device's may be far ahead; looked at more and more rarely, for a day."""
    bench.mint.state = "UNPAID"
    asked_at = bench.clock.now()
    bench.mint.expiry = int((asked_at - ahead + timedelta(minutes=10)).timestamp())
    issue = await bench.issue()
    delays = []
    while bench.clock.now() < asked_at + timedelta(hours=18):
        result = await bench.drive(issue)
        assert (result.outcome, result.error) == (Outcome.PARKED, None)
        assert result.wake_at is not None
        delays.append(result.wake_at - bench.clock.now())
        if not ahead and bench.clock.now() < asked_at + timedelta(minutes=10):
            assert delays[-1] <= timedelta(minutes=1)
        bench.clock.set_wall(result.wake_at)
    assert delays == sorted(delays)
    assert delays[-1] == timedelta(hours=1)
    bench.mint.state = "PAID"
    assert (await bench.drive(issue)).outcome is Outcome.DONE
    assert await bench.total(CoinState.SPENDABLE) == 10


async def test_an_invoice_is_read_once_more_before_it_counts_as_expired(bench: Bench) -> None:
    bench.mint.expiry = int((bench.clock.now() + timedelta(minutes=10)).timestamp())
    for state, outcome in {"PAID": Outcome.DONE, "UNPAID": Outcome.FAILED}.items():
        bench.mint.quote, bench.mint.state = f"quote-{state}", "UNPAID"
        issue = await bench.issue()
        assert (await bench.drive(issue)).outcome is Outcome.PARKED
        asked_at = bench.clock.now()
        bench.clock.set_wall(asked_at + timedelta(days=2))
        bench.mint.state = state
        assert (await bench.drive(issue)).outcome is outcome
        bench.clock.set_wall(asked_at)


async def test_a_mint_that_wants_too_much_for_fees_is_refused_before_anything_is_held(bench: Bench) -> None:
    await bench.fund(500)
    bench.mint.quote, bench.mint.state, bench.mint.fee_reserve = "melt", "UNPAID", 101
    before = [row.key for row in await bench.store.list_actions()]
    said = "wants to keep 101 for fees, more than the 100 allowed; pass max_fee to accept it"
    with pytest.raises(WrongQuoteError, match=said):
        await Melt.of(bench.wallet, URL, INVOICE)
    async with Cashu(bench.store, Seed.from_mnemonic(MNEMONIC), connect=bench.mint.client, poll=None) as cashu:
        with pytest.raises(WrongQuoteError, match=said):
            await cashu.melt(URL, INVOICE)
        with pytest.raises(WrongQuoteError, match="more than the 7 allowed"):
            await cashu.melt(URL, INVOICE, max_fee=7)
        assert [row.key for row in await bench.store.list_actions()] == before
        assert await bench.total(CoinState.RESERVED) == 0
        bench.mint.change = [64, 32, 4, 1]
        melt = await cashu.melt(URL, INVOICE, max_fee=101)
        assert melt.fee_reserve == 101
        await cashu.paid(melt.id)


@pytest.mark.parametrize(("amount", "most"), [(10, 100), (1000, 100), (1010, 101), (2005, 200)])
async def test_the_fees_that_are_accepted_unasked(bench: Bench, amount: int, most: int) -> None:
    """A tenth of the amount; a small payment may cost 100."""
    await bench.fund(3000)
    bench.mint.quote, bench.mint.state, bench.mint.amount, bench.mint.fee_reserve = "melt", "UNPAID", amount, most
    invoice = f"lnbc{amount * 10}n1pjqqqqq"
    assert (await Melt.of(bench.wallet, URL, invoice)).fee_reserve == most
    bench.mint.fee_reserve = most + 1
    with pytest.raises(WrongQuoteError, match=f"more than the {most} allowed"):
        await Melt.of(bench.wallet, URL, invoice)


async def test_an_app_has_kinds_of_its_own_beside_those_of_the_wallet(bench: Bench) -> None:
    seed = Seed.from_mnemonic(MNEMONIC)
    async with Cashu(bench.store, seed, kinds=[CountCoins], connect=bench.mint.client, poll=None) as cashu:
        await cashu.issued((await cashu.issue(URL, 10)).id)
        await cashu.engine.start(CountCoins(name="evening", phase=Counting()))
        assert (await cashu.engine.result(CountCoins, "evening")).total == 10


class Counting(Phase):
    pass


class Counted(BaseModel):
    total: int


class CountCoins(Action[CashuWallet, Counting, Counted], kind="count_coins"):
    name: str

    @property
    def id(self) -> str:
        return self.name

    async def advance(self, wallet: CashuWallet) -> Transition[Self, Counted]:
        (balance,) = await wallet.balances(URL)
        return Done(Counted(total=balance.spendable))


async def test_a_mint_that_refuses_all_outputs_is_not_asked_in_a_hot_loop(bench: Bench) -> None:
    """L-D8: a few new sets of outputs at once, then later and later; nothing is given up."""
    bench.mint.routes["POST /v1/mint/bolt11"] = refusing(11003)
    issue = await bench.issue()
    delays = []
    for _ in range(5):
        result = await bench.drive(issue)
        assert result.outcome is Outcome.PARKED
        assert result.wake_at is not None
        delays.append((result.wake_at - bench.clock.now()).total_seconds())
    assert bench.mint.requests.count("POST /v1/mint/bolt11") == 8
    assert delays == sorted(delays)
    assert delays[-1] > delays[0] > 0

    del bench.mint.routes["POST /v1/mint/bolt11"]
    assert (await bench.drive(issue)).outcome is Outcome.DONE
    assert await bench.total(CoinState.SPENDABLE) == 10


async def test_outputs_that_were_refused_and_signed_late_are_found(bench: Bench) -> None:
    """L-C7: a late copy of the first request is carried out after it was refused."""
    mint = bench.mint
    late: list[Json] = []

    def refuse_first(body: Json) -> Json:
        if not late:
            late.append(dict(body))
            raise Refusal(11003)
        mint.answer(late[0])
        mint.state = "ISSUED"
        raise Refusal(20002, "already issued")

    mint.routes["POST /v1/mint/bolt11"] = refuse_first
    issue = await bench.issue()
    assert (await bench.drive(issue)).outcome is Outcome.DONE
    assert await bench.total(CoinState.SPENDABLE) == 10


async def test_a_doubt_is_counted_on_disk_and_an_outage_does_not_add_to_it(bench: Bench) -> None:
    """L-S10, L-P6."""
    bench.mint.state = "ISSUED"
    issue = await bench.issue()
    assert (await bench.drive(issue)).outcome is Outcome.PARKED
    bench.mint.routes["GET /v1/mint/quote"] = lambda body: {}
    for _ in range(5):
        assert (await bench.drive(issue)).outcome is Outcome.PARKED
    del bench.mint.routes["GET /v1/mint/quote"]
    assert (await bench.drive(issue)).outcome is Outcome.PARKED
    row = await bench.store.load(issue.key)
    assert row is not None
    assert '"doubts":2' in (row.state or "")
    assert (await bench.drive(issue)).outcome is Outcome.FAILED


async def test_change_that_is_signed_twice_is_taken_once_it_is_certain(bench: Bench) -> None:
    """More than was due, and every signature holds: it is the wallet's, and the history says so."""
    await bench.fund(64)
    melt = await bench.melt(change=[64, 4, 1, 32, 16, 2])
    for _ in range(2):
        result = await bench.drive(melt)
        assert result.outcome is Outcome.PARKED
        assert await bench.total(CoinState.RESERVED) == 64
        assert await bench.total(CoinState.SPENDABLE) == 0
    result = await bench.drive(melt)
    assert result.outcome is Outcome.DONE
    assert result.result == Paid(amount=10, fee=64 - 10 - 119)
    assert await bench.total(CoinState.SPENDABLE) == 119
    assert (await bench.history(melt))[-1].notes == ("the mint gave 119 of change where at most 54 were due",)


async def test_coins_that_fit_exactly_need_no_outputs(bench: Bench) -> None:
    """NUT-08: without change there is nothing to sign, and no counter is spent."""
    await bench.fund(16)
    counters = await bench.store.counters()
    melt = await bench.melt("lnbc160n1pjqqqqq", amount=16, fee_reserve=0)
    result = await bench.drive(melt)
    assert (result.outcome, result.result) == (Outcome.DONE, Paid(amount=16, fee=0))
    assert await bench.store.counters() == counters
    assert await bench.total(CoinState.SPENDABLE) == 0


async def test_a_look_up_of_the_change_that_is_refused_ends_nothing(bench: Bench) -> None:
    await bench.fund(64)
    melt = await bench.melt(change=())
    bench.mint.routes["POST /v1/restore"] = refusing(0)
    for _ in range(4):
        assert (await bench.drive(melt)).outcome is Outcome.PARKED
    assert await bench.total(CoinState.RESERVED) == 64


async def test_a_melt_without_its_coins_is_stuck_before_it_is_sent(bench: Bench) -> None:
    await bench.fund(64)
    bench.mint.state = "UNPAID"
    melt = await Melt.of(bench.wallet, URL, INVOICE)
    await bench.executor.start(melt)
    result = await bench.drive(melt)
    assert result.outcome is Outcome.STUCK
    assert isinstance(result.error, InvariantError)
    assert "POST /v1/melt/bolt11" not in bench.mint.requests


@pytest.mark.parametrize(
    ("invoice", "sat"),
    [
        ("lnbc100n1pjqqqqq", 10),
        ("LNBC100N1PJQQQQQ", 10),
        ("lnbc1u1pjqqqqq", 100),
        ("lnbc1m1pjqqqqq", 100_000),
        ("lnbc11pjqqqqq", 100_000_000),
        ("lntbs25u1pjqqqqq", 2_500),
        ("lnbcrt10n1pjqqqqq", 1),
        ("lnbc15n1pjqqqqq", 1),
        ("lnbc15n1pjqqqqq", 2),
        ("lnbc15000p1pjqqqqq", 1),
        ("lnbc15000p1pjqqqqq", 2),
    ],
)
async def test_the_mint_asks_for_what_the_invoice_says(bench: Bench, invoice: str, sat: int) -> None:
    """In whole sats, rounded either way."""
    await bench.fund(64)
    bench.mint.state, bench.mint.fee_reserve = "UNPAID", 0
    bench.mint.amount = sat + 2
    with pytest.raises(WrongQuoteError, match="another amount"):
        await Melt.of(bench.wallet, URL, invoice)
    bench.mint.amount = sat
    if sat <= 64:
        assert (await Melt.of(bench.wallet, URL, invoice)).amount == sat


@pytest.mark.parametrize("invoice", ["lnbc1pjqqqqq", "LNURL1DP68", "lno1qqq"])
async def test_an_amount_that_the_request_does_not_name_is_not_compared(bench: Bench, invoice: str) -> None:
    await bench.fund(64)
    bench.mint.state = "UNPAID"
    assert (await Melt.of(bench.wallet, URL, invoice)).amount == 10


async def test_an_ended_action_says_how_in_its_row(bench: Bench) -> None:
    issue = await bench.issue()
    await bench.drive(issue)
    row = await bench.store.load(issue.key)
    assert row is not None
    assert row.status is Status.DONE
    assert "quote-1" not in repr(row)
    assert "quote-1" not in issue.id
