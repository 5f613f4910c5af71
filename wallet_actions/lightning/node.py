"""The port to the node that pays, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pydantic import SecretStr


class PaymentStatus(StrEnum):
    """Where a payment stands at the node."""

    INITIATED = "initiated"
    IN_FLIGHT = "in_flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether the node is done with it; FAILED says that nothing of it is in flight any more."""
        return self in (PaymentStatus.SUCCEEDED, PaymentStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Payment:
    """What the node says of a payment.

    Attributes:
        payment_hash: 64 hexadecimal digits.
        preimage: the receipt, 64 hexadecimal digits; only once it has succeeded.
        fee_msat: what the route cost.
        failure_reason: why it has failed, in the node's words: `NO_ROUTE`, `TIMEOUT`, ….
    """

    payment_hash: str
    status: PaymentStatus
    preimage: SecretStr | None = field(default=None, repr=False)
    fee_msat: int = 0
    failure_reason: str = ""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Which node it is.

    Attributes:
        pubkey: 66 hexadecimal digits.
        network: as LND calls it: `mainnet`, `testnet`, `signet`, `regtest`.
    """

    pubkey: str
    network: str

    @property
    def account(self) -> str:
        """What its coins are booked on."""
        return f"lnd/{self.pubkey}"


class LightningNode(Protocol):
    """A node that pays invoices, named by their payment hash. It raises errors of the tree, and never a rejection.

    A `ConfigurationError` (credentials, certificate) says that nothing was done; a `TransientError`, that this is not
    known.
    """

    async def identity(self) -> NodeIdentity:
        """Which node it is."""
        ...

    async def track(self, payment_hash: str) -> Payment | None:
        """Look where a payment stands; may wait a while for its end.

        Returns:
            None where the node has no payment of that hash.
        """
        ...

    async def send(self, invoice: str, *, fee_limit_msat: int, timeout_s: int) -> Payment | None:
        """Have an invoice paid; may wait a while for its end. A caller that goes away does not stop the payment.

        Args:
            fee_limit_msat: the most that the route may cost; 0 takes routes without a fee only.
            timeout_s: for how long the node may begin new attempts, ≥ 1.
        Returns:
            None where the node has a payment of that hash already: look at that one.
        """
        ...
