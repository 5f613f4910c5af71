"""One invoice, paid by two mints at the same time (NUT-15), at mints in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest

from tests.unit.cashu.fake_mint import FakeMint, Json, Refusal
from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.cashu import Cashu, Melt, Seed
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.errors import InsufficientFundsError, WrongQuoteError
from wallet_actions.cashu.facts import TransactionState
from wallet_actions.cashu.melt_quotes import invoice_msat
from wallet_actions.coins import CoinState
from wallet_actions.errors import ActionFailedError, RejectedError, ReservationError, UsageError
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

INVOICE = "lnbc300n1pjqqqqq"  # 30 sat
NORTH, SOUTH = "http://north.test", "http://south.test"
PARTS = {NORTH: 20_000, SOUTH: 10_000}
MPP = {"15": {"methods": [{"method": "bolt11", "unit": "sat"}]}}


@dataclass
class PartMint(FakeMint):
    """A mint that pays parts.

    Attributes:
        asked_msat: the parts that it was asked for.
    """

    nuts: Json = field(default_factory=lambda: dict(MPP))
    asked_msat: list[int] = field(default_factory=list)

    def handle(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and request.url.path == "/v1/melt/quote/bolt11":
            part = json.loads(request.content)["options"]["mpp"]["amount"]
            self.asked_msat.append(part)
            self.amount = part // 1000
        return super().handle(request)


class Bench:
    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.mints = {NORTH: PartMint(), SOUTH: PartMint()}
        self.cashu = Cashu(store, Seed.from_mnemonic(MNEMONIC), connect=self.client, poll=None)

    def client(self, url: str) -> MintClient:
        return self.mints[url].client(url)

    async def fund(self, *, north: int = 64, south: int = 32) -> None:
        for (url, mint), amount in zip(self.mints.items(), (north, south), strict=True):
            mint.quote, mint.state = f"fund-{url[7:12]}", "PAID"
            await self.cashu.issued((await self.cashu.issue(url, amount)).id)
            mint.signed.clear()
            mint.quote, mint.state = f"melt-{url[7:12]}", "UNPAID"
            mint.requests.clear()

    async def total(self, state: CoinState) -> int:
        return sum(coin.amount for coin in await self.store.coins(state=state))

    async def melts(self) -> list[str]:
        return [row.id for row in await self.store.list_actions(kinds=[Melt.kind])]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with MemoryStore() as store:
        bench = Bench(store)
        async with bench.cashu:
            await bench.fund()
            yield bench


async def test_each_mint_pays_its_part(bench: Bench) -> None:
    """L-S11: a row for each part, and one receipt each."""
    bench.mints[NORTH].change, bench.mints[SOUTH].change = (32, 8, 4), (16, 4, 1)
    melts = await bench.cashu.melt_parts(INVOICE, PARTS)
    assert [(melt.mint, melt.amount, melt.partial_msat) for melt in melts] == [(NORTH, 20, 20_000), (SOUTH, 10, 10_000)]
    assert [mint.asked_msat for mint in bench.mints.values()] == [[20_000], [10_000]]
    paid = [await bench.cashu.paid(melt.id) for melt in melts]
    assert [(part.amount, part.fee) for part in paid] == [(20, 0), (10, 1)]
    assert await bench.total(CoinState.SPENDABLE) == 44 + 21
    rows = [row async for row in bench.cashu.history() if row.operation == "cashu_melt"]
    assert {(row.mint, row.amount, row.state, row.counterpart) for row in rows} == {
        (NORTH, 20, TransactionState.DONE, INVOICE),
        (SOUTH, 10, TransactionState.DONE, INVOICE),
    }


async def test_all_parts_are_on_disk_with_their_coins_or_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """L-S1: one write."""
    creates = []
    create = bench.store.create

    async def counted(new: object, **options: object) -> object:
        creates.append(new)
        return await create(new, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.store, "create", counted)
    await bench.cashu.melt_parts(INVOICE, PARTS)
    assert len(creates) == 1
    assert len(await bench.melts()) == 2


async def test_coins_that_are_taken_meanwhile_are_chosen_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """L-C2: of whichever part; nothing is left of the first choice."""
    create = bench.store.create
    lost: list[object] = []

    async def contended(new: object, **options: object) -> object:
        if len(lost) < 2:
            lost.append(new)
            assert await bench.melts() == []
            raise ReservationError(["taken"])
        return await create(new, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.store, "create", contended)
    melts = await bench.cashu.melt_parts(INVOICE, PARTS)
    assert len(lost) == 2
    assert sorted(await bench.melts()) == sorted(melt.id for melt in melts)


async def test_parts_that_fail_free_their_coins(bench: Bench) -> None:
    """The payee's node gives the parts back where one is missing; each mint says so for itself."""

    def fail(body: Json) -> Json:
        raise Refusal(20004, "the other part is missing")

    for mint in bench.mints.values():
        mint.routes["POST /v1/melt/bolt11"] = fail
    melts = await bench.cashu.melt_parts(INVOICE, PARTS)
    for melt in melts:
        with pytest.raises(ActionFailedError, match="the payment failed"):
            await bench.cashu.paid(melt.id)
    assert (await bench.total(CoinState.SPENDABLE), await bench.total(CoinState.RESERVED)) == (96, 0)


