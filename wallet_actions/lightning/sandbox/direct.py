"""The sandbox without a wire: for worlds of the testing kit, which bring faults of their own."""

from __future__ import annotations

from pydantic import SecretStr

from wallet_actions.errors import TransientError
from wallet_actions.lightning.node import NodeIdentity, Payment, PaymentStatus
from wallet_actions.lightning.sandbox.node import EXISTS, NOT_FOUND, NodeError, Record, SandboxNode


class DirectNode:
    """A `LightningNode` that calls the sandbox's state machine. A look carries what is under way on by one state."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node

    async def identity(self) -> NodeIdentity:
        """See `LightningNode.identity`."""
        return self._node.identity

    async def track(self, payment_hash: str) -> Payment | None:
        """See `LightningNode.track`."""
        try:
            record = self._node.track(payment_hash)
        except NodeError as error:
            if error.status is NOT_FOUND:
                return None
            raise TransientError(error.details) from None
        self._node.run(record)
        return self._payment(record)

    async def send(self, invoice: str, *, fee_limit_msat: int, timeout_s: int) -> Payment | None:
        """See `LightningNode.send`."""
        try:
            record = self._node.send(invoice, fee_limit_msat=fee_limit_msat)
        except NodeError as error:
            if error.status is EXISTS:
                return None
            raise TransientError(error.details) from None
        self._node.run(record)
        return self._payment(record)

    def _payment(self, record: Record) -> Payment:
        has_succeeded = record.status is PaymentStatus.SUCCEEDED
        return Payment(
            payment_hash=record.payment_hash,
            status=record.status,
            preimage=SecretStr(self._node.preimage(record.payment_hash)) if has_succeeded else None,
            fee_msat=record.fee_msat if has_succeeded else 0,
            failure_reason=record.failure_reason,
        )
