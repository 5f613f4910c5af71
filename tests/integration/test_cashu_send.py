"""`Send` at a real mint: tokens with and without a swap, claimed, asked back, and every fault on the way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.integration.cashu_giver import Giver
from tests.integration.cashu_kit import Bank, Purse, app
from wallet_actions.cashu import Cashu, InsufficientFundsError, Receive, Send, Sent, notify
from wallet_actions.cashu import send as sending_action
from wallet_actions.cashu.conditions import Condition, SigFlag, hash_lock, pay_to_key
from wallet_actions.cashu.notify import Socket, open_websocket
from wallet_actions.cashu.tokens import TokenVersion, decode_token
from wallet_actions.checkpoint import Status
from wallet_actions.errors import ActionFailedError, RejectedError, UnknownActionError, UsageError
from wallet_actions.outcome import Outcome
from wallet_actions.testing.nutshell import NutshellMint
from wallet_actions.testing.proxy import Duplicate, Fault, FaultProxy, Kill, LoseAnswer, ResetBefore, Rule, StatusAfter

pytestmark = pytest.mark.anyio

SWAP = r"^/v1/swap$"
PREIMAGE = "07" * 32
DIGEST = hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest()
FAULTS: dict[str, Fault] = {
    "reset before": ResetBefore(),
    "answer lost": LoseAnswer(),
    "502 after": StatusAfter(),
    "400 of a proxy, after": StatusAfter(400),
    "duplicated, second answer": Duplicate("second"),
}


@pytest.fixture(params=["free", "100 ppk"])
async def bank(
    request: pytest.FixtureRequest, mint: NutshellMint, dear_mint: NutshellMint, tmp_path: Path
) -> AsyncIterator[Bank]:
    async with Bank(mint if request.param == "free" else dear_mint, tmp_path) as bank:
        yield bank


@pytest.fixture
async def dear_bank(dear_mint: NutshellMint, tmp_path: Path) -> AsyncIterator[Bank]:
    async with Bank(dear_mint, tmp_path) as bank:
        yield bank


def fee_of(bank: Bank, coins: int) -> int:
    return (bank.mint.config.input_fee_ppk * coins + 999) // 1000


async def start(purse: Purse, amount: int, **options: Any) -> Send:
    send = await Send.of(purse.wallet, purse.mint_url, amount, **options)
    await purse.executor.start(send, send.opening)
    return send


async def handed_out(purse: Purse, send: Send, *, tries: int = 20) -> str:
    """The token, once it exists."""
    for _ in range(tries):
        if (await purse.row(send)).phase == "token_created":
            break
        assert (await purse.drive(send)).outcome is Outcome.PARKED
    action = purse.executor.registry.decode(await purse.row(send))
    assert isinstance(action, Send)
    assert action.token is not None
    return action.token


async def receive(purse: Purse, token: str, **options: Any) -> int:
    """What another wallet gets for a token."""
    before = await purse.spendable()
    action = await Receive.of(purse.wallet, token, **options)
    await purse.executor.start(action, action.opening)
    assert (await purse.finish(action)).outcome is Outcome.DONE
    return await purse.spendable() - before


async def test_it_is_as_cheap_as_it_can_be(bank: Bank) -> None:
    """Coins that fit: no request at all. Otherwise one swap, and nothing beside it."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(64, 16 + 4)
        asked = len(proxy.records)
        await purse.drive(await start(purse, 20))
        assert [record.path for record in proxy.records[asked:]] == []
        await purse.drive(await start(purse, 3))
        assert [record.path for record in proxy.records[asked:]] == ["/v1/swap"]


@pytest.mark.parametrize(
    ("lock", "version"),
    [
        ("open", TokenVersion.V3),
        ("open", TokenVersion.V4),
        ("P2PK", TokenVersion.V3),
        ("P2PK, whole", TokenVersion.V4),
        ("HTLC", TokenVersion.V4),
    ],
)
async def test_another_wallet_takes_it(bank: Bank, lock: str, version: TokenVersion) -> None:
    """The change is right to the satoshi on both sides, and the row tells what it cost."""
    sender, payee = await bank.purse(), await bank.purse()
    await sender.fund(64)
    key = await payee.wallet.receiving_key()
    conditions: dict[str, Condition | None] = {
        "open": None,
        "P2PK": pay_to_key(key),
        "P2PK, whole": pay_to_key(key, sigflag=SigFlag.SIG_ALL),
        "HTLC": hash_lock(DIGEST, pubkeys=(key,)),
    }
    condition = conditions[lock]
    send = await start(sender, 22, memo="for the ☕", condition=condition, version=version)
    token = await handed_out(sender, send)
    assert token.startswith(f"cashu{version}")
    assert decode_token(token).memo == "for the ☕"
    cost = fee_of(bank, 1)
    assert await sender.spendable() == 64 - 22 - cost
    assert await receive(payee, token, preimages=[PREIMAGE] if lock == "HTLC" else []) == 22 - fee_of(bank, 3)
    result = await sender.drive(send)
    assert result.result == Sent(mint=bank.mint.url, unit="sat", amount=22, fee=cost)
    row = await sender.transaction(send)
    assert (row["state"], row["amount"], row["fee"], row["memo"]) == ("done", 22, cost, "for the ☕")
    assert row.get("counterpart") == (None if condition is None else condition.data)


