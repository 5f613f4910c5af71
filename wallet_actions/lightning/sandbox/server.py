"""The sandbox as a gRPC server on loopback, with TLS, a macaroon, and mishaps on command."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, NoReturn, Self

import grpc
import grpc.aio
from pydantic import SecretStr

from wallet_actions.lightning import lnd_pb2
from wallet_actions.lightning.client import GET_INFO, SEND_PAYMENT, TRACK_PAYMENT, LndAddress
from wallet_actions.lightning.node import PaymentStatus
from wallet_actions.lightning.sandbox.node import NodeError, Record, SandboxNode
from wallet_actions.lightning.sandbox.tls import CERTIFICATE, KEY

MACAROON = "0201036c6e64"
NO_PREIMAGE = "0" * 64
PATIENCE_S = 2.0
TURNS = 20

Method = Literal["GetInfo", "SendPaymentV2", "TrackPaymentV2"]

_WIRE = {
    PaymentStatus.INITIATED: lnd_pb2.Payment.INITIATED,
    PaymentStatus.IN_FLIGHT: lnd_pb2.Payment.IN_FLIGHT,
    PaymentStatus.SUCCEEDED: lnd_pb2.Payment.SUCCEEDED,
    PaymentStatus.FAILED: lnd_pb2.Payment.FAILED,
}


@dataclass(slots=True)
class Mishap:
    """Something that happens to the next call of a method, once.

    Attributes:
        method: `SendPaymentV2`, say.
        kind: `lost`: the node does it, and the stream is dropped before anything is said. `late`: the stream is
            dropped, and the node does it when `SandboxServer.land` is called. `dropped`: the stream ends after
            `messages` of them, in good order. `refused`: nothing is done, and `status` is the answer.
        on_reached: called when it happens: to kill the client, say.
    """

    method: Method
    kind: Literal["lost", "late", "dropped", "refused"] = "lost"
    messages: int = 1
    status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    details: str = "Socket closed"
    on_reached: Callable[[], object] = field(default=lambda: None, repr=False)


class SandboxServer:
    """An LND on loopback for as long as `async with` lasts; `stop` and `start` in between restart it.

    Args:
        node: what it serves; it outlives the server.
        port: 0 lets the system choose; it stays the same afterwards.

    Attributes:
        unready: what every call is answered with while the wallet is locked, say; None when all is well.
        macaroon: what callers have to show.
        calls: the methods that were called, in order.
    """

    def __init__(self, node: SandboxNode, *, port: int = 0) -> None:
        self.node = node
        self.unready: str | None = None
        self.macaroon = MACAROON
        self.calls: list[str] = []
        self._called = asyncio.Event()
        self._mishaps: list[Mishap] = []
        self._late: list[tuple[str, int]] = []
        self._port = port
        self._server: Any = None
        self._is_up = False
        self._running: set[asyncio.Task[None]] = set()
        self._handlers: set[asyncio.Task[Any]] = set()

    @property
    def address(self) -> LndAddress:
        """What a client needs."""
        return LndAddress(self.target, CERTIFICATE, SecretStr(MACAROON))

    @property
    def target(self) -> str:
        """Host and port; the host is the one in the certificate."""
        return f"localhost:{self._port}"

    def use(self, *mishaps: Mishap) -> None:
        """Put these in place of those that have not happened yet."""
        self._mishaps = list(mishaps)

    async def land(self) -> None:
        """Let the sendings that were late arrive now, and be carried out as far as they get."""
        late, self._late = self._late, []
        for invoice, fee_limit_msat in late:
            with contextlib.suppress(NodeError):
                self._begin(invoice, fee_limit_msat)
        await self.settle()

    async def wait_for(self, method: Method) -> None:
        """Return as soon as a method has been called."""
        while method not in self.calls:
            await self._called.wait()

    async def settle(self) -> None:
        """Wait until no payment moves any more."""
        while running := list(self._running):
            await asyncio.gather(*running)

    async def start(self) -> None:
        """Listen; what was under way goes on."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        router, lightning = SEND_PAYMENT.split("/")[1], GET_INFO.split("/")[1]
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(lightning, {"GetInfo": _unary(self._get_info)}),
                grpc.method_handlers_generic_handler(
                    router,
                    {
                        SEND_PAYMENT.split("/")[2]: _stream(self._send, lnd_pb2.SendPaymentRequest),
                        TRACK_PAYMENT.split("/")[2]: _stream(self._track, lnd_pb2.TrackPaymentRequest),
                    },
                ),
            )
        )
        credentials = grpc.ssl_server_credentials([(KEY, CERTIFICATE)])
        self._port = self._server.add_secure_port(f"127.0.0.1:{self._port}", credentials)
        await self._server.start()
        self._is_up = True
        for record in self.node.records.values():
            self._carry_on(record)

    async def stop(self) -> None:
        """Cut all connections; the payments stay as they are."""
        self._is_up = False
        for task in self._running:
            task.cancel()
        for record in self.node.records.values():
            record.wake()
        # Handlers that are still under way report to grpc, and it to their event loop. Were that closed by then, grpc
        # would complain in the next loop of the process: in another test.
        await self._server.stop(PATIENCE_S)
        if self._handlers:
            await asyncio.wait(self._handlers)
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # Handlers

    async def _get_info(self, request: lnd_pb2.GetInfoRequest, context: Any) -> lnd_pb2.GetInfoResponse:
        await self._enter("GetInfo", context)
        identity = self.node.identity
        chain = lnd_pb2.Chain(chain="bitcoin", network=identity.network)
        return lnd_pb2.GetInfoResponse(identity_pubkey=identity.pubkey, chains=[chain])

    async def _send(self, request: lnd_pb2.SendPaymentRequest, context: Any) -> AsyncIterator[lnd_pb2.Payment]:
        mishap = await self._enter("SendPaymentV2", context)
        if mishap is not None and mishap.kind == "late":
            self._late.append((request.payment_request, request.fee_limit_msat))
            await _drop(context)
        try:
            record = self._begin(request.payment_request, request.fee_limit_msat)
        except NodeError as error:
            await context.abort(error.status, error.details)
        async for message in self._updates(record, request.no_inflight_updates, mishap, context):
            yield message

    async def _track(self, request: lnd_pb2.TrackPaymentRequest, context: Any) -> AsyncIterator[lnd_pb2.Payment]:
        mishap = await self._enter("TrackPaymentV2", context)
        try:
            record = self.node.track(request.payment_hash.hex())
        except NodeError as error:
            await context.abort(error.status, error.details)
        async for message in self._updates(record, request.no_inflight_updates, mishap, context):
            yield message

    async def _enter(self, method: Method, context: Any) -> Mishap | None:
        handler = asyncio.current_task()
        assert handler is not None  # noqa: S101 grpc has one for each call
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        self.calls.append(method)
        self._called.set()
        self._called = asyncio.Event()
        shown = [value for key, value in context.invocation_metadata() if key == "macaroon"]
        if self.unready is not None:
            await context.abort(grpc.StatusCode.UNKNOWN, self.unready)
        if len(shown) != 1:
            await context.abort(grpc.StatusCode.UNKNOWN, f"expected 1 macaroon, got {len(shown)}")
        if shown[0] != self.macaroon:
            words = "verification failed: signature mismatch after caveat verification"
            await context.abort(grpc.StatusCode.UNKNOWN, words)
        mishap = next((one for one in self._mishaps if one.method == method), None)
        if mishap is None:
            return None
        self._mishaps.remove(mishap)
        if mishap.kind == "refused":
            mishap.on_reached()
            await context.abort(mishap.status, mishap.details)
        if mishap.kind == "late":
            mishap.on_reached()
        return mishap

    async def _updates(
        self, record: Record, is_final_only: bool, mishap: Mishap | None, context: Any
    ) -> AsyncIterator[lnd_pb2.Payment]:
        if mishap is not None and mishap.kind == "lost":
            await self.settle()
            mishap.on_reached()
            await _drop(context)
        seen = max(len(record.states) - 1, 0)
        sent = 0
        while True:
            changed = record.changed
            for status in record.states[seen:]:
                seen += 1
                if status.is_final or not is_final_only:
                    yield self._message(record, status)
                    sent += 1
                if mishap is not None and sent >= mishap.messages:
                    mishap.on_reached()
                    return
                if status.is_final:
                    return
            await changed.wait()
            if not self._is_up:
                await _drop(context)

    # Payments

    def _begin(self, invoice: str, fee_limit_msat: int) -> Record:
        record = self.node.send(invoice, fee_limit_msat=fee_limit_msat)
        self._carry_on(record)
        return record

    def _carry_on(self, record: Record) -> None:
        task = asyncio.get_running_loop().create_task(self._run(record))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, record: Record) -> None:
        while not record.status.is_final:
            before = record.status
            await asyncio.sleep(0)
            self.node.run(record)
            if record.status is before:
                return

    def _message(self, record: Record, status: PaymentStatus) -> lnd_pb2.Payment:
        has_succeeded = status is PaymentStatus.SUCCEEDED
        reason = f"FAILURE_REASON_{record.failure_reason if status is PaymentStatus.FAILED else 'NONE'}"
        return lnd_pb2.Payment(
            payment_hash=record.payment_hash,
            payment_preimage=self.node.preimage(record.payment_hash) if has_succeeded else NO_PREIMAGE,
            payment_request=record.invoice,
            value_msat=record.amount_msat,
            status=_WIRE[status],
            fee_msat=record.fee_msat if has_succeeded else 0,
            failure_reason=reason,
        )


async def _drop(context: Any) -> NoReturn:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
    raise AssertionError  # abort has raised


def _unary(handler: Callable[..., Any]) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        handler, lnd_pb2.GetInfoRequest.FromString, lnd_pb2.GetInfoResponse.SerializeToString
    )


def _stream(handler: Callable[..., Any], request: Any) -> Any:
    return grpc.unary_stream_rpc_method_handler(handler, request.FromString, lnd_pb2.Payment.SerializeToString)
