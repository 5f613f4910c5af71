"""The fault proxy in front of a peer that counts what reaches it (T3)."""

from __future__ import annotations

import signal
import subprocess
import sys
from asyncio import StreamReader, StreamWriter, start_server
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest

from wallet_actions.testing.proxy import (
    Delay,
    Duplicate,
    FaultProxy,
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

pytestmark = pytest.mark.anyio


class Peer:
    """Answers each request with its number, and remembers them; one request a connection."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.url = ""

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:")), 0)
        self.bodies.append(await reader.readexactly(length))
        self.heads.append(head)
        if "/silent" not in head:
            content = f"answer {len(self.heads)}".encode()
            # Chunked, as frameworks do: the proxy has to frame it anew.
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
            if not head.startswith("HEAD"):
                writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
    async with await start_server(made.serve, "127.0.0.1", 0) as server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made


@asynccontextmanager
async def proxied(peer: Peer, *rules: Rule) -> AsyncIterator[tuple[FaultProxy, httpx.AsyncClient]]:
    async with (
        FaultProxy(peer.url, *rules) as proxy,
        httpx.AsyncClient(base_url=proxy.url, trust_env=False, timeout=10) as http,
    ):
        yield proxy, http


async def test_without_a_rule_it_is_not_noticed(peer: Peer) -> None:
    async with proxied(peer) as (proxy, http):
        first = await http.post("/a?token=secret", content=b"\x00body", headers={"x-own": "1"})
        second = await http.get("/b")
        third = await http.head("/c")
    assert [first.text, second.text, third.text] == ["answer 1", "answer 2", ""]
    assert first.headers["content-type"] == "text/plain"
    assert peer.bodies == [b"\x00body", b"", b""]
    assert peer.heads[0].startswith("POST /a?token=secret HTTP/1.1\r\n")
    assert f"host: {peer.url.removeprefix('http://')}" in peer.heads[0].lower()
    assert "x-own: 1" in peer.heads[0].lower()
    assert [(r.index, r.method, r.path, r.fault, r.peer_status, r.status) for r in proxy.records] == [
        (0, "POST", "/a", None, 200, 200),
        (1, "GET", "/b", None, 200, 200),
        (2, "HEAD", "/c", None, 200, 200),
    ]
    record = proxy.records[0]
    assert record.ended_at is not None
    assert record.started_at <= record.forwarded_at[0] <= record.answered_at[0] <= record.ended_at


async def test_bodies_and_queries_are_not_shown(peer: Peer) -> None:
    async with proxied(peer) as (proxy, http):
        await http.post("/a?token=secret", content=b"secret")
    assert proxy.records[0].body == b"secret"
    assert "secret" not in repr(proxy.records)


async def test_refused_and_reset_requests_never_reach_the_peer(peer: Peer) -> None:
    async with proxied(peer, Rule(Refuse(), path="/refuse"), Rule(ResetBefore(), path="/reset")) as (proxy, http):
        with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
            await http.post("/refuse", content=b"x")
        with pytest.raises(httpx.ReadError):
            await http.post("/reset", content=b"x")
        assert (await http.get("/reset")).text == "answer 1"
    assert [r.status for r in proxy.records] == [None, None, 200]
    assert all(r.ended_at is not None for r in proxy.records)


async def test_a_lost_answer_was_given(peer: Peer) -> None:
    async with proxied(peer, Rule(LoseAnswer())) as (proxy, http):
        with pytest.raises(httpx.ReadError):
            await http.post("/a", content=b"x")
        assert (await http.post("/a", content=b"x")).text == "answer 2"
    assert [(r.peer_status, r.status) for r in proxy.records] == [(200, None), (200, 200)]


async def test_an_own_status_replaces_the_request_or_the_answer(peer: Peer) -> None:
    rules = (
        Rule(Status(429, b"slow down", (("Retry-After", "7"),)), path="/before"),
        Rule(StatusAfter(), path="/after"),
    )
    async with proxied(peer, *rules) as (proxy, http):
        before = await http.get("/before")
        after = await http.get("/after")
        assert (before.status_code, before.text, before.headers["retry-after"]) == (429, "slow down", "7")
        assert (after.status_code, after.headers["content-type"]) == (502, "text/html")
        assert "<html>" in after.text
    assert [len(r.forwarded_at) for r in proxy.records] == [0, 1]
    assert [(r.peer_status, r.status) for r in proxy.records] == [(None, 429), (200, 502)]


async def test_a_delayed_request_arrives_after_its_client_gave_up(peer: Peer) -> None:
    async with proxied(peer, Rule(Delay(0.2))) as (proxy, http):
        with pytest.raises(httpx.ReadTimeout):
            await http.post("/a", content=b"x", timeout=0.05)
        assert peer.heads == []
        with anyio.fail_after(5):
            await proxy.wait_until(lambda records: len(records[0].answered_at) == 1)
    assert len(peer.heads) == 1


async def test_a_late_answer_is_held_back_although_the_peer_has_done_it(peer: Peer) -> None:
    async with proxied(peer, Rule(Late(60))) as (proxy, http):
        with pytest.raises(httpx.ReadTimeout):
            await http.post("/a", content=b"x", timeout=0.2)
        assert len(peer.heads) == 1
    assert proxy.records[0].status is None


async def test_a_duplicate_is_answered_with_either_answer(peer: Peer) -> None:
    rules = (Rule(Duplicate("first"), path="/first"), Rule(Duplicate("second"), path="/second"))
    async with proxied(peer, *rules) as (proxy, http):
        assert (await http.post("/second", content=b"x")).text == "answer 2"
        assert (await http.post("/first", content=b"y")).text == "answer 3"
        with anyio.fail_after(5):
            await proxy.wait_until(lambda records: len(records[1].answered_at) == 2)
    assert peer.bodies == [b"x", b"x", b"y", b"y"]


@pytest.mark.parametrize(
    ("at", "reaches_peer", "gets_answer"),
    [("before", False, False), ("answered", True, False), ("delivered", True, True)],
)
async def test_a_process_is_killed_at_that_very_moment(
    peer: Peer, at: str, reaches_peer: bool, gets_answer: bool
) -> None:
    seen: list[tuple[int, bool]] = []
    dead = anyio.Event()

    async def kill() -> None:
        record = proxy.records[0]
        seen.append((len(record.answered_at), record.status is not None))
        dead.set()

    async with proxied(peer, Rule(Kill(kill, at=at))) as (proxy, http):  # type: ignore[arg-type]
        if gets_answer:
            assert (await http.get("/a")).text == "answer 1"
        else:
            with pytest.raises(httpx.ReadError):
                await http.get("/a")
        with anyio.fail_after(5):
            await dead.wait()
    assert seen == [(int(reaches_peer), gets_answer)]
    assert len(peer.heads) == int(reaches_peer)


async def test_a_process_is_killed_by_its_id(peer: Peer) -> None:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)

    with start() as child:
        async with proxied(peer, Rule(Kill(child.pid), once=False)) as (_, http):
            with pytest.raises(httpx.ReadError):
                await http.get("/a")
            assert child.wait(10) == -signal.SIGKILL
            # Killing the dead is harmless, as a rule may fit more than once.
            with pytest.raises(httpx.ReadError):
                await http.get("/a")


async def test_each_rule_counts_what_fits_it(peer: Peer) -> None:
    rules = (
        Rule(Status(500), method="POST", nth=2),
        Rule(Status(501), path="^/b$", nth=2, once=False),
        Rule(Status(502), when=lambda record: record.body == b"bad"),
    )
    async with proxied(peer, *rules) as (proxy, http):

        async def post(path: str, body: bytes = b"") -> int:
            return (await http.post(path, content=body)).status_code

        assert [await post("/b"), await post("/b"), await post("/b"), await post("/bb")] == [200, 500, 501, 200]
        assert [await post("/a", b"bad"), await post("/a", b"bad")] == [502, 200]
        proxy.use(Rule(Status(503)))
        assert [await post("/b"), await post("/b")] == [503, 200]


async def test_a_peer_that_is_gone_or_silent_resets_the_client(peer: Peer) -> None:
    async with proxied(peer) as (proxy, http):
        with pytest.raises(httpx.ReadError):
            await http.get("/silent")
    assert (proxy.records[0].peer_status, proxy.records[0].status) == (None, None)
    async with (
        FaultProxy("http://127.0.0.1:1") as gone,
        httpx.AsyncClient(base_url=gone.url, trust_env=False) as http,
    ):
        with pytest.raises(httpx.ReadError):
            await http.get("/a")


async def test_what_is_not_http_is_hung_up_on(peer: Peer) -> None:
    async with FaultProxy(peer.url) as proxy:
        port = int(proxy.url.rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"\x16\x03\x01 not http\r\n\r\n")
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
    assert proxy.records == ()


async def test_it_closes_with_requests_under_way(peer: Peer) -> None:
    async def ask(http: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.TransportError):
            await http.get("/a")

    async with (
        httpx.AsyncClient(trust_env=False, timeout=10) as http,
        anyio.create_task_group() as tasks,
        FaultProxy(peer.url, Rule(Delay(3600), once=False)) as proxy,
    ):
        http.base_url = httpx.URL(proxy.url)
        for _ in range(3):
            tasks.start_soon(ask, http)
        await proxy.wait_until(lambda records: len(records) == 3)
    assert peer.heads == []
    assert all(record.ended_at is not None for record in proxy.records)


async def test_an_error_of_the_body_leaves_as_it_is(peer: Peer) -> None:
    with pytest.raises(LookupError, match="as it is"):
        async with FaultProxy(peer.url):
            raise LookupError("as it is")


async def test_a_failing_callback_is_not_swallowed(peer: Peer) -> None:
    def fail() -> None:
        raise OSError("the test's own fault")

    with pytest.raises(ExceptionGroup) as caught:
        async with proxied(peer, Rule(Kill(fail))) as (_, http):
            await http.get("/a")
    assert caught.group_contains(OSError, match="the test's own fault")


def test_only_plain_http_is_proxied() -> None:
    with pytest.raises(ValueError, match="http://"):
        FaultProxy("https://127.0.0.1:1")


def test_a_rule_without_conditions_fits_everything() -> None:
    assert Rule(Refuse()).fits(Record(0, "GET", "/", None, b"", 0.0))
