"""Faults between a real gRPC client and its server, as that client sees them (T3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest

from wallet_actions.classification import classify
from wallet_actions.errors import TransientError
from wallet_actions.testing.life import Crashed, CrashKind, FaultKind, Life, Plan
from wallet_actions.testing.peers import faulty_interceptors

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_loop")]

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all: grpc.aio goes on sending events to a loop for a while after it was closed."""
    return "asyncio"


@pytest.fixture(scope="module")
async def one_loop() -> AsyncIterator[None]:
    yield
    for _ in range(20):
        await asyncio.sleep(0)  # what grpc still has to say


def broken(fault: FaultKind, at: int = 1) -> Life:
    return Life(Plan(fault_at=at, fault=fault))


async def streamed() -> AsyncIterator[bytes]:
    for part in (b"on", b"ce"):
        yield part


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Four methods, one of each shape; counts what reaches it."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]
        make = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler,
            "UnaryStream": grpc.unary_stream_rpc_method_handler,
            "StreamUnary": grpc.stream_unary_rpc_method_handler,
            "StreamStream": grpc.stream_stream_rpc_method_handler,
        }[name]
        return make(getattr(self, name))

    async def UnaryUnary(self, request: bytes, context: Any) -> bytes:  # noqa: N802
        self.heard.append(f"unary {request.decode()}")
        if request == b"refuse":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        context.set_trailing_metadata((("seen", "yes"),))
        return b"answer %d" % len(self.heard)

    async def UnaryStream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:  # noqa: N802
        self.heard.append(f"stream {request.decode()}")
        for number in range(3):
            yield b"%d" % number

    async def StreamUnary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:  # noqa: N802
        parts = [part async for part in requests]
        self.heard.append(f"collected {b''.join(parts).decode()}")
        return b"".join(parts)

    async def StreamStream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # noqa: N802
        async for part in requests:
            self.heard.append(f"echo {part.decode()}")
            yield part


@asynccontextmanager
async def channel(service: Service, life: Life) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=faulty_interceptors(life)) as made:
            yield made
    finally:
        await server.stop(0)


async def test_grpc_in_peace_is_not_noticed() -> None:
    service, life = Service(), Life()
    async with channel(service, life) as made:
        call = made.unary_unary("/s/UnaryUnary")(b"a", timeout=5)
        assert await call == b"answer 1"
        assert ("seen", "yes") in list(await call.trailing_metadata())
        assert [part async for part in made.unary_stream("/s/UnaryStream")(b"b", timeout=5)] == [b"0", b"1", b"2"]
        assert await made.stream_unary("/s/StreamUnary")(streamed(), timeout=5) == b"once"
        assert [part async for part in made.stream_stream("/s/StreamStream")(streamed(), timeout=5)] == [b"on", b"ce"]
        writing = made.stream_unary("/s/StreamUnary")(timeout=5)
        await writing.write(b"written")
        await writing.done_writing()
        assert await writing == b"written"
        talk = made.stream_stream("/s/StreamStream")(timeout=5)
        await talk.write(b"hello")
        assert await talk.read() == b"hello"
        await talk.done_writing()
        assert await talk.read() is grpc.aio.EOF
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await made.unary_unary("/s/UnaryUnary")(b"refuse", timeout=5)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    calls = [b.name for b in life.boundaries if b.moment == "before"]
    assert calls[:4] == ["UnaryUnary", "UnaryStream", *["UnaryStream message"] * 2]


