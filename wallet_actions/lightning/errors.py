"""What goes wrong with an invoice, with the funds, or on the way to the node."""

from __future__ import annotations

from enum import StrEnum

from wallet_actions.errors import RejectedError, UsageError


class InvoiceFault(StrEnum):
    """Why an invoice cannot be paid."""

    MALFORMED = "malformed"
    AMOUNTLESS = "amountless"
    EXPIRED = "expired"
    NETWORK = "network"
    OWN = "own"


class InvoiceError(UsageError):
    """The invoice cannot be paid; nothing was started.

    Attributes:
        fault: why, for the app.
    """

    def __init__(self, message: str, fault: InvoiceFault) -> None:
        super().__init__(message)
        self.fault = fault


class InsufficientFundsError(RejectedError):
    """What is free of the node's balance does not cover the amount and the fee limit; nothing was started.

    Attributes:
        needed_msat, available_msat: in thousandths of a satoshi.
    """

    def __init__(self, needed_msat: int, available_msat: int) -> None:
        super().__init__(f"not enough funds: {needed_msat} msat needed, {available_msat} msat available")
        self.needed_msat = needed_msat
        self.available_msat = available_msat
