"""What only the mint's operator can end: it comes to rest in bounded time, says why, and gives nothing up (G5, G9)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, cast

import httpx
import pytest

from tests.unit.cashu.fake_mint import URL, FakeMint, Json, Refusal
from tests.unit.cashu.swap_mint import Bench as SwapBench
from tests.unit.cashu.swap_mint import Sheet, refusing
from tests.unit.cashu.test_cashu_send_steps import EVERYTHING, again, claim, token_of
from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.action import Action
from wallet_actions.cashu import KINDS, CashuWallet, Issue, IssueBatch, Melt, Seed, Send
from wallet_actions.cashu.issue import MOST_PLANS
from wallet_actions.cashu.melt import MOST_SWAPS
from wallet_actions.coins import CoinState
from wallet_actions.executor import Executor
from wallet_actions.operator import Operator
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions.registry import Registry
from wallet_actions.testing.clock import FakeClock
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

MINT, SWAP, MELT = "POST /v1/mint/bolt11", "POST /v1/swap", "POST /v1/melt/bolt11"
MOST_DRIVES = 100
COUNTER = "cashu/"


class Bench:
    """A wallet in memory at a mint in this process, whose clock goes with the wake times."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.mint = FakeMint()
        self.clock = FakeClock()
        seed = Seed.from_mnemonic(MNEMONIC)
        self.wallet = CashuWallet(store, seed, connect=self.mint.client, clock=self.clock)
        self.executor = Executor(store, self.wallet, Registry(KINDS), clock=self.clock)

    async def issue(self, kind: type[Issue | IssueBatch]) -> Issue | IssueBatch:
        action: Any = await (Issue.of(self.wallet, URL, 10) if kind is Issue else IssueBatch.of(self.wallet, URL, [10]))
        await self.executor.start(action, action.opening)
        return cast("Issue | IssueBatch", action)

    async def drive(self, action: Action[Any, Any, Any]) -> DriveResult[Any]:
        return await self.executor.drive(action.key)

    async def to_rest(self, action: Action[Any, Any, Any]) -> tuple[DriveResult[Any], timedelta]:
        """Drive it whenever it is due, until it is not parked; and how long that took."""
        began = self.clock.now()
        for _ in range(MOST_DRIVES):
            result = await self.drive(action)
            if result.outcome is not Outcome.PARKED:
                return result, self.clock.now() - began
            assert result.wake_at is not None
            self.clock.set_wall(result.wake_at)
        raise AssertionError(f"it goes on and on: {result.error}")

    async def counters(self) -> int:
        return sum(value for name, value in (await self.store.counters()).items() if name.startswith(COUNTER))

    async def owned(self) -> dict[CoinState, int]:
        coins = await self.store.coins()
        return {state: sum(coin.amount for coin in coins if coin.state is state) for state in CoinState}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with MemoryStore() as store:
        yield Bench(store)


def refuse(code: int) -> Callable[[Json], Json]:
    def answer(body: Json) -> Json:
        raise Refusal(code)

    return answer


def unreachable(body: Json) -> Json:
    raise httpx.ConnectError("down")


@pytest.mark.parametrize("kind", [Issue, IssueBatch])
@pytest.mark.parametrize(("state", "code", "words"), [("PENDING", 11000, "pending"), ("PAID", 20008, "NUT-20")])
async def test_a_paid_quote_that_its_mint_gives_nothing_for(
    bench: Bench, kind: type[Issue | IssueBatch], state: str, code: int, words: str
) -> None:
    """Trap 2, for quotes: after an hour a person is told; whoever mends the mint has it go on."""
    action = await bench.issue(kind)
    bench.mint.routes[MINT] = refuse(code)
    await bench.drive(action)  # it is paid, and has been asked for
    bench.mint.state = state
    result, took = await bench.to_rest(action)
    assert result.outcome is Outcome.STUCK
    assert "stuck at the mint" in str(result.error)
    assert words in str(result.error)
    assert timedelta(hours=1) <= took < timedelta(hours=2)
    assert await bench.counters() == 2, "10 is 8 and 2: no other outputs were made"
    # Looking again says the same, and what the mint then does is taken.
    await Operator(bench.store, clock=bench.clock).retry(action.key)
    assert (await bench.drive(action)).outcome is Outcome.STUCK
    bench.mint.routes.clear()
    bench.mint.state = "PAID"
    await Operator(bench.store, clock=bench.clock).retry(action.key)
    assert (await bench.drive(action)).outcome is Outcome.DONE
    assert (await bench.owned())[CoinState.SPENDABLE] == 10


