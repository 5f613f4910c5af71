"""One Cashu wallet and its workers on PostgreSQL, at a real mint: processes of their own, one of which is killed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import pytest

from tests.integration.cashu_kit import Bank
from tests.integration.test_cashu_two_processes import Process
from wallet_actions.cashu import Cashu
from wallet_actions.clock import SystemClock
from wallet_actions.coins import CoinState
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.testing.postgres import PostgresServer

pytestmark = pytest.mark.anyio

PAID = 10
LEASE = timedelta(seconds=1)


class HourAhead(SystemClock):
    def now(self) -> datetime:
        return super().now() + timedelta(hours=1)


@pytest.fixture
async def bank(mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(mint, tmp_path) as bank:
        yield bank


async def test_workers_that_share_a_wallet(bank: Bank, postgres_server: PostgresServer) -> None:
    """G2, G3, G4, L-C12, L-D15: no counter is used twice, no coin spent twice; what was left is taken over."""
    purse = await bank.purse(store_url=f"{postgres_server.url}?schema=cashu_workers")
    invoices = [await bank.mint.invoice(PAID) for _ in range(3)]
    async with AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(60))
        first = await Process.start(purse, invoices[:1], LEASE.total_seconds())
        second = await Process.start(purse, invoices[1:], LEASE.total_seconds())
        await first.until("started", "cashu_melt")
        await first.kill()
        clocks = (SystemClock(), HourAhead())
        one, two = [
            await stack.enter_async_context(Cashu(purse.store_url, purse.seed, lease=LEASE, clock=clock))
            for clock in clocks
        ]
        await second.end()
        await two.engine.recovered()
        ahead = two.wallet.clock.now() - one.wallet.clock.now()
        assert ahead < timedelta(minutes=30), "the fleet has one clock"
        for row in await purse.actions():  # also of the one that was killed: its lease lapses
            if row.kind == "cashu_melt":
                await one.paid(row.id)
        sends = [await wallet.send(purse.mint_url, 5) for wallet in (one, two, one, two)]
        for send, receiver in zip(sends, (two, one, one, two), strict=True):
            receive = await receiver.receive(await receiver.token(send.id))
            assert (await receiver.received(receive.id)).amount == 5
        for send in sends:
            two.engine.notify(type(send), send.id)
            await one.claimed(send.id)
        assert await purse.unfinished() == []
        assert {row.owner for row in await purse.actions()} == {None}
    facts = list((await purse.transactions()).values())
    assert {fact["state"] for fact in facts} == {"done"}
    issued = sum(fact["amount"] for fact in facts if fact["operation"] == "cashu_issue")
    paid = sum(fact["amount"] + fact["fee"] for fact in facts if fact["operation"] == "cashu_melt")
    assert len([fact for fact in facts if fact["operation"] == "cashu_melt"]) == 3
    assert await purse.spendable() == issued - paid
    assert await purse.coins(CoinState.RESERVED) == []
    # A look-up of one process that overtakes the request of another makes this mint sign a sat more or less.
    bank.slack = 8
