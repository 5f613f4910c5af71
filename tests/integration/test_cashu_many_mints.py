"""Several mints and several units in one wallet: accounts apart, coins never mixed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from mnemonic import Mnemonic

from tests.integration.cashu_kit import plain
from wallet_actions.cashu import Cashu, InsufficientFundsError, MintClient, Seed
from wallet_actions.cashu.facts import transactions
from wallet_actions.coins import Coin, CoinState
from wallet_actions.errors import RejectedError
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def usd_mint() -> AsyncIterator[NutshellMint]:
    """A second mint, with fees, that issues dollars too."""
    async with NutshellMint(MintConfig(input_fee_ppk=100, units=("sat", "usd"))) as mint:
        yield mint


@dataclass
class Household:
    """One wallet at two mints, and what they had outstanding before it came."""

    cashu: Cashu
    store: MemoryStore
    here: NutshellMint
    there: NutshellMint
    before: dict[tuple[str, str], int]

    async def fund(self, mint: NutshellMint, amount: int, unit: str = "sat") -> None:
        issue = await self.cashu.issue(mint.url, amount, unit)
        await self.cashu.issued(issue.id)

    async def owned(self) -> dict[tuple[str, str], int]:
        balances = await self.cashu.balances()
        assert all(balance.reserved == 0 for balance in balances)
        return {(balance.account, balance.unit): balance.spendable for balance in balances}

    async def by_port(self) -> Counter[tuple[str, str]]:
        """What is owned at each mint, under whatever address."""
        sums: Counter[tuple[str, str]] = Counter()
        for (url, unit), amount in (await self.owned()).items():
            sums[url.rpartition(":")[2], unit] += amount
        return sums

    async def outstanding(self) -> dict[tuple[str, str], int]:
        places = [(self.here, "sat"), (self.there, "sat"), (self.there, "usd")]
        books = {(mint.url, unit): await mint.outstanding(unit) for mint, unit in places}
        return {place: amount - self.before.get(place, 0) for place, amount in books.items()}

    async def coins(self, mint: NutshellMint, unit: str) -> list[Coin]:
        return list(await self.store.coins(account=mint.url, unit=unit, state=CoinState.SPENDABLE))


@pytest.fixture
async def household(mint: NutshellMint, usd_mint: NutshellMint) -> AsyncIterator[Household]:
    async with MemoryStore() as store:
        seed = Seed.from_mnemonic(Mnemonic("english").generate())
        connect = lambda url: MintClient(url, transport=plain())  # noqa: E731
        async with Cashu(store, seed, connect=connect, poll=None) as cashu:
            home = Household(cashu, store, mint, usd_mint, {})
            home.before = await home.outstanding()
            yield home
            assert await home.by_port() == {
                (url.rpartition(":")[2], unit): owed for (url, unit), owed in (await home.outstanding()).items() if owed
            }


async def test_each_mint_and_each_unit_is_an_account_of_its_own(household: Household) -> None:
    here, there = household.here, household.there
    await household.fund(here, 100)
    await household.fund(there, 40)
    await household.fund(there, 700, "usd")
    assert await household.owned() == {(here.url, "sat"): 100, (there.url, "sat"): 40, (there.url, "usd"): 700}
    assert [balance.spendable for balance in await household.cashu.balances(here.url)] == [100]

    with pytest.raises(InsufficientFundsError) as caught:
        await household.cashu.melt(there.url, await there.invoice(60))
    assert caught.value.available == 40, "there is enough elsewhere, and of another unit"

    melt = await household.cashu.melt(here.url, await here.invoice(10))
    await household.cashu.paid(melt.id)
    owned = await household.owned()
    assert owned == {(here.url, "sat"): 89, (there.url, "sat"): 40, (there.url, "usd"): 700}


async def test_a_swap_moves_the_coins_of_one_unit_of_one_mint(household: Household) -> None:
    here, there = household.here, household.there
    for mint, unit in ((here, "sat"), (there, "sat"), (there, "usd")):
        for amount in (7, 3, 3):
            await household.fund(mint, amount, unit)
    others = await household.coins(here, "sat") + await household.coins(there, "sat")
    swap = await household.cashu.swap(there.url, "usd")
    swapped = await household.cashu.swapped(swap.id)
    assert (swapped.unit, swapped.fee, swapped.mint) == ("usd", 1, there.url)
    assert await household.coins(here, "sat") + await household.coins(there, "sat") == others
    of_dollars = {json.loads(coin.payload)["id"] for coin in await household.coins(there, "usd")}
    of_sats = {json.loads(coin.payload)["id"] for coin in await household.coins(there, "sat")}
    assert not of_dollars & of_sats
    with pytest.raises(RejectedError, match="no keyset in use for the unit"):
        await household.cashu.swap(here.url, "usd")
    rows = [row async for row in transactions(household.store) if row.operation == "cashu_swap"]
    assert [(row.mint, row.unit, row.fee) for row in rows] == [(there.url, "usd", 1)]


async def test_a_rotation_of_one_unit_leaves_the_other_alone(household: Household) -> None:
    there = household.there
    for unit in ("sat", "usd"):
        await household.fund(there, 64, unit)
    await there.rotate_keyset(100, "usd")
    swap = await household.cashu.swap(there.url, "usd")
    assert (await household.cashu.swapped(swap.id)).amount == 63
    with pytest.raises(RejectedError, match="nothing to swap"):
        await household.cashu.swap(there.url, "sat")


async def test_dollars_pay_an_invoice_in_satoshi(household: Household) -> None:
    there = household.there
    await household.fund(there, 64, "usd")
    melt = await household.cashu.melt(there.url, await there.invoice(300), "usd")
    paid = await household.cashu.paid(melt.id)
    assert (melt.unit, paid.amount) == ("usd", melt.amount)
    assert (await household.owned())[there.url, "usd"] == 64 - paid.amount - paid.fee


async def test_one_mint_under_two_addresses_shares_its_counters_and_no_coins(household: Household) -> None:
    """L-C12: counters go by keyset, so that no secret is made twice; coins go by the address that they came from."""
    here = household.here
    other = here.url.replace("127.0.0.1", "localhost")
    for url in (here.url, other, here.url + "/", other):
        issue = await household.cashu.issue(url, 5)
        await household.cashu.issued(issue.id)
    assert await household.owned() == {(here.url, "sat"): 10, (other, "sat"): 10}
    for url in (here.url, other):
        swap = await household.cashu.swap(url, denominations=[1, 1, 1])
        await household.cashu.swapped(swap.id)
    assert (await household.outstanding())[here.url, "sat"] == 20