async def test_an_outage_in_between_begins_the_hour_anew(bench: Bench) -> None:
    """A moment of `pending` before a long outage and one after it are two moments, not an hour."""
    issue = await bench.issue(Issue)
    bench.mint.routes[MINT] = refuse(11000)
    await bench.drive(issue)
    for _ in range(2):
        bench.mint.state = "PENDING"
        assert (await bench.drive(issue)).outcome is Outcome.PARKED
        bench.mint.routes["GET /v1/mint/quote"] = bench.mint.routes[MINT] = unreachable
        assert (await bench.drive(issue)).outcome is Outcome.PARKED
        bench.clock.set_wall(bench.clock.now() + timedelta(hours=3))
        del bench.mint.routes["GET /v1/mint/quote"]
        bench.mint.routes[MINT] = refuse(11000)
    assert (await bench.drive(issue)).outcome is Outcome.PARKED


async def test_one_quote_that_is_stuck_holds_up_no_other(bench: Bench) -> None:
    """L-C13: while another one may still be paid, it steps back, however long that takes."""
    states = {"q0": "PENDING", "q1": "UNPAID"}
    names = iter(states)

    def quote(body: Json) -> Json:
        name = str(body["_"]).rpartition("/")[2] if str(body["_"]).startswith("GET") else next(names)
        return {"quote": name, "request": f"lnbc-{name}", "state": states[name], "amount": 10, "unit": "sat"}

    def sign(body: Json) -> Json:
        if body["quote"] == "q0":
            raise Refusal(11000)
        return bench.mint.answer(body)

    bench.mint.routes |= {"POST /v1/mint/quote": quote, "GET /v1/mint/quote": quote, MINT: sign}
    batch = await IssueBatch.of(bench.wallet, URL, [10, 10])
    await bench.executor.start(batch, batch.opening)
    states["q0"] = "PAID"
    bench.clock.set_wall(bench.clock.now() + timedelta(minutes=11))
    assert (await bench.drive(batch)).outcome is Outcome.PARKED
    states["q0"] = "PENDING"
    for _ in range(20):
        result = await bench.drive(batch)
        assert result.outcome is Outcome.PARKED
        assert result.wake_at is not None
        bench.clock.set_wall(result.wake_at + timedelta(minutes=10))
    states["q1"] = "PAID"
    result, _ = await bench.to_rest(batch)
    assert result.outcome is Outcome.STUCK, "it alone is left"
    assert (await bench.owned())[CoinState.SPENDABLE] == 10


@pytest.mark.parametrize("kind", [Issue, IssueBatch])
async def test_outputs_that_are_called_used_and_are_not(bench: Bench, kind: type[Issue | IssueBatch]) -> None:
    """L-C12, L-D8: new ones are not made for ever: a long row of unused counters hides from a restore what follows."""
    action = await bench.issue(kind)
    bench.mint.routes[MINT] = refuse(11003)
    for _ in range(60):
        result = await bench.drive(action)
        assert result.outcome is Outcome.PARKED
        assert "11003" in str(result.error)
        assert result.wake_at is not None
        bench.clock.set_wall(result.wake_at)
    assert await bench.counters() == 2 * (1 + MOST_PLANS)
    bench.mint.routes.clear()
    assert (await bench.drive(action)).outcome is Outcome.DONE
    assert (await bench.owned())[CoinState.SPENDABLE] == 10


