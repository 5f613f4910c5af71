"""LightningSend: have the node pay an invoice, once.

    coins_reserved ──▶ dispatched ──▶ in_flight ──▶ settled ──▶ done
          │                │              │
          │ (cancel)       └──────┬───────┘
          ▼                       ▼
      cancelled            payment_failed ──▶ failed, the coins free again

The payment hash names the payment, here and at the node: it is the action's id, so that a hash is sent by one action
only, ever (G6). The node is asked where the payment stands before each sending; no answer, "exists already" and every
error mean: look again. "Not found" means that the same invoice may be sent again, and proves nothing else: the coins
come free only when the node has said FAILED and that is on disk, or when it knows nothing of the payment and the
invoice has expired for good.

A failed payment that is sent once more starts anew at the node. A copy whose answer never came may do that at any time,
until the invoice expires; so where there was one, the coins stay held until then, and the node is asked now and then.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Self, assert_never

from pydantic import AwareDatetime, Field

from wallet_actions.action import Action
from wallet_actions.codec import canonical_json
from wallet_actions.coins import MAX_AMOUNT, Coin, CoinState, Fact
from wallet_actions.errors import ConfigurationError, InvariantError, RejectedError, TransientError, UsageError
from wallet_actions.lightning.errors import InvoiceError, InvoiceFault
from wallet_actions.lightning.invoices import read_invoice
from wallet_actions.lightning.node import Payment, PaymentStatus
from wallet_actions.lightning.phases import CoinsReserved, Dispatched, InFlight, PaymentFailed, Sent, Settled
from wallet_actions.lightning.wallet import UNIT, LightningWallet
from wallet_actions.retry import RetryPolicy
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Transition

PAYMENT = "lightning_payment"
"""The kind of the fact that tells how a payment ended, keyed by the payment hash; its body is sensitive."""

GRACE = timedelta(hours=1)
"""By how much the node's clock may be behind ours, when it judges whether an invoice has expired."""

SHORTEST_POLL, LONGEST_POLL = timedelta(seconds=1), timedelta(minutes=1)
COPY_POLL = timedelta(hours=1)
"""How often to look whether a late copy has started a failed payment anew."""

TIMEOUT_S, LONGEST_TIMEOUT_S = 60, 24 * 3600

Amount = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]


