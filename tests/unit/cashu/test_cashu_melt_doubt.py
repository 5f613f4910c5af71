"""Payments that failed, but not for certain: coins that the mint holds, and requests that may arrive late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest

from tests.unit.cashu.fake_mint import URL, FakeMint, Json, Refusal
from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.cashu import KINDS, CashuWallet, Issue, Melt, Paid, Seed
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.facts import TransactionState, transactions
from wallet_actions.checkpoint import Checkpoint
from wallet_actions.coins import CoinState
from wallet_actions.errors import StoreUnavailableError
from wallet_actions.executor import Executor
from wallet_actions.operator import Operator
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions.registry import Registry
from wallet_actions.store import Saved, Write
from wallet_actions.testing.clock import FakeClock
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

INVOICE = "lnbc100n1pjqqqqq"
MELT = "POST /v1/melt/bolt11"
QUOTE = "GET /v1/melt/quote"
SWAP = "POST /v1/swap"


class Bench:
    """A wallet in memory at a mint in this process; `restart` leaves nothing but the store."""

    def __init__(self, store: MemoryStore, mint: FakeMint) -> None:
        self.store = store
        self.mint = mint
        self.clock = FakeClock()
        self.losing = 0
        self.restart()

    def restart(self) -> None:
        self.wallet = CashuWallet(self.store, Seed.from_mnemonic(MNEMONIC), connect=self.client, clock=self.clock)
        self.executor = Executor(self.store, self.wallet, Registry(KINDS), clock=self.clock)

    def client(self, url: str) -> MintClient:
        return MintClient(url, transport=httpx.MockTransport(self.handle))

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Loses the answers to the next requests for a payment, which then never arrived."""
        if self.losing and request.url.path == "/v1/melt/bolt11":
            self.losing -= 1
            raise httpx.ReadError("lost")
        return self.mint.handle(request)

    async def melt(self) -> Melt:
        """A payment of 10 with a coin of 64."""
        self.mint.quote, self.mint.state = "fund", "PAID"
        issue = await Issue.of(self.wallet, URL, 64)
        await self.executor.start(issue, issue.opening)
        assert (await self.executor.drive(issue.key)).outcome is Outcome.DONE
        self.mint.signed.clear()
        self.mint.quote, self.mint.state = "melt", "UNPAID"
        melt = await Melt.of(self.wallet, URL, INVOICE)
        await self.executor.start(melt, melt.opening)
        self.mint.requests.clear()
        return melt

    async def drive(self, melt: Melt) -> DriveResult[Any]:
        return await self.executor.drive(melt.key)

    async def row(self, melt: Melt) -> Checkpoint:
        row = await self.store.load(melt.key)
        assert row is not None
        return row

    async def totals(self) -> tuple[int, int]:
        """Spendable and reserved."""
        coins = await self.store.coins()
        return (
            sum(coin.amount for coin in coins if coin.state is CoinState.SPENDABLE),
            sum(coin.amount for coin in coins if coin.state is CoinState.RESERVED),
        )

    async def state(self) -> tuple[TransactionState, int]:
        """The last row of the history: state and fee."""
        rows = [row async for row in transactions(self.store)]
        return rows[-1].state, rows[-1].fee


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with MemoryStore() as store:
        yield Bench(store, FakeMint())


def refusing(code: int) -> Any:
    def refuse(body: Json) -> Json:
        raise Refusal(code)

    return refuse


# Coins that the mint holds


async def test_coins_that_the_mint_holds_for_an_unpaid_quote_are_stuck_in_the_end(bench: Bench) -> None:
    """L-C7, L-D9: a mint that died in the act. A terminal answer, the coins kept apart, and no endless loop."""
    melt = await bench.melt()
    bench.mint.routes[MELT] = refusing(11002)
    bench.mint.coins = "PENDING"
    began = bench.clock.now()
    delays = []
    while (result := await bench.drive(melt)).outcome is Outcome.PARKED:
        assert result.wake_at is not None
        delays.append(result.wake_at - bench.clock.now())
        bench.clock.set_wall(result.wake_at)
    assert result.outcome is Outcome.STUCK
    assert "stuck at the mint" in str(result.error)
    assert timedelta(hours=1) <= bench.clock.now() - began < timedelta(hours=2)
    assert len(delays) < 60
    assert max(delays) == timedelta(minutes=5)
    assert await bench.totals() == (0, 64)


