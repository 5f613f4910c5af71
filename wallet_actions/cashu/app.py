"""What a Cashu app holds: wallet, engine and store in one `async with`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Self

from wallet_actions.action import Action
from wallet_actions.cashu import handover, restoring
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.conditions import Condition
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import TokenReceivedError, WrongQuoteError
from wallet_actions.cashu.facts import Transaction, latest, transactions
from wallet_actions.cashu.issue import Issue, Issued
from wallet_actions.cashu.issue_batch import IssueBatch
from wallet_actions.cashu.issue_batch_phases import IssuedBatch
from wallet_actions.cashu.melt import Melt
from wallet_actions.cashu.melt_parts import melts_of, opening_of
from wallet_actions.cashu.melt_phases import Paid
from wallet_actions.cashu.receive import Receive
from wallet_actions.cashu.receiving import Received
from wallet_actions.cashu.restore import Restore, Restored, RestoreProgress
from wallet_actions.cashu.send import Send
from wallet_actions.cashu.sending import Sent
from wallet_actions.cashu.starting import start_with_coins
from wallet_actions.cashu.swap import Exchanged, Swap
from wallet_actions.cashu.tokens import TokenVersion
from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.cashu.watching import Watcher
from wallet_actions.clock import Clock
from wallet_actions.coins import Balance
from wallet_actions.engine import Engine
from wallet_actions.events import Observer
from wallet_actions.fleet import Limit
from wallet_actions.leases import LEASE
from wallet_actions.outcome import Started
from wallet_actions.store import Store, open_store

KINDS = (Issue, IssueBatch, Melt, Send, Swap, Restore, Receive)


class Cashu:
    """A Cashu wallet that survives crashes.

    On entering, whatever a crash left behind is taken up again in the background.

    Args:
        store: a URL (`sqlite:///wallet.db`), opened and closed here; or a store that is open already.
        seed: from the user's mnemonic: `Seed.from_mnemonic(words)`; always the same one for a store.
        kinds: the app's own actions, driven beside `Issue` and `Melt`; their steps are handed the `CashuWallet` too.
        connect: makes the client of a mint, given its URL.
        keys: private keys of the app's own, 32 bytes each, beside the wallet's receiving keys; never stored.
        observers: told of everything that happens.
        poll, drain: see `Runner`.
        lease, limits: of a worker in a fleet, see `Executor`.
        watch: listen to the mints' websockets for claims of tokens and payments of quotes, in the first hour of each
            (NUT-17; package `websockets`). Otherwise they are noticed by the actions' own look-ups, which grow rarer.
            Not by default: it opens connections, and makes requests that nobody needs but a person who waits.

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
        keys: Iterable[bytes] = (),
        clock: Clock | None = None,
        observers: Sequence[Observer] = (),
        poll: timedelta | None = timedelta(seconds=5),
        drain: timedelta = timedelta(seconds=10),
        lease: timedelta = LEASE,
        limits: Mapping[str, Limit] | None = None,
        watch: bool = False,
    ) -> None:
        self._owned = open_store(store) if isinstance(store, str) else None
        opened: Store = store if not isinstance(store, str) else self._owned  # type: ignore[assignment]
        self.wallet = CashuWallet(opened, seed, connect=connect, clock=clock, keys=keys)
        self.engine = Engine(
            opened,
            self.wallet,
            (*KINDS, *kinds),
            clock=clock,
            observers=observers,
            poll=poll,
            drain=drain,
            lease=lease,
            limits=limits,
        )
        # The fleet's, where there is one: what one worker saw first may be an hour old by the clock of another.
        self.wallet.clock = self.engine.executor.clock
        self._watcher = Watcher(self.engine, self.wallet) if watch else None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._owned is not None:
                await stack.enter_async_context(self._owned)
            await stack.enter_async_context(self.wallet)
            await stack.enter_async_context(self.engine)
            if self._watcher is not None:
                await stack.enter_async_context(self._watcher)
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
        _require_new(await self.engine.start(issue, issue.opening))
        return issue

    async def issued(self, id: str) -> Issued:
        """Wait until an `Issue` has ended. See `Engine.result`."""
        return await self.engine.result(Issue, id)

    async def issue_many(self, mint_url: str, amounts: Sequence[int], unit: str = "sat") -> IssueBatch:
        """Begin to turn several payments into ecash together; the invoices are in `offers` of what it returns.

        Raises:
            As `IssueBatch.of`; WrongQuoteError: as `issue`. Nothing was written.
        Durability: the action is on disk when it returns.
        """
        batch = await IssueBatch.of(self.wallet, mint_url, amounts, unit)
        _require_new(await self.engine.start(batch, batch.opening))
        return batch

    async def issued_many(self, id: str) -> IssuedBatch:
        """Wait until an `IssueBatch` has ended: until each invoice was paid, or has expired. See `Engine.result`."""
        return await self.engine.result(IssueBatch, id)

    async def melt(self, mint_url: str, request: str, unit: str = "sat", *, max_fee: int | None = None) -> Melt:
        """Begin to pay an invoice.

        Args:
            max_fee: the largest fee reserve to accept, in the unit; by default a tenth of the amount, at least 100.
        Raises:
            As `Melt.of`; WrongQuoteError: the mint wants more than `max_fee`, or gave a quote that it had given before;
                ReservationError: others take the coins faster than they can be chosen. Nothing was written.
        Durability: the action is on disk, and holds its coins, when it returns.
        """
        return await self.pay(await Melt.of(self.wallet, mint_url, request, unit, max_fee=max_fee))

    async def pay(self, melt: Melt) -> Melt:
        """Begin a payment whose cost somebody has looked at: what `Melt.of` gave. Otherwise as `melt`.

        Returns:
            The payment as it was started: with other coins, where those were taken meanwhile.
        """

        async def start(melt: Melt) -> None:
            _require_new(await self.engine.start(melt, melt.opening))

        async def choose_again(melt: Melt) -> Melt:
            return await melt.with_other_coins(self.wallet)

        return await start_with_coins(self.wallet, melt.mint, melt, start=start, choose_again=choose_again)

    async def melt_parts(
        self, request: str, parts_msat: Mapping[str, int], unit: str = "sat", *, max_fee: int | None = None
    ) -> tuple[Melt, ...]:
        """Begin to pay one invoice with several mints at the same time; wait for each of them with `paid`.

        Args:
            parts_msat: mint URL → how much of the invoice it shall pay, in thousandths of a satoshi.
            max_fee: the largest fee reserve to accept for each part, as in `melt`.
        Raises:
            As `melt`; UsageError: the parts do not come to what the invoice asks for; RejectedError: a mint does not
                pay parts. Nothing was written.
        Durability: all parts are on disk, and hold their coins, when it returns, or none.
        """

        async def start(melts: tuple[Melt, ...]) -> None:
            _require_new(await self.engine.start(melts[0], opening_of(melts)))

        async def choose_again(melts: tuple[Melt, ...]) -> tuple[Melt, ...]:
            return tuple([await melt.with_other_coins(self.wallet) for melt in melts])

        melts = await melts_of(self.wallet, request, parts_msat, unit, max_fee=max_fee)
        return await start_with_coins(self.wallet, melts[0].mint, melts, start=start, choose_again=choose_again)

    async def paid(self, id: str) -> Paid:
        """Wait until a `Melt` has ended. See `Engine.result`."""
        return await self.engine.result(Melt, id)

    async def swap(
        self,
        mint_url: str,
        unit: str = "sat",
        *,
        amount: int | None = None,
        denominations: Mapping[int, int] | Sequence[int] | None = None,
    ) -> Swap:
        """Begin to change coins into others: by default all of them into few.

        Args:
            amount, denominations: see `Swap.of`.
        Raises:
            As `Swap.of`; ReservationError: others take the coins faster than they can be chosen. Nothing was written.
        Durability: the action is on disk, and holds its coins, when it returns.
        """

        async def start(swap: Swap) -> None:
            await self.engine.start(swap, swap.opening)

        async def choose(_: Swap | None = None) -> Swap:
            return await Swap.of(self.wallet, mint_url, unit, amount=amount, denominations=denominations)

        return await start_with_coins(self.wallet, mint_url, await choose(), start=start, choose_again=choose)

    async def swapped(self, id: str) -> Exchanged:
        """Wait until a `Swap` has ended. See `Engine.result`."""
        return await self.engine.result(Swap, id)

    async def restore(self, mint_url: str) -> Restore:
        """Begin to bring back what the seed owns at a mint, or go on with a restore that has not ended.

        Raises:
            As `Restore.of`, where a new one begins.
        Durability: the action is on disk when it returns.
        """
        return await restoring.begin(self.engine, self.wallet, mint_url)

    async def restored(self, id: str) -> Restored:
        """Wait until a `Restore` has ended. See `Engine.result`."""
        return await self.engine.result(Restore, id)

    def restoring(self, id: str) -> AsyncIterator[RestoreProgress]:
        """How far a `Restore` is, now and whenever it has come further; ends with it. See `restored` for how it ended.

        Raises:
            UnknownActionError: there is no such restore.
        """
        return restoring.follow(self.engine, id)

    def history(self) -> AsyncIterator[Transaction]:
        """All operations of the wallet, the oldest first, also those under way."""
        return transactions(self.wallet.store)

    async def latest(self, count: int) -> Sequence[Transaction]:
        """The last operations of the wallet, the newest first, also those under way.

        Args:
            count: how many at most.
        """
        return await latest(self.wallet.store, count)

    async def receive(self, token: str, *, mint: str | None = None, preimages: Collection[str] = ()) -> Receive:
        """Begin to take a token over. A token that is being received already is taken up where it stands.

        Args:
            mint: refuse a token of any other; otherwise whatever mint the token names is asked.
            preimages: to open hashes with (NUT-14), 64 hex characters each.
        Raises:
            As `Receive.of`; TokenReceivedError: it came in before, and says under which id. Nothing was written.
        Durability: the action is on disk when it returns.
        """
        receive = await Receive.of(self.wallet, token, mint, preimages)
        started = await self.engine.start(receive, receive.opening)
        if not started.is_new and started.result is not None:
            raise TokenReceivedError(receive.id, started.result.amount, receive.unit)
        if not started.is_new:
            self.engine.notify(Receive, receive.id)
        return receive

    async def received(self, id: str) -> Received:
        """Wait until a `Receive` has ended. See `Engine.result`."""
        return await self.engine.result(Receive, id)

    async def send(
        self,
        mint_url: str,
        amount: int,
        unit: str = "sat",
        *,
        memo: str | None = None,
        condition: Condition | None = None,
        version: TokenVersion = TokenVersion.V4,
        include_fee: bool = False,
    ) -> Send:
        """Begin to make a token; `token` waits for it.

        Args:
            memo: words that go with it.
            condition: what it shall take to claim it: see `pay_to_key` and `hash_lock`.
            include_fee: add to the token what it costs to claim it. Otherwise it says `amount`, and who claims it
                bears the mint's fee for that.
        Raises:
            As `Send.of`; ReservationError: others take the coins faster than they can be chosen. Nothing was written.
        Durability: the action is on disk, and holds its coins, when it returns.
        """
        return await handover.begin(
            self.engine,
            self.wallet,
            mint_url,
            amount,
            unit,
            memo=memo,
            condition=condition,
            version=version,
            include_fee=include_fee,
        )

    async def token(self, id: str) -> str:
        """Wait until the token of a `Send` exists; sensitive. It is the same text each time, also after it was claimed.

        Raises:
            ActionFailedError: it could not be made, or was taken back.
            NotFinishedError, UnknownActionError: see `Engine.result`.
        """
        return await handover.token(self.engine, id)

    async def revoke(self, id: str) -> bool:
        """Ask for a token back, and wait until that is answered; `claimed` waits for how it ends.

        A request stands also where nobody waits for the answer any more. Who claims the token first has it.

        Returns:
            Whether it is being taken back, or was before it was made; False where it was claimed, or has ended.
        Raises:
            RejectedError: it is locked to somebody else, or taking it back costs as much as it brings.
            NotFinishedError: the action is stuck or paused. UnknownActionError: there is no such send.
        """
        return await handover.revoke(self.engine, self.wallet, id)

    async def claimed(self, id: str) -> Sent:
        """Wait until the token of a `Send` was claimed. See `Engine.result`.

        Raises:
            ActionFailedError: it could not be made, or was taken back (then its status is `cancelled`).
        """
        return await self.engine.result(Send, id)

    async def balances(self, mint_url: str | None = None) -> Sequence[Balance]:
        """What is spendable and what is held by actions under way, by mint and unit."""
        return await self.wallet.balances(mint_url)


def _require_new(started: Started[Any]) -> None:
    """An old action under a new request would show its payment or its result for this one's."""
    if not started.is_new:
        raise WrongQuoteError("the mint gave a quote that it had given before; ask for another one")
