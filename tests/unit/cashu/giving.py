"""Tokens for tests, made by hand at a `SwapMint`: coins of a seed of its own, in no wallet's books."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.unit.cashu.fake_mint import URL
from tests.unit.cashu.swap_mint import Sheet, SwapMint
from wallet_actions.cashu.conditions import Condition
from wallet_actions.cashu.derivation import Seed
from wallet_actions.cashu.keysets import Keyset
from wallet_actions.cashu.outputs import locked_outputs_for, outputs_for, unblind_all
from wallet_actions.cashu.proofs import BlindSignature, Proof
from wallet_actions.cashu.tokens import Token, TokenVersion, encode_token

SEED = Seed(bytes(range(32)))
SALT = "5a" * 16


def given(
    mint: SwapMint, *amounts: int, condition: Condition | None = None, first: int = 0, sheet: Sheet | None = None
) -> tuple[Proof, ...]:
    """Coins that the mint has signed; the same ones each time.

    Args:
        first: the counter of the first one.
    """
    sheet = sheet or mint.sheets[0]
    if condition is None:
        outputs = outputs_for(SEED, sheet.id, first, amounts)
    else:
        outputs = locked_outputs_for(SEED, sheet.id, SALT, amounts, condition)
    signatures = [BlindSignature.model_validate(mint.sign(output.to_message(), output.amount)) for output in outputs]
    keyset = Keyset(id=sheet.id, unit=sheet.unit, keys=sheet.keys, input_fee_ppk=sheet.fee_ppk)
    return unblind_all(outputs, signatures, keyset)


def token_of(proofs: Sequence[Proof], version: TokenVersion = TokenVersion.V4, **fields: Any) -> str:
    return encode_token(Token(**{"mint": URL, "unit": "sat", "memo": None, "proofs": tuple(proofs), **fields}), version)


def bare(proof: Proof, **changes: Any) -> Proof:
    """A coin without its DLEQ proof, and with changes."""
    fields = proof.model_dump(exclude={"dleq"}, exclude_none=True)
    return Proof(**{**fields, **changes})
