"""Swap: change coins of a mint into others of the same wallet (NUT-03).

Into fewer coins, into given ones, or out of keysets that the mint has retired.

    proofs_reserved ──▶ swap_requested ──signed──▶ done
          │              │          ▲ │
          │ (cancel)     │  refused │ │ other outputs
          ▼              ▼          └─┘
      cancelled        failed

The coins are reserved with the start; the new ones are settled on disk before the request leaves, and what became of it
is told by `exchange`. New coins come in and old ones go out in one write.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Self, assert_never

from pydantic import AwareDatetime, BaseModel, Field

from wallet_actions.action import PERSISTED, Action, Phase
from wallet_actions.cashu.coin_selection import input_fee
from wallet_actions.cashu.doubt import HeldPhase, doubted, held
from wallet_actions.cashu.errors import MintError
from wallet_actions.cashu.exchange import HeldAtMint, OtherOutputs, Refused, Swapped, fee_for, swap
from wallet_actions.cashu.facts import TransactionState, transaction_fact
from wallet_actions.cashu.plan import SwapPlan
from wallet_actions.cashu.proofs import Amount, coin_of
from wallet_actions.cashu.swap_choice import in_coins, is_worthwhile, to_gather, to_make, wanted_amounts
from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.coins import CoinState
from wallet_actions.errors import InvariantError, RejectedError, TransientError, UsageError
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Transition

CHECK, RESTORE, DLEQ = 7, 9, 12  # the parts of the protocol that proof, a lost answer and new coins call for
MOST_PLANS = 4
ID_BYTES = 16


class ProofsReserved(Phase):
    """The coins are held; the mint knows nothing yet."""


class SwapRequested(HeldPhase):
    """The request may have reached the mint.

    Attributes:
        plan: the new coins.
        earlier: those that the mint would not sign; a late copy of their request may yet have been carried out.
    """

    plan: SwapPlan
    earlier: tuple[SwapPlan, ...] = ()


class Exchanged(BaseModel):
    """What a `Swap` ends with.

    Attributes:
        amount: what the new coins are worth, in the unit.
        fee: what it cost.
        coins: how many new ones there are.
        left: how many coins were left for another swap, since a request takes only so many.
    """

    model_config = PERSISTED

    mint: str
    unit: str
    amount: int
    fee: int
    coins: int
    left: int = 0


class Swap(Action[CashuWallet, ProofsReserved | SwapRequested, Exchanged], kind="cashu_swap"):
    """Change coins of a mint into others.

    Start it with its coins: `engine.start(swap, swap.opening)`.

    Attributes:
        mint: its URL, in the form that names its account.
        name: drawn at random; public.
        inputs: the ids of the coins, sorted: chosen once, so that a repeated request is the same one (L-S7).
        input_total, input_fee: what they are worth, and what spending them was to cost when they were chosen.
        wanted: amounts that shall be among the new coins; the rest comes in few coins.
        left: see `Exchanged`.
    """

    mint: str
    unit: str
    name: str
    inputs: tuple[str, ...] = Field(min_length=1)
    input_total: Amount
    input_fee: int
    wanted: tuple[Amount, ...] = ()
    left: int = 0
    asked_at: AwareDatetime

    @classmethod
    async def of(
        cls,
        wallet: CashuWallet,
        mint_url: str,
        unit: str = "sat",
        *,
        amount: int | None = None,
        denominations: Mapping[int, int] | Sequence[int] | None = None,
    ) -> Self:
        """Choose coins, and what becomes of them. Nothing is written yet.

        Args:
            amount: swap coins worth at least that much, after the fee; without it, and without `denominations`, all of
                them. Coins of retired keysets go first, then small ones; those that would come back as they are stay.
            denominations: coins to have made, as amounts or as amount → count, beside those that there are; the rest
                comes in few coins.

        Raises:
            UsageError: not a mint's address; an amount that is no positive 64-bit integer, or less than the
                denominations come to; denominations that are no coins of the mint, or more than `MOST_COINS`.
            InsufficientFundsError: the free coins do not cover it with its fee.
            RejectedError: nothing would be gained; it takes more than `MOST_COINS`; or the mint has no such unit, or
                lacks what a safe end depends on.
            TransientError: the mint did not answer.
        """
        mint = wallet.mint(mint_url)
        await mint.require(CHECK, RESTORE, DLEQ)
        # Which keysets are retired decides what there is to gather; for coins to be made it matters only at the end.
        for is_fresh in (True,) if denominations is None else (False, True):
            keyset = await mint.active_keyset(unit, is_fresh=is_fresh)
            wanted = wanted_amounts(denominations, amount, keyset)
            pool = await wallet.pool(mint.url, unit)
            chosen, left = to_make(wanted, amount, pool) if wanted else to_gather(amount, pool, keyset)
            total, fee = sum(coin.amount for coin in chosen), input_fee(map(pool.fee_ppk, chosen))
            if is_worthwhile(chosen, total - fee, wanted, pool, keyset):
                return cls(
                    mint=mint.url,
                    unit=unit,
                    name=secrets.token_hex(ID_BYTES),
                    inputs=tuple(sorted(coin.id for coin in chosen)),
                    input_total=total,
                    input_fee=fee,
                    wanted=wanted,
                    left=left,
                    asked_at=wallet.clock.now(),
                    phase=ProofsReserved(),
                )
        if wanted:
            raise RejectedError("nothing to swap: the wallet has these coins already")
        raise RejectedError("nothing to swap: the coins are as few as they can be, or worth no more than the fee")

    @property
    def id(self) -> str:
        """Drawn at random, and may be shown."""
        return self.name

    async def advance(self, wallet: CashuWallet) -> Transition[Self, Exchanged]:
        """Settle the new coins, have them signed."""
        match self.phase:
            case ProofsReserved():
                return await self._prepare(wallet)
            case SwapRequested(plan=plan, earlier=earlier):
                return await self._request(wallet, plan, earlier)
            case _ as unreachable:
                assert_never(unreachable)

    async def on_rejection(self, wallet: CashuWallet, error: RejectedError) -> Transition[Self, Exchanged]:
        """A refusal ends the swap only while the mint has not been asked to make it."""
        if isinstance(self.phase, ProofsReserved):
            return Failed(error, changes=self._outcome(TransactionState.FAILED))
        return Park(self, wake_after=self.retry.delay(1), error=TransientError(str(error)))

    async def on_cancel(self, wallet: CashuWallet) -> Transition[Self, Exchanged] | None:
        """Possible until the mint may have been asked (L-C8)."""
        if isinstance(self.phase, ProofsReserved):
            return Failed("given up before it was sent", changes=self._outcome(TransactionState.CANCELLED))
        return None

    async def _prepare(self, wallet: CashuWallet) -> Transition[Self, Exchanged]:
        reserved = await wallet.store.coins(holder=self.key, state=CoinState.RESERVED, limit=len(self.inputs) + 1)
        if {coin.id for coin in reserved} != set(self.inputs):
            raise InvariantError(f"{self.key}: it does not hold its coins", rule="a swap starts with its coins")
        return Next(self.at(SwapRequested(plan=await self._planned(wallet))))

    async def _planned(self, wallet: CashuWallet) -> SwapPlan:
        """The new coins, by what the mint says of its keysets and fees now.

        Raises:
            RejectedError: they cannot be made any more.
        """
        keyset = await wallet.mint(self.mint).active_keyset(self.unit)
        fee = await fee_for(wallet, self.mint, await wallet.proofs(self.inputs))
        rest = self.input_total - fee - sum(self.wanted)
        if rest < 0 or not set(self.wanted) <= set(keyset.denominations):
            raise RejectedError("the mint's fee or its coins have changed: these coins cannot be made any more")
        try:
            return await SwapPlan.of(wallet, keyset, kept=in_coins(self.wanted, rest, keyset))
        except UsageError as error:
            raise RejectedError(str(error)) from error

    async def _request(
        self, wallet: CashuWallet, plan: SwapPlan, earlier: tuple[SwapPlan, ...]
    ) -> Transition[Self, Exchanged]:
        proofs = await wallet.proofs(self.inputs)
        match await swap(wallet, self.mint, proofs, plan, earlier=earlier):
            case Swapped(kept=kept):
                return self._done(kept)
            case OtherOutputs(reason=reason):
                return await self._replan(wallet, plan, earlier, reason)
            case Refused(reason=reason, spent=spent):
                notes = [reason] if spent else []
                changes = self._outcome(TransactionState.FAILED, spend=spent, notes=notes)
                return doubted(self, reason, Failed(reason, changes=changes))
            case HeldAtMint(reason=reason):
                return held(self, reason, wallet.clock.now())
            case _ as unreachable:
                assert_never(unreachable)

    async def _replan(
        self, wallet: CashuWallet, plan: SwapPlan, earlier: tuple[SwapPlan, ...], reason: str
    ) -> Transition[Self, Exchanged]:
        failed = Failed(reason, changes=self._outcome(TransactionState.FAILED))
        if len(earlier) + 1 >= MOST_PLANS:
            return doubted(self, reason, failed)
        try:
            following = await self._planned(wallet)
        except MintError as error:
            raise TransientError(f"the mint does not tell its keysets: {error}") from error
        except RejectedError as error:
            return doubted(self, str(error), Failed(str(error), changes=failed.changes))
        return Next(self.at(SwapRequested(plan=following, earlier=(plan, *earlier))))

    def _done(self, kept: Sequence[Any]) -> Done[Exchanged]:
        coins = [coin_of(proof, mint_url=self.mint, unit=self.unit) for proof in kept]
        amount = sum(coin.amount for coin in coins)
        fee = self.input_total - amount
        notes = [f"{self.left} coins were left for another swap"] if self.left else []
        changes = self._outcome(
            TransactionState.DONE, amount=amount, fee=fee, add=coins, spend=self.inputs, notes=notes
        )
        result = Exchanged(mint=self.mint, unit=self.unit, amount=amount, fee=fee, coins=len(coins), left=self.left)
        return Done(result, changes=changes)

    @property
    def opening(self) -> Changes:
        """What goes with its start: the reservation of its coins, and its row in the history."""
        return self._outcome(TransactionState.PENDING, reserve=self.inputs)

    def _outcome(self, state: TransactionState, *, amount: int | None = None, fee: int = 0, **changes: Any) -> Changes:
        fact = transaction_fact(
            self.key,
            mint=self.mint,
            unit=self.unit,
            amount=self.input_total - self.input_fee if amount is None else amount,
            fee=fee,
            state=state,
            at=self.asked_at,
        )
        return Changes(facts=[fact], **changes)
