"""The wallet that the Cashu actions act on: a seed, mints, and the coins in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Self

from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.mint import Mint
from wallet_actions.cashu.outputs import Output, outputs_for
from wallet_actions.cashu.proofs import Proof, proof_of
from wallet_actions.cashu.selection import select
from wallet_actions.cashu.transport import normalize_mint_url
from wallet_actions.clock import Clock, SystemClock
from wallet_actions.coins import Balance, Coin, CoinState
from wallet_actions.errors import InvariantError
from wallet_actions.store import Store


class CashuWallet:
    """A Cashu wallet: what `Issue` and `Melt` are handed at each step.

    Args:
        store: open; the engine's own.
        seed: everything that the wallet ever asks a mint to sign follows from it.
        connect: makes the client of a mint, given its URL; for a proxy or a test.

    One store belongs to one seed: counters are kept by keyset, and a counter makes one secret, ever (L-C12).
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
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the connections to the mints."""
        for mint in self._mints.values():
            await mint.client.aclose()
        self._mints.clear()

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
            InsufficientFundsError: there are not enough.
            TransientError: the mint did not tell its fees.
        """
        mint = self.mint(mint_url)
        coins = await self.spendable(mint_url, unit)
        keysets = {coin.id: proof_of(coin).id for coin in coins}
        fees_ppk = {keyset_id: await mint.fee_ppk(keyset_id) for keyset_id in set(keysets.values())}

        def fee_of(chosen: Sequence[Coin]) -> int:
            return (sum(fees_ppk[keysets[coin.id]] for coin in chosen) + 999) // 1000

        chosen = select(coins, amount, fee_of)
        return chosen, fee_of(chosen)

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
        return await self.store.allocate(f"cashu/{keyset_id}", count) if count else 0

    def outputs(self, keyset_id: str, first_counter: int, amounts: Sequence[int]) -> tuple[Output, ...]:
        """The outputs that these counters make: the same ones each time."""
        return outputs_for(self._seed, keyset_id, first_counter, amounts)


def public_id(quote_id: str) -> str:
    """A name for a quote that may be printed and logged: the quote's own id is as good as money (NUT-04)."""
    return hashlib.sha256(quote_id.encode()).hexdigest()[:32]
