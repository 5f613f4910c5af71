"""What a `Send` is made of: its phases, its result, and what is checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Self

from pydantic import AwareDatetime, BaseModel, SecretStr, ValidationError

from wallet_actions.action import PERSISTED, Phase
from wallet_actions.cashu import exchange
from wallet_actions.cashu.amounts import split
from wallet_actions.cashu.answers import SpendState
from wallet_actions.cashu.coin_selection import input_fee
from wallet_actions.cashu.conditions import Condition, ConditionKind, locked_secret
from wallet_actions.cashu.doubt import HeldPhase
from wallet_actions.cashu.errors import MalformedError
from wallet_actions.cashu.keysets import Keyset
from wallet_actions.cashu.plan import SwapPlan
from wallet_actions.cashu.proofs import Proof
from wallet_actions.cashu.token_forms import require_text
from wallet_actions.cashu.tokens import Token, TokenVersion, encode_token
from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.cashu.witnesses import Keyring, Locked, plan_unlock
from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.errors import UsageError

MAX_MEMO_CHARS: Final = 1_000
MAX_LOCK_CHARS: Final = 1_000
"""How long a locked secret may be. A mint sees it only when the coin is spent, and refuses long ones for ever then."""

TOO_DEAR: Final = "the mint charges more for the coins than when they were chosen, and they do not suffice any more"

CHECK, RESTORE, SECRETS, P2PK, DLEQ, HTLC = 7, 9, 10, 11, 12, 14  # parts of the protocol that a safe end depends on


class ProofsReserved(Phase):
    """The coins are held; the mint knows nothing yet."""


class SwapRequested(HeldPhase):
    """The request may have reached the mint.

    Attributes:
        plan: the outputs: what is kept, and the token's coins.
        earlier: plans that the mint refused; a late copy of one of them may still be signed.
        is_unwanted: there shall be no token any more.
    """

    plan: SwapPlan
    earlier: tuple[SwapPlan, ...] = ()
    is_unwanted: bool = False


class TokenCreated(Phase):
    """The token exists and may have been handed out; it never changes from here on.

    Attributes:
        token: as text; sensitive.
        coins: the ids of its coins, which the action holds.
        fee: what it cost, beyond the amount.
        since: when it was made.
    """

    token: SecretStr
    coins: tuple[str, ...]
    fee: int
    since: AwareDatetime


class TakeBack(BaseModel):
    """A swap of coins of the token into coins that nobody else has.

    Attributes:
        inputs: the ids of the coins.
        plan: the outputs.
    """

    model_config = PERSISTED

    inputs: tuple[str, ...]
    plan: SwapPlan

    @classmethod
    async def of(cls, wallet: CashuWallet, mint_url: str, unit: str, proofs: Sequence[Proof]) -> Self | None:
        """Settle the outputs; None where the mint's fee would leave nothing.

        Durability: as `OutputPlan.of`.
        Raises:
            RejectedError, TransientError: the mint has no keyset to use, or did not tell.
        """
        keyset = await wallet.mint(mint_url).active_keyset(unit)
        kept = total(proofs) - await exchange.fee_for(wallet, mint_url, proofs)
        if kept <= 0:
            return None
        return cls(inputs=tuple(sorted(proof.y for proof in proofs)), plan=await SwapPlan.of(wallet, keyset, kept=kept))


class RollingBack(HeldPhase):
    """A person wants the token back; the request may have reached the mint.

    Attributes:
        token, coins, fee, since: as in `TokenCreated`.
        attempt: with the coins that had not been claimed when they were last looked up.
        earlier: attempts that the mint refused; a late copy of one of them may still be carried out.
    """

    token: SecretStr
    coins: tuple[str, ...]
    fee: int
    since: AwareDatetime
    attempt: TakeBack
    earlier: tuple[TakeBack, ...] = ()


class Sent(BaseModel):
    """What a `Send` ends with: the token was claimed.

    Attributes:
        amount: what was claimed, in the unit: less than what was sent only where the rest was taken back.
        fee: what it cost beyond that.
    """

    model_config = PERSISTED

    mint: str
    unit: str
    amount: int
    fee: int


async def choose(
    wallet: CashuWallet, mint_url: str, unit: str, amount: int, *, is_locked: bool, include_fee: bool
) -> dict[str, Any]:
    """Choose the coins of a token, or those that are swapped for them: fields of a `Send`.

    Raises:
        UsageError: the mint's coins do not make up the amount.
        InsufficientFundsError, RejectedError, TransientError: as `Send.of`.
    """
    coins = None
    if not is_locked:
        coins = await wallet.select_exact(mint_url, unit, amount, is_net=include_fee)
    is_exact = coins is not None
    if coins is None:
        keyset = await wallet.mint(mint_url).active_keyset(unit)
        coins, _ = await wallet.select(mint_url, unit, face_value(amount, keyset, include_fee=include_fee))
    return {
        "inputs": tuple(sorted(coin.id for coin in coins)),
        "input_total": sum(coin.amount for coin in coins),
        "is_exact": is_exact,
    }


async def plan_for(
    wallet: CashuWallet,
    mint_url: str,
    unit: str,
    inputs: Sequence[Proof],
    amount: int,
    *,
    include_fee: bool,
    condition: Condition | None,
) -> SwapPlan | str:
    """The outputs of a swap that makes a token's coins; or why there are none, for the user.

    Durability: as `OutputPlan.of`.
    Raises:
        RejectedError, TransientError: the mint has no keyset to use, or did not tell.
    """
    keyset = await wallet.mint(mint_url).active_keyset(unit)
    fee = await exchange.fee_for(wallet, mint_url, inputs)
    try:
        face = face_value(amount, keyset, include_fee=include_fee)
        kept = total(inputs) - fee - face
        if kept < 0:
            return TOO_DEAR
        return await SwapPlan.of(wallet, keyset, kept=kept, given=face, condition=condition)
    except UsageError as error:
        return str(error)


def token_created(token: Token, version: TokenVersion, *, fee: int, now: datetime) -> TokenCreated:
    """The phase that begins with a token."""
    return TokenCreated(
        token=SecretStr(encode_token(token, version)),
        coins=tuple(proof.y for proof in token.proofs),
        fee=fee,
        since=now,
    )


def face_value(amount: int, keyset: Keyset, *, include_fee: bool) -> int:
    """What a token of new coins has to say, so that an amount can be claimed.

    Args:
        include_fee: the amount shall be left after the fee for spending the token's coins, which come to no more than
            the fewest that make up its face value.
    Raises:
        UsageError: the keyset's coins do not make it up.
    """
    face, coins = amount, split(amount, keyset.denominations)
    while include_fee and face - (fee := input_fee([keyset.input_fee_ppk] * len(coins))) < amount:
        face = amount + fee
        coins = split(face, keyset.denominations)
    return face


def nuts_for(condition: Condition | None) -> Sequence[int]:
    """The parts of the protocol that a mint has to offer for it."""
    if condition is None:
        return CHECK, RESTORE, DLEQ
    return CHECK, RESTORE, DLEQ, SECRETS, P2PK if condition.kind is ConditionKind.P2PK else HTLC


def require_sendable(amount: int, memo: str | None, condition: Condition | None, version: TokenVersion) -> None:
    """Check what somebody wants to send.

    Raises:
        UsageError: no token can be made of it.
    """
    require_amount(amount)
    require_memo(memo)
    require_condition(condition)
    if version not in set(TokenVersion):
        raise UsageError("a token is written as version 3 or 4")


def require_amount(amount: int) -> None:
    """Check an amount.

    Raises:
        UsageError: it is none.
    """
    if type(amount) is not int or not 0 < amount <= MAX_AMOUNT:
        raise UsageError("an amount must be an integer from 1 to 2^63 - 1")


def require_memo(memo: str | None) -> None:
    """Check a memo.

    Raises:
        UsageError: no token can carry it.
    """
    if memo is None:
        return
    if not isinstance(memo, str) or len(memo) > MAX_MEMO_CHARS:
        raise UsageError(f"a memo is text of at most {MAX_MEMO_CHARS} characters")
    try:
        require_text(memo)
    except MalformedError as error:
        raise UsageError(f"the memo is {error}") from None


def require_condition(condition: Condition | None) -> None:
    """Check that coins with a condition can be spent at all.

    Raises:
        UsageError: its keys or its hash are none, or it is so long that mints refuse it.
    """
    if condition is None:
        return
    try:
        sound = Condition.model_validate(condition.model_dump())
    except (AttributeError, ValidationError):
        raise UsageError("a condition that nobody can meet: its keys or its hash are not sound") from None
    if len(locked_secret(sound, "0" * 64)) > MAX_LOCK_CHARS:
        raise UsageError("a condition with so many keys that mints refuse its coins")


def why_locked(condition: Condition, keys: Keyring, *, now: datetime) -> str | None:
    """Why this wallet cannot spend coins with a condition, in a sentence for the user; None where it can."""
    plan = plan_unlock(condition, keys, now=now)
    if not isinstance(plan, Locked):
        return None
    if plan.opens_at is None:
        return plan.reason
    return f"{plan.reason}; they can be taken back after {plan.opens_at:%Y-%m-%d %H:%M} UTC"


async def spent_of(wallet: CashuWallet, mint_url: str, coins: Sequence[str]) -> list[str]:
    """Which of these coins are spent, as the mint says.

    Raises:
        RejectedError, TransientError: it did not tell.
    """
    states = await wallet.mint(mint_url).client.check(coins)
    return [y for y, state in zip(coins, states, strict=True) if state is SpendState.SPENT]


def rolling_back(
    phase: TokenCreated | RollingBack, attempt: TakeBack, earlier: tuple[TakeBack, ...] = ()
) -> RollingBack:
    """The phase that begins with an attempt to take the token's coins back."""
    return RollingBack(
        token=phase.token, coins=phase.coins, fee=phase.fee, since=phase.since, attempt=attempt, earlier=earlier
    )


def total(proofs: Sequence[Proof]) -> int:
    """What they come to."""
    return sum(proof.amount for proof in proofs)
