"""Melt: have a mint pay an invoice with ecash (NUT-05), and take back what is left over (NUT-08).

    proofs_reserved ──▶ melt_requested ──pending──▶ payment_pending
          │                   │    │                    │    │
          │ (cancel)    failed│    │paid            paid│    │failed
          ▼                   ▼    ▼                    ▼    ▼
      cancelled             rolled done               done  rolled
                             back                            back

The coins are reserved with the start, the counters of the change allocated before `melt_requested` is written, and that
is written before the request leaves. From then on no answer is taken at its word: the quote is read, and the coins are
checked (L-C5, L-C6). A refusal counts as a failure only with both proofs in hand, read after it: the quote is unpaid,
and every coin is unspent; and, where we do not know its reason, only when it is repeated. A lost answer proves nothing;
the same request is sent again. "Rolled back" is one write: failed, and the coins free again.

A copy of the request whose answer never came may arrive later still, and be carried out then. Where there was one, the
way to "rolled back" leads through `reclaiming`: the coins are swapped for new ones, so that it finds them spent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar, Self, assert_never

from pydantic import AwareDatetime, SecretStr

from wallet_actions.action import Action, Upgrade
from wallet_actions.cashu.amounts import blank_output_count
from wallet_actions.cashu.answers import SpendState
from wallet_actions.cashu.doubt import doubted, held
from wallet_actions.cashu.errors import MintError, MintUnreachableError
from wallet_actions.cashu.exchange import HeldAtMint, OtherOutputs, Refused, Swapped, fee_for, swap
from wallet_actions.cashu.facts import TransactionState, payment_proof_fact, transaction_fact
from wallet_actions.cashu.melt_change import collect
from wallet_actions.cashu.melt_phases import MeltRequested, Paid, PaymentPending, ProofsReserved, Reclaiming, SentPhase
from wallet_actions.cashu.melt_quotes import require_amount, require_fee
from wallet_actions.cashu.plan import SwapPlan
from wallet_actions.cashu.proofs import Amount, Proof, coin_of
from wallet_actions.cashu.quotes import MeltQuote, MeltQuoteState
from wallet_actions.cashu.wallet import CashuWallet, moment, public_id
from wallet_actions.coins import Coin, CoinState
from wallet_actions.errors import ConfigurationError, InvariantError, RejectedError, TransientError
from wallet_actions.transition import Changes, Done, Failed, Failure, Next, Park, Transition

CHECK, RESTORE, DLEQ = 7, 9, 12  # the parts of the protocol that proof, a lost answer and change call for
PAYMENT_FAILED = 20004
OUTPUTS_USED = frozenset({11003, 11004})  # signed, or about to be signed, for another request
SHORTEST_POLL, LONGEST_POLL = timedelta(seconds=1), timedelta(minutes=1)
MOST_PLANS, MOST_SWAPS = 2, 8


class Melt(
    Action[CashuWallet, ProofsReserved | MeltRequested | PaymentPending | Reclaiming, Paid],
    kind="cashu_melt",
    schema_version=2,
):
    """Pay an invoice with coins of a mint.

    Start it with its coins: `engine.start(melt, melt.opening)`.

    Attributes:
        mint: its URL, in the form that names its account.
        quote: the quote's id; sensitive.
        request: the invoice.
        partial_msat: the part of the invoice that is paid here, while other mints pay the rest (NUT-15); None for all.
        fee_reserve: what the payment may cost.
        inputs: the ids of the coins, sorted: chosen once, so that a repeated request is the same one (L-S7).
        input_total, input_fee: what they are worth, and what spending them costs.
        expires_at: until when the mint's offer stands; None where it does not say.
        asked_at: when the offer was asked for; None in checkpoints that were written before it was kept.
    """

    upgrades: ClassVar[Mapping[int, Upgrade]] = MappingProxyType(
        {1: lambda state: {**state, "asked_at": None, "partial_msat": None}}
    )

    mint: str
    unit: str
    amount: Amount
    quote: SecretStr
    request: str
    partial_msat: int | None = None
    fee_reserve: int
    inputs: tuple[str, ...]
    input_total: Amount
    input_fee: int
    expires_at: AwareDatetime | None = None
    asked_at: AwareDatetime | None = None

    @classmethod
    async def of(
        cls,
        wallet: CashuWallet,
        mint_url: str,
        request: str,
        unit: str = "sat",
        *,
        max_fee: int | None = None,
        partial_msat: int | None = None,
    ) -> Self:
        """Ask a mint what paying an invoice costs, and choose the coins. Nothing is written or reserved yet.

        Args:
            max_fee: the largest fee reserve to accept, in the unit, without the fee for spending the coins; by default
                a tenth of the amount, or 100 where that is more.
            partial_msat: have the mint pay this part of it, in thousandths of a satoshi; see `melt_parts`.
        Raises:
            UsageError: not a mint's address.
            InsufficientFundsError: the free coins do not cover amount, fee reserve and input fees.
            RejectedError: the mint refuses the invoice, asks for another amount or for more than `max_fee`
                (WrongQuoteError), or lacks what a safe end depends on.
            TransientError: the mint did not answer.
        """
        mint = wallet.mint(mint_url)
        await mint.require(CHECK, RESTORE, DLEQ)
        quote = await mint.client.create_melt_quote(request, unit, partial_msat=partial_msat)
        require_amount(quote, request, unit, partial_msat)
        require_fee(quote, max_fee)
        coins, fee = await wallet.select(mint.url, unit, quote.amount + quote.fee_reserve)
        return cls(
            mint=mint.url,
            unit=unit,
            amount=quote.amount,
            quote=SecretStr(quote.quote),
            request=request,
            partial_msat=partial_msat,
            fee_reserve=quote.fee_reserve,
            expires_at=moment(quote.expiry),
            asked_at=wallet.clock.now(),
            phase=ProofsReserved(),
            **_chosen(coins, fee),
        )

    async def with_other_coins(self, wallet: CashuWallet) -> Self:
        """The same payment with coins that are free now: for whoever lost a race for the first choice.

        Raises:
            InsufficientFundsError, TransientError: as `of`.
        """
        coins, fee = await wallet.select(self.mint, self.unit, self.amount + self.fee_reserve)
        chosen = _chosen(coins, fee)
        return type(self).model_validate({**self.__dict__, **chosen})

    @property
    def id(self) -> str:
        """Follows from the quote's id, and may be shown."""
        return public_id(self.quote.get_secret_value())

    async def advance(self, wallet: CashuWallet) -> Transition[Self, Paid]:
        """Settle the change's outputs, have the payment made, see how it went."""
        match self.phase:
            case ProofsReserved():
                return await self._prepare(wallet)
            case MeltRequested() as phase if self._is_missed(wallet, phase):
                # Whatever the mint answered went with an earlier life, or with a write that failed.
                mine = {**phase.__dict__, "sender": wallet.life, "is_unanswered": True}
                return Next(self.at(MeltRequested.model_validate(mine)))
            case MeltRequested():
                return await self._request(wallet, self.phase)
            case PaymentPending():
                return await self._look_up(wallet)
            case Reclaiming():
                return await self._reclaim(wallet, self.phase)
            case _ as unreachable:
                assert_never(unreachable)

    def _is_missed(self, wallet: CashuWallet, phase: MeltRequested) -> bool:
        """Whether an answer did not come, and the checkpoint does not say so."""
        if phase.sender != wallet.life:
            return True
        return not phase.is_unanswered and wallet.is_unanswered(self.id)

    async def on_rejection(self, wallet: CashuWallet, error: RejectedError) -> Transition[Self, Paid]:
        """A refusal ends the payment only while the mint has not been asked to make it."""
        if isinstance(self.phase, ProofsReserved):
            return Failed(error, changes=self._outcome(TransactionState.FAILED))
        return Park(self, wake_after=LONGEST_POLL, error=TransientError(str(error)))

    async def on_retry(self, wallet: CashuWallet, failure: Failure) -> Transition[Self, Paid]:
        """A request whose answer did not come is remembered: it may arrive later than those that are answered."""
        phase = self.phase
        was_sent = isinstance(phase, MeltRequested) and not isinstance(failure.error, MintUnreachableError)
        marked = self.at(type(phase).model_validate({**phase.__dict__, "is_unanswered": True})) if was_sent else self
        return Park(marked, wake_after=failure.delay, error=failure.error)

    async def on_cancel(self, wallet: CashuWallet) -> Transition[Self, Paid] | None:
        """Possible until the mint may have been asked (L-C8)."""
        if isinstance(self.phase, ProofsReserved):
            return Failed("given up before it was sent", changes=self._outcome(TransactionState.CANCELLED))
        return None

    async def _prepare(self, wallet: CashuWallet) -> Transition[Self, Paid]:
        if self.expires_at is not None and wallet.clock.now() > self.expires_at:
            return Failed("the mint's offer has expired", changes=self._outcome(TransactionState.EXPIRED))
        held = await wallet.store.coins(holder=self.key, state=CoinState.RESERVED, limit=len(self.inputs) + 1)
        if {coin.id for coin in held} != set(self.inputs):
            raise InvariantError(f"{self.key}: it does not hold its coins", rule="a melt starts with its coins")
        return Next(self.at(MeltRequested(**await self._blanks(wallet), sender=wallet.life)))

    async def _blanks(self, wallet: CashuWallet) -> dict[str, Any]:
        keyset = await wallet.mint(self.mint).active_keyset(self.unit)
        blanks = blank_output_count(self._most_change)
        return {
            "keyset_id": keyset.id,
            "first_counter": await wallet.allocate(keyset.id, blanks),
            "blanks": blanks,
        }

    async def _request(self, wallet: CashuWallet, phase: MeltRequested) -> Transition[Self, Paid]:
        proofs = await wallet.proofs(self.inputs)
        messages = [output.to_message() for output in phase.outputs(wallet)]
        try:
            with wallet.sending(self.id):
                quote = await wallet.mint(self.mint).client.melt(self.quote.get_secret_value(), proofs, messages)
        except (MintError, TransientError) as error:
            return await self._look_up(wallet, error)
        match quote.state:
            case MeltQuoteState.PAID:
                return await self._done(wallet, quote)
            case MeltQuoteState.PENDING:
                return self._pending(wallet)
            case MeltQuoteState.UNPAID:
                return await self._look_up(wallet)

    async def _look_up(
        self, wallet: CashuWallet, error: MintError | TransientError | None = None
    ) -> Transition[Self, Paid]:
        """Read the quote, and decide on proof.

        Args:
            error: what became of the request; None where the mint has carried it out, so that an unpaid quote tells how
                that ended.
        """
        quote = await self._quote(wallet)
        match quote.state:
            case MeltQuoteState.PAID:
                return await self._done(wallet, quote)
            case MeltQuoteState.PENDING:
                return self._pending(wallet)
            case MeltQuoteState.UNPAID if quote.receipt is not None:
                raise TransientError("the mint calls the payment unpaid and shows its receipt")  # L-C5
        if isinstance(error, MintUnreachableError):
            raise error
        if isinstance(error, TransientError):
            # The request may still be on its way: only sending it again finds out (L-P2).
            raise TransientError(f"the mint did not answer: {error}", retry_after=error.retry_after) from error
        return await self._roll_back(wallet, error)

    def _pending(self, wallet: CashuWallet) -> Transition[Self, Paid]:
        now, phase = wallet.clock.now(), self.phase
        if not isinstance(phase, SentPhase):
            raise ConfigurationError("the mint pays a quote that it was not asked to pay")
        since = phase.since if isinstance(phase, PaymentPending) else now
        delay = min(max((now - since) / 10, SHORTEST_POLL), LONGEST_POLL)
        return Park(self.at(PaymentPending(**phase.sent, since=since)), wake_after=delay)

    async def _roll_back(self, wallet: CashuWallet, refusal: MintError | None) -> Transition[Self, Paid]:
        """The quote is unpaid, read after the mint's answer: free the coins if they are all unspent."""
        proofs = await wallet.proofs(self.inputs)
        states = await wallet.mint(self.mint).client.check([proof.y for proof in proofs])
        spent = [proof.y for proof, state in zip(proofs, states, strict=True) if state is SpendState.SPENT]
        reason = f"the payment failed: {refusal}" if refusal is not None else "the payment failed"
        if SpendState.PENDING in states:
            return held(self, "the mint holds the coins of a payment that it calls unpaid", wallet.clock.now())
        if (await self._quote(wallet)).state is not MeltQuoteState.UNPAID:
            raise TransientError("the mint changed its mind about the payment")
        if spent:
            return self._spent_elsewhere(reason, spent)
        if refusal is not None and refusal.code != PAYMENT_FAILED:
            wait = await self._replan(wallet, refusal) or doubted(self, reason, Failed(reason))
            if not isinstance(wait, Failed):
                return wait
        return await self._failed(wallet, proofs, reason)

    def _spent_elsewhere(self, reason: str, spent: Sequence[str]) -> Transition[Self, Paid]:
        """Not for this quote, but by the same seed elsewhere. The other coins are still ours (L-C13)."""
        note = f"{len(spent)} of the coins had been spent elsewhere"
        ending = Failed(f"{reason}; {note}", changes=self._outcome(TransactionState.FAILED, spend=spent, notes=[note]))
        return doubted(self, f"{reason}; {note}", ending)

    async def _replan(self, wallet: CashuWallet, refusal: MintError) -> Transition[Self, Paid] | None:
        """Other outputs for the change, where the mint will never sign these: the payment need not fail for them."""
        match self.phase:
            case MeltRequested(blanks=blanks, doubts=doubts) as phase if blanks and doubts < MOST_PLANS:
                if refusal.code in OUTPUTS_USED:
                    await wallet.skip_used(self.mint, phase.keyset_id)
                elif await wallet.mint(self.mint).is_in_use(phase.keyset_id):
                    return None
                again = {
                    **phase.__dict__,
                    **await self._blanks(wallet),
                    "earlier": (phase.plan, *phase.earlier),
                    "doubts": doubts + 1,
                }
                return Next(self.at(MeltRequested.model_validate(again)))
            case _:
                return None

    async def _failed(
        self, wallet: CashuWallet, proofs: Sequence[Proof], reason: str, *, refused: tuple[SwapPlan, ...] = ()
    ) -> Transition[Self, Paid]:
        """The payment failed, and the coins are unspent: free them, or new ones where a request may arrive late."""
        phase = self.phase
        failed = Failed(reason, changes=self._outcome(TransactionState.FAILED))
        if not isinstance(phase, SentPhase) or not phase.is_unanswered:
            return failed
        worth = self.input_total - await fee_for(wallet, self.mint, proofs)
        if worth <= 0:
            return failed
        keyset = await wallet.mint(self.mint).active_keyset(self.unit)
        plan = await SwapPlan.of(wallet, keyset, kept=worth)
        reclaiming = self.at(Reclaiming(**phase.sent, reason=reason, swap=plan, earlier_swaps=refused))
        if not refused:
            return Next(reclaiming)
        # A mint that refuses whatever it is given is not asked in a hot loop (L-D8).
        return Park(reclaiming, wake_after=self.retry.delay(len(refused)), error=TransientError(reason))

    async def _reclaim(self, wallet: CashuWallet, phase: Reclaiming) -> Transition[Self, Paid]:
        proofs = await wallet.proofs(self.inputs)
        outcome = await swap(wallet, self.mint, proofs, phase.swap, earlier=phase.earlier_swaps)
        match outcome:
            case Swapped(kept=kept):
                coins = [coin_of(proof, mint_url=self.mint, unit=self.unit) for proof in kept]
                fee = self.input_total - sum(coin.amount for coin in coins)
                changes = self._outcome(TransactionState.FAILED, fee=fee, add=coins, spend=self.inputs)
                return Failed(phase.reason, changes=changes)
            case OtherOutputs() if len(phase.earlier_swaps) < MOST_SWAPS:
                return await self._failed(wallet, proofs, phase.reason, refused=(phase.swap, *phase.earlier_swaps))
        # The request has arrived late, or somebody else has the coins: the quote tells which.
        quote = await self._quote(wallet)
        if quote.state is MeltQuoteState.PAID:
            return await self._done(wallet, quote)
        if quote.state is MeltQuoteState.PENDING:
            return self._pending(wallet)
        match outcome:
            case HeldAtMint(reason=reason):
                return held(self, reason, wallet.clock.now())
            case Refused(spent=spent) if spent:
                return self._spent_elsewhere(phase.reason, spent)
            case Refused(reason=reason) | OtherOutputs(reason=reason):
                ending = Failed(phase.reason, changes=self._outcome(TransactionState.FAILED))
                return doubted(self, f"the coins could not be swapped: {reason}", ending)

    async def _quote(self, wallet: CashuWallet) -> MeltQuote:
        try:
            return await wallet.mint(self.mint).client.melt_quote(self.quote.get_secret_value())
        except MintError as error:
            # A look-up that is refused proves nothing about the payment.
            raise TransientError(f"the mint does not tell how the payment went: {error}") from error

    async def _done(self, wallet: CashuWallet, quote: MeltQuote) -> Transition[Self, Paid]:
        change = await collect(
            wallet,
            self.mint,
            self.phase.all_outputs(wallet) if isinstance(self.phase, SentPhase) else (),
            quote.change or (),
            least=max(0, self._most_change - self.fee_reserve),
            most=self._most_change,
        )
        fee = self.input_total - self.amount - change.total
        changes = self._outcome(
            TransactionState.DONE,
            fee=fee,
            preimage=quote.receipt,
            add=[coin_of(proof, mint_url=self.mint, unit=self.unit) for proof in change.proofs],
            spend=self.inputs,
            notes=[change.oddity] if change.oddity is not None else [],
        )
        receipt = None if quote.receipt is None else SecretStr(quote.receipt)
        done = Done(Paid(amount=self.amount, fee=fee, preimage=receipt), changes=changes)
        return done if change.oddity is None else doubted(self, change.oddity, done)

    @property
    def _most_change(self) -> int:
        return self.input_total - self.amount - self.input_fee

    @property
    def opening(self) -> Changes:
        """What goes with its start: the reservation of its coins, and its row in the history."""
        return self._outcome(TransactionState.PENDING, reserve=self.inputs)

    def _outcome(
        self, state: TransactionState, *, fee: int = 0, preimage: str | None = None, **changes: Any
    ) -> Changes:
        fact = transaction_fact(
            self.key,
            mint=self.mint,
            unit=self.unit,
            amount=self.amount,
            fee=fee,
            state=state,
            at=self.asked_at,
            counterpart=self.request,
        )
        receipt = [] if preimage is None else [payment_proof_fact(self.key, preimage)]
        return Changes(facts=[fact, *receipt], **changes)


def _chosen(coins: Sequence[Coin], fee: int) -> dict[str, Any]:
    return {
        "inputs": tuple(sorted(coin.id for coin in coins)),
        "input_total": sum(coin.amount for coin in coins),
        "input_fee": fee,
    }
