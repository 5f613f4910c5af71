"""`Issue` at a real mint: every way to the coins, and every fault on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.cashu_kit import Bank
from wallet_actions.outcome import Outcome
from wallet_actions.testing.nutshell import MintConfig, NutshellMint

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bank(mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(mint, tmp_path) as bank:
        yield bank


async def test_a_paid_quote_becomes_coins(bank: Bank) -> None:
    purse = await bank.purse()
    issue = await purse.issue(100)
    result = await purse.finish(issue)
    assert result.outcome is Outcome.DONE
    assert await purse.spendable() == 100
    assert await purse.story(issue) == ["start", "secrets_prepared", "mint_requested", "done"]
    assert sorted(coin.amount for coin in await purse.coins()) == [4, 32, 64]
    assert (await purse.transaction(issue))["state"] == "done"
