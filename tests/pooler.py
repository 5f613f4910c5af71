"""A pooler in transaction mode: each transaction of a client's runs on another connection to the server.

It does what PgBouncer does with `pool_mode = transaction`, `server_round_robin = 1` and `max_prepared_statements = 0`,
and is as unkind as that allows: whoever has a turn gets the connection that has been free longest, so that nothing
which was left in a session is found again. Prepared statements are nobody's in particular, as before PgBouncer 1.21.
"""

from __future__ import annotations

import asyncio
import struct
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections import deque
from contextlib import suppress
from threading import Thread
from typing import Self
from urllib.parse import urlsplit, urlunsplit

PATIENCE_S = 30.0
_VERSION_3 = 196608
_ENCRYPTION = (80877103, 80877104)
_END, _READY, _ERROR = b"X", b"Z", b"E"
_ANSWERED = (b"Q", b"S")
_IDLE = b"I"


class Pooler:
    """Pools a server for a block, in a thread of its own. It knows no COPY, no passwords and no cancelling.

    Args:
        url: the server's, which lets in whoever asks.
        size: how many connections it keeps for each user and database.

    Attributes:
        url: the pooler's.
        turns: how many transactions were given a connection.
    """

    def __init__(self, url: str, size: int = 3) -> None:
        self._direct = urlsplit(url)
        self._size = size
        self._pools: dict[bytes, _Pool] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="pooler", daemon=True)
        self._clients: set[asyncio.Task[None]] = set()
        self.url = ""
        self.turns = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._accept, "127.0.0.1", 0), self._loop
        ).result(PATIENCE_S)
        port = self._server.sockets[0].getsockname()[1]
        user = self._direct.netloc.rpartition("@")[0]
        self.url = urlunsplit(self._direct._replace(netloc=f"{user}@127.0.0.1:{port}"))
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        for task in self._clients:
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients)
        for pool in self._pools.values():
            pool.close()
        await asyncio.sleep(0)  # closed transports tell so in the next turn of the loop

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError, IncompleteReadError, asyncio.CancelledError):
            try:
                greeting = await _greeting(reader, writer)
                if greeting:
                    host, port = self._direct.hostname or "", self._direct.port or 5432
                    pool = self._pools.setdefault(greeting, _Pool(host, port, greeting, self._size))
                    await self._pass_on(reader, writer, pool)
            finally:
                writer.close()

    async def _pass_on(self, reader: StreamReader, writer: StreamWriter, pool: _Pool) -> None:
        server = await pool.take()
        writer.write(server.welcome)
        if server.is_refused:
            pool.drop(server)
            return
        pool.give_back(server)
        turn: _Turn | None = None
        try:
            while (message := await _message(reader))[:1] != _END:
                if turn is None or turn.is_over:
                    turn = None
                    turn = _Turn(await pool.take(), pool, writer)
                    self.turns += 1
                turn.send(message)
        finally:
            if turn is not None and not turn.is_over:
                await turn.cut()


class _Turn:
    """A client's transaction on a server's connection.

    Attributes:
        is_over: whether it ended, and others have the connection.
    """

    def __init__(self, server: _Server, pool: _Pool, writer: StreamWriter) -> None:
        self.is_over = False
        self._server = server
        self._pool = pool
        self._writer = writer
        self._asked = 0
        self._task = asyncio.create_task(self._answer())

    def send(self, message: bytes) -> None:
        self._asked += message[:1] in _ANSWERED
        self._server.writer.write(message)

    async def cut(self) -> None:
        """End it in the middle, and the connection with it."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self.is_over:
            self._pool.drop(self._server)

    async def _answer(self) -> None:
        try:
            while not self.is_over:
                message = await _message(self._server.reader)
                self._writer.write(message)
                if message[:1] == _READY:
                    self._asked -= 1
                    if not self._asked and message[5:6] == _IDLE:
                        self.is_over = True
                        self._pool.give_back(self._server)
        except (OSError, IncompleteReadError):
            self._writer.close()


class _Server:
    """A connection to the server.

    Attributes:
        welcome: what the server said to it first, up to where it is ready.
    """

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.welcome = b""
        self.is_refused = False


class _Pool:
    """The connections of one user to one database."""

    def __init__(self, host: str, port: int, greeting: bytes, size: int) -> None:
        self._address = (host, port)
        self._greeting = greeting
        self._free: deque[_Server] = deque()
        self._turns = asyncio.Semaphore(size)
        self._missing = size

    async def take(self) -> _Server:
        await self._turns.acquire()
        try:
            while self._free and not self._missing:
                server = self._free.popleft()
                if not server.reader.at_eof():
                    return server
                self._missing += 1
                server.writer.close()
            self._missing -= 1
            try:
                return await self._open()
            except BaseException:
                self._missing += 1
                raise
        except BaseException:
            self._turns.release()
            raise

    def give_back(self, server: _Server) -> None:
        self._free.append(server)
        self._turns.release()

    def drop(self, server: _Server) -> None:
        server.writer.close()
        self._missing += 1
        self._turns.release()

    def close(self) -> None:
        for server in self._free:
            server.writer.close()

    async def _open(self) -> _Server:
        server = _Server(*await asyncio.open_connection(*self._address))
        try:
            server.writer.write(self._greeting)
            kind = b""
            while kind not in (_READY, _ERROR):
                message = await _message(server.reader)
                kind = message[:1]
                server.welcome += message
        except BaseException:
            server.writer.close()
            raise
        server.is_refused = kind == _ERROR
        return server


async def _greeting(reader: StreamReader, writer: StreamWriter) -> bytes:
    """What a client says first; nothing where it only wants to cancel."""
    while True:
        size, code = struct.unpack("!ii", await reader.readexactly(8))
        greeting = struct.pack("!ii", size, code) + await reader.readexactly(size - 8)
        if code not in _ENCRYPTION:
            return greeting if code == _VERSION_3 else b""
        writer.write(b"N")


async def _message(reader: StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)