class LightningSend(
    Action[LightningWallet, CoinsReserved | Dispatched | InFlight | Settled | PaymentFailed, Sent],
    kind="lightning_send",
):
    """Have the node pay an invoice.

    Start it with its coins: `engine.start(send, send.opening)`.

    Attributes:
        account: the node's, as its coins are booked.
        invoice: in lower case.
        payment_hash: 64 hexadecimal digits.
        expires_at: from then on a node refuses to pay the invoice.
        fee_limit_msat: the most that the route may cost; 0 takes routes without a fee only.
        timeout_s: for how long the node may begin new attempts.
        inputs: the ids of the coins, sorted: chosen once (L-S7).
        input_total_msat: what they are worth.
    """

    retry: ClassVar[RetryPolicy] = RetryPolicy(configuration_wait=timedelta(minutes=5))

    account: str
    invoice: str = Field(repr=False)
    payment_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    amount_msat: Annotated[int, Field(gt=0, le=MAX_AMOUNT)]
    expires_at: AwareDatetime
    fee_limit_msat: Amount
    timeout_s: Annotated[int, Field(gt=0, le=LONGEST_TIMEOUT_S)] = TIMEOUT_S
    inputs: tuple[str, ...]
    input_total_msat: Amount

    @classmethod
    async def of(
        cls, wallet: LightningWallet, invoice: str, *, fee_limit_msat: int | None = None, timeout_s: int = TIMEOUT_S
    ) -> Self:
        """Read an invoice and choose the coins. Nothing is written or reserved yet.

        Args:
            fee_limit_msat: by default a twentieth of the amount, or 1,000 where that is more.
        Raises:
            InvoiceError: malformed, expired, of another network, without an amount, or the node's own.
            InsufficientFundsError: the free coins do not cover amount and fee limit.
            UsageError: a negative fee limit, or a time-out that is not positive or longer than a day.
            ConfigurationError: macaroon or certificate are not the node's.
            TransientError: the node did not say who it is.
        """
        identity = await wallet.identity()
        read = read_invoice(invoice, network=identity.network, now=wallet.clock.now())
        if read.payee == identity.pubkey:
            raise InvoiceError("this invoice is the node's own, and no node pays itself", InvoiceFault.OWN)
        limit = max(read.amount_msat // 20, 1_000) if fee_limit_msat is None else fee_limit_msat
        if limit < 0 or not 0 < timeout_s <= LONGEST_TIMEOUT_S:
            raise UsageError("a fee limit is not negative, and a time-out is positive and at most a day")
        coins = await wallet.select(identity.account, read.amount_msat + limit)
        return cls(
            account=identity.account,
            invoice=read.text,
            payment_hash=read.payment_hash,
            amount_msat=read.amount_msat,
            expires_at=read.expires_at,
            fee_limit_msat=limit,
            timeout_s=timeout_s,
            phase=CoinsReserved(),
            **_chosen(coins),
        )

    async def with_other_coins(self, wallet: LightningWallet) -> Self:
        """The same payment with coins that are free now: for whoever lost a race for the first choice.

        Raises:
            InsufficientFundsError: as `of`.
        """
        chosen = _chosen(await wallet.select(self.account, self._budget))
        return type(self).model_validate({**self.__dict__, **chosen})

    @property
    def id(self) -> str:
        """The payment hash."""
        return self.payment_hash

    @property
    def opening(self) -> Changes:
        """What is written with the start: its coins held, and what they are worth too much free at once (L-C9)."""
        rest = self.input_total_msat - self._budget
        if not rest:
            return Changes(reserve=self.inputs)
        part = self._coin("part", self._budget)
        return Changes(add=[part, self._coin("rest", rest)], reserve=[*self.inputs, part.id], spend=self.inputs)

    async def advance(self, wallet: LightningWallet) -> Transition[Self, Sent]:
        """Look, send where there is nothing to be seen, see how it went."""
        match self.phase:
            case CoinsReserved():
                return await self._dispatch(wallet)
            case Dispatched() as phase if self._lacks_answer(wallet, phase):
                return Next(self.at(Dispatched(sender=wallet.life, is_unanswered=True)))
            case Dispatched():
                return await self._send(wallet, self.phase)
            case InFlight():
                return await self._follow(wallet, self.phase)
            case Settled():
                return self._done(self.phase)
            case PaymentFailed():
                return await self._let_go(wallet, self.phase)
            case _ as unreachable:
                assert_never(unreachable)

    async def on_rejection(self, wallet: LightningWallet, error: RejectedError) -> Transition[Self, Sent]:
        """No refusal of a node proves that nothing is under way."""
        return Park(self, wake_after=LONGEST_POLL, error=TransientError(str(error)))

    async def on_cancel(self, wallet: LightningWallet) -> Transition[Self, Sent] | None:
        """Possible until the node may have been asked (L-C8)."""
        return Failed("given up before it was sent") if isinstance(self.phase, CoinsReserved) else None

    def _lacks_answer(self, wallet: LightningWallet, phase: Dispatched) -> bool:
        """Whether an answer was missed that the checkpoint does not tell of: an earlier life took it with it, or we."""
        is_missed = phase.sender != wallet.life or wallet.is_unanswered(self.payment_hash)
        return is_missed and not (phase.is_unanswered and phase.sender == wallet.life)

    async def _dispatch(self, wallet: LightningWallet) -> Transition[Self, Sent]:
        await wallet.require(self.account)
        held = await wallet.store.coins(holder=self.key, state=CoinState.RESERVED, limit=len(self._held) + 1)
        if sorted(coin.id for coin in held) != sorted(self._held):
            raise InvariantError(f"{self.key}: it does not hold its coins", rule="a payment starts with its coins")
        return Next(self.at(Dispatched(sender=wallet.life)))

    async def _send(self, wallet: LightningWallet, phase: Dispatched) -> Transition[Self, Sent]:
        if phase.is_unanswered:
            wallet.forget(self.payment_hash)  # the checkpoint tells of it
        await wallet.require(self.account)
        now = wallet.clock.now()  # before the look: what is not found must not be found after expiry and grace
        payment = await wallet.node.track(self.payment_hash)
        if payment is None and now >= self.expires_at:
            # A copy that still travels is refused, once the node's clock says so too.
            return self._after_expiry(now) or Next(
                self.at(PaymentFailed(reason="the invoice expired before it was paid"))
            )
        if payment is None:
            payment = await self._ask(wallet)
        return self._told(wallet, payment, is_unanswered=phase.is_unanswered)

    async def _ask(self, wallet: LightningWallet) -> Payment:
        with wallet.sending(self.payment_hash):
            payment = await wallet.node.send(self.invoice, fee_limit_msat=self.fee_limit_msat, timeout_s=self.timeout_s)
        if payment is None:
            payment = await wallet.node.track(self.payment_hash)
        if payment is None:
            raise TransientError("the node has the payment, and cannot find it")
        return payment

    async def _follow(self, wallet: LightningWallet, phase: InFlight) -> Transition[Self, Sent]:
        await wallet.require(self.account)
        payment = await wallet.node.track(self.payment_hash)
        if payment is None:
            # It may have been paid before it was forgotten: neither sent again nor given up (L-D9).
            raise ConfigurationError(
                "the node does not know a payment any more that it had under way; were its records deleted?"
            )
        return self._told(wallet, payment, is_unanswered=phase.is_unanswered)

    async def _let_go(self, wallet: LightningWallet, phase: PaymentFailed) -> Transition[Self, Sent]:
        if phase.is_unanswered:
            await wallet.require(self.account)
            waiting = self._after_expiry(wallet.clock.now())
            payment = await wallet.node.track(self.payment_hash)
            if payment is not None and payment.status is not PaymentStatus.FAILED:
                return self._told(wallet, payment, is_unanswered=True)
            if waiting is not None:
                return waiting
        # Only now is it final: until here a copy could still have paid.
        return Failed(phase.reason, changes=Changes(facts=[self._fact("failed", {"reason": phase.reason})]))

    def _after_expiry(self, now: datetime) -> Park[Self] | None:
        """Wait until no node takes the invoice any more; None once that is so."""
        left = self.expires_at + GRACE - now
        return Park(self, wake_after=min(max(left, SHORTEST_POLL), COPY_POLL)) if left > timedelta(0) else None

    def _told(self, wallet: LightningWallet, payment: Payment, *, is_unanswered: bool) -> Transition[Self, Sent]:
        """What the node's word leads to.

        Raises:
            TransientError: it speaks of another payment, or shows no receipt.
        """
        if payment.payment_hash != self.payment_hash:
            raise TransientError("the node speaks of another payment")
        now = wallet.clock.now()
        match payment.status:
            case PaymentStatus.SUCCEEDED:
                preimage = payment.preimage
                if preimage is None or not _is_preimage(preimage.get_secret_value(), self.payment_hash):
                    raise TransientError("the node says that it is paid, and shows no receipt")
                settled = Settled(preimage=preimage, fee_msat=payment.fee_msat)
                told = {"amount_msat": self.amount_msat, "fee_msat": payment.fee_msat, "preimage": preimage}
                return Next(self.at(settled), changes=Changes(facts=[self._fact("settled", told)]))
            case PaymentStatus.FAILED:
                reason = f"the payment failed: {_words(payment.failure_reason)}"
                return Next(self.at(PaymentFailed(reason=reason, is_unanswered=is_unanswered)))
            case PaymentStatus.INITIATED | PaymentStatus.IN_FLIGHT:
                if not isinstance(self.phase, InFlight):
                    return Next(self.at(InFlight(since=now, is_unanswered=is_unanswered)))
                return Park(self, wake_after=min(max(now - self.phase.since, SHORTEST_POLL), LONGEST_POLL))
            case _ as unreachable:
                assert_never(unreachable)

    def _done(self, phase: Settled) -> Done[Sent]:
        left = self.fee_limit_msat - phase.fee_msat
        change = [self._coin("change", left)] if left > 0 else []
        sent = Sent(amount_msat=self.amount_msat, fee_msat=phase.fee_msat, preimage=phase.preimage)
        return Done(sent, changes=Changes(add=change, spend=self._held))

    @property
    def _budget(self) -> int:
        return self.amount_msat + self.fee_limit_msat

    @property
    def _held(self) -> tuple[str, ...]:
        """The ids of the coins that pay: the chosen ones, or what was split off from them."""
        return self.inputs if self.input_total_msat == self._budget else (self._coin_id("part"),)

    def _coin(self, part: str, amount_msat: int) -> Coin:
        return Coin(self._coin_id(part), self.account, UNIT, amount_msat)

    def _coin_id(self, part: str) -> str:
        return f"{self.kind}/{self.payment_hash}/{part}"

    def _fact(self, state: str, told: dict[str, Any]) -> Fact:
        return Fact(PAYMENT, self.payment_hash, canonical_json({"state": state, "account": self.account, **told}))


def _chosen(coins: tuple[Coin, ...]) -> dict[str, Any]:
    return {
        "inputs": tuple(sorted(coin.id for coin in coins)),
        "input_total_msat": sum(coin.amount for coin in coins),
    }


def _is_preimage(preimage: str, payment_hash: str) -> bool:
    try:
        return hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == payment_hash
    except ValueError:
        return False


_WORDS = {
    "TIMEOUT": "no route led there in time",
    "NO_ROUTE": "no route leads there within the fee limit",
    "INCORRECT_PAYMENT_DETAILS": "the payee refused it",
    "INSUFFICIENT_BALANCE": "the node's channels hold too little",
    "CANCELED": "it was cancelled at the node",
}


def _words(reason: str) -> str:
    return _WORDS.get(reason, "the node gave no reason")
