"""One invoice, paid in parts by two real mints (NUT-15), and held against the books of both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from mnemonic import Mnemonic

from tests.integration.cashu_kit import plain
from wallet_actions.cashu import Cashu, MintClient, Seed
from wallet_actions.errors import ActionFailedError, RejectedError
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

FUNDS, INVOICE = 200, 90
SHARES = (60_000, 30_000)  # msat


@dataclass
class Pair:
    """A wallet that has money at two mints."""

    cashu: Cashu
    mints: tuple[NutshellMint, NutshellMint]
    shares: dict[str, int]

    async def owned(self) -> list[int]:
        balances = {balance.account: balance for balance in await self.cashu.balances()}
        assert all(balance.reserved == 0 for balance in balances.values())
        return [balances[mint.url].spendable for mint in self.mints]


@pytest.fixture(scope="module")
async def mints() -> AsyncIterator[tuple[NutshellMint, NutshellMint]]:
    async with NutshellMint() as one, NutshellMint(MintConfig(input_fee_ppk=100, keyset_version=1)) as other:
        yield one, other


@pytest.fixture
async def pair(mints: tuple[NutshellMint, NutshellMint]) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        before = []
        for mint in mints:
            await mint.reset()
            await mint.pay_parts()
            before.append(await mint.outstanding())
        seed = Seed.from_mnemonic(Mnemonic("english").generate())
        store = await stack.enter_async_context(MemoryStore())
        connect = lambda url: MintClient(url, transport=plain())  # noqa: E731
        cashu = await stack.enter_async_context(Cashu(store, seed, connect=connect))
        for mint in mints:
            await cashu.issued((await cashu.issue(mint.url, FUNDS)).id)
        pair = Pair(cashu, mints, {mint.url: share for mint, share in zip(mints, SHARES, strict=True)})
        yield pair
        owed = [await mint.outstanding() - then for mint, then in zip(mints, before, strict=True)]
        assert await pair.owned() == owed


async def test_a_mint_that_pays_no_parts_is_not_asked_to(pair: Pair, mint: NutshellMint) -> None:
    here, _ = pair.mints
    with pytest.raises(RejectedError, match="does not pay parts"):
        await pair.cashu.melt_parts(await here.invoice(INVOICE), {here.url: 60_000, mint.url: 30_000})
    assert await pair.owned() == [FUNDS, FUNDS]


async def test_each_mint_pays_its_part(pair: Pair) -> None:
    melts = await pair.cashu.melt_parts(await pair.mints[0].invoice(INVOICE), pair.shares)
    paid = [await pair.cashu.paid(melt.id) for melt in melts]
    assert [part.amount for part in paid] == [60, 30]
    assert await pair.owned() == [FUNDS - part.amount - part.fee for part in paid]
    rows = [row async for row in pair.cashu.history() if row.operation == "cashu_melt"]
    assert sorted((row.mint, row.amount, row.state.value) for row in rows) == sorted(
        (mint.url, part.amount, "done") for mint, part in zip(pair.mints, paid, strict=True)
    )


async def test_parts_that_fail_give_their_coins_back(pair: Pair) -> None:
    """The payee gives all parts back when one is missing; each mint says so of its own."""
    for mint in pair.mints:
        await mint.set(fakewallet_pay_invoice_state="FAILED", fakewallet_payment_state="FAILED")
    melts = await pair.cashu.melt_parts(await pair.mints[0].invoice(INVOICE), pair.shares)
    for melt in melts:
        with pytest.raises(ActionFailedError, match="the payment failed"):
            await pair.cashu.paid(melt.id)
    assert await pair.owned() == [FUNDS, FUNDS]


async def test_a_part_that_is_pending_settles_with_the_others(pair: Pair) -> None:
    slow = pair.mints[1]
    await slow.set(fakewallet_pay_invoice_state="PENDING", fakewallet_payment_state="PENDING")
    first, second = await pair.cashu.melt_parts(await pair.mints[0].invoice(INVOICE), pair.shares)
    quick = await pair.cashu.paid(first.id)
    await slow.set(fakewallet_payment_state="SETTLED")
    late = await pair.cashu.paid(second.id)
    assert await pair.owned() == [FUNDS - part.amount - part.fee for part in (quick, late)]
