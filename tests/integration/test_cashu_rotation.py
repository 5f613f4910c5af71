"""Keysets that are retired in the middle of any action, and fees that change, at a real mint.

What the mint can see of an action is its requests; so it rotates before and after each of them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.cashu_kit import Bank, Purse, plain
from wallet_actions.action import Action
from wallet_actions.cashu import Exchanged, Issue, IssueBatch, Issued, IssuedBatch, Melt, MintClient, Paid, Swap
from wallet_actions.coins import CoinState
from wallet_actions.outcome import DriveResult, Outcome
from wallet_actions.testing.nutshell import MintConfig, NutshellMint

pytestmark = pytest.mark.anyio

PPK = 100
PLANNED = ("POST /v1/swap", "POST /v1/mint/bolt11", "POST /v1/mint/bolt11/batch")


@dataclass
class Rotating(httpx.AsyncBaseTransport):
    """Carries requests, and has something done before or after one of them.

    Attributes:
        at: which one, from 1, counted from when it is set; 0 for none.
        names: of the requests since.
    """

    act: Callable[[], Awaitable[object]]
    at: int = 0
    is_after: bool = False
    names: list[str] = field(default_factory=list)
    _real: httpx.AsyncHTTPTransport = field(default_factory=plain)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.names.append(f"{request.method} {request.url.path}")
        is_now = len(self.names) == self.at
        if is_now and not self.is_after:
            await self.act()
        response = await self._real.handle_async_request(request)
        if is_now and self.is_after:
            await response.aread()
            await self.act()
            return httpx.Response(response.status_code, content=response.content)
        return response

    def begin(self, at: int, *, is_after: bool = False) -> None:
        self.names.clear()
        self.at, self.is_after = at, is_after

    async def aclose(self) -> None:
        await self._real.aclose()


@pytest.fixture(scope="module")
async def module_mint() -> AsyncIterator[NutshellMint]:
    """Not the session's: it has dozens of keysets in the end."""
    async with NutshellMint(MintConfig(input_fee_ppk=PPK)) as mint:
        yield mint


