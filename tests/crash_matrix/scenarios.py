"""What a wallet is doing when something goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Ending = Literal["SETTLED", "FAILED"]
Lock = Literal["p2pk", "htlc"]


@dataclass(frozen=True, slots=True)
class Payment:
    """How the mint's payments go.

    Attributes:
        ending: how they end.
        is_pending: whether they stay pending first, until somebody has looked twice.
    """

    ending: Ending
    is_pending: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """The mint's settings at the beginning."""
        state = "PENDING" if self.is_pending else self.ending
        return {"fakewallet_pay_invoice_state": state, "fakewallet_payment_state": state}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One operation in one world; amounts in sat.

    Attributes:
        operation: what the process is to do, see `wallet`.
        fund: what the wallet issues first, each amount split into few coins.
        amount: of the operation.
        payment: how the mint's payments go.
        is_claimed: the payee redeems the token at once; otherwise only after the recovery, or it is revoked then.
        sends_first: the wallet has made a token, which the payee has been given, but has not redeemed.
        lock: what the token of the operation is locked to: a key, or a hash.
        is_lost: the wallet has changed its coins once, and then its file is gone.
    """

    name: str
    operation: str
    fund: tuple[int, ...] = ()
    amount: int = 0
    payment: Payment | None = None
    is_claimed: bool = False
    sends_first: bool = False
    lock: Lock | None = None
    is_lost: bool = False


_MELT: dict[str, Any] = {"operation": "melt", "fund": (127,), "amount": 10}
_EXACT: dict[str, Any] = {"operation": "send", "fund": (127,), "amount": 16}
_CHANGE: dict[str, Any] = {"operation": "send", "fund": (96,), "amount": 10}

ALL = (
    Scenario("issue", "issue", amount=21),
    Scenario("issue.batch", "issue_many", amount=21),
    Scenario("melt.paid", **_MELT, payment=Payment("SETTLED")),
    Scenario("melt.fails", **_MELT, payment=Payment("FAILED")),
    Scenario("melt.pending-paid", **_MELT, payment=Payment("SETTLED", is_pending=True)),
    Scenario("melt.pending-fails", **_MELT, payment=Payment("FAILED", is_pending=True)),
    Scenario("send.exact", **_EXACT),
    Scenario("send.exact-claimed", **_EXACT, is_claimed=True),
    Scenario("send.swap", **_CHANGE),
    Scenario("send.swap-claimed", **_CHANGE, is_claimed=True),
    Scenario("send.p2pk", **_CHANGE, lock="p2pk"),
    Scenario("send.htlc", **_CHANGE, lock="htlc"),
    Scenario("receive", "receive", amount=21),
    Scenario("receive.own", "receive", fund=(96,), amount=10, sends_first=True),
    Scenario("receive.p2pk", "receive", amount=21, lock="p2pk"),
    Scenario("receive.htlc", "receive", amount=21, lock="htlc"),
    Scenario("swap", "swap", fund=(7, 7, 7)),
    Scenario("revoke", "revoke", fund=(96,), amount=10, sends_first=True),
    Scenario("restore", "restore", fund=(7, 7, 7), is_lost=True),
)

SCENARIOS = {scenario.name: scenario for scenario in ALL}
