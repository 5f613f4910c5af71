"""The wallet that the Cashu actions act on: a seed, mints, and the coins in the store."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Self

from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.mint import Mint
from wallet_actions.cashu.outputs import BLANK_AMOUNT, Output, outputs_for
from wallet_actions.cashu.proofs import Proof, proof_of
from wallet_actions.cashu.selection import input_fee, select
from wallet_actions.cashu.transport import normalize_mint_url
from wallet_actions.clock import Clock, SystemClock
from wallet_actions.coins import Balance, Coin, CoinState
from wallet_actions.errors import InvariantError, UsageError
from wallet_actions.store import Store

logger = logging.getLogger(__name__)

PROBE = 100
MOST_PROBES = 20
OWNER, CLAIM = "cashu-seed/", "cashu-seed-claim/"
LAST_MOMENT_S = 253_370_764_800  # the year 9999, with room to count on from


class CashuWallet:
    """A Cashu wallet: what `Issue` and `Melt` are handed at each step.

    Args:
        store: open; the engine's own.
        seed: everything that the wallet ever asks a mint to sign follows from it.
        connect: makes the client of a mint, given its URL; for a proxy or a test.

    One store belongs to one seed: counters are kept by keyset, and a counter makes one secret, ever (L-C12). The seed
    that a store is opened with first owns it. Enter the wallet before anything is driven: that is where it is checked.
    """

    def __init__(
        self,
        store: Store,
        seed: Seed,
        *,
        connect: Callable[[str], MintClient] = MintClient,
        clock: Clock | None = None,
    ) -> None:
        self.store = store
        self.clock: Clock = clock or SystemClock()
        self._seed = seed
        self._connect = connect
        self._mints: dict[str, Mint] = {}

    def __repr__(self) -> str:
        return f"CashuWallet(mints={sorted(self._mints)})"

    async def __aenter__(self) -> Self:
        """Check that the store belongs to this seed; an unowned one does from now on.

        Raises:
            UsageError: it belongs to another one.
        Durability: the seed's fingerprint is on disk when it returns, as the name of a counter.
        """
        await self._own()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the connections to the mints."""
        for mint in self._mints.values():
            await mint.client.aclose()
        self._mints.clear()

    async def _own(self) -> None:
        mine = self._seed.fingerprint
        owners = await self._fingerprints(OWNER)
        if not owners:
            # Two wallets may open a new file at once. Both claim it before they look, so that at most one of them
            # finds itself alone and becomes the owner.
            await self.store.allocate(CLAIM + mine)
            owners = await self._fingerprints(OWNER) or await self._fingerprints(CLAIM)
            if owners == {mine}:
                await self.store.allocate(OWNER + mine)
                owners = await self._fingerprints(OWNER)
        if owners != {mine}:
            raise UsageError(
                "this wallet's file belongs to another recovery phrase; open it with that one, or take another file"
            )

    async def _fingerprints(self, prefix: str) -> set[str]:
        names = await self.store.counters()
        return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}

    def mint(self, url: str) -> Mint:
        """The mint at an address.

        Raises:
            UsageError: not a mint's address.
        """
        normal = normalize_mint_url(url)
        if normal not in self._mints:
            self._mints[normal] = Mint(self._connect(normal), self.clock)
        return self._mints[normal]

    async def balances(self, mint_url: str | None = None) -> Sequence[Balance]:
        """What is spendable and what actions under way hold, by mint and unit."""
        return await self.store.balances(None if mint_url is None else normalize_mint_url(mint_url))

    async def spendable(self, mint_url: str, unit: str) -> list[Coin]:
        """All coins that are free, by id."""
        coins: list[Coin] = []
        account = normalize_mint_url(mint_url)
        while page := await self.store.coins(
            account=account, unit=unit, state=CoinState.SPENDABLE, after=coins[-1].id if coins else ""
        ):
            coins.extend(page)
        return coins

    async def select(self, mint_url: str, unit: str, amount: int) -> tuple[tuple[Coin, ...], int]:
        """Choose coins that cover an amount and their input fee; they are not reserved yet.

        Returns:
            The coins by id, and their input fee.
        Raises:
            InsufficientFundsError: there are not enough. Coins of a keyset that the mint does not list do not count.
            TransientError: the mint did not tell its fees.
        """
        keyset_ids: dict[str, str] = {}
        coins = await self.spendable(mint_url, unit)
        for coin in coins:
            try:
                keyset_ids[coin.id] = proof_of(coin).id
            except InvariantError:
                logger.error("a coin does not hold the proof it is named by", extra={"coin_id": coin.id})
        fees_ppk = await self.mint(mint_url).fees_ppk(set(keyset_ids.values()))
        # One coin that cannot be spent is no reason not to spend the others (L-C13).
        usable = {coin: fees_ppk[keyset_ids[coin.id]] for coin in coins if keyset_ids.get(coin.id, "") in fees_ppk}
        chosen = select(usable, amount)
        return chosen, input_fee(usable[coin] for coin in chosen)

    async def proofs(self, coin_ids: Collection[str]) -> tuple[Proof, ...]:
        """The proofs of some coins, in the order of their ids.

        Raises:
            InvariantError: one of them is not in the store, or holds no proof.
        """
        coins = await self.store.coins_by_id(coin_ids)
        if len(coins) != len(set(coin_ids)):
            raise InvariantError("a coin that the action holds is not in the store", rule="held coins exist")
        return tuple(proof_of(coin) for coin in sorted(coins, key=lambda coin: coin.id))

    async def allocate(self, keyset_id: str, count: int) -> int:
        """Take counters of a keyset for new outputs.

        Returns:
            The first of them.
        Durability: committed before it returns; what a crash swallows is a gap, and gaps are fine.
        """
        return await self.store.allocate(_counter(keyset_id), count) if count else 0

    async def skip_used(self, mint_url: str, keyset_id: str) -> None:
        """Move a keyset's counter past what an earlier life of the seed has used, as far as the mint tells (NUT-13).

        Raises:
            RejectedError, TransientError: see `MintClient.restore`; what was found until then is skipped.
        """
        client = self.mint(mint_url).client
        for _ in range(MOST_PROBES):
            following = (await self.store.counters()).get(_counter(keyset_id), 0)
            messages = [output.to_message() for output in self.outputs(keyset_id, following, (BLANK_AMOUNT,) * PROBE)]
            found = await client.restore(messages)
            used = [place for place, message in enumerate(messages, start=1) if message.B_ in found]
            if not used:
                return
            await self.allocate(keyset_id, used[-1])

    def outputs(self, keyset_id: str, first_counter: int, amounts: Sequence[int]) -> tuple[Output, ...]:
        """The outputs that these counters make: the same ones each time."""
        return outputs_for(self._seed, keyset_id, first_counter, amounts)


def public_id(quote_id: str) -> str:
    """A name for a quote that may be printed and logged: the quote's own id is as good as money (NUT-04)."""
    return hashlib.sha256(quote_id.encode()).hexdigest()[:32]


def moment(unix_s: int | None) -> datetime | None:
    """A time that a mint gives, as far as a date can tell it; None where it gives none."""
    return datetime.fromtimestamp(min(unix_s, LAST_MOMENT_S), UTC) if unix_s else None


def _counter(keyset_id: str) -> str:
    return f"cashu/{keyset_id}"
