"""Interceptors that give every call a deadline (L-P4), and a status to those on a channel that is closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio

Continuation = Callable[..., Awaitable[Any]]


def deadline_interceptors(deadline: timedelta) -> list[grpc.aio.ClientInterceptor]:
    """One for each of the four shapes of a method; a `timeout` that the caller gives wins.

    A stream's deadline is that of the whole stream, not of one message.
    """
    default_s = deadline.total_seconds()
    if default_s <= 0:
        raise ValueError("a deadline lies ahead")
    return [_UnaryUnary(default_s), _UnaryStream(default_s), _StreamUnary(default_s), _StreamStream(default_s)]


class _Deadline:
    def __init__(self, default_s: float) -> None:
        self._default_s = default_s

    async def _call(self, continuation: Continuation, details: Any, request: Any) -> Any:
        if details.timeout is None:
            details = details._replace(timeout=self._default_s)
        try:
            return await continuation(details, request)
        except grpc.aio.UsageError:  # no RpcError: to whoever calls it would be a bug, and not a peer out of reach
            raise unavailable("the channel is closed") from None


def unavailable(details: str) -> grpc.aio.AioRpcError:
    """What grpc says of a peer that is out of reach."""
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


class _UnaryUnary(_Deadline, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Continuation, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


class _UnaryStream(_Deadline, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Continuation, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


class _StreamUnary(_Deadline, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_unary(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._call(continuation, client_call_details, request_iterator)


class _StreamStream(_Deadline, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._call(continuation, client_call_details, request_iterator)
