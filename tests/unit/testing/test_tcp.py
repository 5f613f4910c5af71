"""The fault proxy for plain TCP, in front of a peer that answers each line (T3)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from asyncio import StreamReader, StreamWriter, start_server
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from wallet_actions.testing.tcp import (
    Cut,
    KillProcess,
    RefuseConnection,
    Reset,
    Slow,
    Swallow,
    TcpFault,
    TcpFaultProxy,
    TcpRule,
)

pytestmark = pytest.mark.anyio


class Peer:
    """Answers each line with itself twice, and remembers all bytes."""

    def __init__(self) -> None:
        self.heard = b""
        self.port = 0
        self.ends: list[str] = []

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while piece := await reader.read(1 << 16):
                self.heard += piece
                writer.write(piece + piece)
                await writer.drain()
            self.ends.append("end")
        except ConnectionResetError:
            self.ends.append("reset")
        finally:
            writer.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
    async with await start_server(made.serve, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made


@asynccontextmanager
async def talk(proxy: TcpFaultProxy) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def said(proxy: TcpFaultProxy, words: bytes = b"hello") -> bytes:
    """What comes back until the connection ends."""
    async with talk(proxy) as (reader, writer):
        writer.write(words)
        writer.write_eof()
        with anyio.fail_after(10):
            return await reader.read()


async def test_without_a_rule_it_is_not_noticed(peer: Peer) -> None:
    async with TcpFaultProxy("127.0.0.1", peer.port) as proxy:
        assert await said(proxy) == b"hellohello"
        await proxy.wait_until(lambda connections: connections[0].is_over)
    (one,) = proxy.connections
    assert (one.index, one.fault, one.from_client, one.from_peer) == (0, None, 5, 10)
    assert peer.ends == ["end"]


async def test_a_refused_connection_never_reaches_the_peer(peer: Peer) -> None:
    async with TcpFaultProxy("127.0.0.1", peer.port, TcpRule(RefuseConnection())) as proxy:
        with pytest.raises(ConnectionResetError):
            await said(proxy)
        assert peer.heard == b""
        assert await said(proxy) == b"hellohello"  # once


async def test_nobody_listens_while_it_is_down(peer: Peer) -> None:
    async with TcpFaultProxy("127.0.0.1", peer.port) as proxy:
        async with talk(proxy) as (reader, writer), proxy.down():
            with pytest.raises(ConnectionRefusedError):
                await said(proxy)
            writer.write(b"x")  # what is there goes on
            assert await reader.readexactly(2) == b"xx"
        assert await said(proxy) == b"hellohello"


@pytest.mark.parametrize(
    ("fault", "heard", "ends"),
    [
        (Reset(), b"", True),
        (Reset(after=3), b"hel", True),
        (Reset(after=4, sender="peer"), b"hello", True),
        (Cut(), b"", False),
        (Cut(after=3), b"hel", False),
        (Cut(after=4, sender="peer"), b"hello", False),
    ],
)
async def test_connections_end_after_some_bytes(peer: Peer, fault: TcpFault, heard: bytes, ends: bool) -> None:
    async with TcpFaultProxy("127.0.0.1", peer.port, TcpRule(fault)) as proxy:
        async with talk(proxy) as (reader, writer):
            with anyio.fail_after(10):
                writer.write(b"hello")
                if ends:
                    with pytest.raises(ConnectionResetError):
                        await reader.readexactly(1000)
                else:
                    got = await reader.read()
                    assert len(got) <= 4
                    assert b"hellohello".startswith(got)
        await proxy.wait_until(lambda connections: connections[0].is_over)
        if isinstance(fault, Cut):
            assert peer.heard == heard
        else:
            assert heard.startswith(peer.heard)  # a reset drops what was not read yet
        (one,) = proxy.connections
        assert one.passed(fault.sender) == fault.after  # type: ignore[union-attr]


async def test_a_half_open_connection_says_nothing(peer: Peer) -> None:
    """L-P4: only a deadline of one's own ends it."""
    rule = TcpRule(Swallow(after=2), once=False)
    async with TcpFaultProxy("127.0.0.1", peer.port, rule) as proxy, talk(proxy) as (reader, writer):
        writer.write(b"he")
        await proxy.wait_until(lambda connections: connections[0].from_client == 2)
        writer.write(b"llo")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.readexactly(10)
        assert not proxy.connections[0].is_over
    assert peer.heard == b"he"


async def test_a_slow_connection_is_passed_on_later(peer: Peer) -> None:
    async with TcpFaultProxy("127.0.0.1", peer.port, TcpRule(Slow(0.15))) as proxy, talk(proxy) as (reader, writer):
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.readexactly(10)
        assert peer.heard == b""
        assert await reader.readexactly(10) == b"hellohello"


async def test_a_process_is_killed_after_some_bytes(peer: Peer) -> None:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)

    with start() as child:
        rule = TcpRule(KillProcess(child.pid, after=5, sender="peer"), once=False)
        async with TcpFaultProxy("127.0.0.1", peer.port, rule) as proxy:
            for _ in range(2):  # killing the dead is harmless
                with pytest.raises(ConnectionResetError):
                    await said(proxy)
        assert child.wait(10) == -signal.SIGKILL
    assert peer.heard == b"hellohello"


async def test_a_callback_kills_too_and_its_failure_is_not_swallowed(peer: Peer) -> None:
    killed: list[int] = []

    async def kill() -> None:
        killed.append(len(peer.heard))

    async with TcpFaultProxy("127.0.0.1", peer.port, TcpRule(KillProcess(kill))) as proxy:
        with pytest.raises(ConnectionResetError):
            await said(proxy)
    assert killed == [0]

    def fail() -> None:
        raise LookupError("the test's own fault")

    with pytest.raises(ExceptionGroup) as caught:
        async with TcpFaultProxy("127.0.0.1", peer.port, TcpRule(KillProcess(fail))) as proxy:
            await said(proxy)
    assert caught.group_contains(LookupError, match="the test's own fault")


async def test_rules_count_connections_from_when_they_came(peer: Peer) -> None:
    async with TcpFaultProxy("127.0.0.1", peer.port, TcpRule(Cut(), nth=2)) as proxy:
        assert [await said(proxy), await said(proxy), await said(proxy)] == [b"hellohello", b"", b"hellohello"]
        proxy.use(TcpRule(Cut(), nth=2, once=False))
        assert [await said(proxy), await said(proxy), await said(proxy)] == [b"hellohello", b"", b""]


async def test_a_peer_that_is_gone_resets_the_client() -> None:
    async with TcpFaultProxy("127.0.0.1", 1) as proxy:
        with pytest.raises(ConnectionResetError):
            await said(proxy)


async def test_it_closes_with_connections_open_and_the_bodys_error_as_it_is(peer: Peer) -> None:
    async def fail() -> None:
        async with TcpFaultProxy("127.0.0.1", peer.port) as proxy, talk(proxy) as (reader, writer):
            writer.write(b"x")
            await reader.readexactly(2)
            raise LookupError("as it is")

    with pytest.raises(LookupError, match="as it is"):
        await fail()
