"""What `Issue` makes of locked quotes and of the mint's clock, at a mint in this process (NUT-20)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from tests.unit.cashu.fake_mint import URL, FakeMint
from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.cashu import KINDS, CashuWallet, Issue, Seed
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.errors import WrongQuoteError
from wallet_actions.cashu.proofs import BlindedMessage
from wallet_actions.cashu.quotes import MintRequestForm, verify_mint_request
from wallet_actions.executor import Executor
from wallet_actions.outcome import Outcome
from wallet_actions.registry import Registry
from wallet_actions.testing.clock import FakeClock
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio


class LockingMint(FakeMint):
    """Verifies one form of signature, as mints of one age do; tells the time if it has one.

    Attributes:
        form: which; None verifies nothing.
        time: what its answers say.
        bodies: of the requests for ecash.
    """

    def __init__(self, form: MintRequestForm | None = None) -> None:
        super().__init__(nuts={} if form is None else {"20": {"supported": True}})
        self.form = form
        self.time: datetime | None = None
        self.bodies: list[bytes] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        response = super().handle(request)
        if request.url.path == "/v1/mint/bolt11":
            self.bodies.append(request.content)
            body = json.loads(request.content)
            outputs = [BlindedMessage.model_validate(output) for output in body["outputs"]]
            signature = body.get("signature", "")
            if self.form is not None and not verify_mint_request(
                self.quote, outputs, self.pubkey or "", signature, self.form
            ):
                self.signed.clear()
                response = httpx.Response(400, json={"detail": "signature invalid", "code": 20008})
        if self.time is not None:
            response.headers["date"] = format_datetime(self.time, usegmt=True)
        return response


class Bench:
    def __init__(self, store: MemoryStore, mint: LockingMint) -> None:
        self.store, self.mint, self.clock = store, mint, FakeClock()
        self.wallet = CashuWallet(store, Seed.from_mnemonic(MNEMONIC), connect=self.client, clock=self.clock)
        self.executor = Executor(store, self.wallet, Registry(KINDS), clock=self.clock)

    def client(self, url: str) -> MintClient:
        return MintClient(url, transport=httpx.MockTransport(self.mint.handle))

    async def issue(self, **mint: Any) -> Issue:
        for name, value in mint.items():
            setattr(self.mint, name, value)
        issue = await Issue.of(self.wallet, URL, 10)
        await self.executor.start(issue, issue.opening)
        return issue


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


@pytest.mark.parametrize(("form", "requests"), [(None, 1), (MintRequestForm.PLAIN, 1), (MintRequestForm.FRAMED, 2)])
async def test_mints_of_every_age_issue(store: MemoryStore, form: MintRequestForm | None, requests: int) -> None:
    """A locked quote whose mint verified no signature of ours would be money that is lost for ever."""
    bench = Bench(store, LockingMint(form))
    issue = await bench.issue()
    assert issue.key_counter == (None if form is None else 0)
    assert (bench.mint.pubkey is None) == (form is None)
    assert (await bench.executor.drive(issue.key)).outcome is Outcome.DONE
    assert len(bench.mint.bodies) == requests


async def test_a_repeated_request_is_the_same_bytes(store: MemoryStore) -> None:
    """L-S7, NUT-19: also its signature, in another life of the wallet."""
    mint = LockingMint(MintRequestForm.PLAIN)
    bench = Bench(store, mint)
    issue = await bench.issue()
    mint.routes["POST /v1/mint/bolt11"] = lambda body: {}  # an answer that nothing can be made of
    assert (await bench.executor.drive(issue.key)).outcome is Outcome.PARKED
    del mint.routes["POST /v1/mint/bolt11"]
    assert (await Bench(store, mint).executor.drive(issue.key)).outcome is Outcome.DONE
    assert len(mint.bodies) == 2
    assert len(set(mint.bodies)) == 1


async def test_each_quote_has_a_key_of_its_own(store: MemoryStore) -> None:
    """L-C12: the counter is taken before the quote is asked for, and never twice."""
    bench = Bench(store, LockingMint(MintRequestForm.PLAIN))
    pubkeys = set()
    for number in range(3):
        issue = await bench.issue(quote=f"quote-{number}")
        assert issue.key_counter == number
        pubkeys.add(bench.mint.pubkey)
    assert len(pubkeys) == 3


async def test_a_mint_that_does_not_lock_the_quote_as_it_says(store: MemoryStore) -> None:
    bench = Bench(store, LockingMint(MintRequestForm.PLAIN))
    bench.mint.routes["POST /v1/mint/quote"] = lambda body: {"quote": "q1", "request": "lnbc1", "state": "UNPAID"}
    with pytest.raises(WrongQuoteError, match="does not lock"):
        await bench.issue()
    assert await store.list_actions() == []


async def test_a_clock_that_runs_days_ahead_expires_nothing(store: MemoryStore) -> None:
    """The mint's answers carry its own time: the invoice can still be paid, whatever the device says."""
    bench = Bench(store, LockingMint())
    began = bench.clock.now()
    issue = await bench.issue(state="UNPAID", time=began, expiry=int((began + timedelta(hours=1)).timestamp()))
    assert (await bench.executor.drive(issue.key)).outcome is Outcome.PARKED
    bench.clock.set_wall(began + timedelta(days=30))
    assert (await bench.executor.drive(issue.key)).outcome is Outcome.PARKED
    bench.mint.time = began + timedelta(hours=20)
    assert (await bench.executor.drive(issue.key)).outcome is Outcome.PARKED
    bench.mint.time = began + timedelta(days=2)
    assert (await bench.executor.drive(issue.key)).outcome is Outcome.FAILED


@pytest.mark.parametrize("date", ["", "tomorrow", "Thu, 32 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:00 -0000"])
async def test_a_mint_that_tells_no_time(date: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"nuts": {}}, headers={"date": date} if date else {})

    async with MintClient(URL, transport=httpx.MockTransport(answer)) as client:
        assert client.told_time is None
        await client.info()
        assert (client.told_time is None) == (not date.endswith("-0000"))
        if client.told_time is not None:
            assert client.told_time.tzinfo is not None