@pytest.fixture
async def bank(module_mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(module_mint, tmp_path) as bank:
        yield bank


async def issue(purse: Purse) -> Action[Any, Any, Any]:
    action = await Issue.of(purse.wallet, purse.mint_url, 21)
    await purse.executor.start(action, action.opening)
    return action


async def batch(purse: Purse) -> Action[Any, Any, Any]:
    action = await IssueBatch.of(purse.wallet, purse.mint_url, [10, 11])
    await purse.executor.start(action, action.opening)
    return action


async def melt(purse: Purse) -> Action[Any, Any, Any]:
    action = await Melt.of(purse.wallet, purse.mint_url, INVOICES.pop())
    await purse.executor.start(action, action.opening)
    return action


async def swap(purse: Purse) -> Action[Any, Any, Any]:
    action = await Swap.of(purse.wallet, purse.mint_url, denominations=[1, 1, 2])
    await purse.executor.start(action, action.opening)
    return action


INVOICES: list[str] = []
Make = Callable[[Purse], Awaitable[Action[Any, Any, Any]]]


def has_come_out_right(result: DriveResult[Any]) -> bool:
    match result.result:
        case Issued(amount=amount) | IssuedBatch(amount=amount):
            return amount == 21
        case Paid(amount=amount, fee=fee):
            return amount == 10 and fee >= 1
        case Exchanged(amount=amount, fee=fee):
            return (amount, fee) == (63, 1)
    return False


@pytest.mark.parametrize("make", [issue, batch, melt, swap])
async def test_a_rotation_before_or_after_any_request(bank: Bank, make: Make) -> None:
    """L-S6: new outputs are taken of the new keyset; nothing is lost, nothing fails, and no plan is forgotten."""
    rotating = Rotating(lambda: bank.mint.rotate_keyset(PPK))
    count, at, is_after, retired = 99, 0, True, 0
    while at < count or not is_after:
        at, is_after = (at, True) if not is_after else (at + 1, False)
        purse = await bank.purse(liar=rotating)  # type: ignore[arg-type]
        rotating.begin(0)
        INVOICES.append(await bank.mint.invoice(10))
        if make in (melt, swap):
            await purse.fund(64)
        rotating.begin(at, is_after=is_after)
        action = await make(purse)
        result = await purse.finish(action)
        assert result.outcome is Outcome.DONE, (rotating.names, at, result.error)
        assert has_come_out_right(result), (rotating.names, at, result)
        count = min(count, len(rotating.names))
        retired += any(rotating.names.count(name) > 1 for name in PLANNED)
        assert await purse.reserved() == 0
        assert (await purse.transaction(action))["state"] == "done"
    assert count >= 1
    assert retired or make is melt, "no rotation came between a plan and its request"


async def test_two_rotations_within_one_swap(bank: Bank) -> None:
    """The second plan is refused as well."""
    rotating = Rotating(lambda: bank.mint.rotate_keyset(PPK))
    purse = await bank.purse(liar=rotating)  # type: ignore[arg-type]
    await purse.fund(64)
    action = await swap(purse)
    for _ in range(2):
        await bank.mint.rotate_keyset(PPK)
        rotating.begin(3)
        result = await purse.drive(action)
        if result.outcome is Outcome.DONE:
            break
    assert result.outcome is Outcome.DONE
    assert has_come_out_right(result)
    assert await purse.reserved() == 0


async def test_coins_of_retired_keysets_are_spent_first_and_swapped_out(bank: Bank) -> None:
    """A fee that rises with a rotation is the new coins' own: old ones cost what they always did."""
    purse = await bank.purse()
    await purse.fund(64, 1)
    new = await bank.mint.rotate_keyset(400)
    await purse.wallet.mint(purse.mint_url).refresh()
    await purse.fund(64)
    coins, fee = await purse.wallet.select(purse.mint_url, "sat", 60)
    assert (len(coins), fee) == (1, 1)
    assert json.loads(coins[0].payload)["id"] != new
    swap = await Swap.of(purse.wallet, purse.mint_url)
    await purse.executor.start(swap, swap.opening)
    result = await purse.finish(swap)
    assert isinstance(result.result, Exchanged)
    assert result.result.fee == swap.input_fee
    assert {json.loads(coin.payload)["id"] for coin in await purse.coins(CoinState.SPENDABLE)} == {new}
    coins, fee = await purse.wallet.select(purse.mint_url, "sat", 60)
    assert (len(coins), fee) == (1, 1), "400 thousandths"


async def test_a_keyset_of_version_1_raises_its_fee_under_the_wallet(tmp_path: Path) -> None:
    """Nutshell keeps a keyset's fee whatever it is restarted with; its operator may change it in the database."""
    config = MintConfig(keyset_version=1)
    async with NutshellMint(config) as mint, Bank(mint, tmp_path) as bank:
        purse = await bank.purse()
        await purse.fund(7, 3, 7)
        action = await Swap.of(purse.wallet, purse.mint_url)
        await purse.executor.start(action, action.opening)
        await mint.kill()
        with closing(sqlite3.connect(mint.log.parent / "mint" / "mint.sqlite3")) as database, database:
            database.execute("UPDATE keysets SET input_fee_ppk = 300")
        mint.config = replace(config, input_fee_ppk=700)
        await mint.restart()
        async with MintClient(mint.url, transport=plain()) as client:
            assert [info.input_fee_ppk for info in await client.keysets()] == [300]
        result = await purse.finish(action)
        assert isinstance(result.result, Exchanged)
        assert result.result.fee == -(-3 * len(action.inputs) // 10) > 0
        row = await purse.transaction(action)
        assert (row["amount"], row["fee"]) == (result.result.amount, result.result.fee)
        assert await purse.spendable() == 17 - result.result.fee
        await purse.fund(40)
        paid = await Melt.of(purse.wallet, purse.mint_url, await mint.invoice(1))
        await purse.executor.start(paid, paid.opening)
        assert (await purse.finish(paid)).outcome is Outcome.DONE
