"""Real clients of real peers, with faults in between: an httpx transport and interceptors for grpc.aio.

    def wallet(self, life, store):
        transport = FaultyTransport(httpx.AsyncHTTPTransport(), life)
        return Wallet(httpx.AsyncClient(transport=transport, base_url=MINT))

        channel = grpc.aio.insecure_channel(LND, interceptors=faulty_interceptors(life))

Each request is a call of the life: two boundaries, and between them whatever fault is planned, as a client of that
protocol would see it. A peer that is a plain object is wrapped with `life.peer`, which needs nothing of this.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx

from wallet_actions.testing.faults import HTML, HTML_HEADERS
from wallet_actions.testing.life import BUSY_FOR, FaultKind, Life

if TYPE_CHECKING:
    from grpc.aio import ClientInterceptor

Named = Callable[[httpx.Request], str]
"""What the boundaries call a request. It is printed: no secrets."""

_LONGEST_WORD = 20


class FaultyTransport(httpx.AsyncBaseTransport):
    """Passes requests on to another transport, as calls of a life.

    Requests and answers are read to their end, so that a request can be sent again; endless ones do not work.

    Args:
        transport: what carries the requests; closed with this one.
        named: see `Named`; by default the method and the path, without the query and whatever in it looks like an id.

    | fault | what the client sees |
    |---|---|
    | REQUEST_LOST | `httpx.ConnectError` |
    | DELAYED, ANSWER_LOST | `httpx.ReadTimeout` |
    | BUSY, FAILED, FAILED_AFTER | 429 with Retry-After, 500, 502 with a page of HTML |
    | GARBAGE | 200 with a page of HTML |
    | CUT_SHORT | the first half of the answer, with the headers of one that is whole |
    | CONTRADICTION | what `World.contradict` makes of the `httpx.Response` |
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, life: Life, *, named: Named | None = None) -> None:
        self._transport = transport
        self._life = life
        self._named = named or name_of

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, or what the plan has in store for it.

        Raises:
            httpx.TransportError: as the table of the class says.
        """
        name = self._named(request)
        content = await request.aread()
        # Read, a request has its length; a framing of its own would contradict that.
        headers = [(key, value) for key, value in request.headers.raw if key.lower() != b"transfer-encoding"]

        async def send() -> httpx.Response:
            again = httpx.Request(
                request.method, request.url, headers=headers, content=content, extensions=request.extensions
            )
            answer = await self._transport.handle_async_request(again)
            try:
                return _response(answer, await _body(answer))
            finally:
                await answer.aclose()

        def symptom(fault: FaultKind, answer: httpx.Response | None) -> httpx.Response:
            return self._symptom(fault, answer, request, name)

        return await self._life.call(name, send, symptom=symptom)

    def _symptom(
        self, fault: FaultKind, answer: httpx.Response | None, request: httpx.Request, name: str
    ) -> httpx.Response:
        match fault:
            case FaultKind.REQUEST_LOST:
                raise httpx.ConnectError("All connection attempts failed", request=request)
            case FaultKind.BUSY:
                return httpx.Response(429, headers={"retry-after": f"{BUSY_FOR.total_seconds():g}"}, content=b"")
            case FaultKind.FAILED:
                return httpx.Response(500, content=b"Internal Server Error")
            case FaultKind.FAILED_AFTER:
                return httpx.Response(502, headers=HTML_HEADERS, content=HTML)
            case FaultKind.GARBAGE:
                return httpx.Response(200, headers=HTML_HEADERS, content=HTML)
            case FaultKind.CUT_SHORT if answer is not None:
                body = b"".join(answer.stream)  # type: ignore[arg-type] # made by `_response`: of bytes
                return _response(answer, body[: len(body) // 2])
            case FaultKind.CONTRADICTION:
                contradicted = self._life.contradict(name, answer)
                if isinstance(contradicted, httpx.Response):
                    return contradicted
                raise TypeError("World.contradict takes an httpx.Response here, and returns one")
            case _:
                raise httpx.ReadTimeout("", request=request)

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()


def faulty_interceptors(life: Life) -> list[ClientInterceptor]:
    """Interceptors for a `grpc.aio` channel: one for each of the four shapes of a method.

    A unary request is a call of the life; so is each message of a stream, the first one together with the opening of
    the stream. What a client streams cannot be repeated, so there nothing is duplicated.

    | fault | what the client sees |
    |---|---|
    | REQUEST_LOST, ANSWER_LOST, CUT_SHORT, FAILED_AFTER | UNAVAILABLE |
    | DELAYED | DEADLINE_EXCEEDED |
    | BUSY | RESOURCE_EXHAUSTED with RetryInfo |
    | FAILED | UNKNOWN |
    | GARBAGE | INTERNAL, as grpc says of a message that it cannot read |
    | CONTRADICTION | what `World.contradict` makes of the message |
    """
    from wallet_actions.testing.interceptors import interceptors

    return interceptors(life)


def name_of(request: httpx.Request) -> str:
    """Method and path, with … for the parts of it that look like ids: they may be secrets."""
    parts = [_ELLIPSIS if _is_id(part) else part for part in request.url.path.split("/")]
    return f"{request.method} {'/'.join(parts)}"


_ELLIPSIS = "…"


def _is_id(part: str) -> bool:
    is_number = re.fullmatch(r"\d+", part) is not None
    is_hex = re.fullmatch(r"(?=.*\d)[0-9a-fA-F-]{8,}", part) is not None
    return is_number or is_hex or len(part) > _LONGEST_WORD


async def _body(answer: httpx.Response) -> bytes:
    # Its stream, not its content: that would be unpacked, and then not fit its headers.
    assert isinstance(answer.stream, httpx.AsyncByteStream)  # noqa: S101 what an async transport gives
    return b"".join([chunk async for chunk in answer.stream])


def _response(answer: httpx.Response, body: bytes) -> httpx.Response:
    headers = [
        (key, value)
        for key, value in answer.headers.raw
        if key.lower() not in (b"content-length", b"transfer-encoding")
    ]
    length = (b"content-length", str(len(body)).encode())
    return httpx.Response(
        answer.status_code,
        headers=[*headers, length],
        stream=httpx.ByteStream(body),
        extensions={key: value for key, value in answer.extensions.items() if key != "network_stream"},
    )