@pytest.mark.parametrize(
    ("fault", "code", "reached"),
    [
        (FaultKind.REQUEST_LOST, grpc.StatusCode.UNAVAILABLE, 0),
        (FaultKind.DELAYED, grpc.StatusCode.DEADLINE_EXCEEDED, 0),
        (FaultKind.ANSWER_LOST, grpc.StatusCode.UNAVAILABLE, 1),
        (FaultKind.BUSY, grpc.StatusCode.RESOURCE_EXHAUSTED, 0),
        (FaultKind.FAILED, grpc.StatusCode.UNKNOWN, 0),
        (FaultKind.FAILED_AFTER, grpc.StatusCode.UNAVAILABLE, 1),
        (FaultKind.CUT_SHORT, grpc.StatusCode.UNAVAILABLE, 1),
        (FaultKind.GARBAGE, grpc.StatusCode.INTERNAL, 1),
    ],
)
@pytest.mark.parametrize("shape", ["UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"])
async def test_grpc_faults(shape: str, fault: FaultKind, code: grpc.StatusCode, reached: int) -> None:
    """L-P4, L-P5: UNAVAILABLE may be either, and a busy peer says when to come back."""
    service, life = Service(), broken(fault)

    async def first(made: grpc.aio.Channel) -> bytes:
        match shape:
            case "UnaryUnary":
                answer: bytes = await made.unary_unary("/s/UnaryUnary")(b"a", timeout=5)
                return answer
            case "UnaryStream":
                return b"".join([part async for part in made.unary_stream("/s/UnaryStream")(b"a", timeout=5)])
            case "StreamUnary":
                whole: bytes = await made.stream_unary("/s/StreamUnary")(streamed(), timeout=5)
                return whole
            case _:
                return b"".join([part async for part in made.stream_stream("/s/StreamStream")(streamed(), timeout=5)])

    async with channel(service, life) as made:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await first(made)
        assert caught.value.code() is code
        heard = service.heard[:1] if shape == "StreamStream" else service.heard
        assert len(heard) == reached
        error = classify(caught.value, now=NOW)
        assert await first(made)  # the next one is in peace
    assert isinstance(error, TransientError)
    assert error.retry_after == (timedelta(seconds=30) if fault is FaultKind.BUSY else None)


async def test_grpc_duplicates_and_contradictions() -> None:
    service, life = Service(), broken(FaultKind.DUPLICATED)
    async with channel(service, life) as made:
        assert await made.unary_unary("/s/UnaryUnary")(b"a", timeout=5) == b"answer 1"
        assert service.heard == ["unary a", "unary a"]
    service, life = Service(), broken(FaultKind.DUPLICATED_LATE)
    async with channel(service, life) as made:
        assert [part async for part in made.unary_stream("/s/UnaryStream")(b"a", timeout=5)] == [b"0", b"1", b"2"]
        await life.end()
        assert service.heard == ["stream a", "stream a"]
    service, life = Service(), broken(FaultKind.CONTRADICTION)
    life.contradict = lambda name, answer: b"not " + answer
    async with channel(service, life) as made:
        assert await made.unary_unary("/s/UnaryUnary")(b"a", timeout=5) == b"not answer 1"


async def test_grpc_stream_breaks_in_the_middle() -> None:
    service, life = Service(), broken(FaultKind.ANSWER_LOST, at=2)
    parts: list[bytes] = []

    async def collect(made: grpc.aio.Channel) -> None:
        async for part in made.unary_stream("/s/UnaryStream")(b"a", timeout=5):
            parts.append(part)  # noqa: PERF401 what came before the break counts

    async with channel(service, life) as made:
        with pytest.raises(grpc.aio.AioRpcError):
            await collect(made)
    assert parts == [b"0"]


@pytest.mark.parametrize("kind", [CrashKind.EXCEPTION, CrashKind.CANCELLATION])
async def test_grpc_dies_in_the_task_of_the_process(kind: CrashKind) -> None:
    """The interceptor runs in a task of grpc's own; it is the process that has to die."""
    service, life = Service(), Life(Plan(crash_at=2, crash=kind))
    died: type[BaseException] = Crashed if kind is CrashKind.EXCEPTION else asyncio.CancelledError

    async def process(made: grpc.aio.Channel) -> None:
        life.task = asyncio.current_task()
        await made.unary_unary("/s/UnaryUnary")(b"a", timeout=5)

    async with channel(service, life) as made:
        task = asyncio.create_task(process(made))
        with pytest.raises(died):
            await task
    assert task.cancelled() is (kind is CrashKind.CANCELLATION)
    assert service.heard == ["unary a"]
