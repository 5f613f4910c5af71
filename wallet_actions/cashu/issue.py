"""Issue: turn a paid invoice into ecash (NUT-04).

    unpaid ──paid──▶ secrets_prepared ──▶ mint_requested ──signed──▶ done
      │                    ▲                    │
      └─expired─▶ failed   └──keyset retired────┘

Counters are allocated before `secrets_prepared` is written, and `mint_requested` is written before the request leaves,
so the outputs are known whatever happens to the answer (L-S6, L-P1). Once the request may have left, no error is taken
at its word: the quote is read, then the signatures are asked for (NUT-09), and only a quote that was issued without all
of our outputs being signed is a failure (L-C6, L-P2), when the mint says so again and again.

A quote that is paid is never given up. One that its mint calls pending for an hour, or for which it takes neither of
our signatures, is stuck: a person is told, and the action looks again when it is retried or the app starts anew.

"Expired" is a day after the quote's end, by the device's clock and by the mint's, and after one more look at it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Self, assert_never

from pydantic import AwareDatetime, BaseModel, SecretStr

from wallet_actions.action import PERSISTED, Action, Phase, Upgrade
from wallet_actions.cashu.amounts import split
from wallet_actions.cashu.doubt import DoubtfulPhase, HeldPhase, doubted, held, not_held
from wallet_actions.cashu.errors import MintError
from wallet_actions.cashu.facts import TransactionState, transaction_fact
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
from wallet_actions.cashu.proofs import Amount, BlindSignature, coin_of
from wallet_actions.cashu.quotes import MintQuoteState
from wallet_actions.cashu.wallet import CashuWallet, moment, public_id
from wallet_actions.errors import RejectedError, TransientError
from wallet_actions.transition import Changes, Done, Failed, Failure, Next, Park, Transition

EXPIRY_GRACE = timedelta(days=1)
GIVE_UP_AFTER = timedelta(days=7)
SHORTEST_POLL, LONGEST_POLL = timedelta(seconds=1), timedelta(minutes=1)
LONGEST_POLL_EXPIRED = timedelta(hours=1)
HASTY_PLANS, MOST_PLANS = 3, 8
ISSUED_ELSEWHERE = "the quote was issued to another wallet"
UNSIGNED = "it calls the quote pending, and has signed nothing for it"
UNVERIFIED = "it takes none of the wallet's signatures for the quote, which is paid (NUT-20)"


class Unpaid(DoubtfulPhase):
    """The quote waits to be paid."""


class SecretsPrepared(Phase):
    """The quote is paid and the outputs are settled; nothing was sent yet.

    Attributes:
        plan: the outputs.
        earlier: outputs of requests that the mint refused; one of them may still be signed late.
    """

    plan: OutputPlan
    earlier: tuple[OutputPlan, ...] = ()


class MintRequested(HeldPhase):
    """The request may have reached the mint. Attributes as in `SecretsPrepared`."""

    plan: OutputPlan
    earlier: tuple[OutputPlan, ...] = ()


class Issued(BaseModel):
    """What an `Issue` ends with: that much ecash of a mint, in the unit."""

    model_config = PERSISTED

    mint: str
    unit: str
    amount: int


class Issue(
    Action[CashuWallet, Unpaid | SecretsPrepared | MintRequested, Issued], kind="cashu_issue", schema_version=3
):
    """Turn a paid quote of a mint into coins.

    Attributes:
        mint: its URL, in the form that names its account.
        quote: the quote's id; sensitive.
        request: the invoice to pay.
        asked_at: when the quote was made.
        expires_at: until when it can be paid, by the mint's clock; None where the mint does not say. It is looked up
            for a day longer, more and more rarely.
        key_counter: of the key that the quote is locked to (NUT-20); None where it is not.
    """

    upgrades: ClassVar[Mapping[int, Upgrade]] = {
        1: lambda state: {**state, "key_counter": None},
        2: lambda state: state,  # `held_since` of a request begins as None
    }

    mint: str
    unit: str
    amount: Amount
    quote: SecretStr
    request: str
    asked_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    key_counter: int | None = None

    @classmethod
    async def of(cls, wallet: CashuWallet, mint_url: str, amount: int, unit: str = "sat") -> Self:
        """Ask a mint for a quote. Nothing is written yet: start the action before the invoice is paid.

        Raises:
            UsageError: an amount that is no positive 64-bit integer or that the mint's coins do not make up, or not a
                mint's address.
            RejectedError: the mint refuses, has no such unit, or lacks what a safe end depends on.
            TransientError: the mint did not answer.
        """
        mint = wallet.mint(mint_url)
        await mint.require(RESTORE, DLEQ)
        split(amount, (await mint.active_keyset(unit)).denominations)  # once it is paid it is too late to find out
        quote, key_counter = await ask(wallet, mint, amount, unit)
        return cls(
            mint=mint.url,
            unit=unit,
            amount=amount,
            quote=SecretStr(quote.quote),
            request=quote.request,
            asked_at=wallet.clock.now(),
            expires_at=moment(quote.expiry),
            key_counter=key_counter,
            phase=Unpaid(),
        )

    @property
    def id(self) -> str:
        """Follows from the quote's id, and may be shown."""
        return public_id(self.quote.get_secret_value())

    async def advance(self, wallet: CashuWallet) -> Transition[Self, Issued]:
        """Wait for the payment, prepare the outputs, have them signed."""
        match self.phase:
            case Unpaid():
                return await self._wait_for_payment(wallet)
            case SecretsPrepared(plan=plan, earlier=earlier):
                return Next(self.at(MintRequested(plan=plan, earlier=earlier)))
            case MintRequested(plan=plan, earlier=earlier):
                return await self._request(wallet, plan, earlier)
            case _ as unreachable:
                assert_never(unreachable)

    async def on_rejection(self, wallet: CashuWallet, error: RejectedError) -> Transition[Self, Issued]:
        """No refusal ends an issue: its quote may hold money."""
        delay = min(max(wallet.clock.now() - self.asked_at, SHORTEST_POLL), LONGEST_POLL)
        return Park(self, wake_after=delay, error=TransientError(str(error)))

    async def on_retry(self, wallet: CashuWallet, failure: Failure) -> Transition[Self, Issued]:
        """A mint that could not be asked has not held the quote without a break."""
        return Park(not_held(self), wake_after=failure.delay, error=failure.error)

    async def on_cancel(self, wallet: CashuWallet) -> Transition[Self, Issued] | None:
        """Only an unpaid quote can be given up; the invoice must not be paid any more then."""
        if not isinstance(self.phase, Unpaid):
            return None
        quote = await wallet.mint(self.mint).client.mint_quote(self.quote.get_secret_value())
        if quote.state is not MintQuoteState.UNPAID:
            return None
        return Failed("given up before it was paid", changes=self._outcome(TransactionState.CANCELLED))

    async def _wait_for_payment(self, wallet: CashuWallet) -> Transition[Self, Issued]:
        now, client = wallet.clock.now(), wallet.mint(self.mint).client
        try:
            quote = await client.mint_quote(self.quote.get_secret_value())
        except MintError as refusal:
            end = self.expires_at or self.asked_at
            if not is_over(end, self.asked_at, GIVE_UP_AFTER, now=now, told_time=client.told_time):
                raise
            return doubted(self, str(refusal), Failed(refusal, changes=self._outcome(TransactionState.FAILED)))
        match quote.state:
            case MintQuoteState.PAID:
                return Next(self.at(SecretsPrepared(plan=await self._plan(wallet))))
            case MintQuoteState.ISSUED:
                return self._issued_elsewhere()
            case MintQuoteState.UNPAID if self.expires_at is not None and is_over(
                self.expires_at, self.asked_at, EXPIRY_GRACE, now=now, told_time=client.told_time
            ):
                return Failed("the invoice expired unpaid", changes=self._outcome(TransactionState.EXPIRED))
            case _:
                is_expired = now > (self.expires_at or self.asked_at + EXPIRY_GRACE)
                longest = LONGEST_POLL_EXPIRED if is_expired else LONGEST_POLL
                return Park(self, wake_after=min(max((now - self.asked_at) / 10, SHORTEST_POLL), longest))

    async def _plan(self, wallet: CashuWallet) -> OutputPlan:
        keyset = await wallet.mint(self.mint).active_keyset(self.unit)
        return await OutputPlan.of(wallet, keyset, split(self.amount, keyset.denominations))

    async def _request(
        self, wallet: CashuWallet, plan: OutputPlan, earlier: tuple[OutputPlan, ...]
    ) -> Transition[Self, Issued]:
        outputs = plan.outputs(wallet)
        claim = Claim(self.quote.get_secret_value(), self.amount, self.key_counter)
        try:
            signatures = await have_signed(wallet, wallet.mint(self.mint), [claim], outputs)
        except (MintError, TransientError) as error:
            return await self._look_up(wallet, plan, earlier, error)
        return await self._done(wallet, plan, outputs, signatures)

    async def _look_up(
        self,
        wallet: CashuWallet,
        plan: OutputPlan,
        earlier: tuple[OutputPlan, ...],
        error: MintError | TransientError,
    ) -> Transition[Self, Issued]:
        """Find out what became of a request that was not answered with signatures (L-P2).

        The quote is read before the signatures: one that is issued cannot have our outputs signed later.
        """
        client = wallet.mint(self.mint).client
        quote = await client.mint_quote(self.quote.get_secret_value())
        if quote.state in (MintQuoteState.ISSUED, MintQuoteState.PENDING):
            for attempt in (plan, *earlier):
                outputs = attempt.outputs(wallet)
                found = await client.restore([output.to_message() for output in outputs])
                if not is_complete(outputs, found):
                    continue
                done = await self._done(wallet, attempt, outputs, in_order(outputs, found))
                # A mint that dies between signing and saying so leaves its quote pending for ever (L-C7).
                return done if quote.state is MintQuoteState.ISSUED else doubted(self, "the mint is signing", done)
        if quote.state is MintQuoteState.ISSUED:
            return self._issued_elsewhere()
        if quote.state is MintQuoteState.PENDING:
            return held(self, UNSIGNED, wallet.clock.now())
        if quote.state is MintQuoteState.PAID and isinstance(error, MintError):
            replanned = await self._replan(wallet, plan, earlier, error)
            if replanned is not None:
                return replanned
            if error.code == SIGNATURE_INVALID:
                return held(self, f"{UNVERIFIED}: {error}", wallet.clock.now())
        raise TransientError(
            f"the mint has not issued yet: {error}", retry_after=getattr(error, "retry_after", None)
        ) from error

    async def _replan(
        self, wallet: CashuWallet, plan: OutputPlan, earlier: tuple[OutputPlan, ...], refusal: MintError
    ) -> Transition[Self, Issued] | None:
        """Other outputs, where these will never be signed: a keyset was retired, or a counter was used before.

        The quote still holds the money. The refused outputs stay on the list, since a late copy of the request may yet
        have them signed. A mint that calls all of them used, which it has not signed, is given the last ones again:
        each plan takes counters, and a long row of unused ones hides from a restore what comes after.
        """
        if refusal.code in OUTPUTS_USED:
            await wallet.skip_used(self.mint, plan.keyset_id)
            if len(earlier) >= MOST_PLANS:
                return None
        elif await wallet.mint(self.mint).is_in_use(plan.keyset_id):
            # Mints differ in the code that they give for a retired keyset, so the list of keysets is what counts.
            return None
        moved = self.at(SecretsPrepared(plan=await self._plan(wallet), earlier=(plan, *earlier)[:MOST_PLANS]))
        if len(earlier) < HASTY_PLANS:
            return Next(moved)
        # A mint that refuses whatever it is given is not asked in a hot loop (L-D8).
        delay = self.retry.delay(len(earlier)) if len(earlier) < MOST_PLANS else LONGEST_POLL_EXPIRED
        return Park(moved, wake_after=delay, error=TransientError(str(refusal)))

    def _issued_elsewhere(self) -> Transition[Self, Issued]:
        return doubted(self, ISSUED_ELSEWHERE, Failed(ISSUED_ELSEWHERE, changes=self._outcome(TransactionState.FAILED)))

    async def _done(
        self, wallet: CashuWallet, plan: OutputPlan, outputs: Sequence[Output], signatures: Sequence[BlindSignature]
    ) -> Done[Issued]:
        keyset = await wallet.mint(self.mint).keyset(plan.keyset_id)
        proofs = unblind_all(outputs, signatures, keyset)
        coins = [coin_of(proof, mint_url=self.mint, unit=self.unit) for proof in proofs]
        changes = self._outcome(TransactionState.DONE, add=coins)
        return Done(Issued(mint=self.mint, unit=self.unit, amount=self.amount), changes=changes)

    @property
    def opening(self) -> Changes:
        """What goes with its start: its row in the history."""
        return self._outcome(TransactionState.PENDING)

    def _outcome(self, state: TransactionState, **changes: Any) -> Changes:
        fact = transaction_fact(
            self.key,
            mint=self.mint,
            unit=self.unit,
            amount=self.amount,
            state=state,
            at=self.asked_at,
            counterpart=self.request,
        )
        return Changes(facts=[fact], **changes)
