"""The ledger's records: coins, facts and balances.

A coin is one piece of bearer value that an action can hold: a Cashu proof, a UTXO, a slice of a balance at a
custodian. A fact is what must outlive an action: "invoice paid, preimage …". Both are written only together with a
checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from wallet_actions.errors import UsageError

MAX_AMOUNT = 2**63 - 1
"""The largest amount of a coin, in its smallest unit: what a signed 64-bit column holds."""


class ActionKey(NamedTuple):
    """What names an action for ever: its kind and its id."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class CoinState(StrEnum):
    """Where a coin stands. `spendable → reserved → spent`; only `reserved → spendable` goes back (L-C3)."""

    SPENDABLE = "spendable"
    RESERVED = "reserved"
    SPENT = "spent"


@dataclass(frozen=True, slots=True)
class Coin:
    """One piece of value.

    Attributes:
        id: unique in the store, and public: it is printed and logged. Derive it from the secret, never use the secret.
        account: whom the value is with; for a mint, its URL.
        unit: `sat`, `msat`, `usd`, …; amounts of two units are never added up.
        amount: in the smallest unit, 1 … 2^63 - 1.
        payload: what spends the coin. Sensitive: never in a repr, a log, an error or a page.
        state, holder: written by the store alone. A reserved coin names the action that holds it (L-C1); a spent one
            the action that spent it.

    Raises:
        UsageError: an amount that is not a positive 64-bit integer, or an empty id, account or unit.
    """

    id: str
    account: str
    unit: str
    amount: int
    payload: str = field(default="", repr=False)
    state: CoinState = CoinState.SPENDABLE
    holder: ActionKey | None = None

    def __post_init__(self) -> None:
        if type(self.amount) is not int or not 0 < self.amount <= MAX_AMOUNT:
            raise UsageError("a coin's amount must be an integer from 1 to 2^63 - 1, in its smallest unit")
        if not (self.id and self.account and self.unit):
            raise UsageError("a coin needs an id, an account and a unit")


@dataclass(frozen=True, slots=True)
class Fact:
    """What must outlive the action: unique by kind and key, kept for ever.

    The action that wrote a fact may write it again, with another body; no other action may (L-S9, L-S11).

    Attributes:
        kind: what sort of fact, in snake case: `payment`, `receipt`.
        key: what it is about: a payment hash, a quote id.
        body: JSON text. May be sensitive (a preimage): never in a repr, a log or an error.
    """

    kind: str
    key: str
    body: str = field(default="{}", repr=False)


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account holds in one unit.

    Attributes:
        spendable: free to use, in the smallest unit.
        reserved: held by actions under way.
    """

    account: str
    unit: str
    spendable: int
    reserved: int
