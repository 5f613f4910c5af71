"""A swap at a mint: coins in, coins out, and what became of a request that was not answered so (NUT-03).

What follows from what the mint tells of the inputs, read after its answer:

    all unspent    a refusal is believed, or other outputs are wanted; a lost answer proves nothing: send it again
    spent          the outputs are signed, by this request or an earlier copy of it; or else somebody else spent them
    pending        the mint is at it, or died in the act; only it knows how that ends

No error is taken at its word (L-C6, L-P1, L-P2). A refusal counts as one only where its code is of the protocol and
fits what the mint says of the inputs: with a code of its own, or none, a mint tells of a fault of its own, which may
pass. Nothing is written here.

A late copy. A request that was not answered may lie in some queue and be carried out after its repetition was refused.
While the action lives it is found: the inputs are spent then, and the outputs of all plans are asked for. A refusal
that counts ends the action all the same, since a late copy meets the same refusal: it is the same request. Only if the
mint changes its mind in between, the coins that were freed are spent without their owner's knowing; the next action
that is to spend them finds that out, and the new coins, being made from the seed's counters, come back with a `Restore`
of the mint. (Of coins that are locked it takes the plan.) The same is true of a payment that a mint called failed: only
a swap of its inputs makes sure that no late copy of the request pays after all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from wallet_actions.cashu.answers import SpendState
from wallet_actions.cashu.coin_selection import input_fee
from wallet_actions.cashu.crypto import y_of
from wallet_actions.cashu.errors import MintError, MintLiedError
from wallet_actions.cashu.outputs import Output, unblind_all
from wallet_actions.cashu.plan import SwapPlan
from wallet_actions.cashu.proofs import BlindSignature, Proof
from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.errors import TransientError

OUTPUTS_USED = frozenset({11003, 11004})  # signed, or about to be signed, for another request
INPUTS_USED = frozenset({11001, 11002})  # spent, pending
PROTOCOL_CODES = range(10_000, 40_000)
MALFORMED_REQUEST = 422  # what a mint's web framework says of a body that it does not take, without a code


@dataclass(frozen=True, slots=True)
class Swapped:
    """The swap was made.

    Attributes:
        plan: the one that the mint signed: the last one, or an earlier one whose request came late.
        kept, given: the new coins, by the plan's parts and in its order.
    """

    plan: SwapPlan
    kept: tuple[Proof, ...] = field(repr=False)
    given: tuple[Proof, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class OtherOutputs:
    """All inputs are unspent, and the mint will not sign these outputs for them: others may do.

    Its keyset was retired, a counter was used before, or the inputs cost another fee by now. What is known of the
    mint's keysets is up to date, and counters that were used before have been skipped.

    Attributes:
        reason: for the user.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """It was not made and will not be, as far as the mint's word goes: see `doubt` before it is believed.

    Attributes:
        reason: for the user.
        spent: the `Y`s of inputs that were spent elsewhere; the others are unspent.
        code: the protocol's error code, where the mint refused with one.
    """

    reason: str
    spent: tuple[str, ...] = ()
    code: int | None = None


@dataclass(frozen=True, slots=True)
class HeldAtMint:
    """Only the mint can say how it ends, and perhaps it never will: see `held`.

    It holds inputs as pending; or it contradicts itself, or refuses without a reason, for as long as it does so.

    Attributes:
        reason: for the user.
        pending: the `Y`s of the inputs that this is about.
    """

    reason: str
    pending: tuple[str, ...]


async def swap(
    wallet: CashuWallet, mint_url: str, inputs: Sequence[Proof], plan: SwapPlan, *, earlier: Sequence[SwapPlan] = ()
) -> Swapped | OtherOutputs | Refused | HeldAtMint:
    """Ask the mint to swap, or find out what became of it. To be called again with the same arguments after a crash.

    Args:
        inputs: in the order of the request, with their witnesses.
        plan: on disk, like `earlier`, before this is called for the first time.
        earlier: plans that the mint refused; a late copy of their requests may yet have been carried out.

    Raises:
        TransientError: nothing is known yet. MintLiedError: an answer that breaks the protocol.
    """
    client = wallet.mint(mint_url).client
    outputs = plan.outputs(wallet)
    try:
        signatures = await client.swap(inputs, [output.to_message() for output in outputs])
    except (MintError, TransientError) as error:
        return await look_up(wallet, mint_url, inputs, plan, earlier=earlier, error=error)
    with _in_doubt():
        return await _swapped(wallet, mint_url, plan, _by_message(outputs, signatures))


async def look_up(
    wallet: CashuWallet,
    mint_url: str,
    inputs: Sequence[Proof],
    plan: SwapPlan,
    *,
    earlier: Sequence[SwapPlan] = (),
    error: MintError | TransientError,
) -> Swapped | OtherOutputs | Refused | HeldAtMint:
    """Find out what became of a swap that was answered with an error, or not at all.

    Raises:
        As `swap`.
    """
    with _in_doubt():
        return await _look_up(wallet, mint_url, inputs, (plan, *earlier), error)


async def fee_for(wallet: CashuWallet, mint_url: str, inputs: Sequence[Proof]) -> int:
    """What it costs to spend these coins together, in the unit.

    Raises:
        TransientError: the mint did not tell, or does not list one of their keysets.
    """
    with _in_doubt():
        fees_ppk = await wallet.mint(mint_url).fees_ppk({proof.id for proof in inputs})
    try:
        return input_fee(fees_ppk[proof.id] for proof in inputs)
    except KeyError:
        raise TransientError("the mint does not list a keyset of the coins (any more)") from None


