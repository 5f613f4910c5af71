"""What outlives a Cashu action: one row an operation, the same whether it went smoothly or was recovered (L-S11)."""

from __future__ import annotations

from wallet_actions.codec import canonical_json
from wallet_actions.coins import ActionKey, Fact

TRANSACTION = "cashu_transaction"
PAYMENT_PROOF = "cashu_payment_proof"


def transaction_fact(key: ActionKey, *, mint: str, unit: str, amount: int, fee: int, state: str) -> Fact:
    """How an operation ended.

    Args:
        amount, fee: in the unit.
        state: `done`, `failed`, `expired`, `cancelled`.
    """
    body = {"operation": key.kind, "mint": mint, "unit": unit, "amount": amount, "fee": fee, "state": state}
    return Fact(TRANSACTION, f"{key.kind}/{key.id}", canonical_json(body))


def payment_proof_fact(key: ActionKey, preimage: str) -> Fact:
    """The receipt of a payment; sensitive."""
    return Fact(PAYMENT_PROOF, f"{key.kind}/{key.id}", canonical_json({"preimage": preimage}))