REFUSED: dict[str, tuple[str, dict[str, int], str]] = {
    "too little": (INVOICE, {NORTH: 20_000, SOUTH: 9_999}, "come to 29999 msat, and the invoice asks for 30000"),
    "too much": (INVOICE, {NORTH: 20_000, SOUTH: 11_000}, "come to 31000 msat"),
    "one mint": (INVOICE, {NORTH: 30_000}, "two mints"),
    "no mint": (INVOICE, {}, "two mints"),
    "the same mint": (INVOICE, {NORTH: 20_000, NORTH + "/": 10_000}, "named once"),
    "no mint's address": (INVOICE, {NORTH: 20_000, "south": 10_000}, "address"),
    "nothing": (INVOICE, {NORTH: 30_000, SOUTH: 0}, "positive"),
    "less than nothing": (INVOICE, {NORTH: 31_000, SOUTH: -1_000}, "positive"),
    "no amount": ("lnbc1pjqqqqq", PARTS, "names its amount"),
    "no invoice": ("pay me", PARTS, "names its amount"),
}


@pytest.mark.parametrize(("request_", "parts", "said"), REFUSED.values(), ids=REFUSED)
async def test_parts_that_make_no_sense(bench: Bench, request_: str, parts: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        await bench.cashu.melt_parts(request_, parts)
    assert await bench.melts() == []
    assert not any("POST /v1/melt/quote/bolt11" in mint.requests for mint in bench.mints.values())


async def test_a_mint_that_pays_no_parts(bench: Bench) -> None:
    async with MemoryStore() as store:
        other = Bench(store)
        other.mints[SOUTH].nuts.clear()
        async with other.cashu:
            with pytest.raises(RejectedError, match=r"south\.test does not pay parts of an invoice in sat"):
                await other.cashu.melt_parts(INVOICE, PARTS)
            assert "POST /v1/melt/quote/bolt11" not in other.mints[NORTH].requests


async def test_a_mint_that_offers_another_part(bench: Bench) -> None:
    south = bench.mints[SOUTH]
    south.routes["POST /v1/melt/quote/bolt11"] = lambda body: south.melt_quote() | {"amount": 30}
    with pytest.raises(WrongQuoteError, match="another amount"):
        await bench.cashu.melt_parts(INVOICE, PARTS)
    assert await bench.melts() == []


async def test_a_part_that_one_mint_has_not_the_coins_for(bench: Bench) -> None:
    with pytest.raises(InsufficientFundsError):
        await bench.cashu.melt_parts("lnbc900n1pjqqqqq", {NORTH: 50_000, SOUTH: 40_000})
    assert await bench.melts() == []
    assert await bench.total(CoinState.RESERVED) == 0


@pytest.mark.parametrize("old", [NORTH, SOUTH])
async def test_a_quote_that_was_given_before_starts_no_part(old: str) -> None:
    """G6: an action that exists is left alone, and its payment would be taken for this one's part."""
    async with MemoryStore() as store:
        bench = Bench(store)
        async with bench.cashu:
            await bench.fund(north=96, south=48)
            bench.mints[NORTH].change, bench.mints[SOUTH].change = (8, 4), (4, 2)
            for melt in await bench.cashu.melt_parts(INVOICE, PARTS):
                await bench.cashu.paid(melt.id)
            before = await bench.melts()
            for url, mint in bench.mints.items():
                mint.state, mint.coins = "UNPAID", "UNSPENT"
                mint.quote = mint.quote if url == old else "new"
            with pytest.raises(WrongQuoteError, match="given before"):
                await bench.cashu.melt_parts(INVOICE, PARTS)
            assert await bench.melts() == before
            assert await bench.total(CoinState.RESERVED) == 0


@pytest.mark.parametrize(
    ("request_", "msat"),
    [
        (INVOICE, 30_000),
        ("LNBC15N1PJQQQQQ", 1_500),
        ("lnbc10p1pjqqqqq", 1),
        ("lnbc11p1pjqqqqq", 2),
        ("lnbcrt1m1pjqqqqq", 100_000_000),
        ("lnbc11pjqqqqq", 100_000_000_000),
        ("lnbc1pjqqqqq", None),
        ("lno1qqq", None),
    ],
)
def test_what_an_invoice_asks_for(request_: str, msat: int | None) -> None:
    assert invoice_msat(request_) == msat
