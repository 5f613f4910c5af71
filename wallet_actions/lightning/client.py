"""LND over grpc.aio: its router, with TLS and a macaroon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from pydantic import SecretStr

from wallet_actions.classification import classify_grpc
from wallet_actions.clock import Clock, SystemClock
from wallet_actions.errors import ActionError, ConfigurationError, RejectedError, TransientError, UsageError
from wallet_actions.grpc import CALL_DEADLINE, closing_told, open_channel
from wallet_actions.lightning import lnd_pb2
from wallet_actions.lightning.node import NodeIdentity, Payment, PaymentStatus

GET_INFO = "/lnrpc.Lightning/GetInfo"
SEND_PAYMENT = "/routerrpc.Router/SendPaymentV2"
TRACK_PAYMENT = "/routerrpc.Router/TrackPaymentV2"

STATUSES = {
    lnd_pb2.Payment.INITIATED: PaymentStatus.INITIATED,
    lnd_pb2.Payment.IN_FLIGHT: PaymentStatus.IN_FLIGHT,
    lnd_pb2.Payment.SUCCEEDED: PaymentStatus.SUCCEEDED,
    lnd_pb2.Payment.FAILED: PaymentStatus.FAILED,
}

# LND says nearly everything with the status UNKNOWN; these are its words for what a person has to mend, or wait for.
MACAROON_REFUSED = (
    "macaroon",
    "verification failed",
    "permission denied",
    "packet too short",
    "fields out of order",
    "field data extends past end of buffer",
    "encoding/hex",
)
NOT_READY = {
    "wallet locked": "the node's wallet is locked; unlock it",
    "wallet not created": "the node has no wallet yet; create one",
    "waiting to start": "the node is starting up",
    "in the process of starting up": "the node is starting up",
}
# What stays so until the invoice has expired; then the coins come free. It is no proof: a copy may be under way.
WILL_NOT = {
    "self-payments not allowed": "the node does not pay its own invoices",
    "invoice expired": "by the node's clock the invoice has expired",
    "invoice not for current active network": "the invoice is for another network than the node's",
    "amount must be specified": "the node sees no amount in the invoice",
}
CERTIFICATE_REFUSED = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "Hostname Verification Check failed")


@dataclass(frozen=True, slots=True)
class LndAddress:
    """Where a node is, and what it wants to see.

    Attributes:
        target: `host:port` of its gRPC; the host is named in its certificate.
        certificate: PEM, LND's `tls.cert`; the only one that is trusted.
        macaroon: as hexadecimal digits; needs `info:read`, `offchain:read` and `offchain:write`.

    Raises:
        UsageError: one of them cannot be used.
    """

    target: str
    certificate: bytes = field(repr=False)
    macaroon: SecretStr

    def __post_init__(self) -> None:
        if not self.target:
            raise UsageError("the node's address looks like localhost:10009")
        if b"-----BEGIN CERTIFICATE-----" not in self.certificate:
            raise UsageError("the node's certificate is not a PEM file; take LND's tls.cert")
        try:
            is_there = bool(bytes.fromhex(self.macaroon.get_secret_value()))
        except ValueError:
            is_there = False
        if not is_there:
            raise UsageError("the macaroon is written in hexadecimal digits")

    @classmethod
    def of_files(cls, target: str, certificate: Path, macaroon: Path) -> Self:
        """Read LND's own files, `tls.cert` and `….macaroon`.

        Raises:
            UsageError: one of them is not there, or is something else.
        """
        try:
            return cls(target, certificate.read_bytes(), SecretStr(macaroon.read_bytes().hex()))
        except OSError as error:
            raise UsageError(f"{error.filename}: {error.strerror}") from None

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        """TLS for the connection, the macaroon for each call."""
        digits = self.macaroon.get_secret_value()

        def add(context: object, callback: Callable[[Any, Exception | None], None]) -> None:
            callback((("macaroon", digits),), None)

        return grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(self.certificate), grpc.metadata_call_credentials(add, name="macaroon")
        )


class LndClient:
    """One LND node, as the actions see it; see `LightningNode`.

    Args:
        deadline: how long an answer may take.
        patience: how long to watch a payment that is under way, before it is left to the next look.
        interceptors: nearest to the wire; for tests.
    """

    def __init__(
        self,
        address: LndAddress,
        *,
        clock: Clock | None = None,
        deadline: timedelta = CALL_DEADLINE,
        patience: timedelta = timedelta(seconds=20),
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self._patience_s = max(patience, timedelta(milliseconds=1)).total_seconds()
        self._channel = open_channel(
            address.target, credentials=address.credentials, deadline=deadline, interceptors=interceptors
        )
        self._get_info = self._channel.unary_unary(
            GET_INFO, lnd_pb2.GetInfoRequest.SerializeToString, lnd_pb2.GetInfoResponse.FromString
        )
        self._send_payment = self._channel.unary_stream(
            SEND_PAYMENT, lnd_pb2.SendPaymentRequest.SerializeToString, lnd_pb2.Payment.FromString
        )
        self._track_payment = self._channel.unary_stream(
            TRACK_PAYMENT, lnd_pb2.TrackPaymentRequest.SerializeToString, lnd_pb2.Payment.FromString
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. Payments that are under way go on."""
        await self._channel.close()

    async def identity(self) -> NodeIdentity:
        """See `LightningNode.identity`."""
        try:
            with closing_told():
                info: lnd_pb2.GetInfoResponse = await self._get_info(lnd_pb2.GetInfoRequest())
        except grpc.RpcError as error:
            raise self._error(error) from None
        if not info.identity_pubkey or not info.chains:
            raise TransientError("the node did not say who it is")
        return NodeIdentity(info.identity_pubkey, info.chains[0].network)

    async def track(self, payment_hash: str) -> Payment | None:
        """See `LightningNode.track`."""
        request = lnd_pb2.TrackPaymentRequest(payment_hash=bytes.fromhex(payment_hash))
        return await self._watch(self._track_payment, request, grpc.StatusCode.NOT_FOUND)

    async def send(self, invoice: str, *, fee_limit_msat: int, timeout_s: int) -> Payment | None:
        """See `LightningNode.send`."""
        request = lnd_pb2.SendPaymentRequest(
            payment_request=invoice, fee_limit_msat=fee_limit_msat, timeout_seconds=timeout_s
        )
        return await self._watch(self._send_payment, request, grpc.StatusCode.ALREADY_EXISTS)

    async def _watch(self, method: Any, request: Any, nothing: grpc.StatusCode) -> Payment | None:
        """Read a stream until it or the patience ends; what was said last counts, and nothing after a final state."""
        last: Payment | None = None
        call = method(request, timeout=self._patience_s)
        try:
            with closing_told():
                async for message in call:  # to its end: who cancels it is counted as one who did not get an answer
                    if last is None or not last.status.is_final:
                        last = _payment(message)
        except grpc.RpcError as error:
            if last is None:
                if error.code() is nothing:
                    return None
                raise self._error(error) from None
        finally:
            call.cancel()
        if last is None:
            raise TransientError("the node ended the stream before it had said anything")
        return last

    def _error(self, error: grpc.RpcError) -> ActionError:
        details = error.details() or ""
        status = error.code()
        if status is grpc.StatusCode.UNAVAILABLE and any(words in details for words in CERTIFICATE_REFUSED):
            return ConfigurationError("the node does not show the certificate that is in the settings")
        if status is grpc.StatusCode.UNKNOWN:
            for words, meaning in {**NOT_READY, **WILL_NOT}.items():
                if words in details:
                    return TransientError(meaning)
            if any(words in details for words in MACAROON_REFUSED):
                return ConfigurationError(
                    "the node refuses the macaroon that is in the settings, or it may not do this"
                )
        known = classify_grpc(error, now=self._clock.now())
        # No status of LND's proves that nothing has happened.
        return TransientError(str(known)) if isinstance(known, RejectedError) else known


def _payment(message: lnd_pb2.Payment) -> Payment:
    status = STATUSES.get(message.status)
    if status is None:
        raise TransientError("the node gave a payment a status that is not known here")
    has_preimage = status is PaymentStatus.SUCCEEDED and bool(message.payment_preimage.strip("0"))
    return Payment(
        payment_hash=message.payment_hash,
        status=status,
        preimage=SecretStr(message.payment_preimage) if has_preimage else None,
        fee_msat=max(message.fee_msat, 0),
        failure_reason=_reason(message.failure_reason),
    )


def _reason(number: lnd_pb2.PaymentFailureReason) -> str:
    try:
        name: str = lnd_pb2.PaymentFailureReason.Name(number)
    except (TypeError, ValueError):
        return ""
    return name.removeprefix("FAILURE_REASON_").replace("NONE", "")