@contextmanager
def _in_doubt() -> Iterator[None]:
    """A look-up that is refused proves nothing of what is looked up."""
    try:
        yield
    except MintError as error:
        raise TransientError(f"the mint does not tell what became of the coins: {error}") from error


async def _look_up(
    wallet: CashuWallet,
    mint_url: str,
    inputs: Sequence[Proof],
    plans: Sequence[SwapPlan],
    error: MintError | TransientError,
) -> Swapped | OtherOutputs | Refused | HeldAtMint:
    client = wallet.mint(mint_url).client
    ys = [proof.y for proof in inputs]
    states = dict(zip(ys, await client.check(ys), strict=True))
    pending = tuple(y for y in ys if states[y] is SpendState.PENDING)
    spent = tuple(y for y in ys if states[y] is SpendState.SPENT)
    is_half_signed = False
    for plan in plans if spent or pending else ():
        outputs = plan.outputs(wallet)
        found = await client.restore([output.to_message() for output in outputs])
        if not found or not _is_as_asked(outputs, found) or await _is_long_gone(wallet, mint_url, outputs, found):
            continue
        if len(found) == len(outputs):
            return await _swapped(wallet, mint_url, plan, found)
        is_half_signed = True
    if pending:
        return HeldAtMint("the mint holds the coins of a swap as pending", pending)
    if len(spent) == len(ys) and is_half_signed:
        # All inputs and some outputs are what this swap would have left: it was made, and the mint shows a part of it.
        return HeldAtMint("the mint has made a swap, and does not give all of its coins", spent)
    if spent:
        return Refused(f"{len(spent)} of the coins had been spent elsewhere", spent)
    if isinstance(error, MintLiedError):
        raise error
    if isinstance(error, TransientError):
        # The request may still be on its way: only sending it again finds out (L-P2).
        raise TransientError(f"the mint did not answer: {error}", retry_after=error.retry_after) from error
    return await _unspent(wallet, mint_url, inputs, plans[0], error)


async def _unspent(
    wallet: CashuWallet, mint_url: str, inputs: Sequence[Proof], plan: SwapPlan, refusal: MintError
) -> OtherOutputs | Refused | HeldAtMint:
    # Mints differ in the code that they give for a retired keyset, so the list of keysets is what counts.
    is_in_use = await wallet.mint(mint_url).is_in_use(plan.keyset_id)
    if refusal.code in OUTPUTS_USED:
        await wallet.skip_used(mint_url, plan.keyset_id)
        return OtherOutputs(str(refusal))
    if not is_in_use:
        return OtherOutputs("the mint has retired the keyset of the new coins")
    known = await wallet.mint(mint_url).known({proof.id for proof in inputs})
    if not known.keys() >= {proof.id for proof in inputs}:
        return Refused(f"{refusal}; it does not list a keyset of the coins any more", code=refusal.code)
    asked = sum(output.amount for output in plan.outputs(wallet))
    if asked != sum(proof.amount for proof in inputs) - await fee_for(wallet, mint_url, inputs):
        return OtherOutputs("the mint charges another fee for the coins than before")
    if refusal.code in INPUTS_USED:
        return HeldAtMint(f"{refusal}, and calls the same coins unspent", tuple(proof.y for proof in inputs))
    if refusal.status != MALFORMED_REQUEST and refusal.code not in PROTOCOL_CODES:
        return HeldAtMint(f"{refusal}; that is no reason of the protocol", tuple(proof.y for proof in inputs))
    return Refused(str(refusal), code=refusal.code)


async def _swapped(
    wallet: CashuWallet, mint_url: str, plan: SwapPlan, signatures: Mapping[str, BlindSignature]
) -> Swapped:
    keyset = await wallet.mint(mint_url).keyset(plan.keyset_id)
    kept, given = (
        unblind_all(outputs, [signatures[output.blinded_message] for output in outputs], keyset)
        for outputs in (plan.kept_outputs(wallet), plan.given_outputs(wallet))
    )
    return Swapped(plan, kept, given)


async def _is_long_gone(
    wallet: CashuWallet, mint_url: str, outputs: Sequence[Output], found: Mapping[str, BlindSignature]
) -> bool:
    """Whether all that was signed is spent, so that it was signed for an earlier life of the seed.

    That one had asked for the same amounts with the same counters. Of the coins of this swap nobody could have spent
    any: they are known here alone, and only once it was made.
    """
    ys = [y_of(output.secret) for output in outputs if output.blinded_message in found]
    return set(await wallet.mint(mint_url).client.check(ys)) == {SpendState.SPENT}


def _by_message(outputs: Sequence[Output], signatures: Sequence[BlindSignature]) -> dict[str, BlindSignature]:
    return {output.blinded_message: signature for output, signature in zip(outputs, signatures, strict=True)}


def _is_as_asked(outputs: Sequence[Output], found: Mapping[str, BlindSignature]) -> bool:
    """Whether what was signed is worth what was asked for; an earlier use of the counters may have differed."""
    amounts = {output.blinded_message: output.amount for output in outputs}
    return all(signature.amount == amounts[message] for message, signature in found.items())
