"""Send: coins of exactly an amount, as a token that is handed to somebody (NUT-00, NUT-03).

    proofs_reserved ──exact coins─────────────▶ token_created ──all claimed──▶ done
          │     │                                ▲       │                      ▲
          │     └──▶ swap_requested ──signed─────┘       │ (cancel)             │ claimed meanwhile
          │ (cancel)      │ refused, or (cancel)         ▼                      │
          ▼               ▼                         rolling_back ───────────────┘
      cancelled         failed                           └──▶ taken back

Coins that fit are handed out as they are, without a request. Otherwise a swap makes them: its outputs are on disk
before the request leaves, and one write takes the new coins in, holds those of the token, and gives up the inputs
(L-C4, L-C7). From then on the token does not change, and only a person's request takes it back (L-C8): by a swap of
the coins that are still unspent, a race that the payee may win. Where the token is locked, that takes a key of ours.
If the mint goes on refusing that, the action is stuck and a person is told; the payee can claim the token meanwhile.

That a token was claimed is believed at once, other than an end to the wallet's loss (`doubt`): it is what was wanted,
and the token is the payee's once it is out. A mint that is wrong about it takes away the choice to ask for it back.

What a cancel request means depends on how far it is. Before anything was sent, the coins are free again. While the swap
is under way, it is carried through, since only that tells how it ended, and its coins are kept. Coins that would then
be locked to somebody else are not called back: the request is refused.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Self, assert_never

from pydantic import AwareDatetime

from wallet_actions.action import Action
from wallet_actions.cashu import exchange
from wallet_actions.cashu.conditions import Condition
from wallet_actions.cashu.doubt import doubted, held
from wallet_actions.cashu.exchange import HeldAtMint, OtherOutputs, Refused, Swapped
from wallet_actions.cashu.facts import TransactionState, transaction_fact
from wallet_actions.cashu.plan import SwapPlan
from wallet_actions.cashu.proofs import Amount, Proof, coin_of
from wallet_actions.cashu.sending import (
    ProofsReserved,
    RollingBack,
    Sent,
    SwapRequested,
    TakeBack,
    TokenCreated,
    choose,
    nuts_for,
    plan_for,
    require_sendable,
    rolling_back,
    spent_of,
    token_created,
    total,
    why_locked,
)
from wallet_actions.cashu.tokens import Token, TokenVersion
from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.cashu.witnesses import Locked, unlock
from wallet_actions.coins import Coin, CoinState
from wallet_actions.errors import InvariantError, RejectedError, TransientError
from wallet_actions.transition import NO_CHANGES, Changes, Done, Failed, Next, Park, Transition

SHORTEST_POLL, LONGEST_POLL = timedelta(seconds=1), timedelta(hours=1)
AFTER_A_REFUSAL = timedelta(minutes=1)
POLLS_IN_AGE = 4  # a token is looked up again after a quarter of the time that it has been out
HASTY_PLANS, MOST_PLANS = 3, 8
ID_BYTES = 16

NOT_WORTH_IT = "the mint's fee for taking it back is as much as its coins are worth"


class Send(Action[CashuWallet, ProofsReserved | SwapRequested | TokenCreated | RollingBack, Sent], kind="cashu_send"):
    """Make a token of some coins.

    Start it with its coins: `engine.start(send, send.opening)`.

    Attributes:
        reference: names it; random and public.
        mint: its URL, in the form that names its account.
        amount: what whoever receives it shall be able to claim; see `include_fee`.
        include_fee: add to the token what it costs to claim it, so that `amount` is left. Otherwise the token says
            `amount`, and who claims it bears that.
        memo: words that go with the token.
        condition: what it takes to claim it.
        version: how the token is written.
        inputs: the ids of the coins, sorted: chosen once, so that a repeated request is the same one (L-S7).
        input_total: what they are worth.
        is_exact: whether they are handed out as they are.
        asked_at: when it was asked for.
    """

    reference: str
    mint: str
    unit: str
    amount: Amount
    include_fee: bool
    memo: str | None
    condition: Condition | None
    version: TokenVersion
    inputs: tuple[str, ...]
    input_total: Amount
    is_exact: bool
    asked_at: AwareDatetime

    @classmethod
    async def of(
        cls,
        wallet: CashuWallet,
        mint_url: str,
        amount: int,
        unit: str = "sat",
        *,
        memo: str | None = None,
        condition: Condition | None = None,
        version: TokenVersion = TokenVersion.V4,
        include_fee: bool = False,
    ) -> Self:
        """Choose coins. Nothing is written or reserved yet.

        Args:
            condition: what it shall take to claim the token: see `pay_to_key` and `hash_lock`.
            include_fee: see the attribute.
        Raises:
            UsageError: an amount that is no positive 64-bit integer or that the mint's coins do not make up, a memo, a
                condition or a version that no token can have, or not a mint's address.
            InsufficientFundsError: the free coins do not cover it.
            RejectedError: the mint has no such unit, or lacks what a safe end depends on.
            TransientError: the mint did not answer.
        """
        require_sendable(amount, memo, condition, version)
        mint = wallet.mint(mint_url)
        await mint.require(*nuts_for(condition))
        return cls(
            reference=secrets.token_hex(ID_BYTES),
            mint=mint.url,
            unit=unit,
            amount=amount,
            include_fee=include_fee,
            memo=memo,
            condition=condition,
            version=version,
            asked_at=wallet.clock.now(),
            phase=ProofsReserved(),
            **await choose(wallet, mint.url, unit, amount, is_locked=condition is not None, include_fee=include_fee),
        )

    async def with_other_coins(self, wallet: CashuWallet) -> Self:
        """The same token of coins that are free now: for whoever lost a race for the first choice.

        Raises:
            InsufficientFundsError, TransientError: as `of`.
        """
        is_locked = self.condition is not None
        chosen = await choose(
            wallet, self.mint, self.unit, self.amount, is_locked=is_locked, include_fee=self.include_fee
        )
        return type(self).model_validate({**self.__dict__, **chosen})

    @property
    def id(self) -> str:
        """Random, and may be shown."""
        return self.reference

    @property
    def token(self) -> str | None:
        """The token, once it exists; sensitive."""
        return self.phase.token.get_secret_value() if isinstance(self.phase, TokenCreated | RollingBack) else None

    async def advance(self, wallet: CashuWallet) -> Transition[Self, Sent]:
        """Make the token, then wait until it is claimed; or take it back."""
        match self.phase:
            case ProofsReserved():
                return await self._prepare(wallet)
            case SwapRequested() as phase:
                return await self._swap(wallet, phase)
            case TokenCreated() as phase:
                return await self._wait_for_claim(wallet, phase)
            case RollingBack() as phase:
                return await self._take_back(wallet, phase)
            case _ as unreachable:
                assert_never(unreachable)

    async def on_rejection(self, wallet: CashuWallet, error: RejectedError) -> Transition[Self, Sent]:
        """A refusal ends it only while the mint has not been asked for anything."""
        if isinstance(self.phase, ProofsReserved):
            return Failed(error, changes=self._outcome(TransactionState.FAILED))
        return Park(self, wake_after=AFTER_A_REFUSAL, error=TransientError(str(error)))

    async def on_cancel(self, wallet: CashuWallet) -> Transition[Self, Sent] | None:
        """Free the coins, or begin to take the token back; see the module's docstring. None where that cannot be."""
        match self.phase:
            case ProofsReserved():
                return Failed("given up before it was made", changes=self._outcome(TransactionState.CANCELLED))
            case SwapRequested(is_unwanted=False) | TokenCreated() if await self.obstacle(wallet) is not None:
                return None
            case SwapRequested(is_unwanted=False) as phase:
                return Next(self.at(SwapRequested(plan=phase.plan, earlier=phase.earlier, is_unwanted=True)))
            case TokenCreated() as phase:
                return await self._begin_to_take_back(wallet, phase)
            case _:
                return None

    async def obstacle(self, wallet: CashuWallet) -> str | None:
        """Why it cannot be taken back, claimed or not, in a sentence for the user; None where it can.

        Raises:
            TransientError: the mint did not tell its fees.
        """
        if self.condition is not None:
            reason = why_locked(self.condition, await wallet.keyring(), now=wallet.clock.now())
            if reason is not None:
                return reason
        if isinstance(self.phase, TokenCreated):
            proofs = await wallet.proofs(self.phase.coins)
            if await exchange.fee_for(wallet, self.mint, proofs) >= total(proofs):
                return NOT_WORTH_IT
        return None

    # Making the token

    async def _prepare(self, wallet: CashuWallet) -> Transition[Self, Sent]:
        reserved = await wallet.store.coins(holder=self.key, state=CoinState.RESERVED, limit=len(self.inputs) + 1)
        if {coin.id for coin in reserved} != set(self.inputs):
            raise InvariantError(f"{self.key}: it does not hold its coins", rule="a send starts with its coins")
        if self.is_exact:
            phase = self._token_of(wallet, await wallet.proofs(self.inputs), fee=self.input_total - self.amount)
            return Park(self.at(phase), wake_after=SHORTEST_POLL, changes=self._created(phase))
        plan = await self._plan(wallet)
        if isinstance(plan, str):
            return Failed(plan, changes=self._outcome(TransactionState.FAILED))
        return Next(self.at(SwapRequested(plan=plan)))

    async def _plan(self, wallet: CashuWallet) -> SwapPlan | str:
        """The outputs of the swap; or why there are none."""
        proofs = await wallet.proofs(self.inputs)
        return await plan_for(
            wallet, self.mint, self.unit, proofs, self.amount, include_fee=self.include_fee, condition=self.condition
        )

    async def _swap(self, wallet: CashuWallet, phase: SwapRequested) -> Transition[Self, Sent]:
        inputs = await wallet.proofs(self.inputs)
        outcome = await exchange.swap(wallet, self.mint, inputs, phase.plan, earlier=phase.earlier)
        ended = TransactionState.CANCELLED if phase.is_unwanted else TransactionState.FAILED
        match outcome:
            case Swapped(kept=kept, given=given):
                return await self._swapped(wallet, kept, given, is_unwanted=phase.is_unwanted)
            case OtherOutputs(reason=reason) if not phase.is_unwanted:
                return await self._replan(wallet, phase, reason)
            case OtherOutputs(reason=reason):
                return doubted(self, reason, Failed("given up before it was made", changes=self._outcome(ended)))
            case Refused(reason=reason, spent=spent):
                return doubted(self, reason, Failed(reason, changes=self._outcome(ended, spend=spent)))
            case HeldAtMint(reason=reason):
                return held(self, reason, wallet.clock.now())
            case _ as unreachable:
                assert_never(unreachable)

    async def _replan(self, wallet: CashuWallet, phase: SwapRequested, reason: str) -> Transition[Self, Sent]:
        plan = await self._plan(wallet)
        if isinstance(plan, str):
            return doubted(self, plan, Failed(plan, changes=self._outcome(TransactionState.FAILED)))
        earlier = (phase.plan, *phase.earlier)
        if len(earlier) >= MOST_PLANS:
            return doubted(self, reason, Failed(reason, changes=self._outcome(TransactionState.FAILED)))
        return self._ask_again(SwapRequested(plan=plan, earlier=earlier), len(earlier), reason, NO_CHANGES)

    def _ask_again(
        self, phase: SwapRequested | RollingBack, plans: int, reason: str, changes: Changes
    ) -> Next[Self] | Park[Self]:
        moved = self.at(phase)
        if plans <= HASTY_PLANS:
            return Next(moved, changes=changes)
        # A mint that refuses whatever it is given is not asked in a hot loop (L-D8).
        return Park(moved, wake_after=self.retry.delay(plans), error=TransientError(reason), changes=changes)

    async def _swapped(
        self, wallet: CashuWallet, kept: Sequence[Proof], given: Sequence[Proof], *, is_unwanted: bool
    ) -> Transition[Self, Sent]:
        left = self.input_total - total(kept)
        added: dict[str, Any] = {"add": self._coins((*kept, *given)), "spend": self.inputs}
        if is_unwanted and self.condition is None:
            # Nobody has seen the token, and its coins follow from the seed like any others.
            changes = self._outcome(TransactionState.CANCELLED, fee=left - total(given), **added)
            return Failed("given up before it was handed out", changes=changes)
        phase = self._token_of(wallet, given, fee=left - self.amount)
        if is_unwanted and (attempt := await TakeBack.of(wallet, self.mint, self.unit, given)) is not None:
            return Next(self.at(rolling_back(phase, attempt)), changes=self._created(phase, **added))
        return Park(self.at(phase), wake_after=SHORTEST_POLL, changes=self._created(phase, **added))

    def _token_of(self, wallet: CashuWallet, proofs: Sequence[Proof], *, fee: int) -> TokenCreated:
        token = Token(mint=self.mint, unit=self.unit, memo=self.memo, proofs=tuple(proofs))
        return token_created(token, self.version, fee=fee, now=wallet.clock.now())

    def _created(self, phase: TokenCreated, **changes: Any) -> Changes:
        return self._outcome(TransactionState.PENDING, fee=phase.fee, reserve=phase.coins, **changes)

    # Waiting for it to be claimed

    async def _wait_for_claim(self, wallet: CashuWallet, phase: TokenCreated) -> Transition[Self, Sent]:
        spent = await spent_of(wallet, self.mint, phase.coins)
        if len(spent) == len(phase.coins):
            return self._claimed(phase, self.amount, phase.fee)
        age = wallet.clock.now() - phase.since
        return Park(
            self, wake_after=min(max(age / POLLS_IN_AGE, SHORTEST_POLL), LONGEST_POLL), changes=Changes(spend=spent)
        )

    def _claimed(self, phase: TokenCreated | RollingBack, amount: int, fee: int, **changes: Any) -> Done[Sent]:
        sent = Sent(mint=self.mint, unit=self.unit, amount=amount, fee=fee)
        outcome = self._outcome(TransactionState.DONE, amount=amount, fee=fee, spend=phase.coins, **changes)
        return Done(sent, changes=outcome)

    # Taking it back

    async def _begin_to_take_back(self, wallet: CashuWallet, phase: TokenCreated) -> Transition[Self, Sent] | None:
        try:
            spent = await spent_of(wallet, self.mint, phase.coins)
            left = [y for y in phase.coins if y not in spent]
            attempt = await TakeBack.of(wallet, self.mint, self.unit, await wallet.proofs(left)) if left else None
        except RejectedError as error:
            # Here a refusal would stand for a token that was claimed, and of that this is no proof.
            raise TransientError(str(error)) from error
        if attempt is None:
            return None
        return Next(self.at(rolling_back(phase, attempt)), changes=Changes(spend=spent))

    async def _take_back(self, wallet: CashuWallet, phase: RollingBack) -> Transition[Self, Sent]:
        attempt, now = phase.attempt, wallet.clock.now()
        messages = [output.to_message() for output in attempt.plan.outputs(wallet)]
        inputs = unlock(await wallet.proofs(attempt.inputs), await wallet.keyring(), now=now, outputs=messages)
        if isinstance(inputs, Locked):
            raise TransientError(inputs.reason)
        earlier = [one.plan for one in phase.earlier]
        outcome = await exchange.swap(wallet, self.mint, inputs, attempt.plan, earlier=earlier)
        match outcome:
            case Swapped(plan=plan, kept=kept):
                made = next(one for one in (attempt, *phase.earlier) if one.plan == plan)
                return await self._taken_back(wallet, phase, made, kept)
            case OtherOutputs(reason=reason) if len(phase.earlier) < MOST_PLANS:
                return await self._try_again(wallet, phase, spent=(), reason=reason)
            case Refused(reason=reason, spent=spent) if len(spent) == len(attempt.inputs):
                return doubted(self, reason, self._claimed(phase, self.amount, phase.fee))
            case Refused(reason=reason, spent=spent) if spent:
                believed = doubted(self, reason, Failed(reason))
                if isinstance(believed, Park):
                    return believed
                return await self._try_again(wallet, phase, spent=spent, reason=reason)
            case Refused(reason=reason) | OtherOutputs(reason=reason):
                # It is still the payee's to claim, so there is nothing to end it with.
                return held(self, f"it does not take the token back: {reason}", now)
            case HeldAtMint(reason=reason):
                return held(self, reason, now)
            case _ as unreachable:
                assert_never(unreachable)

    async def _try_again(
        self, wallet: CashuWallet, phase: RollingBack, *, spent: Sequence[str], reason: str
    ) -> Transition[Self, Sent]:
        """Other outputs, or only what has not been claimed meanwhile."""
        left = [y for y in phase.attempt.inputs if y not in spent]
        attempt = await TakeBack.of(wallet, self.mint, self.unit, await wallet.proofs(left))
        if attempt is None:
            waiting = TokenCreated(token=phase.token, coins=phase.coins, fee=phase.fee, since=phase.since)
            return Park(self.at(waiting), wake_after=SHORTEST_POLL, changes=Changes(spend=spent, notes=[NOT_WORTH_IT]))
        earlier = (phase.attempt, *phase.earlier)
        return self._ask_again(rolling_back(phase, attempt, earlier), len(earlier), reason, Changes(spend=spent))

    async def _taken_back(
        self, wallet: CashuWallet, phase: RollingBack, made: TakeBack, kept: Sequence[Proof]
    ) -> Transition[Self, Sent]:
        face = total(await wallet.proofs(phase.coins))
        returned = total(await wallet.proofs(made.inputs))
        claimed = face - returned
        fee = phase.fee + self.amount - claimed - total(kept)
        coins = self._coins(kept)
        if claimed:
            return self._claimed(phase, claimed, fee, add=coins, notes=[f"{total(kept)} were taken back"])
        changes = self._outcome(TransactionState.REVOKED, fee=fee, add=coins, spend=phase.coins)
        return Failed(f"taken back, for a fee of {fee}" if fee else "taken back", changes=changes)

    # What is written with it

    @property
    def opening(self) -> Changes:
        """What goes with its start: the reservation of its coins, and its row in the history."""
        return self._outcome(TransactionState.PENDING, reserve=self.inputs)

    def _coins(self, proofs: Sequence[Proof]) -> list[Coin]:
        return [coin_of(proof, mint_url=self.mint, unit=self.unit) for proof in proofs]

    def _outcome(self, state: TransactionState, *, amount: int | None = None, fee: int = 0, **changes: Any) -> Changes:
        fact = transaction_fact(
            self.key,
            mint=self.mint,
            unit=self.unit,
            amount=self.amount if amount is None else amount,
            fee=fee,
            state=state,
            at=self.asked_at,
            counterpart=None if self.condition is None else self.condition.data,
            memo=self.memo,
        )
        return Changes(facts=[fact], **changes)