async def test_the_payee_gets_the_whole_amount_where_the_fee_is_included(bank: Bank) -> None:
    sender, payee = await bank.purse(), await bank.purse()
    await sender.fund(64)
    send = await start(sender, 23, include_fee=True)
    token = await handed_out(sender, send)
    assert await receive(payee, token) == 23
    assert (await sender.finish(send)).outcome is Outcome.DONE
    assert await sender.spendable() == 64 - 23 - (await sender.transaction(send))["fee"]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_fault_of_the_swap_changes_nothing(bank: Bank, fault: Fault) -> None:
    """L-P2, L-C6, L-S11: one token, the same row as without, and nothing lost."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(64)
        proxy.use(Rule(fault, path=SWAP))
        send = await start(purse, 20)
        token = await handed_out(purse, send)
        assert decode_token(token).amount == 20
        cost = fee_of(bank, 1)
        assert (await purse.transaction(send))["fee"] == cost
        assert (await purse.spendable(), await purse.reserved()) == (44 - cost, 20)
        proxy.use(Rule(fault, path=SWAP))
        await purse.operator.request_cancel(send.key)
        assert (await purse.finish(send)).outcome is Outcome.FAILED
    assert (await purse.row(send)).status is Status.CANCELLED
    assert await purse.spendable() == 64 - 2 * cost
    row = await purse.transaction(send)
    assert (row["state"], row["fee"]) == ("revoked", 2 * cost)


@pytest.mark.parametrize("at", ["before", "answered"])
async def test_the_keyset_is_rotated_while_it_is_under_way(bank: Bank, at: Any) -> None:
    """Before: others are made. After: the answer was lost, and what was signed is found."""
    async with FaultProxy(bank.mint.url) as proxy:
        purse = await bank.purse(url=proxy.url)
        await purse.fund(64)
        newer: list[str] = []

        async def rotate() -> None:
            newer.append(await bank.mint.rotate_keyset(input_fee_ppk=bank.mint.config.input_fee_ppk))

        proxy.use(Rule(Kill(rotate, at=at), path=SWAP))
        send = await start(purse, 20)
        token = decode_token(await handed_out(purse, send))
        assert ({proof.id for proof in token.proofs} == set(newer)) is (at == "before")
        assert (await purse.spendable(), await purse.reserved()) == (44 - fee_of(bank, 1), 20)


async def test_counters_that_were_used_before(dear_bank: Bank) -> None:
    """L-C12: another file of the same seed, which knows nothing of the first one's counters."""
    first = await dear_bank.purse()
    second = await dear_bank.purse(like=first)
    await second.fund(8)
    await first.fund(64)
    send = await start(second, 5)
    token = decode_token(await handed_out(second, send))
    assert token.amount == 5
    assert "token_created" in (await second.row(send)).phase


async def test_coins_that_another_file_of_the_seed_has_spent(dear_bank: Bank) -> None:
    async with Giver.at(dear_bank.mint) as giver:
        purse = await dear_bank.purse()
        await purse.fund(16 + 64)
        send = await start(purse, 70)
        spent = next(proof for proof in await purse.wallet.proofs(send.inputs) if proof.amount == 16)
        await giver.spend([spent])
        result = await purse.finish(send)
        assert result.outcome is Outcome.FAILED
        assert "1 of the coins had been spent elsewhere" in str(result.error)
        assert await purse.spendable() == 64
        dear_bank.slack = 16


async def test_two_drivers_on_one_file(dear_bank: Bank) -> None:
    """G2, L-S4: every step of every one is raced, up to the token and back again."""
    first = await dear_bank.purse()
    await first.fund(32, 32, 32)
    second = await dear_bank.purse(like=first, path=first.path)
    sends = [await start(purse, 10) for purse in (first, second, first)]

    async def drive(purse: Purse, send: Send) -> None:
        for _ in range(10):
            await purse.drive(send)

    async with anyio.create_task_group() as tasks:
        for send in sends:
            tasks.start_soon(drive, first, send)
            tasks.start_soon(drive, second, send)
    assert len({coin for send in sends for coin in send.inputs}) == 3
    assert await first.reserved() == 30
    tokens = [decode_token(await handed_out(first, send)) for send in sends]
    assert len({proof.y for token in tokens for proof in token.proofs}) == sum(len(token.proofs) for token in tokens)
    for send in sends:
        await first.operator.request_cancel(send.key)
    async with anyio.create_task_group() as tasks:
        for send in sends:
            tasks.start_soon(drive, first, send)
            tasks.start_soon(drive, second, send)
    assert {(await first.row(send)).status for send in sends} == {Status.CANCELLED}
    assert await first.spendable() == 96 - 3 * 2 * fee_of(dear_bank, 1)


