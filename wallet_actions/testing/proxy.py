"""A reverse proxy that loses, repeats and delays on command: faults of a peer, between a real client and a real peer.

    async with FaultProxy(mint.url, Rule(LoseAnswer(), path=r"/v1/swap$")) as proxy:
        ...  # a client of proxy.url loses the answer to its first swap, which the mint has done

Each request is recorded. The first rule that fits it decides what happens to it; without one it is passed on. Requests
and answers are read to their end before they are passed on: upgrades of the connection and endless bodies do not work.
"""

from __future__ import annotations

import inspect
import os
import signal
import socket
import struct
from asyncio import AbstractServer, StreamReader, StreamWriter, open_connection, start_server
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar
from urllib.parse import urlsplit

import anyio
import h11
from anyio.abc import TaskGroup

from wallet_actions.testing.faults import (
    Delay,
    Duplicate,
    Fault,
    Headers,
    Kill,
    Late,
    LoseAnswer,
    Record,
    Refuse,
    ResetBefore,
    Rule,
    Status,
    StatusAfter,
)

__all__ = [
    "Delay",
    "Duplicate",
    "Fault",
    "FaultProxy",
    "Kill",
    "Late",
    "LoseAnswer",
    "Record",
    "Refuse",
    "ResetBefore",
    "Rule",
    "Status",
    "StatusAfter",
]

READ_BYTES = 1 << 16
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"trailer", b"transfer-encoding", b"upgrade")
)


class FaultProxy:
    """An HTTP/1.1 proxy on loopback in front of one peer, for as long as `async with` lasts.

    Args:
        upstream: the peer, `http://host:port`.
        rules: see `use`.
    """

    def __init__(self, upstream: str, *rules: Rule) -> None:
        parts = urlsplit(upstream)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError("the proxy stands in front of an http:// address with a host")
        self._host, self._peer_port = parts.hostname, parts.port or 80
        self._rules: list[_Counted] = []
        self._records: list[Record] = []
        self._changed = anyio.Event()
        self._port = 0
        self._server: AbstractServer
        self._tasks: TaskGroup
        self.use(*rules)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def records(self) -> Sequence[Record]:
        """All requests so far, in the order of their arrival."""
        return tuple(self._records)

    def use(self, *rules: Rule) -> None:
        """Put these rules in place of those before; they begin to count now."""
        self._rules = [_Counted(rule) for rule in rules]

    async def wait_until(self, condition: Callable[[Sequence[Record]], bool]) -> None:
        """Return as soon as the records are so; they are looked at after each step of each request."""
        while not condition(self.records):
            await self._changed.wait()

    async def __aenter__(self) -> Self:
        server = await start_server(self._accept, "127.0.0.1", 0)
        self._server = server
        self._port = server.sockets[0].getsockname()[1]
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._tasks.cancel_scope.cancel()
        # Without the error of the body: it is to leave as it is, not in a group of one.
        await self._tasks.__aexit__(None, None, None)

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._tasks.start_soon(self._serve, reader, writer)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        client = h11.Connection(h11.SERVER)
        try:
            while (request := await _read_request(client, reader)) is not None:
                record = self._record(request)
                try:
                    await self._treat(record, request, client, writer)
                finally:
                    record.ended_at = record.ended_at or anyio.current_time()
                    self._notify()
                if client.our_state is h11.MUST_CLOSE:
                    break
                client.start_next_cycle()
        except _ResetError:
            # With no time to linger, closing sends RST and drops what is still to be sent.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        except _HangUpError:
            pass
        finally:
            writer.close()

    def _record(self, request: _Message[h11.Request]) -> Record:
        record = Record(
            index=len(self._records),
            method=request.head.method.decode("ascii"),
            path=urlsplit(request.head.target.decode("ascii", "replace")).path,
            fault=None,
            body=request.body,
            started_at=anyio.current_time(),
        )
        # All of them are asked, because each counts for itself.
        applying = [counted.rule for counted in self._rules if counted.applies(record)]
        record.fault = applying[0].fault if applying else None
        self._records.append(record)
        self._notify()
        return record

    async def _treat(
        self, record: Record, request: _Message[h11.Request], client: h11.Connection, writer: StreamWriter
    ) -> None:
        async def ask() -> _Message[h11.Response]:
            return await self._forward(record, request)

        async def answer(message: _Message[h11.Response]) -> None:
            try:
                writer.write(_encode(client, message))
                await writer.drain()
            except OSError as error:
                raise _HangUpError from error
            record.status, record.ended_at = message.head.status_code, anyio.current_time()
            self._notify()

        match record.fault:
            case None:
                await answer(await ask())
            case Refuse():
                raise _HangUpError
            case ResetBefore():
                raise _ResetError
            case LoseAnswer():
                await ask()
                raise _ResetError
            case Status(code, body, headers):
                await answer(_own_answer(code, body, headers))
            case StatusAfter(code, body, headers):
                await ask()
                await answer(_own_answer(code, body, headers))
            case Delay(seconds):
                await anyio.sleep(seconds)
                await answer(await ask())
            case Late(seconds):
                message = await ask()
                await anyio.sleep(seconds)
                await answer(message)
            case Duplicate("first", gap_s):
                await answer(await ask())
                self._tasks.start_soon(self._again, record, request, gap_s)
            case Duplicate(_, gap_s):
                await ask()
                await anyio.sleep(gap_s)
                await answer(await ask())
            case Kill(target, "before", after_s):
                await _kill(target, after_s)
                raise _ResetError
            case Kill(target, "answered", after_s):
                await ask()
                await _kill(target, after_s)
                raise _ResetError
            case Kill(target, _, after_s):
                await answer(await ask())
                self._tasks.start_soon(_kill, target, after_s)

    async def _again(self, record: Record, request: _Message[h11.Request], gap_s: float) -> None:
        await anyio.sleep(gap_s)
        try:
            await self._forward(record, request)
        except _ResetError:
            # Nobody waits for this answer.
            return

    async def _forward(self, record: Record, request: _Message[h11.Request]) -> _Message[h11.Response]:
        """Ask the peer on a connection of its own, so that what happens to it is not felt by another request."""
        record.forwarded_at.append(anyio.current_time())
        self._notify()
        try:
            message = await self._exchange(request)
        except (OSError, h11.ProtocolError) as error:
            # The peer is gone or talks nonsense; the client learns no more than that.
            raise _ResetError from error
        record.answered_at.append(anyio.current_time())
        record.peer_status = message.head.status_code
        self._notify()
        return message

    async def _exchange(self, request: _Message[h11.Request]) -> _Message[h11.Response]:
        own = [(b"host", f"{self._host}:{self._peer_port}".encode()), (b"connection", b"close")]
        kept = [
            (name, value) for name, value in request.head.headers if name not in (b"host", b"connection", b"expect")
        ]
        head = h11.Request(method=request.head.method, target=request.head.target, headers=own + kept)
        peer = h11.Connection(h11.CLIENT)
        reader, writer = await open_connection(self._host, self._peer_port)
        try:
            writer.write(_encode(peer, _Message(head, request.body)))
            await writer.drain()
            message = await _receive(peer, reader, h11.Response)
        finally:
            writer.close()
        if message is None:
            raise ConnectionResetError("the peer closed the connection without an answer")
        return _Message(_for_client(message.head), message.body)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class _HangUpError(Exception):
    """The connection to the client is closed without an answer."""


