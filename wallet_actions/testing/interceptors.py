"""Interceptors for grpc.aio; see `wallet_actions.testing.peers.faulty_interceptors`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import grpc.aio

from wallet_actions.testing.life import BUSY_FOR, FaultKind, Life

_END, _UNREAD = object(), object()
_UNHEARD = frozenset({FaultKind.REQUEST_LOST, FaultKind.DELAYED, FaultKind.BUSY, FaultKind.FAILED})

Continuation = Callable[..., Awaitable[Any]]


def interceptors(life: Life) -> list[grpc.aio.ClientInterceptor]:
    """One for each shape of a method."""
    return [_UnaryUnary(life), _UnaryStream(life), _StreamUnary(life), _StreamStream(life)]


@dataclass(slots=True)
class _Answer:
    message: Any
    call: Any = None


class _Interceptor:
    def __init__(self, life: Life) -> None:
        self._life = life

    async def _call(self, name: str, function: Callable[[], Awaitable[_Answer]]) -> _Answer:
        def symptom(fault: FaultKind, answer: _Answer | None) -> _Answer:
            if fault is FaultKind.CONTRADICTION and answer is not None:
                # Without its call, whose answer would be the true one.
                return _Answer(self._life.contradict(name, answer.message))
            _fail(fault)

        return await self._life.call(name, function, symptom=symptom)

    async def _messages(self, name: str, first: Any, call: Any) -> AsyncIterator[Any]:
        iterator = aiter(call)
        try:
            message = (await self._call(name, _once(iterator))).message if first is _UNREAD else first
            while message is not _END:
                yield message
                message = (await self._call(f"{name} message", _once(iterator))).message
        finally:
            call.cancel()  # a stream that broke is over for its peer too

    async def _fail_unheard(self, name: str) -> None:
        """Fail before anything is sent, if that is what the plan says of the next call."""
        plan = self._life.plan
        if plan.fault_at == self._life.calls + 1 and plan.fault in _UNHEARD:
            await self._call(name, _nothing)


class _UnaryUnary(_Interceptor, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Continuation, client_call_details: Any, request: Any) -> Any:
        async def send() -> _Answer:
            call = await continuation(client_call_details, request)
            return _Answer(await call, call)

        answer = await self._call(_name(client_call_details), send)
        return answer.message if answer.call is None else answer.call


class _UnaryStream(_Interceptor, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Continuation, client_call_details: Any, request: Any) -> Any:
        name = _name(client_call_details)

        opened: list[Any] = []

        async def send() -> _Answer:
            call = await continuation(client_call_details, request)
            opened.append(call)
            first = await anext(aiter(call), _END)
            if len(opened) > 1:
                call.cancel()
            return _Answer(first)

        try:
            answer = await self._call(name, send)
        except BaseException:
            for call in opened:
                call.cancel()
            raise
        return self._messages(name, answer.message, opened[0])


class _StreamUnary(_Interceptor, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_unary(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        name = _name(client_call_details)
        await self._fail_unheard(name)
        # What the caller writes begins to flow only when this returns, so the answer is awaited later.
        call = await continuation(client_call_details, request_iterator)

        async def read() -> _Answer:
            return _Answer(await call)

        return _Answering(call, lambda: self._call(name, read))


class _StreamStream(_Interceptor, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        name = _name(client_call_details)
        await self._fail_unheard(name)
        return self._messages(name, _UNREAD, await continuation(client_call_details, request_iterator))


class _Answering:
    """A call whose answer comes from elsewhere."""

    def __init__(self, call: Any, answer: Callable[[], Awaitable[_Answer]]) -> None:
        self._call = call
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __await__(self) -> Generator[Any, None, Any]:
        answer = yield from self._answer().__await__()
        return answer.message


def _once(iterator: AsyncIterator[Any]) -> Callable[[], Awaitable[_Answer]]:
    """Reads the next message; the same one however often it is asked, for it cannot be sent twice."""
    read: list[Any] = []

    async def next_message() -> _Answer:
        if not read:
            read.append(await anext(iterator, _END))
        return _Answer(read[0])

    return next_message


async def _nothing() -> _Answer:
    return _Answer(None)


def _name(details: Any) -> str:
    method: str | bytes = details.method
    return (method.decode() if isinstance(method, bytes) else method).rpartition("/")[2]


def _fail(fault: FaultKind) -> NoReturn:
    code, details = {
        FaultKind.DELAYED: (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"),
        FaultKind.BUSY: (grpc.StatusCode.RESOURCE_EXHAUSTED, "busy"),
        FaultKind.FAILED: (grpc.StatusCode.UNKNOWN, "Unexpected <class 'RuntimeError'>"),
        FaultKind.GARBAGE: (grpc.StatusCode.INTERNAL, "Exception deserializing response!"),
        FaultKind.FAILED_AFTER: (grpc.StatusCode.UNAVAILABLE, "502:Bad Gateway"),
    }.get(fault, (grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    trailing = [("grpc-status-details-bin", retry_info(int(BUSY_FOR.total_seconds())))]
    metadata = grpc.aio.Metadata(*trailing) if fault is FaultKind.BUSY else grpc.aio.Metadata()
    raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details)


def retry_info(seconds: int) -> bytes:
    """A google.rpc.Status with a google.rpc.RetryInfo in it, encoded.

    Args:
        seconds: 0 – 127.
    """
    # google.rpc.Status {1: code, 3: details}, google.protobuf.Any {1: type_url, 2: value},
    # google.rpc.RetryInfo {1: retry_delay}, google.protobuf.Duration {1: seconds}.
    duration = b"\x08" + bytes([seconds])
    info = _field(1, b"type.googleapis.com/google.rpc.RetryInfo") + _field(2, _field(1, duration))
    return b"\x08" + bytes([grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]]) + _field(3, info)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content
