"""Quotes for new ecash: asked for, waited for, and signed for; what `Issue` and `IssueBatch` share.

Where the mint has NUT-20, a quote is locked to a key of the wallet, so that its id alone is worth nothing to anybody.
The key follows from the seed and a counter, which is taken before the quote is asked for and kept in the action.

How old a quote is, is told by the mint's clock and looked at with the device's, which may be wrong by days. So a quote
is over only when the device says so and the mint's own answer, which carries its time, does not say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from coincurve import PublicKey

from wallet_actions.cashu.errors import MintError
from wallet_actions.cashu.mint import Mint
from wallet_actions.cashu.outputs import Output
from wallet_actions.cashu.proofs import BlindedMessage, BlindSignature
from wallet_actions.cashu.quotes import MintQuote, MintRequestForm, sign_mint_request
from wallet_actions.cashu.wallet import CashuWallet

RESTORE, DLEQ = 9, 12  # the parts of the protocol that a lost answer, and an unverified coin, call for
LOCKS = 20
SIGNATURE_INVALID = 20008
OUTPUTS_USED = frozenset({11003, 11004})  # signed, or about to be signed, for another request


@dataclass(frozen=True, slots=True)
class Claim:
    """A quote as it is named in the request for its ecash.

    Attributes:
        quote: its id; sensitive.
        key_counter: of the key that it is locked to; None where it is not.
    """

    quote: str = field(repr=False)
    amount: int
    key_counter: int | None


async def ask(wallet: CashuWallet, mint: Mint, amount: int, unit: str) -> tuple[MintQuote, int | None]:
    """Ask a mint for a quote, locked to a new key of the wallet where it can be.

    Returns:
        The quote, and the counter of its key.
    Raises:
        As `MintClient.create_mint_quote`.
    """
    if not (await mint.details()).supports(LOCKS):
        return await mint.client.create_mint_quote(amount, unit), None
    counter = await wallet.allocate_quote_key()
    pubkey = PublicKey.from_valid_secret(wallet.quote_key(counter)).format().hex()
    return await mint.client.create_mint_quote(amount, unit, pubkey=pubkey), counter


async def have_signed(
    wallet: CashuWallet, mint: Mint, claims: Sequence[Claim], outputs: Sequence[Output]
) -> tuple[BlindSignature, ...]:
    """Ask for the ecash of paid quotes: of one (NUT-04), or of several together (NUT-29).

    Raises:
        As `MintClient.mint`.
    """
    messages = [output.to_message() for output in outputs]
    try:
        return await _request(wallet, mint, claims, messages, MintRequestForm.PLAIN)
    except MintError as refusal:
        if refusal.code != SIGNATURE_INVALID or all(claim.key_counter is None for claim in claims):
            raise
    return await _request(wallet, mint, claims, messages, MintRequestForm.FRAMED)


async def _request(
    wallet: CashuWallet, mint: Mint, claims: Sequence[Claim], messages: Sequence[BlindedMessage], form: MintRequestForm
) -> tuple[BlindSignature, ...]:
    signatures = {
        claim.quote: sign_mint_request(claim.quote, messages, wallet.quote_key(claim.key_counter), form)
        for claim in claims
        if claim.key_counter is not None
    }
    if len(claims) == 1:
        (claim,) = claims
        return await mint.client.mint(claim.quote, messages, signature=signatures.get(claim.quote))
    amounts = {claim.quote: claim.amount for claim in claims}
    return await mint.client.mint_batch(amounts, messages, signatures=signatures)


def is_over(end: datetime, asked_at: datetime, grace: timedelta, *, now: datetime, told_time: datetime | None) -> bool:
    """Whether a quote's end has passed, and a grace beyond it.

    Args:
        end: by the mint's clock.
        asked_at, now: by the device's. One that is days ahead finds the quote over when it is asked for; what has
            passed since, it knows.
        told_time: what time it is at the mint, where it says.
    """
    return now > max(end, asked_at) + grace and (told_time is None or told_time > end + grace)


def is_complete(outputs: Sequence[Output], found: Mapping[str, BlindSignature]) -> bool:
    """Whether all were signed for what they are worth; an earlier use of the counters may have signed for another."""
    return all(
        output.blinded_message in found and found[output.blinded_message].amount == output.amount for output in outputs
    )


def in_order(outputs: Sequence[Output], found: Mapping[str, BlindSignature]) -> list[BlindSignature]:
    """The signatures of these outputs, which are complete."""
    return [found[output.blinded_message] for output in outputs]