class _ResetError(Exception):
    """The connection to the client is reset."""


Head = TypeVar("Head", h11.Request, h11.Response)


@dataclass(frozen=True, slots=True)
class _Message(Generic[Head]):
    """A request or an answer, with all of its body."""

    head: Head
    body: bytes


@dataclass(slots=True)
class _Counted:
    rule: Rule
    seen: int = 0

    def applies(self, record: Record) -> bool:
        if not self.rule.fits(record):
            return False
        self.seen += 1
        return self.seen == self.rule.nth or (self.seen > self.rule.nth and not self.rule.once)


async def _read_request(client: h11.Connection, reader: StreamReader) -> _Message[h11.Request] | None:
    try:
        return await _receive(client, reader, h11.Request)
    except (OSError, h11.ProtocolError):
        # The client has left in the middle, or sent what is not HTTP.
        return None


async def _receive(connection: h11.Connection, reader: StreamReader, kind: type[Head]) -> _Message[Head] | None:
    """The next whole message; None when the other side ended the connection instead."""
    head: Head | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, kind):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return _Message(head, bytes(body))
        elif isinstance(event, h11.ConnectionClosed):
            return None


def _encode(connection: h11.Connection, message: _Message[Head]) -> bytes:
    parts = [
        connection.send(message.head),
        connection.send(h11.Data(data=message.body)) if message.body else None,
        connection.send(h11.EndOfMessage()),
    ]
    return b"".join(part for part in parts if part is not None)


def _for_client(head: h11.Response) -> h11.Response:
    """What the peer answered, less what concerned its connection only; h11 frames the body anew."""
    headers = [(name, value) for name, value in head.headers if name not in HOP_BY_HOP]
    return h11.Response(status_code=head.status_code, headers=headers, reason=head.reason)


def _own_answer(code: int, body: bytes, headers: Headers) -> _Message[h11.Response]:
    framed = [("content-length", str(len(body))), *headers]
    return _Message(h11.Response(status_code=code, headers=framed), body)


async def _kill(target: int | Callable[[], object], after_s: float) -> None:
    await anyio.sleep(after_s)
    if isinstance(target, int):
        with suppress(ProcessLookupError):
            os.kill(target, signal.SIGKILL)
        return
    result = target()
    if inspect.isawaitable(result):
        await result