@pytest.mark.parametrize("paid", [True, False])
async def test_whoever_mends_the_mint_has_the_payment_go_on(bench: Bench, paid: bool) -> None:
    melt = await bench.melt()
    bench.mint.routes[MELT] = refusing(11002)
    bench.mint.coins = "PENDING"
    assert (await bench.drive(melt)).outcome is Outcome.PARKED
    bench.clock.set_wall(bench.clock.now() + timedelta(hours=3))
    assert (await bench.drive(melt)).outcome is Outcome.STUCK
    await Operator(bench.store, clock=bench.clock).retry(melt.key)
    bench.mint.coins = "UNSPENT"
    bench.mint.change = (32, 16, 4, 1)
    if paid:
        del bench.mint.routes[MELT]
    else:
        bench.mint.routes[MELT] = refusing(20004)
    assert (await bench.drive(melt)).outcome is (Outcome.DONE if paid else Outcome.FAILED)
    assert await bench.totals() == (53 if paid else 64, 0)


async def test_an_hour_is_counted_anew_once_the_coins_were_free(bench: Bench) -> None:
    melt = await bench.melt()
    bench.mint.routes[MELT] = refusing(11002)
    bench.mint.coins = "PENDING"
    assert (await bench.drive(melt)).outcome is Outcome.PARKED
    bench.mint.coins = "UNSPENT"
    assert (await bench.drive(melt)).outcome is Outcome.PARKED, "a refusal, for the first time"
    bench.clock.set_wall(bench.clock.now() + timedelta(hours=3))
    bench.mint.coins = "PENDING"
    assert (await bench.drive(melt)).outcome is Outcome.PARKED
    assert await bench.totals() == (0, 64)


# Requests that may arrive late


async def test_an_answered_request_needs_no_swap(bench: Bench) -> None:
    melt = await bench.melt()
    bench.mint.routes[MELT] = refusing(20004)
    assert (await bench.drive(melt)).outcome is Outcome.FAILED
    assert SWAP not in bench.mint.requests
    assert await bench.totals() == (64, 0)
    assert {coin.id for coin in await bench.store.coins(state=CoinState.SPENDABLE)} == set(melt.inputs)


async def test_no_connection_is_no_request(bench: Bench) -> None:
    """A `MintUnreachableError` proves that nothing was sent."""
    melt = await bench.melt()

    def unreachable(body: Json) -> Json:
        raise httpx.ConnectError("no route")

    bench.mint.routes[MELT] = unreachable
    assert (await bench.drive(melt)).outcome is Outcome.PARKED
    bench.mint.routes[MELT] = refusing(20004)
    assert (await bench.drive(melt)).outcome is Outcome.FAILED
    assert SWAP not in bench.mint.requests


@pytest.mark.parametrize("doubt", ["answer lost", "restarted", "cut off"])
async def test_a_request_that_may_arrive_late_finds_its_coins_spent(bench: Bench, doubt: str) -> None:
    """L-C6, L-P2: a copy whose answer never came could be carried out after the payment was given up."""
    melt = await bench.melt()
    match doubt:
        case "answer lost":
            bench.losing = 1
            assert (await bench.drive(melt)).outcome is Outcome.PARKED
        case "restarted":
            await cut_off(bench, melt)
            bench.restart()
        case "cut off":
            await cut_off(bench, melt)
    bench.mint.routes[MELT] = refusing(20004)
    result = await bench.drive(melt)
    assert result.outcome is Outcome.FAILED
    assert "the payment failed" in str(result.error)
    assert bench.mint.requests.count(SWAP) == 1
    assert await bench.totals() == (64, 0)
    spent = {coin.id for coin in await bench.store.coins(state=CoinState.SPENT)}
    assert spent == set(melt.inputs)
    assert bench.mint.coins == "SPENT", "whoever comes late with them is refused"
    assert await bench.state() == (TransactionState.FAILED, 0)


