"""Tokens, locks, seeds and quotes between this wallet and Nutshell's own, at a real mint, to the satoshi."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from mnemonic import Mnemonic

from tests.integration.cashu_kit import plain
from tests.integration.nutshell_wallet import Nutshell, NutshellError, NutshellWallet
from tests.integration.statement import history_faults
from tests.unit.cashu.vectors import V1_KEYSET_ID, V2_KEYSET_ID
from wallet_actions.cashu import Cashu, Issue, MintClient, Seed, Send, Sent, TokenReceivedError, TransactionState
from wallet_actions.cashu.conditions import SigFlag, hash_lock, pay_to_key
from wallet_actions.cashu.errors import TokenLockedError, TokenSpentError
from wallet_actions.cashu.tokens import TokenVersion, decode_token, inspect_token
from wallet_actions.checkpoint import Status
from wallet_actions.errors import ActionFailedError
from wallet_actions.testing.nutshell import NutshellMint

pytestmark = pytest.mark.anyio

PREIMAGE = "07" * 32
PATIENCE_S = 60
DIGEST = hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest()


@pytest.fixture(scope="module")
async def nutshell(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nutshell]:
    """One process for all of Nutshell's wallets: to start it takes as long as a test."""
    async with Nutshell.started(tmp_path_factory.mktemp("nutshell")) as nutshell:
        yield nutshell


@dataclass
class Meeting:
    """This wallet and Nutshell's at one mint, where nobody else is."""

    mint: NutshellMint
    nutshell: Nutshell
    folder: Path
    words: str
    ours: Cashu
    theirs: NutshellWallet

    @classmethod
    @asynccontextmanager
    async def at(cls, mint: NutshellMint, nutshell: Nutshell, folder: Path) -> AsyncIterator[Meeting]:
        """At the end both wallets together own what the mint has signed since: all tokens must be claimed by then."""
        theirs = await nutshell.shared(mint.url)
        before = await mint.outstanding() - await theirs.available()
        words = Mnemonic("english").generate()
        async with wallet(folder / "ours.db", words) as ours:
            meeting = cls(mint, nutshell, folder, words, ours, theirs)
            yield meeting
            assert sum(balance.reserved for balance in await ours.balances()) == 0
            assert await meeting.owned() + await meeting.theirs.available() == await mint.outstanding() - before
            assert await history_faults(ours.wallet.store) == []

    def fee(self, token: str) -> int:
        """What it costs to claim a token."""
        return (inspect_token(token).coins * self.mint.config.input_fee_ppk + 999) // 1000

    async def issue(self, amount: int) -> None:
        await self.ours.issued((await self.ours.issue(self.mint.url, amount)).id)

    async def send(self, amount: int, **options: Any) -> tuple[str, str]:
        """Its id, and the token."""
        send = await self.ours.send(self.mint.url, amount, **options)
        return send.id, await self.ours.token(send.id)

    async def claimed(self, id: str) -> Sent:
        self.ours.engine.notify(Send, id)
        with anyio.fail_after(PATIENCE_S):
            return await self.ours.claimed(id)

    async def receive(self, token: str, **options: Any) -> int:
        """What came in, by the action and by the balance."""
        before = await self.owned()
        with anyio.fail_after(PATIENCE_S):
            received = await self.ours.received((await self.ours.receive(token, **options)).id)
        assert await self.owned() == before + received.amount
        return received.amount

    async def owned(self) -> int:
        """What is free here."""
        return sum(balance.spendable for balance in await self.ours.balances())


def wallet(path: Path, words: str) -> Cashu:
    return Cashu(f"sqlite:///{path}", Seed.from_mnemonic(words), connect=lambda url: MintClient(url, transport=plain()))


@pytest.fixture(params=["free, v2 ids", "100 ppk, v1 ids"])
async def meeting(
    request: pytest.FixtureRequest,
    mint: NutshellMint,
    dear_mint: NutshellMint,
    nutshell: Nutshell,
    tmp_path: Path,
) -> AsyncIterator[Meeting]:
    async with Meeting.at(mint if request.param.startswith("free") else dear_mint, nutshell, tmp_path) as meeting:
        yield meeting


