"""The gRPC recipe against a foreign server (Nutshell's management RPC), and against one that says what we want."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import anyio
import grpc
import grpc.aio
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from tests.integration.telemetry_kit import Telemetry
from wallet_actions import Action, Done, Failed, Phase, Transition
from wallet_actions.clock import SystemClock
from wallet_actions.errors import ActionFailedError, ConfigurationError, RejectedError, TransientError, UsageError
from wallet_actions.executor import Executor
from wallet_actions.grpc import channel_options, deadline_interceptors, open_channel, translated
from wallet_actions.outcome import Outcome
from wallet_actions.registry import Registry
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.interceptors import retry_info
from wallet_actions.testing.nutshell.environment import ensure_environment
from wallet_actions.testing.tcp import Reset, TcpFaultProxy, TcpRule
from wallet_actions_storage import MemoryStore

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
        async with alone(proxy) as channel:
            with pytest.raises(ConfigurationError, match="UNAUTHENTICATED"), translated(clock):
                await raw(channel)(b"", metadata=(("token", "wrong"),))
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


async def test_a_foreign_server_that_stops_in_good_order(tmp_path: Path) -> None:
    """It says goodbye, and cuts off who waits: what it was asked may have been done."""
    slow = tmp_path / "slow"
    slow.touch()
    async with foreign_server(slow) as (port, process), open_channel(f"127.0.0.1:{port}") as channel:
        assert process.stdout is not None
        call = asyncio.ensure_future(raw(channel)(b""))
        assert await process.stdout.readline() == b"asked\n"
        process.terminate()
        with pytest.raises(TransientError, match=r"UNAVAILABLE|CANCELLED"), translated(SystemClock()):
            await call
        assert await process.stdout.readline() == b"stopped\n"
        with pytest.raises(TransientError, match="UNAVAILABLE"), translated(SystemClock()):
            await raw(channel)(b"")


class Teller:
    """A server that says what it is told to, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []
        self.left_s: list[float | None] = []
        self.answer: tuple[grpc.StatusCode, tuple[tuple[str, Any], ...]] | None = None
        self.is_over = asyncio.Event()
        self.handlers: set[Any] = set()

    async def one(self, request: bytes, context: Any) -> bytes:
        self.handlers.add(asyncio.current_task())
        self.shown.append(dict(context.invocation_metadata()))
        assert len(self.shown[-1]) == len(context.invocation_metadata()), "a key twice"
        self.left_s.append(context.time_remaining())
        if self.answer is not None:
            await context.abort(self.answer[0], "no", self.answer[1])
        return b"yes"

    async def many(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self.one(request, context)
        yield b"more"

    async def collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        answer = await self.one(b"", context)
        return answer + b"".join([request async for request in requests])

    async def talk(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        yield await self.one(b"", context)
        async for request in requests:
            yield request

    async def wait(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self.one(request, context)
        await self.is_over.wait()


@pytest.fixture
async def teller() -> AsyncIterator[tuple[Teller, str]]:
    teller, server = Teller(), grpc.aio.server()
    handlers = {
        "One": grpc.unary_unary_rpc_method_handler(teller.one),
        "Many": grpc.unary_stream_rpc_method_handler(teller.many),
        "Collect": grpc.stream_unary_rpc_method_handler(teller.collect),
        "Talk": grpc.stream_stream_rpc_method_handler(teller.talk),
        "Wait": grpc.unary_stream_rpc_method_handler(teller.wait),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Teller", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield teller, f"127.0.0.1:{port}"
    # A handler that is under way reports to a loop that may be closed by then, and that is told to the next test.
    teller.is_over.set()
    await server.stop(5)
    if teller.handlers:
        await asyncio.wait(teller.handlers)
    for _ in range(20):
        await asyncio.sleep(0)


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
            assert await channel.stream_unary("/t.Teller/Collect", bytes, bytes)(said()) == b"yesab"
            talk = channel.stream_stream("/t.Teller/Talk", bytes, bytes)
            assert [message async for message in talk(said())] == [b"yes", b"a", b"b"]
            await raw(channel, "/t.Teller/One")(b"", metadata=(("traceparent", "stale"), ("own", "kept")))
    own, given, *others = server.left_s
    assert own is not None
    assert 4 < own < 10
    assert given is not None
    assert given < 4
    assert len(others) == 4
    assert all(left is not None and left < 10 for left in others)
    assert server.shown[-1]["own"] == "kept"
    parents = {shown["traceparent"] for shown in server.shown}
    assert parents == {f"00-{0xAB:032x}-{0xCD:016x}-01"}
    assert all("baggage" not in shown for shown in server.shown)


async def said() -> AsyncIterator[bytes]:
    for word in (b"a", b"b"):
        yield word


async def test_calls_are_measured(teller: tuple[Teller, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By service, method and status; streams when they have ended."""
    server, target = teller
    telemetry = Telemetry(monkeypatch)
    async with open_channel(target) as channel:
        await raw(channel, "/t.Teller/One")(b"")
        stream = channel.unary_stream("/t.Teller/Many", bytes, bytes)
        assert len([message async for message in stream(b"")]) == 2
        server.answer = grpc.StatusCode.NOT_FOUND, ()
        with pytest.raises(RejectedError), translated(SystemClock()):
            await raw(channel, "/t.Teller/One")(b"")
        server.answer = None
        assert await channel.stream_unary("/t.Teller/Collect", bytes, bytes)(said()) == b"yesab"
        assert len([message async for message in channel.stream_stream("/t.Teller/Talk", bytes, bytes)(said())]) == 3
    assert telemetry.calls == [("One", 0), ("Many", 0), ("One", 5), ("Collect", 0), ("Talk", 0)]
    for name, value, labels in telemetry.records:
        assert (name, labels["rpc.service"]) == ("rpc.client.duration", "t.Teller")
        assert set(labels) == {"rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"}
        assert value >= 0
    assert all(span.is_ended for span in telemetry.spans)
    assert [span.status for span in telemetry.spans] == ["", "", "NOT_FOUND", "", ""]
    carried = [shown["traceparent"].split("-")[2] for shown in server.shown]
    assert carried == [f"{number:016x}" for number in range(1, 6)], "the peer sees the span of its call"


async def test_a_channel_that_is_closed_is_a_peer_out_of_reach(teller: tuple[Teller, str]) -> None:
    """Before a call, or while one is under way: no task ends that nobody wants to end."""
    _, target = teller
    channel = open_channel(target)
    waiting = channel.unary_stream("/t.Teller/Wait", bytes, bytes)
    heard = asyncio.Event()

    async def listen() -> None:
        with translated(SystemClock()):
            async for _ in waiting(b""):
                heard.set()

    listening = asyncio.create_task(listen())
    await heard.wait()
    await channel.close()
    with pytest.raises(TransientError, match="UNAVAILABLE"):
        await listening
    for call in (listen, lambda: raw(channel, "/t.Teller/One")(b"")):
        with pytest.raises(TransientError, match="UNAVAILABLE"), translated(SystemClock()):
            await call()


async def test_a_task_that_is_cancelled_is_cancelled(teller: tuple[Teller, str]) -> None:
    _, target = teller
    heard = asyncio.Event()
    async with open_channel(target) as channel:

        async def listen() -> None:
            with translated(SystemClock()):
                async for _ in channel.unary_stream("/t.Teller/Wait", bytes, bytes)(b""):
                    heard.set()

        listening = asyncio.create_task(listen())
        await heard.wait()
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        with anyio.move_on_after(0.05) as scope:
            await listen()
        assert scope.cancelled_caught


def test_a_channel_belongs_to_a_loop() -> None:
    with pytest.raises(UsageError, match="open it in the one that makes the calls"):
        open_channel("127.0.0.1:1")


# What comes of it in an action


class Asked(Phase):
    pass


class Ask(Action[grpc.aio.Channel, Asked], kind="recipe_ask"):
    phase: Asked = Asked()

    @property
    def id(self) -> str:
        return "ask"

    async def advance(self, wallet: grpc.aio.Channel) -> Transition[Self]:
        with translated(SystemClock()):
            await raw(wallet, "/t.Teller/One")(b"")
        return Done()

    async def on_rejection(self, wallet: grpc.aio.Channel, error: RejectedError) -> Transition[Self]:
        return Failed(f"at fault: {' and '.join(error.identifiers)}")


@asynccontextmanager
async def asking(target: str) -> AsyncIterator[tuple[Executor, Ask]]:
    clock = FakeClock()
    async with MemoryStore() as store, open_channel(target) as channel:
        executor = Executor(store, channel, Registry([Ask]), clock=clock)
        await executor.start(Ask())
        yield executor, Ask()


@pytest.mark.parametrize(
    ("metadata", "delay_s"),
    [
        ((("grpc-status-details-bin", retry_info(90)),), 90),
        ((("grpc-retry-pushback-ms", "90000"),), 90),
        ((("grpc-retry-pushback-ms", "-1"),), 3600),
        ((("retry-after", "90"),), 90),
        ((), 1),
    ],
    ids=["RetryInfo", "pushback", "pushback -1", "Retry-After", "nothing"],
)
async def test_an_action_comes_back_when_the_peer_says(
    teller: tuple[Teller, str], metadata: tuple[tuple[str, Any], ...], delay_s: float
) -> None:
    """L-P5: the delay is in the checkpoint; -1 is as long as may be, since what was asked may have been done."""
    server, target = teller
    server.answer = grpc.StatusCode.UNAVAILABLE, metadata
    async with asking(target) as (executor, action):
        assert (await executor.drive(action.key)).outcome is Outcome.PARKED
        parked = await executor.store.load(action.key)
        assert parked is not None
        assert parked.wake_at == executor.clock.now() + timedelta(seconds=delay_s)
        await executor.drive(action.key, only_if_due=True)
        assert len(server.shown) == 1, "not before that"
        server.answer = None
        assert (await executor.drive(action.key)).outcome is Outcome.DONE


async def test_an_action_is_told_which_coins_are_at_fault(teller: tuple[Teller, str]) -> None:
    server, target = teller
    server.answer = grpc.StatusCode.INVALID_ARGUMENT, (("identifiers", "a:0, b:1"),)
    async with asking(target) as (executor, action):
        assert (await executor.drive(action.key)).outcome is Outcome.FAILED
        with pytest.raises(ActionFailedError, match="at fault: a:0 and b:1"):
            await executor.result(Ask, action.id)


def test_options_and_deadlines_that_cannot_be_meant() -> None:
    assert ("grpc.enable_retries", 0) in channel_options()
    assert ("grpc.keepalive_time_ms", 5) in channel_options({"grpc.keepalive_time_ms": 5})
    with pytest.raises(ValueError, match="lies ahead"):
        deadline_interceptors(timedelta(0))
