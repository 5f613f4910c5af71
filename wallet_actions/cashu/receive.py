"""Receive: take the coins of a token over, by swapping them for coins that nobody else knows (NUT-03).

    proofs_pending ──▶ swap_requested ──▶ done
          │   ▲          │       │
 (cancel) │   └──────────┘       │ all of it was spent elsewhere
          ▼   other outputs,     ▼
      cancelled  or fewer coins  failed

The token's coins are in the action until the swap has gone through; nothing of them is in the ledger. The counters of
the new coins are on disk before the request leaves, so that it can be repeated, and its answer looked up. A token whose
coins are partly spent gives the rest. What the mint refuses otherwise may pass: the action waits, and asks again, for a
day; only forged coins end it sooner.

The same token is the same action, for ever (G6), however it is written: its id follows from the coins. Only where it
ended for a reason that may have passed, or was given up, the same token begins another one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Self, assert_never

from pydantic import AwareDatetime, Field, SecretStr

from wallet_actions.action import Action
from wallet_actions.cashu.acceptance import acceptable, named_keys, unlocked
from wallet_actions.cashu.answers import SpendState
from wallet_actions.cashu.doubt import TIMES_TO_BELIEVE, doubted, held
from wallet_actions.cashu.errors import TokenRefusedError, TokenSpentError
from wallet_actions.cashu.exchange import HeldAtMint, OtherOutputs, Refused, Swapped, fee_for, swap
from wallet_actions.cashu.facts import TransactionState, transaction_fact
from wallet_actions.cashu.keys import COUNTER
from wallet_actions.cashu.plan import SwapPlan
from wallet_actions.cashu.proofs import Proof, coin_of
from wallet_actions.cashu.receiving import Attempt, ProofsPending, Received, SwapRequested
from wallet_actions.cashu.wallet import CashuWallet, public_id
from wallet_actions.cashu.witnesses import Locked
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.errors import ConfigurationError, RejectedError, TransientError
from wallet_actions.retry import QuadraticWait, RetryPolicy
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Transition

__all__ = ["Receive", "Received"]

CHECK, RESTORE, DLEQ = 7, 9, 12  # the parts of the protocol that proof, a lost answer and new coins call for
FORGED = frozenset({10001, 10003})  # the mint did not sign the coins; the older code and the newer one
GIVE_UP_AFTER = timedelta(days=1)
HASTY_PLANS, MOST_PLANS = 3, 8


class Receive(Action[CashuWallet, ProofsPending | SwapRequested, Received], kind="cashu_receive"):
    """Take a token over.

    Start it with its row in the history: `engine.start(receive, receive.opening)`.

    Attributes:
        mint: its URL, in the form that names its account.
        unit, memo: as the token says; the memo is a stranger's.
        proofs: the token's coins, without DLEQ proofs; sensitive.
        preimages: what opens their hashes; sensitive.
        coins: a name for just these coins at this mint, which may be shown.
        asked_at: when the token was handed in.
        again: how often the same token was given up before.
    """

    retry: ClassVar[RetryPolicy] = RetryPolicy(wait=QuadraticWait(base=timedelta(milliseconds=400)))

    mint: str
    unit: str
    memo: str | None = None
    proofs: Annotated[tuple[Proof, ...], Field(min_length=1, repr=False)]
    preimages: tuple[SecretStr, ...] = ()
    coins: str
    asked_at: AwareDatetime
    again: int = 0

    @classmethod
    async def of(
        cls, wallet: CashuWallet, token: str, mint: str | None = None, preimages: Collection[str] = ()
    ) -> Self:
        """Read a token and check it, as far as that goes without spending it. Nothing is written yet.

        Args:
            token: as it was received, version 3 or 4.
            mint: refuse a token of any other.
            preimages: to open hashes with (NUT-14), 64 hex characters each.
        Raises:
            MalformedError, TokenRefusedError, TokenLockedError, UsageError: see `acceptable`.
            RejectedError: its mint lacks what a safe end depends on, or has no keyset in use for its unit.
            TransientError: its mint did not answer.
        """
        found = await acceptable(wallet, token, mint_url=mint, preimages=preimages)
        await wallet.mint(found.mint).require(CHECK, RESTORE, DLEQ)
        receive = cls(
            mint=found.mint,
            unit=found.unit,
            memo=found.memo,
            proofs=found.proofs,
            preimages=tuple(map(SecretStr, found.preimages)),
            coins=_name(found.mint, found.proofs),
            asked_at=wallet.clock.now(),
            phase=ProofsPending(),
        )
        while _may_begin_anew(await wallet.store.load(receive.key)):
            receive = cls.model_validate({**receive.__dict__, "again": receive.again + 1})
        return receive

    @property
    def id(self) -> str:
        """Follows from the coins, and may be shown."""
        return f"{self.coins}-{self.again}" if self.again else self.coins

    @property
    def amount(self) -> int:
        """What the token says that it is worth, in the unit."""
        return sum(proof.amount for proof in self.proofs)

    async def advance(self, wallet: CashuWallet) -> Transition[Self, Received]:
        """Plan the new coins, have the old ones swapped for them."""
        try:
            match self.phase:
                case ProofsPending() as phase:
                    return await self._plan(wallet, phase)
                case SwapRequested() as phase:
                    return await self._request(wallet, phase)
                case _ as unreachable:
                    assert_never(unreachable)
        except RejectedError as refusal:
            # No refusal of a look-up says anything about the coins.
            raise TransientError(str(refusal)) from refusal

    async def on_cancel(self, wallet: CashuWallet) -> Transition[Self, Received] | None:
        """Possible until the mint may have been asked (L-C8), and where it goes on refusing coins that are unspent."""
        match self.phase:
            case ProofsPending(earlier=()):
                pass
            case SwapRequested() as phase if phase.refusals >= TIMES_TO_BELIEVE or phase.held_since is not None:
                states = await wallet.mint(self.mint).client.check([proof.y for proof in self._unspent(phase.spent)])
                if set(states) != {SpendState.UNSPENT}:
                    return None
            case _:
                return None
        return Failed("given up before it was taken", changes=self._outcome(TransactionState.CANCELLED))

    async def _plan(self, wallet: CashuWallet, phase: ProofsPending) -> Transition[Self, Received]:
        proofs = self._unspent(phase.spent)
        total = sum(proof.amount for proof in proofs)
        fee = await fee_for(wallet, self.mint, proofs)
        if total <= fee:
            reason = f"what is left of the token is worth {total} {self.unit}, and taking it would cost {fee}"
            error = TokenSpentError(reason) if phase.spent else TokenRefusedError(reason)
            return Failed(error, changes=self._outcome(TransactionState.FAILED))
        keyset = await wallet.mint(self.mint).active_keyset(self.unit)
        plan = await SwapPlan.of(wallet, keyset, kept=total - fee)
        requested = SwapRequested(attempt=Attempt(plan=plan, fee=fee), earlier=phase.earlier, spent=phase.spent)
        return Next(self.at(requested), changes=await self._keys_in_use(wallet))

    async def _keys_in_use(self, wallet: CashuWallet) -> Changes:
        """A wallet that was restored finds out with each payment how far its receiving keys were in use."""
        keys = named_keys(self.proofs)
        counter = await wallet.keys.counter_after(keys) if keys else None
        return Changes() if counter is None else Changes(counters={COUNTER: counter})

    async def _request(self, wallet: CashuWallet, phase: SwapRequested) -> Transition[Self, Received]:
        plan = phase.attempt.plan
        outputs = [output.to_message() for output in plan.outputs(wallet)]
        preimages = [preimage.get_secret_value() for preimage in self.preimages]
        inputs = await unlocked(wallet, self._unspent(phase.spent), preimages, outputs)
        if isinstance(inputs, Locked):
            if inputs.opens_at is not None:
                raise TransientError(f"{inputs.reason}; the clock was set back")
            raise ConfigurationError(f"{inputs.reason}; bring back the keys that it was started with")
        answer = await swap(wallet, self.mint, inputs, plan, earlier=[attempt.plan for attempt in phase.earlier])
        if isinstance(answer, HeldAtMint):
            return held(self, answer.reason, wallet.clock.now())
        return self._answered(phase, answer, now=wallet.clock.now())

    def _answered(
        self, phase: SwapRequested, answer: Swapped | OtherOutputs | Refused, *, now: datetime
    ) -> Transition[Self, Received]:
        match answer:
            case Swapped():
                return self._done(phase, answer)
            case OtherOutputs(reason=reason):
                return self._replan(phase, reason, now=now)
            case Refused(spent=spent) if spent:
                return self._spent_elsewhere(phase, spent)
            case Refused(reason=reason, code=code):
                return self._refused(phase, reason, now=now, is_final=code in FORGED)

    def _refused(
        self, phase: SwapRequested, reason: str, *, now: datetime, is_final: bool = False
    ) -> Transition[Self, Received]:
        """Its coins are unspent: ask again, more and more rarely."""
        if is_final or now - self.asked_at > GIVE_UP_AFTER:
            failed = Failed(TokenRefusedError(reason), changes=self._outcome(TransactionState.FAILED))
            return doubted(self, reason, failed)
        refusals = phase.refusals + 1
        again = self.at(SwapRequested.model_validate({**phase.__dict__, "refusals": refusals, "held_since": None}))
        return Park(again, wake_after=self.retry.delay(refusals), error=TransientError(reason))

    def _replan(self, phase: SwapRequested, reason: str, *, now: datetime) -> Transition[Self, Received]:
        """The refused plan stays on the list, since a late copy of its request may yet be carried out."""
        refused = (phase.attempt, *phase.earlier)
        if len(refused) >= MOST_PLANS:
            return self._refused(phase, reason, now=now)
        moved = self.at(ProofsPending(earlier=refused, spent=phase.spent))
        if len(refused) < HASTY_PLANS:
            return Next(moved)
        # A mint that refuses whatever it is given is not asked in a hot loop (L-D8).
        return Park(moved, wake_after=self.retry.delay(len(refused)), error=TransientError(reason))

    def _spent_elsewhere(self, phase: SwapRequested, spent: Sequence[str]) -> Transition[Self, Received]:
        gone = tuple(sorted({*phase.spent, *spent}))
        is_all = len(gone) == len(self.proofs)
        error = TokenSpentError(f"{'the' if is_all else 'a part of the'} token has been spent already")
        believed = doubted(self, str(error), Failed(error, changes=self._outcome(TransactionState.FAILED)))
        if is_all or isinstance(believed, Park):
            return believed
        # Also a plan with coins that are gone may turn out to have been carried out: by ourselves.
        moved = self.at(ProofsPending(earlier=(phase.attempt, *phase.earlier)[:MOST_PLANS], spent=gone))
        return Next(moved, changes=Changes(notes=[f"{len(gone)} of {len(self.proofs)} coins had been spent already"]))

    def _done(self, phase: SwapRequested, swapped: Swapped) -> Done[Received]:
        attempt = next(one for one in (phase.attempt, *phase.earlier) if one.plan == swapped.plan)
        taken = attempt.net + attempt.fee
        received = Received(
            mint=self.mint, unit=self.unit, amount=attempt.net, fee=attempt.fee, spent=self.amount - taken
        )
        coins = [coin_of(proof, mint_url=self.mint, unit=self.unit) for proof in swapped.kept]
        return Done(received, changes=self._outcome(TransactionState.DONE, amount=taken, fee=attempt.fee, add=coins))

    def _unspent(self, spent: Collection[str]) -> tuple[Proof, ...]:
        return tuple(proof for proof in self.proofs if proof.y not in spent)

    @property
    def opening(self) -> Changes:
        """What goes with its start: its row in the history."""
        return self._outcome(TransactionState.PENDING)

    def _outcome(self, state: TransactionState, *, amount: int | None = None, fee: int = 0, **changes: Any) -> Changes:
        fact = transaction_fact(
            self.key,
            mint=self.mint,
            unit=self.unit,
            amount=self.amount if amount is None else amount,
            fee=fee,
            state=state,
            at=self.asked_at,
            memo=self.memo,
        )
        return Changes(facts=[fact], **changes)


def _name(mint_url: str, proofs: Sequence[Proof]) -> str:
    """Other than the secrets alone, it tells a token from one that only looks like it, which may have come first."""
    coins = sorted(f"{proof.y} {proof.id} {proof.amount} {proof.C}" for proof in proofs)
    return public_id("\n".join((mint_url, *coins)))


def _may_begin_anew(checkpoint: Checkpoint | None) -> bool:
    """Whether an action has ended without saying anything about the token that is true for ever."""
    if checkpoint is None or checkpoint.status not in {Status.FAILED, Status.CANCELLED}:
        return False
    return checkpoint.error is None or checkpoint.error.type != TokenSpentError.__name__
