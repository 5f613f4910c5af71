"""Locked coins, batches and watches at a real mint: what it judges is what we judge."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from coincurve import PrivateKey

from tests.integration.cashu_kit import plain
from wallet_actions.cashu.answers import SpendState, State
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.conditions import Condition, SigFlag, hash_lock, pay_to_key
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import MintError
from wallet_actions.cashu.keysets import Keyset
from wallet_actions.cashu.notify import Change, Topic, Watch, open_websocket
from wallet_actions.cashu.outputs import Output, locked_outputs_for, outputs_for, unblind_all
from wallet_actions.cashu.proofs import Proof
from wallet_actions.cashu.quotes import MintQuoteState, sign_mint_request
from wallet_actions.cashu.tokens import Token, decode_token, encode_token
from wallet_actions.cashu.witnesses import Keyring, Locked, cosign, unlock
from wallet_actions.testing.nutshell import NutshellMint

pytestmark = pytest.mark.anyio

KEYS = [bytes([number]) * 32 for number in range(1, 5)]
PUBKEYS = [PrivateKey(key).public_key.format().hex() for key in KEYS]
PREIMAGE = "07" * 32
DIGEST = hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest()
PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime(2100, 1, 1, tzinfo=UTC)


class Hand:
    """Coins at a mint, moved by hand."""

    def __init__(self, client: MintClient, keyset: Keyset) -> None:
        self.client = client
        self.keyset = keyset
        self.seed = Seed(hashlib.sha256(datetime.now(UTC).isoformat().encode()).digest())
        self.counter = 0

    @classmethod
    async def at(cls, client: MintClient) -> Hand:
        (info,) = [info for info in await client.keysets() if info.active and info.unit == "sat"]
        return cls(client, await client.keys(info))

    def outputs(self, amounts: Sequence[int]) -> tuple[Output, ...]:
        self.counter += len(amounts)
        return outputs_for(self.seed, self.keyset.id, self.counter - len(amounts), amounts)

    async def coins(self, amounts: Sequence[int]) -> tuple[Proof, ...]:
        quote = await self.client.create_mint_quote(sum(amounts), "sat")
        await self.client.mint_quote(quote.quote)
        outputs = self.outputs(amounts)
        signatures = await self.client.mint(quote.quote, [output.to_message() for output in outputs])
        return unblind_all(outputs, signatures, self.keyset)

    async def locked(self, condition: Condition, amounts: Sequence[int] = (2, 8)) -> tuple[Proof, ...]:
        """Coins that were locked, sent and received as a token."""
        salt = hashlib.sha256(str(self.counter).encode()).hexdigest()
        outputs = locked_outputs_for(self.seed, self.keyset.id, salt, amounts, condition)
        signatures = await self.client.swap(await self.coins(amounts), [output.to_message() for output in outputs])
        made = unblind_all(outputs, signatures, self.keyset)
        return decode_token(encode_token(Token(mint=self.client.url, unit="sat", memo=None, proofs=made))).proofs

    async def spend(self, coins: Sequence[Proof], keys: Keyring, **options: Any) -> tuple[Proof, ...]:
        outputs = self.outputs([coin.amount for coin in coins])
        messages = [output.to_message() for output in outputs]
        inputs = unlock(coins, keys, now=datetime.now(UTC), outputs=messages, **options)
        assert not isinstance(inputs, Locked), inputs
        return unblind_all(outputs, await self.client.swap(inputs, messages), self.keyset)


CASES: dict[str, tuple[Condition, list[int], list[str]]] = {
    "one key": (pay_to_key(PUBKEYS[0]), [0], []),
    "two of three": (pay_to_key(PUBKEYS[0], pubkeys=(PUBKEYS[1], PUBKEYS[2]), n_sigs=2), [0, 2], []),
    "refund": (pay_to_key(PUBKEYS[0], locktime=PAST, refund=(PUBKEYS[3],)), [3], []),
    "two refunds": (
        pay_to_key(PUBKEYS[0], locktime=PAST, refund=(PUBKEYS[3], PUBKEYS[2]), n_sigs_refund=2),
        [2, 3],
        [],
    ),
    "anybody": (pay_to_key(PUBKEYS[0], locktime=PAST), [], []),
    "before a refund": (pay_to_key(PUBKEYS[0], locktime=FUTURE, refund=(PUBKEYS[3],)), [0], []),
    "hash": (hash_lock(DIGEST), [], [PREIMAGE]),
    "hash and key": (hash_lock(DIGEST, pubkeys=(PUBKEYS[0],)), [0], [PREIMAGE]),
    "hash, refund": (hash_lock(DIGEST, pubkeys=(PUBKEYS[0],), locktime=PAST, refund=(PUBKEYS[3],)), [3], []),
    "hash, anybody": (hash_lock(DIGEST, pubkeys=(PUBKEYS[0],), locktime=PAST), [], []),
}


@pytest.mark.parametrize("flag", list(SigFlag))
@pytest.mark.parametrize(("condition", "numbers", "preimages"), CASES.values(), ids=CASES)
async def test_the_mint_accepts_what_unlocks(
    mint: NutshellMint, condition: Condition, numbers: list[int], preimages: list[str], flag: SigFlag
) -> None:
    condition = Condition.model_validate({**condition.model_dump(), "sigflag": flag})
    async with MintClient(mint.url, transport=plain()) as client:
        hand = await Hand.at(client)
        coins = await hand.locked(condition)
        if numbers or preimages:
            with pytest.raises(MintError):
                await client.swap(coins, [output.to_message() for output in hand.outputs([2, 8])])
        await hand.spend(coins, Keyring(KEYS[number] for number in numbers), preimages=preimages)
        assert set(await client.check([coin.y for coin in coins])) == {SpendState.SPENT}


@pytest.mark.parametrize("flag", list(SigFlag))
async def test_the_mint_accepts_what_several_have_signed(mint: NutshellMint, flag: SigFlag) -> None:
    condition = pay_to_key(PUBKEYS[0], pubkeys=(PUBKEYS[1],), n_sigs=2, sigflag=flag)
    async with MintClient(mint.url, transport=plain()) as client:
        hand = await Hand.at(client)
        coins = await hand.locked(condition)
        outputs = hand.outputs([2, 8])
        messages = [output.to_message() for output in outputs]
        halfway = cosign(coins, Keyring(KEYS[:1]), outputs=messages)
        with pytest.raises(MintError):
            await client.swap(halfway, messages)
        inputs = unlock(halfway, Keyring(KEYS[1:2]), now=datetime.now(UTC), outputs=messages)
        assert not isinstance(inputs, Locked)
        assert len(unblind_all(outputs, await client.swap(inputs, messages), hand.keyset)) == 2


async def test_the_mint_issues_several_quotes_at_once(mint: NutshellMint) -> None:
    """NUT-29 with NUT-20: one of the quotes is locked to a key."""
    async with MintClient(mint.url, transport=plain()) as client:
        hand = await Hand.at(client)
        assert (await client.info()).most_quotes > 1
        key = hand.seed.quote_key(0)
        locked = await client.create_mint_quote(5, "sat", pubkey=PrivateKey(key).public_key.format().hex())
        free = await client.create_mint_quote(3, "sat")
        quotes = await client.mint_quotes([locked.quote, free.quote])
        assert {quote.state for quote in quotes.values()} == {MintQuoteState.PAID}
        outputs = hand.outputs([8])
        messages = [output.to_message() for output in outputs]
        amounts = {locked.quote: 5, free.quote: 3}
        with pytest.raises(MintError):
            await client.mint_batch(amounts, messages)
        signature = sign_mint_request(locked.quote, messages, key)
        signatures = await client.mint_batch(amounts, messages, signatures={locked.quote: signature})
        assert unblind_all(outputs, signatures, hand.keyset)[0].amount == 8
        assert (await client.mint_quote(free.quote)).state is MintQuoteState.ISSUED


async def test_the_mint_tells_when_a_coin_is_spent(mint: NutshellMint) -> None:
    """NUT-17: over the websocket, long before the next poll."""
    async with MintClient(mint.url, transport=plain()) as client:
        hand = await Hand.at(client)
        coins = await hand.coins([2, 8])
        heard: list[Change] = []
        async with (
            asyncio.timeout(20),
            Watch(
                client, Topic.COINS, [coin.y for coin in coins], deadline=timedelta(hours=1), connect=open_websocket
            ) as watch,
        ):
            heard += [await anext(watch), await anext(watch)]
            while not watch._is_listening:  # noqa: ASYNC110 - the mint's answer sets no event
                await asyncio.sleep(0.01)
            polls_at_s = watch._poll_at_s
            await hand.spend(coins, Keyring())
            heard += [change async for change in watch]
            assert watch._poll_at_s == polls_at_s, "it was not asked again"
    spent = {change.Y for change in heard if isinstance(change, State) and change.state is SpendState.SPENT}
    assert spent == {coin.y for coin in coins}
    assert all(change.state is SpendState.UNSPENT for change in heard[:2])
