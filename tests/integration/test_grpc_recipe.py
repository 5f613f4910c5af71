"""The gRPC recipe against a foreign server (Nutshell's management RPC), and against one that says what we want."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry import metrics, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from wallet_actions.clock import SystemClock
from wallet_actions.errors import ConfigurationError, RejectedError, TransientError
from wallet_actions.grpc import channel_options, deadline_interceptors, open_channel, translated
from wallet_actions.testing.interceptors import retry_info
from wallet_actions.testing.nutshell.environment import ensure_environment
from wallet_actions.testing.tcp import Reset, TcpFaultProxy, TcpRule

pytestmark = pytest.mark.anyio

SCRIPT = Path(__file__).with_name("management_rpc.py")
INFO = "/cashu.Mint/GetInfo"


def raw(channel: grpc.aio.Channel, method: str = INFO) -> Callable[..., Any]:
    """A method whose messages stay bytes: an empty request is a valid one."""
    call: Callable[..., Any] = channel.unary_unary(method, bytes, bytes)
    return call


@asynccontextmanager
async def foreign_server(slow: Path) -> AsyncIterator[tuple[int, asyncio.subprocess.Process]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(ensure_environment()), str(SCRIPT), str(port), str(slow), cwd=slow.parent, stdout=pipe, stderr=pipe
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield port, process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def alone(proxy: TcpFaultProxy, deadline: timedelta = timedelta(seconds=20)) -> grpc.aio.Channel:
    """A channel that shares no connection with the one before it."""
    target = f"127.0.0.1:{proxy.port}"
    return open_channel(target, deadline=deadline, options={"grpc.use_local_subchannel_pool": 1})


async def test_a_foreign_server_and_all_that_a_transport_does(tmp_path: Path) -> None:
    """L-P4: refused, reset, stopped in the middle of a call, too late: the outcome is not known, each time."""
    slow, clock = tmp_path / "slow", SystemClock()
    async with foreign_server(slow) as (port, process), TcpFaultProxy("127.0.0.1", port) as proxy:
        async with alone(proxy) as channel:
            with translated(clock):
                assert b"a foreign server" in await raw(channel)(b"")
            with translated(clock):
                assert b"a foreign server" in await raw(channel)(b"\xfa\x07\x01x")  # a field that it does not know
            with pytest.raises(ConfigurationError, match="UNIMPLEMENTED"), translated(clock):
                await raw(channel, "/cashu.Mint/Removed")(b"")
            with pytest.raises(TransientError, match="UNKNOWN"), translated(clock):
                await raw(channel, "/cashu.Mint/GetNut04Quote")(b"")  # its handler raises
        async with proxy.down(), alone(proxy) as channel:
            with pytest.raises(TransientError, match="UNAVAILABLE"), translated(clock):
                await raw(channel)(b"")
        proxy.use(TcpRule(Reset(after=1, sender="peer"), once=False))
        async with alone(proxy) as channel:
            with pytest.raises(TransientError, match="UNAVAILABLE"), translated(clock):
                await raw(channel)(b"")
        proxy.use()
        slow.touch()
        async with alone(proxy, timedelta(milliseconds=100)) as channel:
            with pytest.raises(TransientError, match="DEADLINE_EXCEEDED"), translated(clock):
                await raw(channel)(b"")
        assert process.stdout is not None
        assert await process.stdout.readline() == b"asked\n"
        async with open_channel(f"127.0.0.1:{port}") as channel:
            call = asyncio.ensure_future(raw(channel)(b""))
            assert await process.stdout.readline() == b"asked\n"
            process.kill()
            with pytest.raises(TransientError, match="UNAVAILABLE"), translated(clock):
                await call


class Teller:
    """A server that says what it is told to, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []
        self.left_s: list[float | None] = []
        self.answer: tuple[grpc.StatusCode, tuple[tuple[str, Any], ...]] | None = None

    async def one(self, request: bytes, context: Any) -> bytes:
        self.shown.append(dict(context.invocation_metadata()))
        self.left_s.append(context.time_remaining())
        if self.answer is not None:
            await context.abort(self.answer[0], "no", self.answer[1])
        return b"yes"

    async def many(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self.one(request, context)
        yield b"more"


@pytest.fixture
async def teller() -> AsyncIterator[tuple[Teller, str]]:
    teller, server = Teller(), grpc.aio.server()
    handlers = {
        "One": grpc.unary_unary_rpc_method_handler(teller.one),
        "Many": grpc.unary_stream_rpc_method_handler(teller.many),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Teller", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield teller, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.mark.parametrize(
    ("status", "metadata", "kind", "delay_s"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, (), ConfigurationError, None),
        (grpc.StatusCode.PERMISSION_DENIED, (), ConfigurationError, None),
        (grpc.StatusCode.UNAVAILABLE, (), TransientError, None),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, (("grpc-status-details-bin", retry_info(7)),), TransientError, 7),
        (grpc.StatusCode.UNAVAILABLE, (("grpc-retry-pushback-ms", "1500"),), TransientError, 1.5),
        (grpc.StatusCode.UNAVAILABLE, (("grpc-retry-pushback-ms", "-1"),), TransientError, 3600),
    ],
)
async def test_what_a_status_means(
    teller: tuple[Teller, str],
    status: grpc.StatusCode,
    metadata: tuple[tuple[str, Any], ...],
    kind: type[Exception],
    delay_s: float | None,
) -> None:
    """L-P3, L-P5: one call is one request, whatever the answer; the peer's delay is taken over."""
    server, target = teller
    server.answer = status, metadata
    async with open_channel(target) as channel:
        with pytest.raises(kind, match=status.name) as caught, translated(SystemClock()):
            await raw(channel, "/t.Teller/One")(b"")
    assert len(server.shown) == 1
    assert caught.value.__cause__ is None
    delay = getattr(caught.value, "retry_after", None)
    assert (delay and delay.total_seconds()) == delay_s


