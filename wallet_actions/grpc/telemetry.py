"""Interceptors that carry the trace context to the peer, and measure each call.

Against the API of OpenTelemetry alone: without an SDK in the app both cost next to nothing. A call is a span of the
kind CLIENT, and one entry in the histogram `rpc.client.duration`. Labels name service, method and status; never an id.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from opentelemetry import metrics, trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Continuation = Callable[..., Awaitable[Any]]

SCOPE = "wallet_actions.grpc"
DURATION = "rpc.client.duration"


def telemetry_interceptors() -> list[grpc.aio.ClientInterceptor]:
    """One for each of the four shapes of a method."""
    return [_UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream()]


class _Measured:
    def __init__(self) -> None:
        self._tracer = trace.get_tracer(SCOPE)
        self._duration = metrics.get_meter(SCOPE).create_histogram(
            DURATION, unit="ms", description="How long a call took, from its start to its status."
        )
        # Not the app's own propagator: baggage is nobody's business at a peer.
        self._propagator = TraceContextTextMapPropagator()

    async def _call(self, continuation: Continuation, details: Any, request: Any) -> Any:
        name = _name(details.method)
        service, _, method = name.partition("/")
        labels: dict[str, str | int] = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=labels)
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, trace.set_span_in_context(span))
        if carrier:  # behind one that is there already; grpc sends the last
            details = details._replace(metadata=grpc.aio.Metadata(*(details.metadata or ()), *carrier.items()))
        began_s = time.perf_counter()

        def ended(call: Any) -> None:
            self._end(span, labels, began_s, call)

        try:
            call = await continuation(details, request)
        except BaseException as error:
            self._end(span, labels, began_s, error)
            raise
        if call.done():  # an answer that an interceptor behind us gave takes no callbacks
            ended(call)
        else:
            call.add_done_callback(ended)
        return call

    def _end(self, span: Span, labels: dict[str, str | int], began_s: float, call: Any) -> None:
        status = _status(call)
        labels = {**labels, "rpc.grpc.status_code": status.value[0]}
        self._duration.record((time.perf_counter() - began_s) * 1000, labels)
        span.set_attribute("rpc.grpc.status_code", status.value[0])
        if status not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):  # who has heard enough of a stream cancels it
            span.set_status(StatusCode.ERROR, status.name)
        span.end()


class _UnaryUnary(_Measured, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Continuation, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


class _UnaryStream(_Measured, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Continuation, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


class _StreamUnary(_Measured, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_unary(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._call(continuation, client_call_details, request_iterator)


class _StreamStream(_Measured, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._call(continuation, client_call_details, request_iterator)


def _name(method: str | bytes) -> str:
    return (method.decode() if isinstance(method, bytes) else method).lstrip("/")


def _status(ended: Any) -> grpc.StatusCode:
    """The status of a call that has ended, or of the error that it ended with."""
    code = ended.code() if hasattr(ended, "code") else grpc.StatusCode.CANCELLED
    if isinstance(code, grpc.StatusCode):
        return code
    try:
        code.send(None)  # of an ended call it is known: nothing is waited for
    except StopIteration as known:
        status: grpc.StatusCode = known.value
        return status
    code.close()
    return grpc.StatusCode.UNKNOWN
