"""What a Cashu app holds: wallet, engine and store in one `async with`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Self

from wallet_actions.action import Action
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import WrongQuoteError
from wallet_actions.cashu.issue import Issue, Issued
from wallet_actions.cashu.melt import Melt, Paid
from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.clock import Clock
from wallet_actions.coins import Balance
from wallet_actions.engine import Engine
from wallet_actions.errors import ReservationError
from wallet_actions.events import Observer
from wallet_actions.outcome import Started
from wallet_actions.store import Store, open_store
from wallet_actions.transition import Changes

KINDS = (Issue, Melt)
SELECTION_TRIES = 5


class Cashu:
    """A Cashu wallet that survives crashes.

    On entering, whatever a crash left behind is taken up again in the background.

    Args:
        store: a URL (`sqlite:///wallet.db`), opened and closed here; or a store that is open already.
        seed: from the user's mnemonic: `Seed.from_mnemonic(words)`; always the same one for a store.
        kinds: the app's own actions, driven beside `Issue` and `Melt`; their steps are handed the `CashuWallet` too.
        connect: makes the client of a mint, given its URL.
        observers: told of everything that happens.
        poll: see `Runner`.

    Raises:
        UsageError: a kind cannot be stored or is named twice, or no store is installed for the URL; on entering, the
            store belongs to another seed, and nothing was driven.
    """

    def __init__(
        self,
        store: str | Store,
        seed: Seed,
        *,
        kinds: Iterable[type[Action[Any, Any, Any]]] = (),
        connect: Callable[[str], MintClient] = MintClient,
        clock: Clock | None = None,
        observers: Sequence[Observer] = (),
        poll: timedelta | None = timedelta(seconds=5),
    ) -> None:
        self._owned = open_store(store) if isinstance(store, str) else None
        opened: Store = store if not isinstance(store, str) else self._owned  # type: ignore[assignment]
        self.wallet = CashuWallet(opened, seed, connect=connect, clock=clock)
        self.engine = Engine(opened, self.wallet, (*KINDS, *kinds), clock=clock, observers=observers, poll=poll)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._owned is not None:
                await stack.enter_async_context(self._owned)
            await stack.enter_async_context(self.wallet)
            await stack.enter_async_context(self.engine)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.__aexit__(None, None, None)

    async def issue(self, mint_url: str, amount: int, unit: str = "sat") -> Issue:
        """Begin to turn a payment into ecash; show `request` of what it returns to whoever pays.

        Raises:
            As `Issue.of`; WrongQuoteError: the mint gave a quote that it had given before. Nothing was written.
        Durability: the action is on disk when it returns.
        """
        issue = await Issue.of(self.wallet, mint_url, amount, unit)
        _require_new(await self.engine.start(issue))
        return issue

    async def issued(self, id: str) -> Issued:
        """Wait until an `Issue` has ended. See `Engine.result`."""
        return await self.engine.result(Issue, id)

    async def melt(self, mint_url: str, request: str, unit: str = "sat", *, max_fee: int | None = None) -> Melt:
        """Begin to pay an invoice.

        Args:
            max_fee: the largest fee reserve to accept, in the unit; by default a tenth of the amount, at least 100.
        Raises:
            As `Melt.of`; WrongQuoteError: the mint wants more than `max_fee`, or gave a quote that it had given before;
                ReservationError: others take the coins faster than they can be chosen. Nothing was written.
        Durability: the action is on disk, and holds its coins, when it returns.
        """
        melt = await Melt.of(self.wallet, mint_url, request, unit, max_fee=max_fee)
        for _ in range(SELECTION_TRIES):
            try:
                _require_new(await self.engine.start(melt, Changes(reserve=melt.inputs)))
            except ReservationError:
                melt = await melt.with_other_coins(self.wallet)
            else:
                return melt
        raise ReservationError(melt.inputs)

    async def paid(self, id: str) -> Paid:
        """Wait until a `Melt` has ended. See `Engine.result`."""
        return await self.engine.result(Melt, id)

    async def balances(self, mint_url: str | None = None) -> Sequence[Balance]:
        """What is spendable and what is held by actions under way, by mint and unit."""
        return await self.wallet.balances(mint_url)


def _require_new(started: Started[Any]) -> None:
    """An old action under a new request would show its payment or its result for this one's."""
    if not started.is_new:
        raise WrongQuoteError("the mint gave a quote that it had given before; ask for another one")
