"""Two real processes drive one wallet file at a real mint, one of them killed and started again on the way."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from tests.integration.cashu_kit import Bank, Purse
from wallet_actions.coins import CoinState
from wallet_actions.outcome import Outcome
from wallet_actions.testing.nutshell import MintConfig, NutshellMint

pytestmark = pytest.mark.anyio

AMOUNT, PAID = 64, 10


@pytest.fixture
async def own_bank(tmp_path: Path) -> AsyncIterator[Bank]:
    """At a mint of its own: its books are counted to the last quote."""
    async with NutshellMint(MintConfig(input_fee_ppk=100)) as mint, Bank(mint, tmp_path) as bank:
        yield bank


class Process:
    """A wallet process; see `wallet_process`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[list[str]] = []

    @classmethod
    async def start(cls, purse: Purse, invoices: Sequence[str], lease_s: float = 30) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.wallet_process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        order = {
            "store": purse.store_url,
            "mint": purse.mint_url,
            "words": purse.words,
            "amount": AMOUNT,
            "lease_s": lease_s,
            "invoices": invoices,
        }
        assert process.stdin is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        await process.stdin.drain()
        return cls(process)

    async def until(self, *words: str, times: int = 1) -> None:
        """Read on until it has said a line that begins so, so many times."""
        assert self.process.stdout is not None
        while sum(line[: len(words)] == list(words) for line in self.lines) < times:
            line = await self.process.stdout.readline()
            assert line, "it ended too early"
            self.lines.append(line.decode().split())

    async def kill(self) -> None:
        self.process.kill()
        assert await self.process.wait() == -9

    async def end(self) -> None:
        stdout, stderr = await self.process.communicate()
        assert self.process.returncode == 0, stderr.decode()[-2000:]
        assert stdout.decode().split()[-1] == "closed"


async def test_two_processes_and_a_kill_lose_nothing_and_do_nothing_twice(own_bank: Bank) -> None:
    """G2, G3, G4, L-D15, L-S4: counted in the wallet's books, and in the mint's."""
    purse = await own_bank.purse()
    mint = own_bank.mint
    invoices = [await mint.invoice(PAID) for _ in range(9)]
    with anyio.fail_after(100):
        first = await Process.start(purse, invoices[:3])
        second = await Process.start(purse, invoices[3:6])
        await first.until("started", "cashu_melt", times=2)
        await first.kill()
        third = await Process.start(purse, invoices[6:])
        await second.end()
        await third.end()

    assert await purse.unfinished() == []
    facts = list((await purse.transactions()).values())
    ended = Counter((fact["operation"], fact["state"]) for fact in facts)
    assert ended == {("cashu_issue", "done"): 8, ("cashu_melt", "done"): 8}
    taken_in = sum(fact["amount"] for fact in facts if fact["operation"] == "cashu_issue")
    paid_out = sum(fact["amount"] + fact["fee"] for fact in facts if fact["operation"] == "cashu_melt")
    assert await purse.spendable() == taken_in - paid_out
    assert await purse.coins(CoinState.RESERVED) == []
    assert _quotes(mint) == {("mint", "ISSUED"): 8, ("melt", "PAID"): 8}
    # A look-up of one process that overtakes the request of another makes this mint sign a sat more or less.
    own_bank.slack = 8


async def test_a_process_takes_up_what_another_one_left(own_bank: Bank) -> None:
    """G3, L-D15: a kill while a payment is under way; the process that comes next goes on with it."""
    purse = await own_bank.purse()
    mint = own_bank.mint
    await mint.set(fakewallet_pay_invoice_state="PENDING", fakewallet_payment_state="PENDING")
    with anyio.fail_after(60):
        first = await Process.start(purse, [await mint.invoice(PAID)])
        await first.until("started", "cashu_melt")
        while not sum(keyset.pending for keyset in await mint.ledger()):
            await anyio.lowlevel.checkpoint()
        await first.kill()
        (key,) = await purse.unfinished()
        assert await purse.reserved() == AMOUNT
        await mint.reset()
        second = await Process.start(purse, [])
        await second.end()
    row = await purse.store.load(key)
    assert row is not None
    result = await purse.finish(purse.executor.registry.decode(row))  # unless it was due already
    assert result.outcome is Outcome.DONE
    assert result.result is not None
    # One for the coin, and one for the payment unless it was a look-up that settled it: which of the two comes first
    # is the mint's affair.
    assert result.result.fee in (1, 2)
    assert await purse.spendable() == AMOUNT - PAID - result.result.fee


def _quotes(mint: NutshellMint) -> Counter[tuple[str, str]]:
    """The mint's quotes that money moved for."""
    counts: Counter[tuple[str, str]] = Counter()
    with closing(sqlite3.connect(mint.log.parent / "mint" / "mint.sqlite3")) as database:
        for table, done in (("mint", "ISSUED"), ("melt", "PAID")):
            query = f"SELECT count(DISTINCT request) FROM {table}_quotes WHERE state = ?"
            counts[table, done] = database.execute(query, (done,)).fetchone()[0]
    return counts