# From here to there.


@pytest.mark.parametrize("version", list(TokenVersion))
async def test_nutshell_takes_our_tokens(meeting: Meeting, version: TokenVersion) -> None:
    """It reads each field, verifies each DLEQ proof, and gains the amount less the fee, or all of it."""
    await meeting.issue(100)
    for memo, include_fee in (("for you ☕", False), (None, True)):
        sent, token = await meeting.send(21, memo=memo, version=version, include_fee=include_fee)
        fee = meeting.fee(token)
        amount = 21 + fee if include_fee else 21
        coins = inspect_token(token).coins
        assert await meeting.theirs.read(token) == {
            "mint": meeting.mint.url,
            "unit": "sat",
            "memo": memo,
            "amount": amount,
            "coins": coins,
            "verified": coins,
        }
        assert await meeting.theirs.receive(token) == amount - fee
        assert (await meeting.claimed(sent)).amount == 21


async def test_a_token_of_many_coins(meeting: Meeting) -> None:
    """Eleven coins cost 2 sat where an input costs a tenth of one."""
    await meeting.issue(100)
    await meeting.ours.swapped((await meeting.ours.swap(meeting.mint.url, denominations=[1] * 11)).id)
    sent, token = await meeting.send(await meeting.owned())
    assert inspect_token(token).coins > 11
    assert meeting.fee(token) == (2 if meeting.mint.config.input_fee_ppk else 0)
    assert await meeting.theirs.receive(token) == inspect_token(token).amount - meeting.fee(token)
    await meeting.claimed(sent)
    theirs = await meeting.theirs.tell()
    many = await meeting.theirs.send(theirs["available"], offline=True)
    assert inspect_token(many).coins == len(theirs["amounts"]) > 3
    assert await meeting.receive(many) == theirs["available"] - meeting.fee(many)


async def test_nutshell_unlocks_what_is_locked_to_its_key(meeting: Meeting) -> None:
    """Coin by coin, as a whole, and where its key is one of two."""
    await meeting.issue(100)
    key = meeting.theirs.pubkey
    either = pay_to_key(await meeting.ours.wallet.receiving_key(), pubkeys=(key,))
    for lock in (pay_to_key(key), pay_to_key(key, sigflag=SigFlag.SIG_ALL), either):
        sent, token = await meeting.send(21, condition=lock)
        assert inspect_token(token).coins == 3
        assert await meeting.theirs.receive(token) == 21 - meeting.fee(token)
        await meeting.claimed(sent)
    sent, token = await meeting.send(21, condition=either, version=TokenVersion.V3)
    assert await meeting.receive(token) == 21 - meeting.fee(token)
    await meeting.claimed(sent)


async def test_nutshell_opens_a_hash_of_ours(meeting: Meeting) -> None:
    """With the preimage, and with its key where one is named."""
    await meeting.issue(100)
    for lock in (hash_lock(DIGEST), hash_lock(DIGEST, pubkeys=(meeting.theirs.pubkey,))):
        sent, token = await meeting.send(21, condition=lock)
        with pytest.raises(NutshellError, match="preimage"):
            await meeting.theirs.receive(token)
        assert await meeting.theirs.receive(token, PREIMAGE) == 21 - meeting.fee(token)
        await meeting.claimed(sent)


async def test_tokens_that_nutshell_has_claimed(mint: NutshellMint, nutshell: Nutshell, tmp_path: Path) -> None:
    """A send of ours ends as claimed; we come too late for that one and for one of Nutshell's, and are told why."""
    async with Meeting.at(mint, nutshell, tmp_path) as meeting:
        await meeting.issue(100)
        await meeting.theirs.mint(30)
        sent, token = await meeting.send(21)
        taken_back = await meeting.theirs.send(9)
        for one in (token, taken_back):
            await meeting.theirs.receive(one)
        assert (await meeting.claimed(sent)).amount == 21
        receives = [await meeting.ours.receive(one) for one in (token, taken_back)]
        for receive in receives:
            with pytest.raises(ActionFailedError, match="the token has been spent already") as caught:
                await meeting.ours.received(receive.id)
            assert caught.value.status is Status.FAILED
            assert caught.value.error is not None
            assert caught.value.error.type.endswith(TokenSpentError.__name__)
        assert not await meeting.ours.revoke(sent)
        rows = {row.id: row.state async for row in meeting.ours.history()}
        assert rows[sent] is TransactionState.DONE
        assert {rows[receive.id] for receive in receives} == {TransactionState.FAILED}
        assert await meeting.owned() == 79