# As an app does it


async def test_an_app_sends_and_is_told(dear_bank: Bank) -> None:
    sender, payee = await dear_bank.purse(), await dear_bank.purse()
    await sender.fund(64)
    async with app(sender) as cashu:
        send = await cashu.send(dear_bank.mint.url, 20, memo="hello")
        assert await sender.reserved() > 0, "durable, with its coins, when it returns"
        token = await cashu.token(send.id)
        assert await cashu.token(send.id) == token
        await receive(payee, token)
        sent = await cashu.claimed(send.id)
        assert (sent.amount, sent.fee) == (20, fee_of(dear_bank, 1))
        assert await cashu.token(send.id) == token
        assert not await cashu.revoke(send.id), "it has ended"
        with pytest.raises(UnknownActionError):
            await cashu.token("nobody's")
        with pytest.raises(UnknownActionError):
            await cashu.revoke("nobody's")
        with pytest.raises(UsageError):
            await cashu.send(dear_bank.mint.url, 0)
        with pytest.raises(InsufficientFundsError):
            await cashu.send(dear_bank.mint.url, 1000)
    assert len(await sender.transactions()) == 2


async def test_an_app_asks_for_it_back(dear_bank: Bank) -> None:
    purse, payee = await dear_bank.purse(), await dear_bank.purse()
    await purse.fund(64, 16)
    async with app(purse) as cashu:
        send = await cashu.send(dear_bank.mint.url, 20)
        await cashu.token(send.id)
        assert await cashu.revoke(send.id)
        with pytest.raises(ActionFailedError, match="taken back") as caught:
            await cashu.claimed(send.id)
        assert caught.value.status is Status.CANCELLED
        with pytest.raises(ActionFailedError, match="taken back"):
            await cashu.token(send.id)
        claimed = await cashu.send(dear_bank.mint.url, 5)
        await receive(payee, await cashu.token(claimed.id))
        assert not await cashu.revoke(claimed.id)
        assert (await cashu.claimed(claimed.id)).amount == 5
        locked = await cashu.send(dear_bank.mint.url, 5, condition=pay_to_key(await payee.wallet.receiving_key()))
        token = await cashu.token(locked.id)
        with pytest.raises(RejectedError, match="locked to a key that this wallet does not have"):
            await cashu.revoke(locked.id)
        await receive(payee, token)
        assert (await cashu.claimed(locked.id)).amount == 5
    states = [row["state"] for row in (await purse.transactions()).values() if row["operation"] == "cashu_send"]
    assert states == ["revoked", "done", "done"]


async def test_sends_at_once_choose_other_coins(dear_bank: Bank) -> None:
    """L-C2: whoever loses the first choice chooses again; no coin is shared."""
    purse = await dear_bank.purse()
    await purse.fund(*[32] * 5)
    sends: list[Send] = []
    async with app(purse) as cashu:

        async def send() -> None:
            sends.append(await cashu.send(dear_bank.mint.url, 20))
            await cashu.token(sends[-1].id)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(send)
    assert len({coin for one in sends for coin in one.inputs}) == 5
    assert (await purse.spendable(), await purse.reserved()) == (5 * (12 - fee_of(dear_bank, 1)), 100)


async def test_a_claim_is_noticed_by_itself(dear_bank: Bank) -> None:
    """By its own look-ups, the first of which come every second."""
    sender, payee = await dear_bank.purse(), await dear_bank.purse()
    await sender.fund(16 + 4)
    async with app(sender) as cashu:
        send = await cashu.send(dear_bank.mint.url, 20)
        await receive(payee, await cashu.token(send.id))
        with anyio.fail_after(20):
            await cashu.claimed(send.id)


async def test_a_claim_is_heard_over_the_websocket(dear_bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """NUT-17, and the next look of its own is an hour away."""
    listening = asyncio.Event()

    @asynccontextmanager
    async def connect(url: str) -> AsyncIterator[Socket]:
        async with open_websocket(url) as socket:
            yield Listening(socket, listening)

    monkeypatch.setattr(notify, "open_websocket", connect)
    monkeypatch.setattr(sending_action, "SHORTEST_POLL", timedelta(hours=1))
    sender, payee = await dear_bank.purse(), await dear_bank.purse()
    await sender.fund(64)
    tasks = asyncio.all_tasks()
    async with Cashu(sender.store, sender.seed, poll=None, watch=True) as cashu:
        send = await cashu.send(dear_bank.mint.url, 20)
        token = await cashu.token(send.id)
        with anyio.fail_after(30):
            await listening.wait()
            await receive(payee, token)
            assert (await cashu.claimed(send.id)).amount == 20
    assert asyncio.all_tasks() == tasks


@dataclass
class Listening:
    """A socket that says when the mint has taken the subscription."""

    socket: Socket
    event: asyncio.Event

    async def send(self, text: str) -> None:
        await self.socket.send(text)

    async def receive(self) -> str:
        message = await self.socket.receive()
        self.event.set()
        return message
