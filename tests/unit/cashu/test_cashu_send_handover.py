"""Asking an app for a token, and for the token back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.cashu.fake_mint import URL, Json
from tests.unit.cashu.swap_mint import Bench, Sheet, SwapMint, dies_with
from tests.unit.cashu.test_cashu_send_steps import claim
from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.cashu import Cashu, Seed, Send, doubt
from wallet_actions.cashu.send import NOT_WORTH_IT
from wallet_actions.cashu.starting import TRIES
from wallet_actions.cashu.tokens import decode_token
from wallet_actions.checkpoint import Status
from wallet_actions.coins import CoinState
from wallet_actions.errors import NotFinishedError, RejectedError, ReservationError, UnknownActionError, UsageError
from wallet_actions.testing.clock import FakeClock
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with MemoryStore() as store:
        yield Bench(store, Sheet(1000, fee_ppk=100))


def app(bench: Bench) -> Cashu:
    """Time goes by as fast as everybody waits."""
    clock = FakeClock(bench.clock.now(), auto=True)
    return Cashu(bench.store, Seed.from_mnemonic(MNEMONIC), connect=bench.mint.client, clock=clock, poll=None)


async def test_a_token_is_the_same_text_each_time(bench: Bench) -> None:
    await bench.fund(64)
    async with app(bench) as cashu:
        send = await cashu.send(URL, 20)
        token = await cashu.token(send.id)
        assert await cashu.token(send.id) == token
        claim(bench, decode_token(token).proofs)
        assert (await cashu.claimed(send.id)).amount == 20
        assert await cashu.token(send.id) == token
        assert not await cashu.revoke(send.id)
        cashu.wallet.clock.set_wall(cashu.wallet.clock.now() + timedelta(days=1))  # type: ignore[attr-defined]
        assert await cashu.engine.operator.prune(timedelta(0))
        with pytest.raises(UsageError, match="pruned"):
            await cashu.token(send.id)
        assert (await cashu.claimed(send.id)).amount == 20


async def test_a_send_that_is_stuck_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """To whoever waits for its token, and to whoever wants it back."""
    monkeypatch.setattr(doubt, "PATIENCE", timedelta(seconds=3))
    await bench.fund(64)
    async with app(bench) as cashu:
        bench.mint.script = [dies_with(is_signed=False)]
        send = await cashu.send(URL, 20)
        for wait in (cashu.token, cashu.claimed):
            with pytest.raises(NotFinishedError, match="stuck at the mint") as caught:
                await wait(send.id)
            assert caught.value.status is Status.STUCK
        with pytest.raises(NotFinishedError):
            await cashu.revoke(send.id)


async def test_a_token_that_is_out_is_told_also_while_it_is_held_up(bench: Bench) -> None:
    await bench.fund(64)
    async with app(bench) as cashu:
        send = await cashu.send(URL, 20)
        token = await cashu.token(send.id)
        await cashu.engine.operator.pause(send.key)
        assert await cashu.token(send.id) == token
        with pytest.raises(NotFinishedError):
            await cashu.revoke(send.id)


async def test_what_is_not_worth_its_fee_is_left_where_it_is(bench: Bench) -> None:
    await bench.fund(1)
    async with app(bench) as cashu:
        send = await cashu.send(URL, 1)
        token = await cashu.token(send.id)
        with pytest.raises(RejectedError, match=NOT_WORTH_IT):
            await cashu.revoke(send.id)
        assert await cashu.token(send.id) == token


async def test_a_fee_that_grew_while_it_was_taken_back(bench: Bench) -> None:
    """It is out as before; whoever asks again hears why."""
    await bench.fund(64)
    sheet = bench.mint.sheets[0]

    def dearer(mint: SwapMint, body: Json) -> Json:
        sheet.id  # noqa: B018 it is what it was, whatever the fee
        sheet.fee_ppk = 50_000
        return mint.swap(body)

    async with app(bench) as cashu:
        send = await cashu.send(URL, 20)
        token = await cashu.token(send.id)
        bench.mint.script = [dearer]
        assert await cashu.revoke(send.id)
        assert await cashu.token(send.id) == token
        with pytest.raises(RejectedError, match=NOT_WORTH_IT):
            await cashu.revoke(send.id)


async def test_coins_that_are_always_taken_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """L-C2: other coins are chosen a number of times; then the app is told, and nothing is held."""
    await bench.fund(64)
    starts: list[Send] = []

    async def lose(send: Send, changes: Any) -> Any:
        starts.append(send)
        raise ReservationError(send.inputs)

    async with app(bench) as cashu:
        monkeypatch.setattr(cashu.engine, "start", lose)
        with pytest.raises(ReservationError):
            await cashu.send(URL, 20)
    assert len(starts) == TRIES
    assert len({send.id for send in starts}) == 1
    assert await bench.amounts(CoinState.RESERVED) == []


async def test_there_is_no_such_send(bench: Bench) -> None:
    async with app(bench) as cashu:
        for ask in (cashu.token, cashu.claimed, cashu.revoke):
            with pytest.raises(UnknownActionError):
                await ask("nobody's")
