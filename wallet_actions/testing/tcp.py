"""A proxy for plain TCP that refuses, resets, cuts and swallows on command: for peers that do not speak HTTP/1.1.

    async with TcpFaultProxy("127.0.0.1", 10009, TcpRule(Cut(after=100, sender="peer"), nth=2)) as proxy:
        ...  # the second connection to 127.0.0.1:proxy.port ends after 100 bytes of the peer's

Each connection is recorded. The first rule that fits it decides what happens to it; without one it is passed on, in
both directions, as the bytes come. `FaultProxy` knows requests; this one knows connections and bytes.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import socket
import struct
from asyncio import Server, StreamReader, StreamWriter, open_connection, start_server
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import anyio
from anyio.abc import TaskGroup

READ_BYTES = 1 << 16

Sender = Literal["client", "peer"]


@dataclass(frozen=True, slots=True)
class RefuseConnection:
    """The connection is reset as soon as it is made; the peer never hears of it.

    The port is open all the same. For one that is not, see `TcpFaultProxy.down`.
    """


@dataclass(frozen=True, slots=True)
class Reset:
    """After that many bytes of one side were passed on, the connections to both are reset."""

    after: int = 0
    sender: Sender = "client"


@dataclass(frozen=True, slots=True)
class Cut:
    """After that many bytes of one side were passed on, both connections are closed in good order."""

    after: int = 0
    sender: Sender = "client"


@dataclass(frozen=True, slots=True)
class Swallow:
    """Half open: after that many bytes of one side, nothing passes in either direction, and nobody is told."""

    after: int = 0
    sender: Sender = "client"


@dataclass(frozen=True, slots=True)
class Slow:
    """Whatever comes is passed on that much later, piece by piece."""

    seconds: float


@dataclass(frozen=True, slots=True)
class KillProcess:
    """After that many bytes of one side, a process is killed with SIGKILL; then both connections are reset.

    Attributes:
        target: a process id, or what is called to do the killing.
    """

    target: int | Callable[[], object] = field(repr=False)
    after: int = 0
    sender: Sender = "client"


TcpFault = RefuseConnection | Reset | Cut | Swallow | Slow | KillProcess


@dataclass(frozen=True, slots=True)
class TcpRule:
    """When to do what.

    Attributes:
        nth: the first connection to be treated so, from 1, counted since the rules were put in place.
        once: only that one; else also all that come later.
    """

    fault: TcpFault
    nth: int = 1
    once: bool = True


@dataclass(slots=True)
class Connection:
    """One connection, as far as it has come.

    Attributes:
        index: its place among all connections, from 0.
        fault: what a rule did to it.
        from_client, from_peer: how many bytes of theirs were passed on.
        is_over: whether it has ended.
    """

    index: int
    fault: TcpFault | None
    from_client: int = 0
    from_peer: int = 0
    is_over: bool = False

    def passed(self, sender: Sender) -> int:
        """How many bytes of one side were passed on."""
        return self.from_client if sender == "client" else self.from_peer


class TcpFaultProxy:
    """A TCP proxy on loopback in front of one peer, for as long as `async with` lasts.

    Args:
        host, port: the peer's.
        rules: see `use`.
    """

    def __init__(self, host: str, port: int, *rules: TcpRule) -> None:
        self._host, self._peer_port = host, port
        self._rules = list(rules)
        self._first = 0
        self._connections: list[Connection] = []
        self._changed = anyio.Event()
        self._port = 0
        self._server: Server
        self._tasks: TaskGroup

    @property
    def port(self) -> int:
        """Where clients find it, on 127.0.0.1."""
        return self._port

    @property
    def connections(self) -> Sequence[Connection]:
        """All connections so far, in the order of their arrival."""
        return tuple(self._connections)

    def use(self, *rules: TcpRule) -> None:
        """Put these rules in place of those before; they count the connections from now on."""
        self._rules, self._first = list(rules), len(self._connections)

    async def wait_until(self, condition: Callable[[Sequence[Connection]], bool]) -> None:
        """Return as soon as the connections are so; they are looked at after each piece that was passed on."""
        while not condition(self.connections):
            await self._changed.wait()

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Nobody listens meanwhile: connections are refused. Those that are there already go on."""
        self._server.close()
        try:
            yield
        finally:
            self._server = await self._listen()

    async def __aenter__(self) -> Self:
        self._server = await self._listen()
        self._port = self._server.sockets[0].getsockname()[1]
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._tasks.cancel_scope.cancel()
        # Without the error of the body: it is to leave as it is, not in a group of one.
        await self._tasks.__aexit__(None, None, None)

    async def _listen(self) -> Server:
        return await start_server(self._accept, "127.0.0.1", self._port)

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        number = len(self._connections) - self._first + 1
        fitting = [rule.fault for rule in self._rules if number == rule.nth or (number > rule.nth and not rule.once)]
        connection = Connection(len(self._connections), fitting[0] if fitting else None)
        self._connections.append(connection)
        self._notify()
        self._tasks.start_soon(self._serve, connection, reader, writer)

    async def _serve(self, connection: Connection, reader: StreamReader, writer: StreamWriter) -> None:
        writers = [writer]
        try:
            if isinstance(connection.fault, RefuseConnection):
                raise _ResetError
            peer_reader, peer_writer = await open_connection(self._host, self._peer_port)
            writers.append(peer_writer)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._pass_on, connection, "client", reader, peer_writer)
                tasks.start_soon(self._pass_on, connection, "peer", peer_reader, writer)
        except* _HangUpError:
            pass
        except* (_ResetError, OSError):
            for one in writers:
                # With no time to linger, closing sends RST and drops what is still to be sent.
                with suppress(OSError):  # the peer may have been first
                    one.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                one.transport.abort()
        finally:
            for one in writers:
                one.close()
            connection.is_over = True
            self._notify()

    async def _pass_on(
        self, connection: Connection, sender: Sender, reader: StreamReader, writer: StreamWriter
    ) -> None:
        fault = connection.fault
        await self._strike(connection, sender)
        while piece := await reader.read(READ_BYTES):
            if isinstance(fault, Slow):
                await anyio.sleep(fault.seconds)
            while piece and not self._is_swallowed(connection):
                now, piece = self._split(connection, sender, piece)
                writer.write(now)
                await writer.drain()
                self._count(connection, sender, len(now))
                await self._strike(connection, sender)
        if self._is_swallowed(connection):
            return
        with suppress(OSError):
            writer.write_eof()

    def _split(self, connection: Connection, sender: Sender, piece: bytes) -> tuple[bytes, bytes]:
        """What is passed on before the fault strikes, and the rest."""
        fault = connection.fault
        if isinstance(fault, Reset | Cut | Swallow | KillProcess) and fault.sender == sender:
            left = fault.after - connection.passed(sender)
            return piece[:left], piece[left:]
        return piece, b""

    def _is_swallowed(self, connection: Connection) -> bool:
        fault = connection.fault
        return isinstance(fault, Swallow) and connection.passed(fault.sender) >= fault.after

    async def _strike(self, connection: Connection, sender: Sender) -> None:
        fault = connection.fault
        if not isinstance(fault, Reset | Cut | KillProcess) or fault.sender != sender:
            return
        if connection.passed(sender) < fault.after:
            return
        match fault:
            case Cut():
                raise _HangUpError
            case KillProcess(target=target):
                await _kill(target)
        raise _ResetError

    def _count(self, connection: Connection, sender: Sender, size: int) -> None:
        if sender == "client":
            connection.from_client += size
        else:
            connection.from_peer += size
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class _HangUpError(Exception):
    """Both connections are closed."""


class _ResetError(Exception):
    """Both connections are reset."""


async def _kill(target: int | Callable[[], object]) -> None:
    if isinstance(target, int):
        with suppress(ProcessLookupError):
            os.kill(target, signal.SIGKILL)
        return
    result = target()
    if inspect.isawaitable(result):
        await result
    await asyncio.sleep(0)
