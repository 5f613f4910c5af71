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
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Self, assert_never

from pydantic import AwareDatetime, BaseModel, SecretStr

from wallet_actions.action import PERSISTED, Action, Phase
from wallet_actions.cashu.amounts import blank_output_count
from wallet_actions.cashu.answers import SpendState
from wallet_actions.cashu.doubt import DoubtfulPhase, doubted
from wallet_actions.cashu.errors import MintError, MintLiedError, WrongQuoteError
from wallet_actions.cashu.facts import payment_proof_fact, transaction_fact
from wallet_actions.cashu.outputs import BLANK_AMOUNT, Output, unblind_change
from wallet_actions.cashu.proofs import Amount, BlindSignature, Proof, coin_of
from wallet_actions.cashu.quotes import MeltQuote, MeltQuoteState
from wallet_actions.cashu.wallet import CashuWallet, moment, public_id
from wallet_actions.coins import MAX_AMOUNT, Coin, CoinState
from wallet_actions.errors import ConfigurationError, InvariantError, RejectedError, TransientError
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Transition

CHECK, RESTORE, DLEQ = 7, 9, 12  # the parts of the protocol that proof, a lost answer and change call for
PAYMENT_FAILED = 20004
OUTPUTS_USED = frozenset({11003, 11004})  # signed, or about to be signed, for another request
SHORTEST_POLL, LONGEST_POLL = timedelta(seconds=1), timedelta(minutes=1)
MOST_PLANS = 2
FEE_ALWAYS_ACCEPTED, FEE_SHARE_ACCEPTED = 100, 10  # in the unit; one in so many of the amount
NO_PREIMAGE = frozenset({"", "0" * 64})
INVOICE = re.compile(r"ln[a-z]+?(?:(\d+)([munp]?))?1[ac-hj-np-z02-9]+")
PICO = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}  # of a bitcoin
PICO_OF_UNIT = {"sat": 10_000, "msat": 10}


class ProofsReserved(Phase):
    """The coins are held; the mint knows nothing yet."""


class MeltRequested(DoubtfulPhase):
    """The request may have reached the mint.

    Attributes:
        keyset_id, first_counter, blanks: the blank outputs for the change; no change is possible where `blanks` is 0.
    """

    keyset_id: str
    first_counter: int
    blanks: int


class PaymentPending(DoubtfulPhase):
    """The mint said that the payment is under way. Attributes as in `MeltRequested`.

    Attributes:
        since: when it said so first.
    """

    keyset_id: str
    first_counter: int
    blanks: int
    since: AwareDatetime


class Paid(BaseModel):
    """What a `Melt` ends with.

    Attributes:
        amount: what the invoice asked for, in the unit.
        fee: what was paid on top: for the payment and for spending the coins; negative where the mint gave more change
            than was due.
        preimage: the receipt, where the mint gave one; sensitive.
    """

    model_config = PERSISTED

    amount: int
    fee: int
    preimage: SecretStr | None = None