async def test_a_token_that_was_taken_back_is_none_for_nutshell(
    mint: NutshellMint, nutshell: Nutshell, tmp_path: Path
) -> None:
    async with Meeting.at(mint, nutshell, tmp_path) as meeting:
        await meeting.issue(100)
        sent, token = await meeting.send(21)
        assert await meeting.ours.revoke(sent)
        with pytest.raises(ActionFailedError) as caught:
            await meeting.ours.claimed(sent)
        assert caught.value.status is Status.CANCELLED
        with pytest.raises(NutshellError, match=r"(?i)spent"):
            await meeting.theirs.receive(token)


# From there to here.


@pytest.mark.parametrize("version", list(TokenVersion))
async def test_we_take_nutshells_tokens(meeting: Meeting, version: TokenVersion) -> None:
    """Chosen from what it has and made to measure, in either version, with DLEQ proofs and without, once."""
    await meeting.theirs.mint(100, split=[64, 16, 8, 8, 4])
    memo, is_legacy = "here you are ☕", version is TokenVersion.V3
    fitting = await meeting.theirs.send(20, offline=True, memo=memo, legacy=is_legacy)
    made = await meeting.theirs.send(21, include_dleq=True, include_fees=True, legacy=is_legacy)
    for token, memo_read, has_dleq in ((fitting, memo, False), (made, None, True)):
        keysets = await meeting.ours.wallet.mint(meeting.mint.url).listed(inspect_token(token).keyset_ids)
        read = decode_token(token, keysets)
        assert inspect_token(token).version is version
        assert {proof.dleq is not None for proof in read.proofs} == {has_dleq}
        assert await meeting.receive(token, mint=meeting.mint.url) == read.amount - meeting.fee(token)
        with pytest.raises(TokenReceivedError):
            await meeting.ours.receive(token)
        (row,) = await meeting.ours.latest(1)
        assert (row.memo, row.amount) == (memo_read, read.amount)


async def test_we_unlock_what_nutshell_locks_to_our_key(meeting: Meeting) -> None:
    """Coin by coin and as a whole, and only this wallet; Nutshell names a locktime too."""
    await meeting.theirs.mint(100)
    async with wallet(meeting.folder / "other.db", Mnemonic("english").generate()) as other:
        for kind, is_legacy in (("P2PK", True), ("P2PK-SIGALL", False)):
            key = await meeting.ours.wallet.receiving_key()
            token = await meeting.theirs.send(21, lock=f"{kind}:{key}", include_dleq=True, legacy=is_legacy)
            with pytest.raises(TokenLockedError, match="a key that this wallet does not have"):
                await other.receive(token)
            assert await meeting.receive(token) == 21 - meeting.fee(token)


async def test_we_open_a_hash_of_nutshells(meeting: Meeting) -> None:
    """With the preimage, and with our key where one is named."""
    await meeting.theirs.mint(100)
    for keys in (None, [await meeting.ours.wallet.receiving_key()]):
        token = await meeting.theirs.send_hashed(21, PREIMAGE, keys)
        with pytest.raises(TokenLockedError, match="preimage"):
            await meeting.ours.receive(token)
        assert await meeting.receive(token, preimages=[PREIMAGE]) == 21 - meeting.fee(token)


async def test_tokens_of_two_keysets(dear_mint: NutshellMint, nutshell: Nutshell, tmp_path: Path) -> None:
    """A token with coins of a keyset that the mint has retired, there and back."""
    async with Meeting.at(dear_mint, nutshell, tmp_path) as meeting:
        await meeting.issue(32)
        await meeting.theirs.mint(32, split=[16, 16])
        await dear_mint.rotate_keyset(input_fee_ppk=100)
        await meeting.issue(64)
        sent, token = await meeting.send(await meeting.owned())
        assert len(inspect_token(token).keyset_ids) == 2
        assert await meeting.theirs.receive(token) == 96 - meeting.fee(token)
        await meeting.claimed(sent)
        back = await meeting.theirs.send(await meeting.theirs.available(), offline=True)
        assert len(inspect_token(back).keyset_ids) == 2
        assert await meeting.receive(back) == inspect_token(back).amount - meeting.fee(back)