async def cut_off(bench: Bench, melt: Melt) -> None:
    """The process ends, or whoever drives it is cancelled, while the request is under way."""
    sent = asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v1/melt/bolt11":
            return bench.mint.handle(request)
        sent.set()
        await asyncio.Event().wait()
        raise AssertionError

    mint = bench.wallet.mint(URL)
    mint.client = MintClient(URL, transport=httpx.MockTransport(hang))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.executor.drive, melt.key)
        await sent.wait()
        tasks.cancel_scope.cancel()
    mint.client = bench.client(URL)


async def in_reclaiming(bench: Bench) -> Melt:
    """A payment that has failed, with a request that may arrive late, just before the swap of its coins."""
    melt = await bench.melt()
    bench.losing = 1
    assert (await bench.drive(melt)).outcome is Outcome.PARKED
    bench.mint.routes[MELT] = refusing(20004)

    def down(body: Json) -> Json:
        raise httpx.ConnectError("down")

    bench.mint.routes[SWAP] = down
    assert (await bench.drive(melt)).outcome is Outcome.PARKED
    assert (await bench.row(melt)).phase == "reclaiming"
    assert await bench.totals() == (0, 64)
    del bench.mint.routes[SWAP], bench.mint.routes[MELT]
    return melt


async def test_the_late_request_comes_before_the_swap(bench: Bench) -> None:
    """The payment was made after all: its change is taken, and it is booked as made."""
    melt = await in_reclaiming(bench)
    bench.mint.change = (32, 16, 4, 1)
    await bench.wallet.mint(URL).client.melt(
        "melt", await bench.wallet.proofs(melt.inputs), [output.to_message() for output in await blanks(bench, melt)]
    )
    result = await bench.drive(melt)
    assert (result.outcome, result.result) == (Outcome.DONE, Paid(amount=10, fee=1))
    assert await bench.totals() == (53, 0)
    assert await bench.state() == (TransactionState.DONE, 1)


async def test_the_late_request_is_under_way_when_the_swap_comes(bench: Bench) -> None:
    melt = await in_reclaiming(bench)
    bench.mint.state, bench.mint.coins = "PENDING", "PENDING"
    assert (await bench.drive(melt)).outcome is Outcome.PARKED
    assert (await bench.row(melt)).phase == "payment_pending"
    bench.mint.state, bench.mint.coins = "UNPAID", "UNSPENT"
    assert (await bench.drive(melt)).outcome is Outcome.FAILED
    assert bench.mint.requests.count(SWAP) == 3, "one that did not arrive, one that came too early, and one"
    assert await bench.totals() == (64, 0)


async def test_coins_that_the_mint_holds_in_the_swap_are_stuck_in_the_end(bench: Bench) -> None:
    melt = await in_reclaiming(bench)
    bench.mint.coins = "PENDING"
    assert (await bench.drive(melt)).outcome is Outcome.PARKED
    bench.clock.set_wall(bench.clock.now() + timedelta(hours=2))
    result = await bench.drive(melt)
    assert result.outcome is Outcome.STUCK
    assert "stuck at the mint" in str(result.error)
    assert await bench.totals() == (0, 64)


async def test_a_lost_answer_to_the_swap_is_looked_up(bench: Bench) -> None:
    """L-P2: the swap was made; the same outputs are restored in another life."""
    melt = await in_reclaiming(bench)

    def lose(body: Json) -> Json:
        bench.mint.answer(body)
        raise httpx.ReadError("lost")

    bench.mint.routes[SWAP] = lose
    bench.mint.routes["POST /v1/checkstate"] = lose
    assert (await bench.drive(melt)).outcome is Outcome.PARKED
    del bench.mint.routes[SWAP], bench.mint.routes["POST /v1/checkstate"]
    bench.restart()
    assert (await bench.drive(melt)).outcome is Outcome.FAILED
    assert await bench.totals() == (64, 0)


