"""`Restore` at a real mint: from the mnemonic alone, after a crash anywhere, and in a wallet that is in use."""

from __future__ import annotations

import functools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mnemonic import Mnemonic

from tests.integration.cashu_kit import plain
from tests.integration.restore_worlds import RestoreWorld, restore
from tests.integration.statement import statement
from wallet_actions.cashu import Cashu, InsufficientFundsError, MintClient, Restored, Seed
from wallet_actions.cashu.answers import SpendState
from wallet_actions.cashu.wallet import counter_of
from wallet_actions.coins import CoinState
from wallet_actions.testing.life import CrashKind
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions.testing.sweep import IN_PROCESS, Course, sweep

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


def new_seed() -> Seed:
    return Seed.from_mnemonic(Mnemonic("english").generate())


def app(path: Path, seed: Seed) -> Cashu:
    return Cashu(f"sqlite:///{path}", seed, connect=lambda url: MintClient(url, transport=plain()))


async def owned(cashu: Cashu) -> int:
    """What is free; nothing may be held."""
    balances = await cashu.balances()
    assert sum(balance.reserved for balance in balances) == 0
    return sum(balance.spendable for balance in balances)


async def restored(cashu: Cashu, mint: NutshellMint) -> Restored:
    return await cashu.restored((await cashu.restore(mint.url)).id)


async def agrees(cashu: Cashu, mint: NutshellMint, amount: int) -> None:
    """The wallet owns just so much, the mint would take each of its coins, and the history says the same."""
    assert await owned(cashu) == amount
    coins = [coin.id for coin in await cashu.wallet.spendable(mint.url, "sat")]
    states = await cashu.wallet.mint(mint.url).client.check(coins)
    assert set(states) <= {SpendState.UNSPENT}
    assert statement([row async for row in cashu.history()]) == {(mint.url, "sat"): amount}


async def busy_life(cashu: Cashu, friend: Cashu, mint: NutshellMint) -> None:
    """One of each operation, all of them ended."""
    for amount in (100, 27):
        await cashu.issued((await cashu.issue(mint.url, amount)).id)
    await cashu.paid((await cashu.melt(mint.url, await mint.invoice(20))).id)
    sent = await cashu.send(mint.url, 13)
    received = await friend.receive(await cashu.token(sent.id))
    await friend.received(received.id)
    cashu.engine.notify(type(sent), sent.id)
    await cashu.claimed(sent.id)
    back = await friend.send(mint.url, 5)
    received = await cashu.receive(await friend.token(back.id))
    await cashu.received(received.id)
    swapped = await cashu.swap(mint.url, denominations=[1, 1, 2])
    await cashu.swapped(swapped.id)


@pytest.mark.parametrize(("fee_ppk", "version"), [(0, 1), (100, 2)])
async def test_from_the_mnemonic_alone(tmp_path: Path, fee_ppk: int, version: Literal[1, 2]) -> None:
    """To the satoshi, of keysets in use and retired ones; what comes next works, and a second restore adds nothing."""
    seed = new_seed()
    async with NutshellMint(MintConfig(input_fee_ppk=fee_ppk, keyset_version=version)) as mint:
        async with app(tmp_path / "lost.db", seed) as cashu, app(tmp_path / "friend.db", new_seed()) as friend:
            await cashu.issued((await cashu.issue(mint.url, 64)).id)
            await mint.rotate_keyset(input_fee_ppk=fee_ppk)
            await busy_life(cashu, friend, mint)
            amount = await owned(cashu)
            counters = await cashu.wallet.store.counters()
            await agrees(cashu, mint, amount)
        async with app(tmp_path / "new.db", seed) as cashu:
            found = await restored(cashu, mint)
            assert found.amounts == {"sat": amount}
            assert (found.unread, found.unusable, found.pending) == ((), 0, {})
            await agrees(cashu, mint, amount)
            following = await cashu.wallet.store.counters()
            (active,) = [keyset.id for keyset in await mint.ledger() if keyset.active and keyset.unit == "sat"]
            assert following[counter_of(active)] <= counters[counter_of(active)]
            await cashu.issued((await cashu.issue(mint.url, 9)).id)
            history = await cashu.wallet.store.list_actions(kinds={"cashu_issue"})
            assert history[0].version == 3, "its first outputs were refused: the counter was not past what was used"
            await cashu.paid((await cashu.melt(mint.url, await mint.invoice(50))).id)
            amount = await owned(cashu)
            await agrees(cashu, mint, amount)
            assert (await restored(cashu, mint)).amounts == {}
            await agrees(cashu, mint, amount)


