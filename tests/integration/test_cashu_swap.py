"""`Swap` at a real mint: fewer coins, given coins, and every fault on the way."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cashu_kit import CHECK, Bank, Purse, app
from wallet_actions.cashu import Exchanged, Swap
from wallet_actions.cashu.facts import transactions
from wallet_actions.cashu.proofs import Proof
from wallet_actions.cashu.swap_choice import MOST_COINS
from wallet_actions.coins import CoinState
from wallet_actions.errors import RejectedError, UsageError
from wallet_actions.outcome import Outcome
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions.testing.proxy import (
    Duplicate,
    Fault,
    FaultProxy,
    Kill,
    Late,
    LoseAnswer,
    Refuse,
    ResetBefore,
    Rule,
    StatusAfter,
)
from wallet_actions.testing.proxy import Status as Answer

pytestmark = pytest.mark.anyio

SWAP = r"^/v1/swap$"
JSON = (("content-type", "application/json"),)
REFUSAL = json.dumps({"detail": "try again", "code": 11000}).encode()
OWN_FAULT = json.dumps({"detail": "database is locked", "code": 0}).encode()
FAULTS: dict[str, Fault] = {
    "refused": Refuse(),
    "reset before": ResetBefore(),
    "answer lost": LoseAnswer(),
    "502": Answer(),
    "502 after": StatusAfter(),
    "400 of a proxy, after": StatusAfter(400),
    "403 of a proxy, after": StatusAfter(403),
    "refusal of the protocol": Answer(400, REFUSAL, JSON),
    "refusal of the protocol, after": StatusAfter(400, REFUSAL, JSON),
    "the mint's own fault": Answer(400, OWN_FAULT, JSON),
    "the mint's own fault, after": StatusAfter(400, OWN_FAULT, JSON),
    "late": Late(0.05),
    "duplicated, first answer": Duplicate("first"),
    "duplicated, second answer": Duplicate("second"),
}


@pytest.fixture
async def bank(mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(mint, tmp_path) as bank:
        yield bank


@pytest.fixture(scope="module")
async def module_mint() -> AsyncIterator[NutshellMint]:
    """With input fees, and keyset ids of version 1."""
    async with NutshellMint(MintConfig(input_fee_ppk=100, keyset_version=1)) as mint:
        yield mint


@pytest.fixture
async def fee_bank(module_mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(module_mint, tmp_path) as bank:
        yield bank


async def begun(purse: Purse, **wanted: Any) -> Swap:
    swap = await Swap.of(purse.wallet, purse.mint_url, **wanted)
    await purse.executor.start(swap, swap.opening)
    return swap


async def amounts(purse: Purse) -> list[int]:
    return sorted(coin.amount for coin in await purse.coins(CoinState.SPENDABLE))


@contextmanager
def pending_at(mint: NutshellMint, proofs: list[Proof]) -> Iterator[None]:
    """As a mint leaves coins that died after it took them in and before it signed."""
    columns = "amount, c, secret, y, id"
    with closing(sqlite3.connect(mint.log.parent / "mint" / "mint.sqlite3")) as database:
        with database:
            rows = [(proof.amount, proof.C, proof.secret, proof.y, proof.id) for proof in proofs]
            database.executemany(f"INSERT INTO proofs_pending ({columns}) VALUES (?, ?, ?, ?, ?)", rows)
        yield
        with database:
            database.executemany("DELETE FROM proofs_pending WHERE y = ?", [(proof.y,) for proof in proofs])


async def test_a_smooth_swap(bank: Bank) -> None:
    purse = await bank.purse()
    await purse.fund(7, 3)
    swap = await begun(purse)
    result = await purse.finish(swap)
    assert result.result == Exchanged(mint=purse.mint_url, unit="sat", amount=8, fee=0, coins=1)
    assert await amounts(purse) == [2, 8]
    assert await purse.story(swap) == ["start", "swap_requested", "done"]
    row = await purse.transaction(swap)
    assert {name: row[name] for name in ("operation", "amount", "fee", "state")} == {
        "operation": "cashu_swap",
        "amount": 8,
        "fee": 0,
        "state": "done",
    }
    with pytest.raises(RejectedError, match="nothing to swap"):
        await begun(purse)


async def test_it_costs_what_the_mint_says(fee_bank: Bank) -> None:
    purse = await fee_bank.purse()
    await purse.fund(64, 7, 3, 3)
    swap = await begun(purse)
    result = await purse.finish(swap)
    assert result.result == Exchanged(mint=purse.mint_url, unit="sat", amount=swap.input_total - 1, fee=1, coins=1)
    assert await purse.spendable() == 76
    split = await purse.finish(await begun(purse, denominations={1: 20, 16: 2}))
    assert isinstance(split.result, Exchanged)
    counts = Counter(await amounts(purse))
    assert (counts[1] >= 20, counts[16] >= 2) == (True, True)
    assert await purse.spendable() == 76 - split.result.fee


async def test_the_requests_of_a_smooth_swap(bank: Bank) -> None:
    """No request that the protocol does not need: which keysets are retired is asked for where it decides."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(63, 63)
        await purse.finish(await begun(purse, denominations=[2]))
        before = len(proxy.records)
        await purse.finish(await begun(purse, denominations={4: 2}))
        await purse.finish(await begun(purse))
        made = [f"{record.method} {record.path}" for record in proxy.records[before:]]
    assert made == ["POST /v1/swap", "GET /v1/keysets", "POST /v1/swap"]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_no_fault_makes_a_difference(bank: Bank, fault: Fault) -> None:
    """L-C6, L-C7, L-P2, L-S11."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(7, 3)
        swap = await begun(purse)
        pending = await purse.transaction(swap)
        proxy.use(Rule(fault, path=SWAP))
        result = await purse.finish(swap)
        assert (result.outcome, await amounts(purse)) == (Outcome.DONE, [2, 8])
        assert await purse.transaction(swap) == pending | {"state": "done"}
        assert len(await purse.transactions()) == 3


async def test_a_look_up_that_fails_too_only_takes_longer(bank: Bank) -> None:
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(7, 3)
        swap = await begun(purse)
        proxy.use(
            Rule(LoseAnswer(), path=SWAP),
            Rule(Answer(400, OWN_FAULT, JSON), path=CHECK),
            Rule(Answer(400, OWN_FAULT, JSON), path=CHECK, nth=2),
            Rule(Answer(), path=r"^/v1/restore$"),
        )
        result = await purse.finish(swap)
        assert (result.outcome, await amounts(purse)) == (Outcome.DONE, [2, 8])


async def test_the_mint_dies_with_the_answer_on_its_way(tmp_path: Path) -> None:
    async with NutshellMint() as mint, Bank(mint, tmp_path) as bank, FaultProxy(mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(7, 3)
        swap = await begun(purse)
        proxy.use(Rule(Kill(mint.kill), path=SWAP))
        for _ in range(3):
            assert (await purse.drive(swap)).outcome is Outcome.PARKED
        await mint.restart()
        assert (await purse.finish(swap)).outcome is Outcome.DONE
        assert await amounts(purse) == [2, 8]


async def test_coins_that_the_mint_holds_for_ever(bank: Bank) -> None:
    """L-C7, trap (2): stuck after an hour, the other coins usable, and freed when its operator frees them."""
    clock = FakeClock()
    purse = await bank.purse(clock=clock)
    await purse.fund(7, 3)
    swap = await begun(purse)
    inputs = list(await purse.wallet.proofs(swap.inputs))
    with pending_at(bank.mint, inputs[:2]):
        for _ in range(60):
            result = await purse.drive(swap)
            if result.outcome is not Outcome.PARKED:
                break
            assert result.wake_at is not None
            clock.set_wall(result.wake_at)
        assert result.outcome is Outcome.STUCK
        assert "stuck at the mint" in str(result.error)
        assert await purse.reserved() == 8
        await purse.fund(3, 3)
        other = await begun(purse)
        assert (await purse.finish(other)).outcome is Outcome.DONE
        await purse.operator.retry(swap.key)
        assert (await purse.drive(swap)).outcome is Outcome.STUCK
    await purse.operator.retry(swap.key)
    assert (await purse.finish(swap)).outcome is Outcome.DONE
    assert await purse.spendable() == 16


async def test_coins_that_were_spent_with_another_copy_of_the_wallet(bank: Bank) -> None:
    """L-C13: they are gone, the others are free, and what the copy has made of them is the copy's."""
    first = await bank.purse()
    await first.fund(7, 3)
    copy = first.path.with_name("copy.db")
    with closing(sqlite3.connect(first.path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    swap = await begun(first)
    second = await bank.purse(like=first, path=copy)
    taken = await begun(second, denominations=[1, 1, 1])
    assert (await second.finish(taken)).outcome is Outcome.DONE
    result = await first.finish(swap)
    gone = set(taken.inputs) & set(swap.inputs)
    assert gone
    assert result.outcome is Outcome.FAILED
    assert f"{len(gone)} of the coins had been spent elsewhere" in str(result.error)
    assert {coin.id for coin in await first.coins(CoinState.SPENT)} == gone


async def test_swaps_at_the_same_time_share_no_coins(bank: Bank) -> None:
    """L-C2: who loses the race for a coin chooses again."""
    purse = await bank.purse()
    await purse.fund(63)
    async with app(purse) as cashu:

        async def split() -> int:
            swap = await cashu.swap(purse.mint_url, denominations=[1])
            return (await cashu.swapped(swap.id)).amount

        await asyncio.gather(*(split() for _ in range(4)))
        gathered = await cashu.swap(purse.mint_url)
        await cashu.swapped(gathered.id)
        rows = [row async for row in transactions(purse.store) if row.operation == "cashu_swap"]
    assert len(rows) == 5
    assert {row.state for row in rows} == {"done"}
    assert await purse.spendable() == 63
    assert await amounts(purse) == [1, 2, 4, 8, 16, 32]


async def test_as_many_coins_as_go_into_a_request(bank: Bank) -> None:
    """A real mint takes that many, in and out; what is beyond is left and told."""
    purse = await bank.purse()
    await purse.fund(1023)
    with pytest.raises(UsageError, match=f"from 1 to {MOST_COINS} coins"):
        await begun(purse, denominations={1: MOST_COINS + 1})
    split = await purse.finish(await begun(purse, denominations={1: MOST_COINS}))
    assert split.outcome is Outcome.DONE
    count = len(await amounts(purse))
    assert count > MOST_COINS
    gathered = await purse.finish(await begun(purse))
    assert isinstance(gathered.result, Exchanged)
    assert gathered.result.left == count - MOST_COINS
    assert (await purse.finish(await begun(purse))).outcome is Outcome.DONE
    assert await amounts(purse) == [2**power for power in range(10)]