class Melt(Action[CashuWallet, ProofsReserved | MeltRequested | PaymentPending, Paid], kind="cashu_melt"):
    """Pay an invoice with coins of a mint.

    Start it with its coins: `engine.start(melt, Changes(reserve=melt.inputs))`.

    Attributes:
        mint: its URL, in the form that names its account.
        quote: the quote's id; sensitive.
        request: the invoice.
        fee_reserve: what the payment may cost.
        inputs: the ids of the coins, sorted: chosen once, so that a repeated request is the same one (L-S7).
        input_total, input_fee: what they are worth, and what spending them costs.
        expires_at: until when the mint's offer stands; None where it does not say.
    """

    mint: str
    unit: str
    amount: Amount
    quote: SecretStr
    request: str
    fee_reserve: int
    inputs: tuple[str, ...]
    input_total: Amount
    input_fee: int
    expires_at: AwareDatetime | None = None

    @classmethod
    async def of(
        cls, wallet: CashuWallet, mint_url: str, request: str, unit: str = "sat", *, max_fee: int | None = None
    ) -> Self:
        """Ask a mint what paying an invoice costs, and choose the coins. Nothing is written or reserved yet.

        Args:
            max_fee: the largest fee reserve to accept, in the unit, without the fee for spending the coins; by default
                a tenth of the amount, or 100 where that is more.
        Raises:
            UsageError: not a mint's address.
            InsufficientFundsError: the free coins do not cover amount, fee reserve and input fees.
            RejectedError: the mint refuses the invoice, asks for another amount or for more than `max_fee`
                (WrongQuoteError), or lacks what a safe end depends on.
            TransientError: the mint did not answer.
        """
        mint = wallet.mint(mint_url)
        await mint.require(CHECK, RESTORE, DLEQ)
        quote = await mint.client.create_melt_quote(request, unit)
        _require_amount(quote, request, unit)
        _require_fee(quote, max_fee)
        coins, fee = await wallet.select(mint.url, unit, quote.amount + quote.fee_reserve)
        return cls._with(mint.url, unit, request, quote, coins, fee)

    async def with_other_coins(self, wallet: CashuWallet) -> Self:
        """The same payment with coins that are free now: for whoever lost a race for the first choice.

        Raises:
            InsufficientFundsError, TransientError: as `of`.
        """
        coins, fee = await wallet.select(self.mint, self.unit, self.amount + self.fee_reserve)
        chosen = _chosen(coins, fee)
        return type(self).model_validate({**self.__dict__, **chosen})

    @classmethod
    def _with(cls, mint_url: str, unit: str, request: str, quote: MeltQuote, coins: Sequence[Coin], fee: int) -> Self:
        return cls(
            mint=mint_url,
            unit=unit,
            amount=quote.amount,
            quote=SecretStr(quote.quote),
            request=request,
            fee_reserve=quote.fee_reserve,
            expires_at=moment(quote.expiry),
            phase=ProofsReserved(),
            **_chosen(coins, fee),
        )

    @property
    def id(self) -> str:
        """Follows from the quote's id, and may be shown."""
        return public_id(self.quote.get_secret_value())

    async def advance(self, wallet: CashuWallet) -> Transition[Self, Paid]:
        """Settle the change's outputs, have the payment made, see how it went."""
        match self.phase:
            case ProofsReserved():
                return await self._prepare(wallet)
            case MeltRequested():
                return await self._request(wallet)
            case PaymentPending():
                return await self._look_up(wallet, refusal=None, was_pending=True)
            case _ as unreachable:
                assert_never(unreachable)

    async def on_rejection(self, wallet: CashuWallet, error: RejectedError) -> Transition[Self, Paid]:
        """A refusal ends the payment only while the mint has not been asked to make it."""
        if isinstance(self.phase, ProofsReserved):
            return Failed(error, changes=self._outcome("failed"))
        return Park(self, wake_after=LONGEST_POLL, error=TransientError(str(error)))

    async def on_cancel(self, wallet: CashuWallet) -> Transition[Self, Paid] | None:
        """Possible until the mint may have been asked (L-C8)."""
        if isinstance(self.phase, ProofsReserved):
            return Failed("given up before it was sent", changes=self._outcome("cancelled"))
        return None

    async def _prepare(self, wallet: CashuWallet) -> Transition[Self, Paid]:
        if self.expires_at is not None and wallet.clock.now() > self.expires_at:
            return Failed("the mint's offer has expired", changes=self._outcome("expired"))
        held = await wallet.store.coins(holder=self.key, state=CoinState.RESERVED, limit=len(self.inputs) + 1)
        if {coin.id for coin in held} != set(self.inputs):
            raise InvariantError(f"{self.key}: it does not hold its coins", rule="a melt starts with its coins")
        return Next(self.at(await self._planned(wallet)))

    async def _planned(self, wallet: CashuWallet, *, doubts: int = 0) -> MeltRequested:
        keyset = await wallet.mint(self.mint).active_keyset(self.unit, is_fresh=True)
        blanks = blank_output_count(self._most_change)
        first_counter = await wallet.allocate(keyset.id, blanks)
        return MeltRequested(keyset_id=keyset.id, first_counter=first_counter, blanks=blanks, doubts=doubts)

    async def _request(self, wallet: CashuWallet) -> Transition[Self, Paid]:
        proofs = await wallet.proofs(self.inputs)
        messages = [output.to_message() for output in self._blank_outputs(wallet)]
        try:
            quote = await wallet.mint(self.mint).client.melt(self.quote.get_secret_value(), proofs, messages)
        except MintError as refusal:
            return await self._look_up(wallet, refusal=refusal)
        except TransientError as lost:
            return await self._look_up(wallet, refusal=None, lost=lost)
        if quote.state is MeltQuoteState.PAID:
            return await self._done(wallet, quote)
        return await self._look_up(wallet, refusal=None, was_pending=True)

    async def _look_up(
        self,
        wallet: CashuWallet,
        *,
        refusal: MintError | None,
        lost: TransientError | None = None,
        was_pending: bool = False,
    ) -> Transition[Self, Paid]:
        """Read the quote, and decide on proof.

        Args:
            refusal: what the mint answered to the request, if that was a refusal.
            lost: what became of the request, if it was not answered.
            was_pending: the mint had said that the payment is under way, so an unpaid quote tells how that ended.
        """
        quote = await self._quote(wallet)
        match quote.state:
            case MeltQuoteState.PAID:
                return await self._done(wallet, quote)
            case MeltQuoteState.PENDING:
                return self._pending(wallet)
            case MeltQuoteState.UNPAID if quote.payment_preimage not in {None, *NO_PREIMAGE}:
                raise TransientError("the mint calls the payment unpaid and shows its receipt")  # L-C5
        if lost is not None:
            # The request may still be on its way: only sending it again finds out (L-P2).
            raise TransientError(f"the mint did not answer: {lost}", retry_after=lost.retry_after) from lost
        return await self._roll_back(wallet, refusal, was_pending=was_pending)

    def _pending(self, wallet: CashuWallet) -> Transition[Self, Paid]:
        now = wallet.clock.now()
        match self.phase:
            case MeltRequested(keyset_id=keyset_id, first_counter=first_counter, blanks=blanks):
                pending = PaymentPending(keyset_id=keyset_id, first_counter=first_counter, blanks=blanks, since=now)
                return Next(self.at(pending))
            case PaymentPending(since=since):
                return Park(self, wake_after=min(max((now - since) / 10, SHORTEST_POLL), LONGEST_POLL))
            case ProofsReserved():
                raise ConfigurationError("the mint pays a quote that it was not asked to pay")

    async def _roll_back(
        self, wallet: CashuWallet, refusal: MintError | None, *, was_pending: bool
    ) -> Transition[Self, Paid]:
        """The quote is unpaid, read after the mint's answer: free the coins if they are all unspent."""
        proofs = await wallet.proofs(self.inputs)
        states = await wallet.mint(self.mint).client.check([proof.y for proof in proofs])
        spent = [proof.y for proof, state in zip(proofs, states, strict=True) if state is SpendState.SPENT]
        reason = f"the payment failed: {refusal}" if refusal is not None else "the payment failed"
        if SpendState.PENDING in states:
            raise TransientError("the mint still holds the coins of a payment that it calls unpaid")
        if (await self._quote(wallet)).state is not MeltQuoteState.UNPAID:
            raise TransientError("the mint changed its mind about the payment")
        if spent:
            # Spent, but not for this quote: by the same seed elsewhere. The others are still ours (L-C13).
            note = f"{len(spent)} of the coins had been spent elsewhere"
            ending = Failed(f"{reason}; {note}", changes=self._outcome("failed", spend=spent, notes=[note]))
            return doubted(self, f"{reason}; {note}", ending)
        if was_pending or refusal is None or refusal.code == PAYMENT_FAILED:
            return Failed(reason, changes=self._outcome("failed"))
        replanned = await self._replan(wallet, refusal)
        return replanned or doubted(self, reason, Failed(reason, changes=self._outcome("failed")))

    async def _replan(self, wallet: CashuWallet, refusal: MintError) -> Transition[Self, Paid] | None:
        """Other outputs for the change, where the mint will never sign these: the payment need not fail for them."""
        match self.phase:
            case MeltRequested(keyset_id=keyset_id, blanks=blanks, doubts=doubts) if blanks and doubts < MOST_PLANS:
                if refusal.code in OUTPUTS_USED:
                    await wallet.skip_used(self.mint, keyset_id)
                elif await wallet.mint(self.mint).is_in_use(keyset_id):
                    return None
                return Next(self.at(await self._planned(wallet, doubts=doubts + 1)))
            case _:
                return None

    async def _quote(self, wallet: CashuWallet) -> MeltQuote:
        try:
            return await wallet.mint(self.mint).client.melt_quote(self.quote.get_secret_value())
        except MintError as error:
            # A look-up that is refused proves nothing about the payment.
            raise TransientError(f"the mint does not tell how the payment went: {error}") from error

    async def _done(self, wallet: CashuWallet, quote: MeltQuote) -> Transition[Self, Paid]:
        least = max(0, self._most_change - self.fee_reserve)
        lie: MintLiedError | None = None
        proofs: Sequence[Proof] = ()
        try:
            proofs = await self._change(wallet, quote.change or ())
        except MintLiedError as error:
            lie = error
        if not proofs or _total(proofs) < least:
            proofs = max(proofs, await self._restored_change(wallet), key=_total)
        change = _total(proofs)
        if lie is not None and (not proofs or change < least):
            raise lie
        notes: list[str] = []
        if change < least:
            notes = [f"the mint gave {change} of change where at least {least} were due"]
        elif change > self._most_change:
            # Some mints sign change twice when a look-up and the request race each other. It is good ecash.
            notes = [f"the mint gave {change} of change where at most {self._most_change} were due"]
        fee = self.input_total - self.amount - change
        preimage = quote.payment_preimage if quote.payment_preimage not in {None, *NO_PREIMAGE} else None
        coins = [coin_of(proof, mint_url=self.mint, unit=self.unit) for proof in proofs]
        changes = self._outcome("done", fee=fee, preimage=preimage, add=coins, spend=self.inputs, notes=notes)
        receipt = SecretStr(preimage) if preimage is not None else None
        done = Done(Paid(amount=self.amount, fee=fee, preimage=receipt), changes=changes)
        return doubted(self, notes[0], done) if notes else done

    async def _change(self, wallet: CashuWallet, signatures: Sequence[BlindSignature]) -> Sequence[Proof]:
        return await self._unblinded(wallet, list(zip(self._blank_outputs(wallet), signatures, strict=False)))

    async def _restored_change(self, wallet: CashuWallet) -> Sequence[Proof]:
        outputs = self._blank_outputs(wallet)
        if not outputs:
            return ()
        found = await wallet.mint(self.mint).client.restore([output.to_message() for output in outputs])
        signed = [(output, found[output.blinded_message]) for output in outputs if output.blinded_message in found]
        return await self._unblinded(wallet, signed)

    async def _unblinded(self, wallet: CashuWallet, signed: Sequence[tuple[Output, BlindSignature]]) -> Sequence[Proof]:
        if not signed:
            return ()
        keyset = await wallet.mint(self.mint).keyset(signed[0][0].keyset_id)
        outputs, signatures = zip(*signed, strict=True)
        return unblind_change(outputs, signatures, keyset, most=len(outputs) * MAX_AMOUNT)

    def _blank_outputs(self, wallet: CashuWallet) -> tuple[Output, ...]:
        match self.phase:
            case ProofsReserved():
                return ()
            case phase:
                return wallet.outputs(phase.keyset_id, phase.first_counter, (BLANK_AMOUNT,) * phase.blanks)

    @property
    def _most_change(self) -> int:
        return self.input_total - self.amount - self.input_fee

    def _outcome(self, state: str, *, fee: int = 0, preimage: str | None = None, **changes: Any) -> Changes:
        facts = [transaction_fact(self.key, mint=self.mint, unit=self.unit, amount=self.amount, fee=fee, state=state)]
        if preimage is not None:
            facts.append(payment_proof_fact(self.key, preimage))
        return Changes(facts=facts, **changes)