async def test_crashes_and_faults_lose_nothing(mint: NutshellMint, monkeypatch: pytest.MonkeyPatch) -> None:
    """L-S1, L-C12: amounts, counters, rows and results are those of a run in peace."""
    monkeypatch.setattr("wallet_actions.cashu.restore.MOST_EMPTY_IF_USED", 1)
    courses: list[Course] = []
    make: Any = restore
    report = await sweep(
        make,
        functools.partial(RestoreWorld, mint=mint),
        crashes=IN_PROCESS,
        sample=8,
        seed=7,
        on_case=courses.append,
    )
    assert report.is_ok, report
    assert any(len(course.case.plans) == 2 and course.lives[1].is_over for course in courses), "no double crash"
    assert any(plan.fault_at for course in courses for plan in course.case.plans), "no fault"


async def test_kills_lose_nothing(mint: NutshellMint) -> None:
    """L-S1: the process is killed with SIGKILL."""
    courses: list[Course] = []
    make: Any = restore
    report = await sweep(
        make,
        functools.partial(RestoreWorld, mint=mint),
        crashes=[CrashKind.SIGKILL],
        has_pairs=False,
        has_faults=False,
        has_incidents=False,
        sample=2,
        seed=7,
        on_case=courses.append,
    )
    assert report.is_ok, report
    assert all(course.lives[0].is_over for course in courses)


async def test_an_old_seed_that_is_used_before_it_is_restored(mint: NutshellMint, tmp_path: Path) -> None:
    """Several issues at once meet counters that are used (11003), and skip them without leaving a long row unused."""
    seed = new_seed()
    async with app(tmp_path / "lost.db", seed) as cashu:
        for amount in (255, 255, 255, 127):
            await cashu.issued((await cashu.issue(mint.url, amount)).id)
    async with app(tmp_path / "new.db", seed) as cashu:
        issues = [await cashu.issue(mint.url, 7) for _ in range(5)]
        for issue in issues:
            await cashu.issued(issue.id)
        (used,) = [value for name, value in (await cashu.wallet.store.counters()).items() if name.startswith("cashu/")]
        assert used < 31 + 2 * 5 * 3 + 30, "the issues skipped on top of each other"
        assert await owned(cashu) == 35
        assert (await restored(cashu, mint)).amounts == {"sat": 892}
        await agrees(cashu, mint, 892 + 35)
    async with app(tmp_path / "newest.db", seed) as cashu:
        assert (await restored(cashu, mint)).amounts == {"sat": 892 + 35}


@asynccontextmanager
async def restoring_all_the_time(cashu: Cashu, mint: NutshellMint, found: list[Restored]) -> AsyncIterator[None]:
    done = anyio.Event()

    async def again() -> None:
        while not done.is_set():
            found.append(await restored(cashu, mint))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(again)
        yield
        done.set()


async def test_in_a_wallet_that_another_process_uses(
    mint: NutshellMint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is under way is left alone: every token that was handed out is good, and no coin is counted twice."""
    monkeypatch.setattr("wallet_actions.cashu.restore.MOST_EMPTY_IF_USED", 1)
    seed, chance = new_seed(), random.Random(3)
    found: list[Restored] = []
    async with (
        app(tmp_path / "wallet.db", seed) as cashu,
        app(tmp_path / "wallet.db", seed) as other,
        app(tmp_path / "friend.db", new_seed()) as friend,
    ):
        await cashu.issued((await cashu.issue(mint.url, 500)).id)
        tokens: list[str] = []

        async def operate() -> None:
            match chance.randrange(4):
                case 0:
                    await cashu.issued((await cashu.issue(mint.url, chance.randint(1, 60))).id)
                case 1:
                    await cashu.paid((await cashu.melt(mint.url, await mint.invoice(chance.randint(1, 20)))).id)
                case _:
                    sent = await cashu.send(mint.url, chance.randint(1, 20))
                    tokens.append(await cashu.token(sent.id))

        async with restoring_all_the_time(other, mint, found):
            for _ in range(8):
                async with anyio.create_task_group() as tasks:
                    for _ in range(3):
                        tasks.start_soon(operate)
        for token in tokens:
            await friend.received((await friend.receive(token)).id)
        for row in await cashu.wallet.store.list_actions(kinds={"cashu_send"}, limit=1000):
            await cashu.claimed(row.id)
        assert len(found) > 3
        assert all(one.amounts == {} for one in found), "coins of actions under way were taken for lost ones"
        amount = await owned(cashu)
        await agrees(cashu, mint, amount)
        assert (await restored(other, mint)).amounts == {}
        assert not await cashu.wallet.store.coins(state=CoinState.RESERVED)
        with pytest.raises(InsufficientFundsError):
            await cashu.send(mint.url, amount + 1)