# Seeds.


async def test_nutshell_finds_what_our_words_own(meeting: Meeting) -> None:
    """After one of each operation; and each wallet goes on where the other one has used the words since (L-C12)."""
    await busy(meeting, meeting.ours)
    owned = await meeting.owned()
    heir = await meeting.nutshell.restored(meeting.mint.url, meeting.words)
    assert await heir.available() == owned
    seed = Seed.from_mnemonic(meeting.words)
    for keyset_id in (V1_KEYSET_ID, V2_KEYSET_ID, *(await heir.tell())["keysets"]):
        pairs = [seed.derive(keyset_id, counter) for counter in range(3)]
        assert await heir.secrets(keyset_id, 3) == [
            [digest(bytes.fromhex(pair.secret)), digest(pair.blinding_factor)] for pair in pairs
        ]
    assert await heir.mint(50) == owned + 50
    await meeting.issue(7)
    restored = await meeting.ours.restored((await meeting.ours.restore(meeting.mint.url)).id)
    assert restored.amounts == {"sat": 50}
    assert await meeting.owned() == owned + 50 + 7


async def test_we_find_what_nutshells_words_own(meeting: Meeting) -> None:
    """After one of each operation, in a wallet that can spend all of it and issue more."""
    mint, theirs = meeting.mint, await meeting.nutshell.wallet(meeting.mint.url)
    await theirs.mint(100)
    await theirs.mint(27)
    await theirs.melt(await mint.invoice(20))
    await meeting.receive(await theirs.send(13))
    sent, token = await meeting.send(5)
    await theirs.receive(token)
    await meeting.claimed(sent)
    owned = await theirs.available()
    async with wallet(meeting.folder / "heir.db", theirs.words) as heir:
        restored = await heir.restored((await heir.restore(mint.url)).id)
        assert restored.amounts == {"sat": owned}
        assert (restored.unread, restored.unusable, restored.pending) == ((), 0, {})
        send = await heir.send(mint.url, 40)
        token = await heir.token(send.id)
        assert await meeting.receive(token) == 40 - meeting.fee(token)
        heir.engine.notify(Send, send.id)
        await heir.claimed(send.id)
        await heir.issued((await heir.issue(mint.url, 9)).id)
        assert await history_faults(heir.wallet.store) == []
        left = sum(balance.spendable for balance in await heir.balances())
        send = await heir.send(mint.url, left)
        token = await heir.token(send.id)
        assert await meeting.receive(token) == left - meeting.fee(token)


# Quotes.


async def test_a_quote_that_we_locked_is_issued_to_us_alone(meeting: Meeting) -> None:
    """NUT-20: whoever learns of a quote that is paid cannot have its ecash."""
    issue = await Issue.of(meeting.ours.wallet, meeting.mint.url, 8)
    with pytest.raises(NutshellError, match=r"(?i)signature"):
        await meeting.theirs.mint_others(issue.quote.get_secret_value(), 8)
    await meeting.ours.engine.start(issue, issue.opening)
    assert (await meeting.ours.issued(issue.id)).amount == 8
    assert await meeting.owned() == 8


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def busy(meeting: Meeting, ours: Cashu) -> None:
    """One of each operation of ours, all of them ended."""
    mint = meeting.mint
    await meeting.issue(100)
    await meeting.issue(27)
    await ours.paid((await ours.melt(mint.url, await mint.invoice(20))).id)
    for options in ({}, {"condition": pay_to_key(meeting.theirs.pubkey)}):
        sent, token = await meeting.send(13, **options)
        await meeting.theirs.receive(token)
        await meeting.claimed(sent)
    await meeting.receive(await meeting.theirs.send(5))
    await ours.swapped((await ours.swap(mint.url, denominations=[1, 1, 2])).id)
