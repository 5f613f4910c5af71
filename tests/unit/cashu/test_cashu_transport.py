"""The client over real sockets: deadlines, endless and broken answers, refused connections."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest

from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.errors import MintUnreachableError
from wallet_actions.cashu.transport import MAX_CALLS
from wallet_actions.errors import TransientError

pytestmark = pytest.mark.anyio

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@asynccontextmanager
async def served(talk: Talk) -> AsyncIterator[str]:
    """A server on loopback that reads a request's head and then does as it is told."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.005)


async def silence(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def endless_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"transfer-encoding: chunked\r\n\r\n")
    await drip(writer, b"1\r\n \r\n")


async def endless_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    await drip(writer, b"x: y\r\n")


async def endless_hints(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await drip(writer, b"HTTP/1.1 103 Early Hints\r\n\r\n")


@pytest.mark.parametrize("talk", [silence, endless_body, endless_head, endless_hints])
async def test_the_deadline_ends_every_call(talk: Talk) -> None:
    """L-P4: each of these would satisfy a time-out that starts anew with each read."""
    async with served(talk) as url, MintClient(url, deadline=timedelta(seconds=60)) as client:
        with anyio.fail_after(20), pytest.raises(TransientError) as caught:
            await client.mint_quote("q1", deadline=timedelta(seconds=0.2))
        assert not isinstance(caught.value, MintUnreachableError)


async def test_a_cancelled_caller_is_cancelled_and_not_answered() -> None:
    async with served(silence) as url, MintClient(url) as client:
        with anyio.move_on_after(0.05) as scope:
            await client.info()
        assert scope.cancelled_caught


async def test_a_flood_is_cut_off() -> None:
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\n")
        while True:
            writer.write(b" " * 65536)
            await writer.drain()

    async with served(flood) as url, MintClient(url) as client:
        with pytest.raises(TransientError, match="longer than"):
            await client.info()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()


async def hang_up(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    return


async def half_an_answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b'content-length: 100\r\n\r\n{"name": ')
    await writer.drain()


async def not_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH\r\n")
    await writer.drain()


@pytest.mark.parametrize("talk", [reset, hang_up, half_an_answer, not_http])
async def test_a_connection_that_breaks_leaves_the_outcome_open(talk: Talk) -> None:
    calls = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await talk(reader, writer)

    async with served(counted) as url, MintClient(url) as client:
        with pytest.raises(TransientError) as caught:
            await client.create_mint_quote(1, "sat")
        assert not isinstance(caught.value, MintUnreachableError)
    assert calls == 1, "L-P3: nothing below the engine tries again"


async def test_a_refused_connection_proves_that_nothing_was_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with MintClient(url) as client:
            with pytest.raises(MintUnreachableError):
                await client.create_mint_quote(1, "sat")


async def test_a_connection_is_used_again_and_after_a_failure_another_is_made() -> None:
    connections = 0

    async def twice_then_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            writer.write(OK + b"content-length: 2\r\n\r\n{}")
            await reader.readuntil(b"\r\n\r\n")

    async with served(twice_then_hang_up) as url, MintClient(url) as client:
        await client.info()
        await client.info()
        assert connections == 1
        with pytest.raises(TransientError):
            await client.info()
        await client.info()
        assert connections == 2


async def test_calls_that_end_early_leave_no_connection_behind() -> None:
    """Cancelled while they wait for a connection, while they make one, or in the middle of an answer."""

    async def stall(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"content-length: 100\r\n\r\n{")
        await asyncio.Event().wait()

    async with served(stall) as url, MintClient(url) as client:
        unsent = 0

        async def call() -> None:
            nonlocal unsent
            with pytest.raises(TransientError) as caught:
                await client.info(deadline=timedelta(seconds=0.5))
            unsent += isinstance(caught.value, MintUnreachableError)

        async with anyio.create_task_group() as tasks:
            for _ in range(2 * MAX_CALLS + 50):
                tasks.start_soon(call)
        assert unsent > 0, "a call that never had its turn was never sent"
        pool = client._http._transport._pool  # type: ignore[attr-defined]
        assert pool.connections == []


async def test_neither_paths_nor_bodies_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A quote's id is a secret, and httpx tells each address to its log."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"content-length: 2\r\n\r\n{}")
        await writer.drain()

    caplog.set_level(logging.DEBUG)
    async with served(answer) as url, MintClient(url) as client:
        with pytest.raises(TransientError):
            await client.mint_quote("very-secret-quote")
    assert "very-secret-quote" not in caplog.text
