"""IssueBatch: turn several paid invoices into ecash together, with one request where the mint has batches (NUT-29).

    unpaid ──some paid──▶ mint_requested ──all signed──▶ done
      ▲ │                     │      ▲ │
      │ └─none left─▶ failed  │      └─┘ split, other outputs, the next request
      └────others are unpaid──┘

What was said of `Issue` holds for each request: its outputs are settled and written down before it leaves, and no error
is taken at its word. A batch is signed whole or not at all, so one quote that the mint will not sign for would hold up
all the others (L-C13): a batch that is refused again and again is split into requests for a quote each, and of those,
one that fails steps back behind the others.

Paid quotes wait for the unpaid ones for a while only, since a mint may refuse to sign for a quote whose end has passed,
although it was paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, ClassVar, Self, assert_never

from pydantic import AwareDatetime, SecretStr

from wallet_actions.action import Action, Upgrade
from wallet_actions.cashu.amounts import split
from wallet_actions.cashu.doubt import doubted, held
from wallet_actions.cashu.errors import MintError, WrongQuoteError
from wallet_actions.cashu.facts import TransactionState, transaction_fact
from wallet_actions.cashu.issue import (
    EXPIRY_GRACE,
    GIVE_UP_AFTER,
    HASTY_PLANS,
    ISSUED_ELSEWHERE,
    LONGEST_POLL,
    LONGEST_POLL_EXPIRED,
    MOST_PLANS,
    SHORTEST_POLL,
    UNSIGNED,
    UNVERIFIED,
)
from wallet_actions.cashu.issue_batch_phases import BatchRequest, IssuedBatch, MintRequested, Offer, Unpaid
from wallet_actions.cashu.mint_quotes import (
    DLEQ,
    OUTPUTS_USED,
    RESTORE,
    SIGNATURE_INVALID,
    Claim,
    ask,
    have_signed,
    in_order,
    is_complete,
    is_over,
)
from wallet_actions.cashu.outputs import Output, unblind_all
from wallet_actions.cashu.plan import OutputPlan
from wallet_actions.cashu.proofs import BlindSignature, coin_of
from wallet_actions.cashu.quotes import MintQuote, MintQuoteState
from wallet_actions.cashu.wallet import CashuWallet, moment, public_id
from wallet_actions.coins import Coin
from wallet_actions.errors import RejectedError, TransientError, UsageError
from wallet_actions.transition import Changes, Done, Failed, Failure, Next, Park, Transition

TOGETHER = timedelta(minutes=10)


class IssueBatch(Action[CashuWallet, Unpaid | MintRequested, IssuedBatch], kind="cashu_issue_batch", schema_version=2):
    """Turn several quotes of a mint into coins, as far as they are paid.

    Attributes:
        mint: its URL, in the form that names its account.
        offers: the quotes.
        asked_at: when they were made.
    """

    upgrades: ClassVar[Mapping[int, Upgrade]] = {1: lambda state: state}  # `held_since` of a request begins as None

    mint: str
    unit: str
    offers: tuple[Offer, ...]
    asked_at: AwareDatetime

    @classmethod
    async def of(cls, wallet: CashuWallet, mint_url: str, amounts: Sequence[int], unit: str = "sat") -> Self:
        """Ask a mint for a quote for each amount. Nothing is written yet: start the action before an invoice is paid.

        Raises:
            UsageError: no amounts; otherwise, and all others, as `Issue.of`.
        """
        mint = wallet.mint(mint_url)
        if not amounts:
            raise UsageError("a batch needs an amount or more")
        await mint.require(RESTORE, DLEQ)
        denominations = (await mint.active_keyset(unit)).denominations
        for amount in (*amounts, sum(amounts)):
            split(amount, denominations)
        quotes = [await ask(wallet, mint, amount, unit) for amount in amounts]
        if len({quote.quote for quote, _ in quotes}) != len(quotes):
            raise WrongQuoteError("the mint gave one quote for two invoices")
        return cls(
            mint=mint.url,
            unit=unit,
            offers=tuple(
                Offer(
                    quote=SecretStr(quote.quote),
                    request=quote.request,
                    amount=amount,
                    expires_at=moment(quote.expiry),
                    key_counter=key_counter,
                )
                for amount, (quote, key_counter) in zip(amounts, quotes, strict=True)
            ),
            asked_at=wallet.clock.now(),
            phase=Unpaid(waiting=tuple(range(len(quotes)))),
        )

    @property
    def id(self) -> str:
        """Follows from the quotes' ids, and may be shown."""
        return public_id("\n".join(offer.quote.get_secret_value() for offer in self.offers))

    async def advance(self, wallet: CashuWallet) -> Transition[Self, IssuedBatch]:
        """Wait for the payments, have the ecash signed."""
        match self.phase:
            case Unpaid():
                return await self._wait_for_payments(wallet, self.phase)
            case MintRequested():
                return await self._request(wallet, self.phase)
            case _ as unreachable:
                assert_never(unreachable)

    async def on_rejection(self, wallet: CashuWallet, error: RejectedError) -> Transition[Self, IssuedBatch]:
        """No refusal ends an issue: its quotes may hold money."""
        delay = min(max(wallet.clock.now() - self.asked_at, SHORTEST_POLL), LONGEST_POLL)
        return Park(self, wake_after=delay, error=TransientError(str(error)))

    async def on_retry(self, wallet: CashuWallet, failure: Failure) -> Transition[Self, IssuedBatch]:
        """A request that failed steps back behind the others, and payments are looked for meanwhile."""
        phase = self.phase
        if not isinstance(phase, MintRequested):
            return Park(self, wake_after=failure.delay, error=failure.error)
        following = Unpaid if phase.waiting else MintRequested
        requests = (*phase.requests[1:], phase.requests[0])
        moved = self.at(following(waiting=phase.waiting, requests=requests, issued=phase.issued))
        delay = min(failure.delay, LONGEST_POLL) if phase.waiting else failure.delay
        return Park(moved, wake_after=delay, error=failure.error)

    async def on_cancel(self, wallet: CashuWallet) -> Transition[Self, IssuedBatch] | None:
        """Possible while nothing was paid; the invoices must not be paid any more then."""
        phase = self.phase
        if not isinstance(phase, Unpaid) or phase.requests or phase.issued:
            return None
        quotes = await self._quotes(wallet, phase.waiting)
        if any(quote is None or quote.state is not MintQuoteState.UNPAID for quote in quotes.values()):
            return None
        return Failed("given up before it was paid", changes=self._outcome(TransactionState.CANCELLED))

    async def _wait_for_payments(self, wallet: CashuWallet, phase: Unpaid) -> Transition[Self, IssuedBatch]:
        quotes = await self._quotes(wallet, phase.waiting)
        standings = {place: self._standing(wallet, place, quote) for place, quote in quotes.items()}
        waiting = tuple(place for place in phase.waiting if standings[place] is not _Standing.OVER)
        paid = [place for place in waiting if standings[place] is _Standing.PAID]
        live = [place for place in waiting if standings[place] is _Standing.LIVE]
        if paid and (not live or wallet.clock.now() >= self._patience_ends(phase.waiting)):
            most = (await wallet.mint(self.mint).details()).most_quotes
            new = [await self._planned(wallet, places) for places in _groups(paid, most)]
            unpaid = tuple(place for place in waiting if place not in paid)
            return self._on(unpaid, (*new, *phase.requests), phase.issued)
        if phase.requests:
            return self._on(waiting, phase.requests, phase.issued)
        if live:
            still = Unpaid(waiting=waiting, issued=phase.issued)
            return Park(self.at(still), wake_after=self._poll(wallet, live))
        doubt = self._doubted(ISSUED_ELSEWHERE) if waiting else None
        return doubt or self._end(phase.issued, TransactionState.FAILED if waiting else TransactionState.EXPIRED)

    def _standing(self, wallet: CashuWallet, place: int, quote: MintQuote | None) -> _Standing:
        end = self.offers[place].expires_at
        told_time = wallet.mint(self.mint).client.told_time
        grace = GIVE_UP_AFTER if quote is None else EXPIRY_GRACE
        has_passed = is_over(
            end or self.asked_at, self.asked_at, grace, now=wallet.clock.now(), told_time=told_time
        ) and not (end is None and quote is not None)
        match None if quote is None else quote.state:
            case MintQuoteState.PAID:
                return _Standing.PAID
            case MintQuoteState.ISSUED:
                return _Standing.GONE
            case MintQuoteState.UNPAID if has_passed:
                return _Standing.OVER
            case None if has_passed:
                return _Standing.GONE
            case _:
                return _Standing.LIVE

    def _patience_ends(self, places: Sequence[int]) -> datetime:
        """Until when paid quotes wait for the others: well before the first of them ends."""
        ends = [end for place in places if (end := self.offers[place].expires_at) is not None]
        return self.asked_at + min([TOGETHER, *((end - self.asked_at) / 2 for end in ends)])

    def _poll(self, wallet: CashuWallet, live: Sequence[int]) -> timedelta:
        now = wallet.clock.now()
        is_late = all((end := self.offers[place].expires_at) is not None and now > end for place in live)
        return min(max((now - self.asked_at) / 10, SHORTEST_POLL), LONGEST_POLL_EXPIRED if is_late else LONGEST_POLL)

    async def _quotes(self, wallet: CashuWallet, places: Sequence[int]) -> dict[int, MintQuote | None]:
        """Look quotes up; None for one that the mint refuses to tell of."""
        mint = wallet.mint(self.mint)
        quotes: dict[int, MintQuote | None] = {}
        for group in _groups(places, (await mint.details()).most_quotes):
            ids = {place: self.offers[place].quote.get_secret_value() for place in group}
            found: Mapping[str, MintQuote] = {}
            if len(ids) > 1:
                with suppress(MintError):  # some mints refuse all for one that they do not know
                    found = await mint.client.mint_quotes(list(ids.values()))
            for place, quote_id in ids.items():
                quotes[place] = found.get(quote_id)
                if quote_id not in found:
                    with suppress(MintError):
                        quotes[place] = await mint.client.mint_quote(quote_id)
        return quotes

    async def _planned(
        self, wallet: CashuWallet, places: Sequence[int], earlier: tuple[OutputPlan, ...] = ()
    ) -> BatchRequest:
        keyset = await wallet.mint(self.mint).active_keyset(self.unit)
        plan = await OutputPlan.of(wallet, keyset, split(self._sum(places), keyset.denominations))
        return BatchRequest(places=tuple(places), plan=plan, earlier=earlier)

    async def _request(self, wallet: CashuWallet, phase: MintRequested) -> Transition[Self, IssuedBatch]:
        request = phase.requests[0]
        outputs = request.plan.outputs(wallet)
        offers = [self.offers[place] for place in request.places]
        claims = [Claim(offer.quote.get_secret_value(), offer.amount, offer.key_counter) for offer in offers]
        try:
            signatures = await have_signed(wallet, wallet.mint(self.mint), claims, outputs)
        except (MintError, TransientError) as error:
            return await self._look_up(wallet, phase, request, error)
        return await self._minted(wallet, phase, request.plan, outputs, signatures)

    async def _look_up(
        self, wallet: CashuWallet, phase: MintRequested, request: BatchRequest, error: MintError | TransientError
    ) -> Transition[Self, IssuedBatch]:
        """Find out what became of a request that was not answered with signatures (L-P2), as `Issue` does."""
        quotes = await self._quotes(wallet, request.places)
        states = {None if quote is None else quote.state for quote in quotes.values()}
        if states & {MintQuoteState.ISSUED, MintQuoteState.PENDING}:
            for plan in (request.plan, *request.earlier):
                outputs = plan.outputs(wallet)
                found = await wallet.mint(self.mint).client.restore([output.to_message() for output in outputs])
                if is_complete(outputs, found):
                    # A mint that dies between signing and saying so leaves its quotes pending for ever (L-C7).
                    doubt = None if states == {MintQuoteState.ISSUED} else self._doubted("the mint is signing")
                    return doubt or await self._minted(wallet, phase, plan, outputs, in_order(outputs, found))
        if states == {MintQuoteState.ISSUED}:
            return self._doubted(ISSUED_ELSEWHERE) or self._on(phase.waiting, phase.requests[1:], phase.issued)
        if isinstance(error, MintError) and states <= {MintQuoteState.PAID, MintQuoteState.ISSUED}:
            others = await self._replan(wallet, phase, request, error) or await self._divide(wallet, phase, request)
            if others is not None:
                return others
        reason = _deadlock(states, error)
        # While there are others to see to, this one steps back behind them.
        if reason is not None and len(phase.requests) == 1 and not phase.waiting:
            return held(self, reason, wallet.clock.now())
        raise TransientError(
            f"the mint has not issued yet: {error}", retry_after=getattr(error, "retry_after", None)
        ) from error

    async def _replan(
        self, wallet: CashuWallet, phase: MintRequested, request: BatchRequest, refusal: MintError
    ) -> Transition[Self, IssuedBatch] | None:
        """Other outputs, where these will never be signed: a keyset was retired, or a counter was used before."""
        if refusal.code in OUTPUTS_USED:
            await wallet.skip_used(self.mint, request.plan.keyset_id)
            if len(request.earlier) >= MOST_PLANS:
                return None
        elif await wallet.mint(self.mint).is_in_use(request.plan.keyset_id):
            return None
        again = await self._planned(wallet, request.places, (request.plan, *request.earlier)[:MOST_PLANS])
        moved = self._on(phase.waiting, (again, *phase.requests[1:]), phase.issued)
        if len(request.earlier) < HASTY_PLANS or not isinstance(moved, Next):
            return moved
        # A mint that refuses whatever it is given is not asked in a hot loop (L-D8).
        has_room = len(request.earlier) < MOST_PLANS
        delay = self.retry.delay(len(request.earlier)) if has_room else LONGEST_POLL_EXPIRED
        return Park(moved.action, wake_after=delay, error=TransientError(str(refusal)))

    async def _divide(
        self, wallet: CashuWallet, phase: MintRequested, request: BatchRequest
    ) -> Transition[Self, IssuedBatch] | None:
        """A request for each quote, where the mint will not sign for all of them: one of them may be the reason."""
        if len(request.places) == 1:
            return None
        doubt = self._doubted("the mint refuses to issue for these invoices together")
        if doubt is not None:
            return doubt
        earlier = (request.plan, *request.earlier)
        singles = [await self._planned(wallet, [place], earlier) for place in request.places]
        return self._on(phase.waiting, (*singles, *phase.requests[1:]), phase.issued)

    async def _minted(
        self,
        wallet: CashuWallet,
        phase: MintRequested,
        plan: OutputPlan,
        outputs: Sequence[Output],
        signatures: Sequence[BlindSignature],
    ) -> Transition[Self, IssuedBatch]:
        keyset = await wallet.mint(self.mint).keyset(plan.keyset_id)
        proofs = unblind_all(outputs, signatures, keyset)
        coins = [coin_of(proof, mint_url=self.mint, unit=self.unit) for proof in proofs]
        issued = tuple(sorted((*phase.issued, *phase.requests[0].places)))
        return self._on(phase.waiting, phase.requests[1:], issued, add=coins)

    def _on(
        self,
        waiting: tuple[int, ...],
        requests: tuple[BatchRequest, ...],
        issued: tuple[int, ...],
        *,
        add: Sequence[Coin] = (),
    ) -> Transition[Self, IssuedBatch]:
        """To the next request, back to the unpaid quotes, or to the end."""
        if requests:
            return Next(self.at(MintRequested(waiting=waiting, requests=requests, issued=issued)), Changes(add=add))
        if waiting:
            return Next(self.at(Unpaid(waiting=waiting, issued=issued)), Changes(add=add))
        return self._end(issued, TransactionState.FAILED, add=add)

    def _end(
        self, issued: tuple[int, ...], otherwise: TransactionState, *, add: Sequence[Coin] = ()
    ) -> Transition[Self, IssuedBatch]:
        if not issued:
            reason = "the invoices expired unpaid" if otherwise is TransactionState.EXPIRED else ISSUED_ELSEWHERE
            return Failed(reason, changes=self._outcome(otherwise))
        paid = tuple(offer.request for place, offer in enumerate(self.offers) if place in issued)
        unpaid = tuple(offer.request for place, offer in enumerate(self.offers) if place not in issued)
        total = self._sum(issued)
        notes = [f"nothing came for {len(unpaid)} of {len(self.offers)} invoices"] if unpaid else []
        return Done(
            IssuedBatch(mint=self.mint, unit=self.unit, amount=total, paid=paid, unpaid=unpaid),
            changes=self._outcome(TransactionState.DONE, amount=total, add=add, notes=notes),
        )

    def _doubted(self, reason: str) -> Park[Self] | None:
        """Look again, unless the mint has said so often enough."""
        answer = doubted(self, reason, Failed(reason))
        return answer if isinstance(answer, Park) else None

    def _sum(self, places: Iterable[int]) -> int:
        return sum(self.offers[place].amount for place in places)

    @property
    def opening(self) -> Changes:
        """What goes with its start: its row in the history."""
        return self._outcome(TransactionState.PENDING)

    def _outcome(self, state: TransactionState, *, amount: int | None = None, **changes: Any) -> Changes:
        fact = transaction_fact(
            self.key,
            mint=self.mint,
            unit=self.unit,
            amount=self._sum(range(len(self.offers))) if amount is None else amount,
            state=state,
            at=self.asked_at,
        )
        return Changes(facts=[fact], **changes)


class _Standing(Enum):
    """Of a quote: paid, neither that nor over, over unpaid, or gone: issued elsewhere, or long forgotten."""

    PAID = auto()
    LIVE = auto()
    OVER = auto()
    GONE = auto()


def _deadlock(states: Set[MintQuoteState | None], error: MintError | TransientError) -> str | None:
    """What no repetition gets around, for the user; see `Issue`."""
    if MintQuoteState.PENDING in states:
        return UNSIGNED
    if isinstance(error, MintError) and error.code == SIGNATURE_INVALID:
        return f"{UNVERIFIED}: {error}"
    return None


def _groups(places: Sequence[int], most: int) -> list[Sequence[int]]:
    return [places[first : first + most] for first in range(0, len(places), most)]
