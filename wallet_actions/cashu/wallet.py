"""The wallet that the Cashu actions act on: a seed, mints, and the coins in the store."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Self

from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.coin_selection import MOST_INPUTS, exact, input_fee, select
from wallet_actions.cashu.conditions import Condition
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import MintError, MintUnreachableError
from wallet_actions.cashu.keys import OwnKeys
from wallet_actions.cashu.keysets import KeysetInfo
from wallet_actions.cashu.mint import Mint
from wallet_actions.cashu.outputs import BLANK_AMOUNT, Output, is_signed, locked_outputs_for, outputs_for
from wallet_actions.cashu.proofs import Proof, proof_of
from wallet_actions.cashu.transport import normalize_mint_url
from wallet_actions.cashu.witnesses import Keyring
from wallet_actions.clock import Clock, SystemClock
from wallet_actions.coins import Balance, Coin, CoinState
from wallet_actions.errors import InvariantError, RejectedError, UsageError
from wallet_actions.store import Store

logger = logging.getLogger(__name__)

PROBE = 100
MOST_PROBES = 20
OWNER, CLAIM = "cashu-seed/", "cashu-seed-claim/"
QUOTE_KEY = "cashu-quote-key"
LAST_MOMENT_S = 253_370_764_800  # the year 9999, with room to count on from


class CashuWallet:
    """A Cashu wallet: what `Issue` and `Melt` are handed at each step.

    Args:
        store: open; the engine's own.
        seed: everything that the wallet ever asks a mint to sign follows from it.
        connect: makes the client of a mint, given its URL; for a proxy or a test.
        keys: private keys that the app brings along, 32 bytes each, to unlock coins with; never stored.

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
        keys: Iterable[bytes] = (),
    ) -> None:
        self.store = store
        self.clock: Clock = clock or SystemClock()
        self.keys = OwnKeys(store, seed, keys)
        self._seed = seed
        self._connect = connect
        self._mints: dict[str, Mint] = {}
        self._proven: dict[tuple[str, str], dict[str, str]] = {}
        self._choosing: dict[str, asyncio.Lock] = {}
        self._skips: dict[str, asyncio.Lock] = {}
        self._life = secrets.token_hex(8)
        self._unanswered: set[str] = set()

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

    async def receiving_key(self) -> str:
        """A public key to have coins locked to, never shown before: 66 hex characters. See `OwnKeys.new`."""
        return await self.keys.new()

    async def keyring(self) -> Keyring:
        """The private keys that coins are unlocked with: the receiving keys and the imported ones."""
        return await self.keys.keyring()

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

    def choosing(self, mint_url: str) -> asyncio.Lock:
        """Held by whoever chooses coins of a mint and reserves them, among those of this process who lost a race."""
        return self._choosing.setdefault(normalize_mint_url(mint_url), asyncio.Lock())

    async def select(self, mint_url: str, unit: str, amount: int) -> tuple[tuple[Coin, ...], int]:
        """Choose coins that cover an amount and their input fee; they are not reserved yet.

        Returns:
            The coins by id, and their input fee.
        Raises:
            InsufficientFundsError: there are not enough. Coins of a keyset that the mint does not list do not count.
            RejectedError: it takes more than `MOST_INPUTS`.
            TransientError: the mint did not tell its fees.
        """
        pool = await self.pool(mint_url, unit)
        chosen = select(pool, amount, pool.fee_ppk, is_retired=pool.is_retired)
        if len(chosen) > MOST_INPUTS:
            raise RejectedError(
                f"it would take {len(chosen)} coins, and a mint takes {MOST_INPUTS} at once: swap them into fewer first"
            )
        return chosen, input_fee(map(pool.fee_ppk, chosen))

    async def select_exact(
        self, mint_url: str, unit: str, amount: int, *, is_net: bool = False
    ) -> tuple[Coin, ...] | None:
        """Find coins whose face value is exactly an amount; they are not reserved yet.

        Args:
            is_net: what is left after their input fee shall be the amount.
        Returns:
            The coins by id; None where no match was found.
        Raises:
            TransientError: the mint did not tell its keysets.
        """
        pool = await self.pool(mint_url, unit)
        return exact(pool, amount, pool.fee_ppk if is_net else lambda _: 0, is_retired=pool.is_retired)

    async def pool(self, mint_url: str, unit: str) -> Pool:
        """The coins to choose from: all that are free and that can be spent.

        Raises:
            TransientError: the mint did not tell its keysets.
        """
        mint = self.mint(mint_url)
        coins = await self.spendable(mint_url, unit)
        # What a coin holds never changes, and to prove it costs a hash to the curve: once for each while it is free.
        proven = self._proven.get((mint.url, unit), {})
        keyset_ids: dict[str, str] = {}
        for coin in coins:
            try:
                keyset_ids[coin.id] = proven.get(coin.id) or proof_of(coin).id
            except InvariantError:
                logger.error("a coin does not hold the proof it is named by", extra={"coin_id": coin.id})
        self._proven[mint.url, unit] = keyset_ids
        infos = await mint.known(set(keyset_ids.values()))
        # One coin that cannot be spent is no reason not to spend the others (L-C13).
        usable = {coin: infos[keyset_id] for coin in coins if (keyset_id := keyset_ids.get(coin.id, "")) in infos}
        return Pool(usable, self.clock.now())

    @property
    def life(self) -> str:
        """Tells whether it was here that a request was sent of which a checkpoint tells; each process has another."""
        return self._life

    @contextmanager
    def sending(self, id: str) -> Iterator[None]:
        """Around a request that must not arrive late unnoticed.

        Args:
            id: the action's, which asks `is_unanswered` later: its own checkpoint may never be told.
        """
        try:
            yield
        except (MintError, MintUnreachableError):
            raise
        except BaseException:
            self._unanswered.add(id)
            raise

    def is_unanswered(self, id: str) -> bool:
        """Whether the answer to a request of an action never came, in this process."""
        return id in self._unanswered

    async def allocate_quote_key(self) -> int:
        """Take the counter of a key that no quote was locked to before (NUT-20).

        Durability: committed before it returns.
        """
        return await self.store.allocate(QUOTE_KEY)

    def quote_key(self, counter: int) -> bytes:
        """The private key that such a counter makes: the same one each time; sensitive."""
        return self._seed.quote_key(counter)

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
        return await self.store.allocate(counter_of(keyset_id), count) if count else 0

    async def skip_used(self, mint_url: str, keyset_id: str) -> None:
        """Move a keyset's counter past what an earlier life of the seed has used, as far as the mint proves (NUT-13).

        Only signatures that verify count: a mint that lists the keyset of another one could otherwise push the counter
        so far that a restore would not find what comes after.

        Raises:
            RejectedError, TransientError: see `MintClient.restore`; what was found until then is skipped.
        """
        mint = self.mint(mint_url)
        keyset = await mint.keyset(keyset_id)
        # One at a time: who waited finds it done. Skips on top of each other would leave a row of counters unused, and
        # a long one looks like the end to whoever restores the seed.
        async with self._skips.setdefault(keyset_id, asyncio.Lock()):
            for _ in range(MOST_PROBES):
                following = (await self.store.counters()).get(counter_of(keyset_id), 0)
                blanks = self.outputs(keyset_id, following, (BLANK_AMOUNT,) * PROBE)
                found = await mint.client.restore([output.to_message() for output in blanks])
                signed = (
                    (place, blank, found.get(blank.blinded_message)) for place, blank in enumerate(blanks, start=1)
                )
                used = [place for place, blank, by in signed if by is not None and is_signed(blank, by, keyset)]
                if not used:
                    return
                # Another process may have found the same, and skipped it.
                now = (await self.store.counters()).get(counter_of(keyset_id), 0)
                await self.allocate(keyset_id, max(0, following + used[-1] - now))

    def outputs(self, keyset_id: str, first_counter: int, amounts: Sequence[int]) -> tuple[Output, ...]:
        """The outputs that these counters make: the same ones each time."""
        return outputs_for(self._seed, keyset_id, first_counter, amounts)

    def locked_outputs(
        self, keyset_id: str, salt: str, amounts: Sequence[int], condition: Condition
    ) -> tuple[Output, ...]:
        """The outputs that this salt makes, whose coins are spent under a condition: the same ones each time."""
        return locked_outputs_for(self._seed, keyset_id, salt, amounts, condition)


class Pool:
    """Coins to choose from, with what the mint says of their keysets."""

    def __init__(self, infos: Mapping[Coin, KeysetInfo], now: datetime) -> None:
        self._infos = infos
        self._now = now

    def __iter__(self) -> Iterator[Coin]:
        return iter(self._infos)

    def fee_ppk(self, coin: Coin) -> int:
        """What spending it costs, in thousandths of the unit."""
        return self._infos[coin].input_fee_ppk

    def is_retired(self, coin: Coin) -> bool:
        """Whether the mint no longer signs with its keyset."""
        return not self._infos[coin].is_usable(self._now)


def public_id(quote_id: str) -> str:
    """A name for a quote that may be printed and logged: the quote's own id is as good as money (NUT-04)."""
    return hashlib.sha256(quote_id.encode()).hexdigest()[:32]


def moment(unix_s: int | None) -> datetime | None:
    """A time that a mint gives, as far as a date can tell it; None where it gives none."""
    return datetime.fromtimestamp(min(unix_s, LAST_MOMENT_S), UTC) if unix_s else None


def counter_of(keyset_id: str) -> str:
    """The name of the counter that the outputs of a keyset are made with."""
    return f"cashu/{keyset_id}"
