"""What is left over of a payment, and comes back as change (NUT-08)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from wallet_actions.cashu.errors import MintLiedError
from wallet_actions.cashu.outputs import Output, unblind_change
from wallet_actions.cashu.proofs import BlindSignature, Proof
from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.coins import MAX_AMOUNT


@dataclass(frozen=True, slots=True)
class Change:
    """Change that came back.

    Attributes:
        proofs: verified.
        oddity: a sentence, where it is not what was due; to be believed when the mint has said so several times.
    """

    proofs: tuple[Proof, ...] = field(repr=False)
    oddity: str | None = None

    @property
    def total(self) -> int:
        """What it comes to."""
        return _total(self.proofs)


async def collect(
    wallet: CashuWallet,
    mint_url: str,
    blanks: Sequence[Sequence[Output]],
    signatures: Sequence[BlindSignature],
    *,
    least: int,
    most: int,
) -> Change:
    """Take the change of a payment that was made; what its quote does not show is asked for by the outputs (L-C7).

    Args:
        blanks: the blank outputs of each request that may have been carried out, the last one's first.
        signatures: what the quote shows, for the first of them.
        least, most: what is due if the payment cost all of the fee reserve, or nothing.
    Raises:
        MintLiedError: signatures that do not hold, and none instead of them.
        RejectedError, TransientError: see `MintClient.restore`.
    """
    lie: MintLiedError | None = None
    proofs: tuple[Proof, ...] = ()
    try:
        proofs = await _unblinded(wallet, mint_url, list(zip(blanks[0] if blanks else (), signatures, strict=False)))
    except MintLiedError as error:
        lie = error
    if not proofs or _total(proofs) < least:
        for outputs in blanks:
            proofs = max(proofs, await _restored(wallet, mint_url, outputs), key=_total)
            if proofs and _total(proofs) >= least:
                break
    change = _total(proofs)
    if lie is not None and (not proofs or change < least):
        raise lie
    if change < least:
        return Change(proofs, f"the mint gave {change} of change where at least {least} were due")
    if change > most:
        # Some mints sign change twice when a look-up and the request race each other. It is good ecash.
        return Change(proofs, f"the mint gave {change} of change where at most {most} were due")
    return Change(proofs)


async def _restored(wallet: CashuWallet, mint_url: str, outputs: Sequence[Output]) -> tuple[Proof, ...]:
    if not outputs:
        return ()
    found = await wallet.mint(mint_url).client.restore([output.to_message() for output in outputs])
    signed = [(output, found[output.blinded_message]) for output in outputs if output.blinded_message in found]
    return await _unblinded(wallet, mint_url, signed)


async def _unblinded(
    wallet: CashuWallet, mint_url: str, signed: Sequence[tuple[Output, BlindSignature]]
) -> tuple[Proof, ...]:
    if not signed:
        return ()
    keyset = await wallet.mint(mint_url).keyset(signed[0][0].keyset_id)
    outputs, signatures = zip(*signed, strict=True)
    return unblind_change(outputs, signatures, keyset, most=len(outputs) * MAX_AMOUNT)


def _total(proofs: Sequence[Proof]) -> int:
    return sum(proof.amount for proof in proofs)