async def test_an_invoice_without_an_end_is_asked_for_more_and_more_rarely(bench: Bench) -> None:
    """A mint need not say until when; an app that runs for months asks it once an hour, not once a minute."""
    bench.mint.state = "UNPAID"
    issue = await bench.issue(Issue)
    for age, delay in ((timedelta(hours=20), timedelta(minutes=1)), (timedelta(days=60), timedelta(hours=1))):
        bench.clock.set_wall(issue.asked_at + age)
        result = await bench.drive(issue)
        assert result.wake_at == bench.clock.now() + delay
    bench.mint.state = "PAID"
    assert (await bench.drive(issue)).outcome is Outcome.DONE


@pytest.mark.parametrize("code", [11003, 20007])
@pytest.mark.parametrize("claimed", [True, False])
async def test_a_token_that_the_mint_does_not_take_back(code: int, claimed: bool) -> None:
    """It is the payee's to claim all the while, and then that is how it ends; or the mint is mended."""
    async with MemoryStore() as store:
        bench = SwapBench(store, Sheet(1000))
        bench.mint.routes["GET /v1/info"] = lambda body: EVERYTHING
        await bench.fund(64)
        send: Send = await bench.start(await Send.of(bench.wallet, URL, 20))
        await again(bench, send)
        proofs = (await token_of(bench, send)).proofs
        bench.mint.script = [refusing(code)] * MOST_DRIVES
        assert await bench.operator.request_cancel(send.key)
        began, result = bench.clock.now(), await bench.drive(send)
        while result.outcome is Outcome.PARKED:
            assert result.wake_at is not None
            bench.clock.set_wall(result.wake_at)
            result = await bench.drive(send)
        assert result.outcome is Outcome.STUCK
        assert "does not take the token back" in str(result.error)
        assert timedelta(hours=1) <= bench.clock.now() - began < timedelta(hours=2)
        assert sum(await bench.amounts(CoinState.RESERVED)) == 20
        assert len(set(bench.mint.swaps)) <= 2 + MOST_PLANS, "other outputs are not made for ever"
        bench.mint.script.clear()
        if claimed:
            claim(bench, proofs)
        await bench.operator.retry(send.key)
        for _ in range(4):
            result = await bench.drive(send)
        assert result.outcome is (Outcome.DONE if claimed else Outcome.FAILED)
        assert sum(await bench.amounts()) == (44 if claimed else 64)


async def test_coins_of_a_failed_payment_that_the_mint_does_not_change(bench: Bench) -> None:
    """The payment has failed for certain and the coins are unspent: in the end they are free as they are."""
    bench.mint.quote = "fund"
    fund = await Issue.of(bench.wallet, URL, 64)
    await bench.executor.start(fund, fund.opening)
    assert (await bench.drive(fund)).outcome is Outcome.DONE
    bench.mint.quote, bench.mint.state = "melt", "UNPAID"
    melt = await Melt.of(bench.wallet, URL, "lnbc100n1pjqqqqq")
    await bench.executor.start(melt, melt.opening)

    def lost(body: Json) -> Json:
        raise httpx.ReadError("lost")

    bench.mint.routes[MELT] = lost
    assert (await bench.drive(melt)).outcome is Outcome.PARKED
    bench.mint.routes[MELT] = refuse(20004)
    bench.mint.routes[SWAP] = refuse(11003)
    before = await bench.counters()
    result, took = await bench.to_rest(melt)
    assert result.outcome is Outcome.FAILED
    assert "the payment failed" in str(result.error)
    assert took < timedelta(hours=1)
    assert (await bench.owned())[CoinState.SPENDABLE] == 64
    assert bench.mint.requests.count(SWAP) == 1 + MOST_SWAPS + 2
    assert await bench.counters() - before <= 7 * (1 + MOST_SWAPS)
