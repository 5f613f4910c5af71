"""What outlives a Cashu action: one row an operation, the same whether it went smoothly or was recovered (L-S11).

The row is written with the start of the action, as pending, and written over with its end, each time in the same
transaction as the action itself: so there are never two, and never none. Rows stand in the order of their starts.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict

from wallet_actions.codec import canonical_json
from wallet_actions.coins import ActionKey, Fact
from wallet_actions.store import Store

logger = logging.getLogger(__name__)

TRANSACTION = "cashu_transaction"
PAYMENT_PROOF = "cashu_payment_proof"


class TransactionState(StrEnum):
    """How far an operation is. Only `PENDING` changes."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REVOKED = "revoked"


class Transaction(BaseModel):
    """One row of a wallet's history.

    Attributes:
        operation: the kind of the action: `cashu_issue`, `cashu_send`, …
        id: the action's.
        mint, unit: whose ecash, and of what.
        amount: what was to be moved, in the unit, without fees.
        fee: what it cost on top; 0 until it is known.
        state: how far it is.
        at: when it was asked for, by the device's clock.
        counterpart: who or what stands on the other side, where it is known: an invoice, a public key; may be shown.
        memo: words that go with it; from a stranger, to be cleaned before they are shown.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    operation: str
    id: str
    mint: str
    unit: str
    amount: int
    fee: int
    state: TransactionState
    at: AwareDatetime | None = None
    counterpart: str | None = None
    memo: str | None = None


def transaction_fact(
    key: ActionKey,
    *,
    mint: str,
    unit: str,
    amount: int,
    state: TransactionState,
    at: AwareDatetime | None,
    fee: int = 0,
    counterpart: str | None = None,
    memo: str | None = None,
    part: str | None = None,
) -> Fact:
    """The row of an operation; for the arguments, see `Transaction`.

    Args:
        part: what tells a further row of the same operation from its first: an operation that moves money of several
            units has one for each, since amounts of two units are never added up.
    """
    row = Transaction(
        operation=key.kind,
        id=key.id,
        mint=mint,
        unit=unit,
        amount=amount,
        fee=fee,
        state=state,
        at=at,
        counterpart=counterpart,
        memo=memo,
    )
    name = f"{key.kind}/{key.id}" if part is None else f"{key.kind}/{key.id}/{part}"
    return Fact(TRANSACTION, name, canonical_json(row.model_dump(mode="json", exclude_none=True)))


async def transactions(store: Store) -> AsyncIterator[Transaction]:
    """The history of a wallet, the oldest operation first."""
    async for fact in _facts(store):
        row = _read(fact)
        if row is not None:
            yield row


async def latest(store: Store, count: int) -> Sequence[Transaction]:
    """The last operations of a wallet, the newest first.

    Args:
        count: how many at most.
    Cost: runs over all rows, but decodes only the last ones.
    """
    facts: deque[Fact] = deque(maxlen=count)
    async for fact in _facts(store):
        facts.append(fact)
    return [row for row in map(_read, reversed(facts)) if row is not None]


async def _facts(store: Store) -> AsyncIterator[Fact]:
    cursor = 0
    while page := await store.facts(kind=TRANSACTION, after=cursor):
        for cursor, fact in page:  # noqa: B007 the last one is where the next page begins
            yield fact


def _read(fact: Fact) -> Transaction | None:
    """The row; None where this code cannot read it, which may be older than what wrote it."""
    try:
        # Rows from before an operation was recorded at its start do not repeat its id.
        return Transaction.model_validate({"id": fact.key.partition("/")[2], **json.loads(fact.body)})
    except (ValueError, TypeError) as error:
        logger.error("a transaction cannot be read", extra={"fact_key": fact.key, "error_type": type(error).__name__})
        return None


def payment_proof_fact(key: ActionKey, preimage: str) -> Fact:
    """The receipt of a payment; sensitive."""
    return Fact(PAYMENT_PROOF, f"{key.kind}/{key.id}", canonical_json({"preimage": preimage}))
