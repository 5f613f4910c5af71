"""Outputs: what a wallet asks a mint to sign, and how it turns the signatures into coins.

A checkpoint needs no more than the keyset's id, the first counter and the amounts: the seed gives the same blinded
messages again, byte for byte, whenever a request is repeated or its answer is looked up (L-S6, L-S7).

No coin comes out of here unverified. NUT-12 leaves it to the mint whether it proves its signatures, and to the wallet
what to do without. Here a signature without a DLEQ proof is refused: there is no other way to tell a good one from a
worthless or a marked one before it is spent. So ask `MintInfo.supports(12)` before money moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from wallet_actions.cashu.conditions import Condition, locked_secret
from wallet_actions.cashu.crypto import blind, parse_point, parse_scalar, unblind, verify_dleq
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.errors import MalformedError, MintLiedError
from wallet_actions.cashu.keysets import Keyset
from wallet_actions.cashu.proofs import BlindedMessage, BlindSignature, Proof, ProofDleq
from wallet_actions.errors import UsageError

BLANK_AMOUNT = 1
"""What a blank output says that it is worth; the mint passes over it (NUT-08)."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output, with all that it takes to unblind the answer.

    Attributes:
        amount: in the keyset's unit; `BLANK_AMOUNT` where the mint decides.
        keyset_id: the full id.
        counter: the counter that it was derived from; of a locked output, its place in the request.
        blinded_message: `B_`, as hex.
        secret: sensitive.
        blinding_factor: 32 bytes; sensitive.
    """

    amount: int
    keyset_id: str
    counter: int
    blinded_message: str
    secret: str = field(repr=False)
    blinding_factor: bytes = field(repr=False)

    def to_message(self) -> BlindedMessage:
        """What the mint is sent."""
        return BlindedMessage(amount=self.amount, id=self.keyset_id, B_=self.blinded_message)


def outputs_for(seed: Seed, keyset_id: str, first_counter: int, amounts: Sequence[int]) -> tuple[Output, ...]:
    """Make outputs, the same ones each time.

    Args:
        keyset_id: the full id.
        first_counter: of the first output; each further one takes the next. All must have been allocated durably
            (L-C12).
        amounts: one for each output, in the order of the request; for blank outputs `BLANK_AMOUNT` each.

    Raises:
        MalformedError, UsageError: as `Seed.derive`.
    """
    outputs: list[Output] = []
    for counter, amount in enumerate(amounts, start=first_counter):
        pair = seed.derive(keyset_id, counter)
        point = blind(pair.secret, pair.blinding_factor)
        outputs.append(
            Output(
                amount=amount,
                keyset_id=keyset_id,
                counter=counter,
                blinded_message=point.format().hex(),
                secret=pair.secret,
                blinding_factor=pair.blinding_factor,
            )
        )
    return tuple(outputs)


def locked_outputs_for(
    seed: Seed, keyset_id: str, salt: str, amounts: Sequence[int], condition: Condition
) -> tuple[Output, ...]:
    """Make outputs whose coins are spent under a condition, the same ones each time.

    A checkpoint needs the keyset's id, the salt, the amounts and the condition, none of which is secret. The blinding
    factors and the nonces follow from them and the seed. The mnemonic alone does not bring such coins back: the
    condition is in their secrets. What was handed out is the payee's; a refund is claimed from the token or from the
    checkpoint, so keep one of them until the locktime has passed.

    Args:
        keyset_id: the full id.
        salt: random, 32 hex characters or more; stored before the request is sent, and never used for another (L-S6).
        amounts: one for each output, in the order of the request.

    Raises:
        MalformedError, UsageError: as `Seed.derive_locked`.
    """
    terms = locked_secret(condition, "0" * 64)
    outputs: list[Output] = []
    for index, amount in enumerate(amounts):
        pair = seed.derive_locked(keyset_id, salt, index, terms)
        secret = locked_secret(condition, pair.secret)
        outputs.append(
            Output(
                amount=amount,
                keyset_id=keyset_id,
                counter=index,
                blinded_message=blind(secret, pair.blinding_factor).format().hex(),
                secret=secret,
                blinding_factor=pair.blinding_factor,
            )
        )
    return tuple(outputs)


def unblind_all(outputs: Sequence[Output], signatures: Sequence[BlindSignature], keyset: Keyset) -> tuple[Proof, ...]:
    """Turn signatures into coins: one for each output, in order, of exactly its amount.

    For signatures that were looked up (NUT-09), pass the outputs that the mint had signed.

    Args:
        keyset: the one that all outputs belong to.

    Raises:
        MintLiedError: another count, amount or keyset, no DLEQ proof, or one that does not hold. No coin is returned.
        UsageError: an output of another keyset.
    """
    if len(signatures) != len(outputs):
        raise MintLiedError("another number of signatures than of outputs")
    for output, signature in zip(outputs, signatures, strict=True):
        if signature.amount != output.amount:
            raise MintLiedError("a signature for another amount than the output's")
    return tuple(_proof(output, signature, keyset) for output, signature in zip(outputs, signatures, strict=True))


def unblind_change(
    outputs: Sequence[Output], signatures: Sequence[BlindSignature], keyset: Keyset, *, most: int
) -> tuple[Proof, ...]:
    """Turn the signatures on blank outputs into coins, worth what the signatures say (NUT-08).

    Args:
        outputs: the blank outputs; the mint signs as many as it needs, from the first on.
        most: what the change may come to at most.

    Raises:
        MintLiedError: as `unblind_all`, or the change comes to more.
        UsageError: an output of another keyset.
    """
    if len(signatures) > len(outputs):
        raise MintLiedError("more change than there were blank outputs")
    if sum(signature.amount for signature in signatures) > most:
        raise MintLiedError("more change than the inputs left over")
    return tuple(_proof(output, signature, keyset) for output, signature in zip(outputs, signatures, strict=False))


def is_signed(output: Output, signature: BlindSignature, keyset: Keyset) -> bool:
    """Whether a signature on an output, of whatever amount, is the mint's: another mint may claim to have signed it."""
    try:
        _proof(output, signature, keyset)
    except MintLiedError:
        return False
    return True


def _proof(output: Output, signature: BlindSignature, keyset: Keyset) -> Proof:
    if output.keyset_id != keyset.id:
        raise UsageError("an output belongs to another keyset")
    if signature.id != keyset.id:
        raise MintLiedError("a signature of another keyset")
    if signature.dleq is None:
        raise MintLiedError("a signature without a DLEQ proof")
    try:
        key = keyset.key(signature.amount)
        blind_signature = parse_point(signature.C_)
        e, s = parse_scalar(signature.dleq.e), parse_scalar(signature.dleq.s)
        if not verify_dleq(parse_point(output.blinded_message), blind_signature, e, s, key):
            raise MintLiedError("a signature whose DLEQ proof does not hold")
        point = unblind(blind_signature, output.blinding_factor, key)
    except MalformedError as error:
        raise MintLiedError(f"a signature that cannot be used: {error}") from None
    return Proof(
        amount=signature.amount,
        id=keyset.id,
        secret=output.secret,
        C=point.format().hex(),
        dleq=ProofDleq(e=signature.dleq.e, s=signature.dleq.s, r=output.blinding_factor.hex()),
    )