async def test_a_rejection_names_the_coins(teller: tuple[Teller, str]) -> None:
    server, target = teller
    server.answer = grpc.StatusCode.INVALID_ARGUMENT, (("identifiers", "a:0, b:1"),)
    async with open_channel(target) as channel:
        with pytest.raises(RejectedError) as caught, translated(SystemClock()):
            await raw(channel, "/t.Teller/One")(b"")
    assert caught.value.identifiers == ("a:0", "b:1")
    assert caught.value.code == "INVALID_ARGUMENT"


async def test_every_call_has_a_deadline_and_the_trace_context(teller: tuple[Teller, str]) -> None:
    server, target = teller
    context = SpanContext(0xAB, 0xCD, is_remote=False, trace_flags=TraceFlags(1))
    with trace.use_span(NonRecordingSpan(context)):
        async with open_channel(target, deadline=timedelta(seconds=9)) as channel:
            await raw(channel, "/t.Teller/One")(b"")
            await raw(channel, "/t.Teller/One")(b"", timeout=3)
            stream = channel.unary_stream("/t.Teller/Many", bytes, bytes)
            assert [message async for message in stream(b"")] == [b"yes", b"more"]
    own, given, streamed = server.left_s
    assert own is not None
    assert 4 < own < 10
    assert given is not None
    assert given < 4
    assert streamed is not None
    assert streamed < 10
    parents = {shown["traceparent"] for shown in server.shown}
    assert parents == {f"00-{0xAB:032x}-{0xCD:016x}-01"}
    assert all("baggage" not in shown for shown in server.shown)


async def test_calls_are_measured(teller: tuple[Teller, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By service, method and status; streams when they have ended."""
    server, target = teller
    told: list[tuple[str, int]] = []

    class Histogram:
        def record(self, value: float, labels: dict[str, Any]) -> None:
            assert value >= 0
            assert labels["rpc.service"] == "t.Teller"
            assert set(labels) == {"rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"}
            told.append((labels["rpc.method"], labels["rpc.grpc.status_code"]))

    class Meter:
        def create_histogram(self, name: str, **details: Any) -> Histogram:
            assert name == "rpc.client.duration"
            return Histogram()

    monkeypatch.setattr(metrics, "get_meter", lambda name: Meter())
    async with open_channel(target) as channel:
        await raw(channel, "/t.Teller/One")(b"")
        stream = channel.unary_stream("/t.Teller/Many", bytes, bytes)
        assert len([message async for message in stream(b"")]) == 2
        server.answer = grpc.StatusCode.NOT_FOUND, ()
        with pytest.raises(RejectedError), translated(SystemClock()):
            await raw(channel, "/t.Teller/One")(b"")
    assert told == [("One", 0), ("Many", 0), ("One", 5)]


def test_options_and_deadlines_that_cannot_be_meant() -> None:
    assert ("grpc.enable_retries", 0) in channel_options()
    assert ("grpc.keepalive_time_ms", 5) in channel_options({"grpc.keepalive_time_ms": 5})
    with pytest.raises(ValueError, match="lies ahead"):
        deadline_interceptors(timedelta(0))
