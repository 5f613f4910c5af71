"""Faults between a real client and its peer, as that client sees them (T3)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import httpx
import pytest

from wallet_actions.classification import classify
from wallet_actions.errors import TransientError
from wallet_actions.testing.life import BUSY_FOR, Crashed, FaultKind, Life, Plan
from wallet_actions.testing.peers import FaultyTransport

pytestmark = pytest.mark.anyio

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def broken(fault: FaultKind, at: int = 1) -> Life:
    return Life(Plan(fault_at=at, fault=fault))


class Peer:
    """Answers with how often it was asked."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(await request.aread())
        return httpx.Response(200, json={"times": len(self.bodies)})


def client(peer: Peer, life: Life) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=FaultyTransport(httpx.MockTransport(peer.answer), life), base_url="http://peer")


async def test_http_in_peace_counts_calls_and_hides_ids() -> None:
    peer, life = Peer(), Life()
    async with client(peer, life) as http:
        answer = await http.post("/v1/quote/3f9a0c1b7d?token=secret", content=b"x")
        named = await http.get("/v1/keys/" + "q" * 30)
    assert (answer.json(), named.json()) == ({"times": 1}, {"times": 2})
    assert [str(b) for b in life.boundaries] == [
        "before call 1 (POST /v1/quote/…)",
        "after call 1 (POST /v1/quote/…)",
        "before call 2 (GET /v1/keys/…)",
        "after call 2 (GET /v1/keys/…)",
    ]


async def streamed() -> AsyncIterator[bytes]:
    for part in (b"on", b"ce"):
        yield part


@pytest.mark.parametrize(
    ("fault", "error", "reached"),
    [
        (FaultKind.REQUEST_LOST, httpx.ConnectError, 0),
        (FaultKind.DELAYED, httpx.ReadTimeout, 0),
        (FaultKind.ANSWER_LOST, httpx.ReadTimeout, 1),
    ],
)
async def test_http_lost(fault: FaultKind, error: type[Exception], reached: int) -> None:
    """L-P4: what the client cannot know is an unknown outcome to the engine."""
    peer, life = Peer(), broken(fault)
    async with client(peer, life) as http:
        with pytest.raises(error) as caught:
            await http.post("/a", content=streamed())
        assert isinstance(classify(caught.value, now=NOW), TransientError)
        assert len(peer.bodies) == reached
        await http.post("/b", content=b"next")
    late = [b"once"] if fault is not FaultKind.REQUEST_LOST else []
    assert peer.bodies == [*late, b"next"]


@pytest.mark.parametrize(
    ("fault", "status", "reached"),
    [
        (FaultKind.BUSY, 429, 0),
        (FaultKind.FAILED, 500, 0),
        (FaultKind.FAILED_AFTER, 502, 1),
        (FaultKind.GARBAGE, 200, 1),
        (FaultKind.CUT_SHORT, 200, 1),
    ],
)
async def test_http_answers_that_are_none(fault: FaultKind, status: int, reached: int) -> None:
    """L-P5: a busy peer says when to come back."""
    peer, life = Peer(), broken(fault)
    async with client(peer, life) as http:
        answer = await http.post("/a", content=b"x")
        assert (answer.status_code, len(peer.bodies)) == (status, reached)
        with pytest.raises(ValueError, match=r"Expecting value|Unterminated|delimiter"):
            answer.json()
        error = classify(httpx.HTTPStatusError("", request=answer.request, response=answer), now=NOW)
    assert isinstance(error, TransientError)
    assert error.retry_after == (BUSY_FOR if fault is FaultKind.BUSY else None)


async def test_http_duplicates() -> None:
    peer, life = Peer(), broken(FaultKind.DUPLICATED)
    async with client(peer, life) as http:
        assert (await http.post("/a", content=streamed())).json() == {"times": 1}
    assert peer.bodies == [b"once", b"once"]
    peer, life = Peer(), broken(FaultKind.DUPLICATED_LATE)
    async with client(peer, life) as http:
        await http.post("/a", content=b"x")
        assert peer.bodies == [b"x"]
        await life.end()
    assert peer.bodies == [b"x", b"x"]


async def test_http_contradiction_is_the_worlds() -> None:
    peer, life = Peer(), broken(FaultKind.CONTRADICTION)
    life.contradict = lambda name, answer: httpx.Response(404, json={"name": name, "was": answer.status_code})
    async with client(peer, life) as http:
        answer = await http.post("/a", content=b"x")
    assert (answer.status_code, answer.json()) == (404, {"name": "POST /a", "was": 200})
    life = broken(FaultKind.CONTRADICTION)
    life.contradict = lambda name, answer: "a word"
    async with client(peer, life) as http:
        with pytest.raises(TypeError, match=r"httpx\.Response"):
            await http.post("/a")


async def test_http_dies_at_a_boundary_and_stays_dead() -> None:
    peer, life = Peer(), Life(Plan(crash_at=2))
    async with client(peer, life) as http:
        with pytest.raises(Crashed):
            await http.post("/a", content=b"x")
        assert len(peer.bodies) == 1
        with pytest.raises(Crashed):
            await http.post("/a", content=b"x")
    assert len(peer.bodies) == 1


async def test_http_streams_that_are_packed_stay_so() -> None:
    """What arrives is what the peer sent, headers included; only its framing is made anew."""

    async def packed(request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            203,
            headers={"x-own": "1", "content-encoding": "deflate"},
            stream=httpx.ByteStream(b"\x78\x9c\x03\x00\x00\x00\x00\x01"),
        )

    transport = FaultyTransport(httpx.MockTransport(packed), Life())
    answer = await transport.handle_async_request(httpx.Request("GET", "http://peer/"))
    assert (answer.status_code, answer.headers["x-own"], await answer.aread()) == (203, "1", b"")


async def test_plain_callables_show_the_same_faults() -> None:
    """A world may ask for the transport's faults of a peer without a transport too."""

    async def peer() -> str:
        return "answer"

    outcomes: dict[FaultKind, Callable[[BaseException], bool]] = {
        FaultKind.BUSY: lambda error: isinstance(error, TransientError) and error.retry_after == BUSY_FOR,
        FaultKind.FAILED: lambda error: isinstance(error, TransientError),
        FaultKind.FAILED_AFTER: lambda error: isinstance(error, TransientError),
        FaultKind.CUT_SHORT: lambda error: isinstance(error, ConnectionResetError),
    }
    for fault, is_right in outcomes.items():
        with pytest.raises((TransientError, ConnectionResetError)) as caught:
            await broken(fault).peer(peer, "peer")()
        assert is_right(caught.value), fault
