"""Whether a token is one to take, before anything is written.

All that can be told without spending it is told here: whose it is, whether its coins are in the form of the protocol
and of the mint's keysets, whether the mint did sign them, whether this wallet can unlock them, and whether they are
worth more than it costs to take them. Whether they are unspent only the swap finds out.

A coin may carry a DLEQ proof (NUT-12). One that does not hold is refused: the coin was tampered with, or its signature
is by another key than everybody's. A coin without one is taken: the swap is the proof then, since the mint spends no
coin that it did not sign, and what comes out of it carries proofs of its own. What such a coin cannot rule out is that
the mint marked it to know it again; the swap tells the mint no more than that somebody has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from wallet_actions.cashu.amounts import split
from wallet_actions.cashu.coin_selection import MOST_INPUTS
from wallet_actions.cashu.conditions import Lock, lock_of
from wallet_actions.cashu.errors import TokenLockedError, TokenRefusedError
from wallet_actions.cashu.exchange import fee_for
from wallet_actions.cashu.mint import Mint
from wallet_actions.cashu.proofs import BlindedMessage, Proof
from wallet_actions.cashu.sending import MAX_MEMO_CHARS
from wallet_actions.cashu.tokens import Token, decode_token, inspect_token
from wallet_actions.cashu.transport import normalize_mint_url
from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.cashu.witnesses import Keyring, Locked, unlock
from wallet_actions.coins import CoinState

SENDING: Final = "cashu_send"
BREATH: Final = 32
"""After how many coins others get a turn: a stranger decides how many there are."""


@dataclass(frozen=True, slots=True)
class Acceptable:
    """A token that may be taken.

    Attributes:
        mint: its URL, in the form that names its account.
        memo: the sender's words, cut short where there are too many.
        proofs: without DLEQ proofs, which have been checked; with the witnesses that came along.
        preimages: the given ones that open one of the coins.
    """

    mint: str
    unit: str
    memo: str | None
    proofs: tuple[Proof, ...] = field(repr=False)
    preimages: tuple[str, ...] = field(repr=False)


async def acceptable(
    wallet: CashuWallet, text: str, *, mint_url: str | None = None, preimages: Collection[str] = ()
) -> Acceptable:
    """Look whether a token can be taken. Nothing is written.

    Args:
        text: as it was received.
        mint_url: refuse a token of any other mint, before anybody is asked.
        preimages: to open hashes with, 64 hex characters each.

    Raises:
        MalformedError: not a token, or one that breaks the protocol; one sentence, with nothing of the token in it.
        TokenRefusedError: of another mint, with a DLEQ proof that does not hold, of too many coins, worth no more than
            its fee, or of coins that this wallet has.
        TokenLockedError: its coins cannot be unlocked, or not yet.
        RejectedError: its mint has no keyset in use for its unit.
        UsageError: `mint_url` is not a mint's address, or the mint's coins do not make up the amount.
        TransientError: its mint did not answer.
    """
    summary = inspect_token(text)
    if mint_url is not None and (wanted := normalize_mint_url(mint_url)) != summary.mint:
        raise TokenRefusedError(f"the token is of the mint {summary.mint}, not of {wanted}")
    if summary.coins > MOST_INPUTS:
        raise TokenRefusedError(f"a token of more than {MOST_INPUTS} coins: ask the sender for smaller ones")
    mint = wallet.mint(summary.mint)
    token = decode_token(text, await mint.listed(summary.keyset_ids))
    locks = [lock_of(proof.secret) for proof in token.proofs]
    fitting = tuple(sorted({known.lower() for known in preimages if _opens(known, locks)}))
    await _require_not_ours(wallet, token)
    await _require_genuine(mint, token)
    await _require_open(wallet, token, fitting)
    await _require_worth(wallet, mint, token)
    proofs = tuple(
        Proof(amount=proof.amount, id=proof.id, secret=proof.secret, C=proof.C, witness=proof.witness if lock else None)
        for proof, lock in zip(token.proofs, locks, strict=True)
    )
    memo = None if token.memo is None else token.memo[:MAX_MEMO_CHARS]
    return Acceptable(mint=mint.url, unit=token.unit, memo=memo, proofs=proofs, preimages=fitting)


async def unlocked(
    wallet: CashuWallet, proofs: Sequence[Proof], preimages: Collection[str], outputs: Sequence[BlindedMessage] = ()
) -> tuple[Proof, ...] | Locked:
    """Put witnesses beside coins with the keys of the wallet; see `unlock`."""
    is_locked = any(lock_of(proof.secret) is not None for proof in proofs)
    keys = await wallet.keyring() if is_locked else Keyring()
    now = wallet.clock.now()
    if any(proof.witness for proof in proofs):  # full of signatures by others, as many as a stranger liked
        return await asyncio.to_thread(unlock, proofs, keys, now=now, preimages=preimages, outputs=outputs)
    return unlock(proofs, keys, now=now, preimages=preimages, outputs=outputs)


def named_keys(proofs: Sequence[Proof]) -> set[str]:
    """All public keys that the conditions of some coins name."""
    conditions = [lock.condition for proof in proofs if (lock := lock_of(proof.secret)) is not None]
    return {key for condition in conditions for key in (*condition.signers, *condition.refund)}


def _opens(preimage: str, locks: Sequence[Lock | None]) -> bool:
    return any(lock is not None and lock.condition.matches(preimage) for lock in locks)


async def _require_not_ours(wallet: CashuWallet, token: Token) -> None:
    """A coin that is free here, or held for something else than being sent, would be gone under its holder's feet."""
    for coin in await wallet.store.coins_by_id([proof.y for proof in token.proofs]):
        is_sent = coin.holder is not None and coin.holder.kind == SENDING
        if coin.state is CoinState.SPENDABLE or (coin.state is CoinState.RESERVED and not is_sent):
            raise TokenRefusedError("coins of this token are in this wallet already")


async def _require_genuine(mint: Mint, token: Token) -> None:
    keysets = {keyset_id: await mint.keyset(keyset_id) for keyset_id in {proof.id for proof in token.proofs}}
    for place, proof in enumerate(token.proofs, start=1):
        keyset = keysets[proof.id]
        keyset.key(proof.amount)
        if proof.dleq is not None and not proof.has_valid_dleq(keyset):
            raise TokenRefusedError("a token with a coin whose DLEQ proof does not hold: the mint did not sign it so")
        if place % BREATH == 0:
            await asyncio.sleep(0)


async def _require_open(wallet: CashuWallet, token: Token, preimages: Collection[str]) -> None:
    inputs = await unlocked(wallet, token.proofs, preimages)
    if isinstance(inputs, Locked):
        raise TokenLockedError(inputs.reason, inputs.opens_at)


async def _require_worth(wallet: CashuWallet, mint: Mint, token: Token) -> None:
    fee = await fee_for(wallet, mint.url, token.proofs)
    if token.amount <= fee:
        raise TokenRefusedError(f"the token is worth {token.amount} {token.unit}, and taking it would cost {fee}")
    split(token.amount - fee, (await mint.active_keyset(token.unit)).denominations)