async def test_counters_that_were_used_before_are_passed_over_in_the_swap(bench: Bench) -> None:
    """L-C12, L-D8: other outputs, later and later."""
    melt = await in_reclaiming(bench)
    bench.mint.routes[SWAP] = refusing(11003)
    delays = []
    for _ in range(3):
        result = await bench.drive(melt)
        assert result.outcome is Outcome.PARKED
        assert result.wake_at is not None
        delays.append(result.wake_at - bench.clock.now())
    assert delays == sorted(delays)
    del bench.mint.routes[SWAP]
    assert (await bench.drive(melt)).outcome is Outcome.FAILED
    assert await bench.totals() == (64, 0)


async def test_a_mint_that_will_not_swap_frees_the_coins_in_the_end(bench: Bench) -> None:
    melt = await in_reclaiming(bench)
    bench.mint.routes[SWAP] = refusing(10000)
    for _ in range(2):
        assert (await bench.drive(melt)).outcome is Outcome.PARKED
        assert await bench.totals() == (0, 64)
    assert (await bench.drive(melt)).outcome is Outcome.FAILED
    assert await bench.totals() == (64, 0)


async def test_coins_that_somebody_else_spent_meanwhile(bench: Bench) -> None:
    melt = await in_reclaiming(bench)
    bench.mint.coins = "SPENT"
    for _ in range(2):
        assert (await bench.drive(melt)).outcome is Outcome.PARKED
    result = await bench.drive(melt)
    assert result.outcome is Outcome.FAILED
    assert "1 of the coins had been spent elsewhere" in str(result.error)
    assert await bench.totals() == (0, 0)


async def test_a_pending_payment_that_fails_after_a_lost_answer_is_swapped_too(bench: Bench) -> None:
    melt = await bench.melt()
    bench.losing = 1
    assert (await bench.drive(melt)).outcome is Outcome.PARKED

    def pending(body: Json) -> Json:
        bench.mint.state, bench.mint.coins = "PENDING", "PENDING"
        return bench.mint.melt_quote()

    bench.mint.routes[MELT] = pending
    assert (await bench.drive(melt)).outcome is Outcome.PARKED
    assert (await bench.row(melt)).phase == "payment_pending"
    bench.mint.state, bench.mint.coins = "UNPAID", "UNSPENT"
    assert (await bench.drive(melt)).outcome is Outcome.FAILED
    assert bench.mint.requests.count(SWAP) == 1


async def test_change_of_a_request_that_was_refused_and_carried_out_late(bench: Bench) -> None:
    """L-C7: a copy of the first request, whose outputs were given up since, makes the payment."""
    mint = bench.mint
    mint.change = (32, 16, 4, 1)
    late: list[Json] = []

    def refuse_first(body: Json) -> Json:
        if not late:
            late.append(dict(body))
            raise Refusal(11003)
        mint.answer(late[0])
        raise Refusal(11000, "melt quote is not unpaid: paid")

    melt = await bench.melt()
    mint.routes[MELT] = refuse_first
    mint.routes[QUOTE] = lambda body: mint.melt_quote() | {"change": None}
    result = await bench.drive(melt)
    assert (result.outcome, result.result) == (Outcome.DONE, Paid(amount=10, fee=1))
    assert await bench.totals() == (53, 0)


async def blanks(bench: Bench, melt: Melt) -> Any:
    action = Registry(KINDS).decode(await bench.row(melt))
    assert isinstance(action, Melt)
    assert action.phase.tag == "reclaiming"
    return action.phase.outputs(bench.wallet)  # type: ignore[union-attr]


async def test_an_answer_that_was_missed_is_remembered_where_the_write_fails(bench: Bench) -> None:
    """L-P2: the process lives on, so its own life tells nothing, and the checkpoint could not be told either."""
    melt = await bench.melt()
    bench.losing = 1
    save, failures = bench.store.save, [StoreUnavailableError("full")]

    async def failing(write: Write) -> Saved:
        if bench.mint.requests and failures:
            raise failures.pop()
        return await save(write)

    bench.store.save = failing  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailableError):
        await bench.drive(melt)
    assert not failures
    bench.mint.routes[MELT] = refusing(20004)
    result = await bench.drive(melt)
    assert result.outcome is Outcome.FAILED
    assert SWAP in bench.mint.requests, "a copy of the first request may still arrive: its coins are swapped first"
