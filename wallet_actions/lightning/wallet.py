"""The wallet that the Lightning actions act on: a node, and the part of its balance that is in the store.

Coins stand for what this wallet may spend of the node's channels: they are booked on `lnd/<public key>`, in `msat`. A
payment holds exactly its amount and its fee limit, split off from larger coins with its start; what is left of the fee
limit comes back as change. `Allot` is how a part of the balance gets into the ledger.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from wallet_actions.clock import Clock, SystemClock
from wallet_actions.coins import Balance, Coin, CoinState
from wallet_actions.errors import ConfigurationError
from wallet_actions.lightning.errors import InsufficientFundsError
from wallet_actions.lightning.node import LightningNode, NodeIdentity
from wallet_actions.store import Store

UNIT = "msat"


class LightningWallet:
    """What `LightningSend` is handed at each step.

    Args:
        store: open; the engine's own.
        node: that pays.
    """

    def __init__(self, store: Store, node: LightningNode, *, clock: Clock | None = None) -> None:
        self.store = store
        self.node = node
        self.clock: Clock = clock or SystemClock()
        self._identity: NodeIdentity | None = None
        self._life = secrets.token_hex(8)
        self._unanswered: set[str] = set()

    async def identity(self) -> NodeIdentity:
        """Which node it is; asked once."""
        if self._identity is None:
            self._identity = await self.node.identity()
        return self._identity

    async def require(self, account: str) -> None:
        """Check that the node is the one that an account is with: another one knows nothing of its payments.

        Raises:
            ConfigurationError: it is another one.
            ConfigurationError, TransientError: it cannot be asked.
        """
        identity = await self.identity()
        if identity.account != account:
            self._identity = None  # the settings may be mended while the process goes on
            raise ConfigurationError(
                f"this payment is with the node {account.removeprefix('lnd/')}, "
                f"and the settings name {identity.pubkey}; connect the wallet to its own node again"
            )

    async def balances(self) -> Sequence[Balance]:
        """What is spendable and what payments under way hold, by node."""
        return await self.store.balances()

    async def select(self, account: str, amount_msat: int) -> tuple[Coin, ...]:
        """Choose coins that cover an amount; they are not reserved yet.

        Returns:
            The smallest coin that does alone, else as few as possible; by id.
        Raises:
            InsufficientFundsError: there are not enough.
        """
        coins = sorted(await self._spendable(account), key=lambda coin: (coin.amount, coin.id))
        alone = next((coin for coin in coins if coin.amount >= amount_msat), None)
        if alone is not None:
            return (alone,)
        chosen: list[Coin] = []
        for coin in reversed(coins):
            chosen.append(coin)
            if sum(one.amount for one in chosen) >= amount_msat:
                return tuple(sorted(chosen, key=lambda one: one.id))
        raise InsufficientFundsError(amount_msat, sum(coin.amount for coin in coins))

    async def _spendable(self, account: str) -> list[Coin]:
        coins: list[Coin] = []
        while page := await self.store.coins(
            account=account, unit=UNIT, state=CoinState.SPENDABLE, after=coins[-1].id if coins else ""
        ):
            coins.extend(page)
        return coins

    @property
    def life(self) -> str:
        """Tells whether it was here that a payment was sent of which a checkpoint tells; each process has another."""
        return self._life

    def is_unanswered(self, payment_hash: str) -> bool:
        """Whether a payment was sent from here and its answer did not come: a copy may yet arrive."""
        return payment_hash in self._unanswered

    def forget(self, payment_hash: str) -> None:
        """What `is_unanswered` says is in the checkpoint by now."""
        self._unanswered.discard(payment_hash)

    @contextmanager
    def sending(self, payment_hash: str) -> Iterator[None]:
        """Around a request that must not arrive late unnoticed: one that fails or is cut off is remembered.

        The checkpoint says so only once it is written, and a process may live on where that was cut off.
        """
        try:
            yield
        except ConfigurationError:
            raise  # so it was not done
        except BaseException:
            self._unanswered.add(payment_hash)
            raise