def _total(proofs: Sequence[Proof]) -> int:
    return sum(proof.amount for proof in proofs)


def _require_amount(quote: MeltQuote, request: str, unit: str) -> None:
    """Check that the mint asks for what the invoice says; other units have no rate to check them by.

    Raises:
        WrongQuoteError: for another amount.
    Source: BOLT-11, human-readable part.
    """
    written = INVOICE.fullmatch(request.lower())
    if written is None or written[1] is None or unit not in PICO_OF_UNIT:
        return
    whole, rest = divmod(int(written[1]) * PICO[written[2]], PICO_OF_UNIT[unit])
    if quote.amount not in {whole, whole + bool(rest)}:
        raise WrongQuoteError("the mint offers to pay another amount than the invoice's")


def _require_fee(quote: MeltQuote, max_fee: int | None) -> None:
    most = max(FEE_ALWAYS_ACCEPTED, quote.amount // FEE_SHARE_ACCEPTED) if max_fee is None else max_fee
    if quote.fee_reserve > most:
        raise WrongQuoteError(
            f"the mint wants to keep {quote.fee_reserve} for fees, more than the {most} allowed; "
            "pass max_fee to accept it"
        )


def _chosen(coins: Sequence[Coin], fee: int) -> dict[str, Any]:
    return {
        "inputs": tuple(sorted(coin.id for coin in coins)),
        "input_total": sum(coin.amount for coin in coins),
        "input_fee": fee,
    }
