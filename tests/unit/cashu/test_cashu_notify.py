"""Watches: heard over a real websocket on loopback, asked for where there is none, and never stuck."""

from __future__ import annotations

import asyncio
import builtins
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from wallet_actions.cashu.answers import SpendState, State
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.errors import MintError
from wallet_actions.cashu.notify import (
    MAX_MESSAGE_BYTES,
    MAX_WATCHED,
    Change,
    SocketRefusedError,
    Topic,
    Watch,
    open_websocket,
)
from wallet_actions.cashu.quotes import MeltQuote, MintQuote
from wallet_actions.errors import UsageError
from wallet_actions.testing.clock import FakeClock

pytestmark = pytest.mark.anyio

YS = ["02" + f"{number:064x}" for number in range(1, 4)]
QUOTE = "quote-1"
INFO = {"nuts": {"17": {"supported": [{"method": "bolt11", "unit": "sat", "commands": list(Topic)}]}}}
HOUR = timedelta(hours=1)

Talk = Callable[["Mint", ServerConnection], Awaitable[None]]


@dataclass
class Mint:
    """Answers look-ups from a table, and talks over websockets as it is told to, one script a connection."""

    states: dict[str, str] = field(default_factory=lambda: dict.fromkeys(YS, "UNSPENT"))
    info: dict[str, Any] = field(default_factory=lambda: INFO)
    talks: list[Talk] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    refusal: int = 404
    polls: int = 0
    connections: int = 0
    server: Server | None = None
    subscribed: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/v1/info":
            return httpx.Response(200, json=self.info)
        self.polls += 1
        if self.faults and (status := self.faults.pop(0)) != 200:
            return httpx.Response(status, json={"detail": "no", "code": 10000} if status == 400 else {})
        if path == "/v1/checkstate":
            ys = json.loads(request.content)["Ys"]
            return httpx.Response(200, json={"states": [{"Y": y, "state": self.states[y]} for y in ys]})
        quote_id = path.rsplit("/", 1)[1]
        return httpx.Response(200, json=quote(self.states[quote_id], quote_id))

    async def talk(self, socket: ServerConnection) -> None:
        self.connections += 1
        if self.talks:
            await self.talks.pop(0)(self, socket)
        await socket.close()

    def refuse(self, socket: ServerConnection, request: Request) -> Response | None:
        return None if self.talks else socket.respond(HTTPStatus(self.refusal), "no")

    @asynccontextmanager
    async def client(self) -> AsyncIterator[MintClient]:
        async with serve(self.talk, "127.0.0.1", 0, process_request=self.refuse) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            transport = httpx.MockTransport(self.answer)
            async with MintClient(f"http://127.0.0.1:{port}", transport=transport) as client:
                yield client


def quote(state: str, quote_id: str = QUOTE) -> dict[str, Any]:
    return {"quote": quote_id, "request": "lnbc1", "amount": 5, "fee_reserve": 1, "unit": "sat", "state": state}


async def subscribed(mint: Mint, socket: ServerConnection) -> str:
    """Take a subscription as a mint does, and give its id."""
    request = json.loads(await socket.recv())
    mint.subscribed.append(request)
    subscription: str = request["params"]["subId"]
    result = {"status": "OK", "subId": subscription}
    await socket.send(json.dumps({"jsonrpc": "2.0", "result": result, "id": request["id"]}))
    return subscription


async def tell(socket: ServerConnection, subscription: str, payload: object) -> None:
    params = {"subId": subscription, "payload": payload}
    await socket.send(json.dumps({"jsonrpc": "2.0", "method": "subscribe", "params": params}))


def telling(*payloads: object, stay: bool = True) -> Talk:
    async def talk(mint: Mint, socket: ServerConnection) -> None:
        subscription = await subscribed(mint, socket)
        for payload in payloads:
            await tell(socket, subscription, payload)
        if stay:
            await socket.wait_closed()

    return talk


def coin(number: int, state: str) -> dict[str, object]:
    return {"Y": YS[number], "state": state, "witness": None}


def seen(changes: Iterable[Change]) -> list[tuple[str, str]]:
    return [(change.Y if isinstance(change, State) else change.quote, change.state.value) for change in changes]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another task of this loop brings about."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the socket's own tasks set no event
            await asyncio.sleep(0)


async def take(watch: Watch, count: int) -> list[tuple[str, str]]:
    async with asyncio.timeout(10):
        return seen([await anext(watch) for _ in range(count)])


async def exhausted(watch: Watch) -> list[tuple[str, str]]:
    async with asyncio.timeout(20):
        return seen([change async for change in watch])


# Over a websocket.


async def test_coins_are_heard_of_as_they_are_spent() -> None:
    mint = Mint(talks=[telling(coin(0, "UNSPENT"), coin(0, "PENDING"), coin(0, "SPENT"), coin(1, "SPENT"))])
    clock = FakeClock()
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, [YS[0].upper(), YS[1]], deadline=HOUR, clock=clock, connect=open_websocket) as watch,
    ):
        changes = await exhausted(watch)
    assert (YS[0], "SPENT") in changes
    assert (YS[1], "SPENT") in changes
    assert len(changes) == len(set(changes)), "each state is told once"
    assert changes.index((YS[0], "SPENT")) == max(place for place, (y, _) in enumerate(changes) if y == YS[0])
    assert mint.subscribed[0]["method"] == "subscribe"
    assert mint.subscribed[0]["params"]["kind"] == "proof_state"
    assert mint.subscribed[0]["params"]["filters"] == YS[:2]
    assert mint.polls == 1, "nobody moved the clock, so nobody asked again"


@pytest.mark.parametrize(
    ("topic", "first", "last"), [(Topic.MINT_QUOTES, "UNPAID", "ISSUED"), (Topic.MELT_QUOTES, "PENDING", "PAID")]
)
async def test_quotes_are_heard_of(topic: Topic, first: str, last: str) -> None:
    mint = Mint(states={QUOTE: first}, talks=[telling(quote(last))])
    async with (
        mint.client() as client,
        Watch(client, topic, [QUOTE], deadline=HOUR, clock=FakeClock(), connect=open_websocket) as watch,
    ):
        changes = [change async for change in watch]
    assert seen(changes)[-1] == (QUOTE, last)
    assert isinstance(changes[-1], MintQuote if topic is Topic.MINT_QUOTES else MeltQuote)


async def test_what_is_not_understood_is_passed_over() -> None:
    """L-P7."""

    async def talk(mint: Mint, socket: ServerConnection) -> None:
        subscription = await subscribed(mint, socket)
        nonsense: list[str | bytes] = [
            "",
            "{",
            "[]",
            "1",
            "null",
            "\x00",
            b"\xff\x00",
            "[" * 1000,
            '{"jsonrpc":"2.0","method":"new","params":{"x":1}}',
            '{"jsonrpc":"2.0","method":"subscribe","params":[]}',
            '{"jsonrpc":"2.0","id":77,"result":{}}',
            '{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"slow down"}}',
            '{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"late"}}',
        ]
        for message in nonsense:
            await socket.send(message)
        payloads: list[object] = [
            None,
            [],
            "x",
            {},
            {"Y": YS[0]},
            {"Y": 5, "state": "SPENT"},
            {"Y": YS[0], "state": "MELTED"},
            {"Y": YS[2], "state": "SPENT"},
            coin(0, "SPENT"),
        ]
        for payload in payloads:
            await tell(socket, subscription, payload)
        await tell(socket, "another subscription", coin(1, "SPENT"))
        await tell(socket, subscription, coin(1, "PENDING"))
        await socket.wait_closed()

    mint = Mint(talks=[talk])
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, YS[:2], deadline=HOUR, clock=FakeClock(), connect=open_websocket) as watch,
    ):
        changes = []
        while (YS[1], "PENDING") not in changes:
            changes += await take(watch, 1)
    assert (YS[0], "SPENT") in changes
    assert (YS[1], "SPENT") not in changes
    assert not any(y == YS[2] for y, _ in changes), "a coin that was not asked for"
    assert mint.connections == 1


async def test_a_broken_connection_is_made_again_after_a_growing_delay() -> None:
    drop = telling(stay=False)
    clock = FakeClock()
    mint = Mint(talks=[drop, drop, drop, telling(coin(0, "SPENT"))])
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, YS[:1], deadline=HOUR, clock=clock, connect=open_websocket) as watch,
    ):
        assert await take(watch, 1) == [(YS[0], "UNSPENT")]
        waiting = asyncio.create_task(exhausted(watch))
        for count, delay_s in enumerate((1, 2, 4), start=1):
            await until(lambda: clock.sleepers == 2)
            assert mint.connections == count
            await clock.advance(timedelta(seconds=delay_s) - timedelta(milliseconds=1))
            assert mint.connections == count
            await clock.advance(timedelta(milliseconds=1))
            await until(lambda count=count: mint.connections == count + 1)  # type: ignore[misc]
        assert await waiting == [(YS[0], "SPENT")]
    assert mint.connections == 4


@pytest.mark.parametrize("refusal", [404, 403, 301])
async def test_a_mint_without_the_endpoint_is_asked(refusal: int) -> None:
    clock = FakeClock()
    mint = Mint(refusal=refusal)
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, YS[:1], deadline=HOUR, clock=clock, connect=open_websocket) as watch,
    ):
        assert await take(watch, 1) == [(YS[0], "UNSPENT")]
        await until(lambda: watch._listener is not None and watch._listener.done())
        mint.states[YS[0]] = "SPENT"
        waiting = asyncio.create_task(exhausted(watch))
        await until(lambda: clock.sleepers == 1)
        await clock.advance(timedelta(seconds=5))
        assert await waiting == [(YS[0], "SPENT")]
    assert mint.connections == 0


@pytest.mark.parametrize("refusal", [500, 503, 429])
async def test_a_mint_that_is_busy_is_tried_again(refusal: int) -> None:
    clock = FakeClock()
    mint = Mint(refusal=refusal)
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, YS[:1], deadline=HOUR, clock=clock, connect=open_websocket) as watch,
    ):
        assert await take(watch, 1) == [(YS[0], "UNSPENT")]
        await until(lambda: clock.sleepers == 1)
        mint.talks.append(telling(coin(0, "SPENT")))
        await clock.advance(timedelta(seconds=1))
        assert await exhausted(watch) == [(YS[0], "SPENT")]


@pytest.mark.parametrize("error_id", [1, "1", 0, None])
async def test_a_refused_subscription_leaves_the_watch_asking(error_id: object) -> None:
    async def refuse(mint: Mint, socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": error_id, "error": {"code": -32603, "message": "no"}}))
        await socket.wait_closed()

    clock = FakeClock()
    mint = Mint(talks=[refuse])
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, YS[:1], deadline=HOUR, clock=clock, connect=open_websocket) as watch,
    ):
        assert await take(watch, 1) == [(YS[0], "UNSPENT")]
        names_the_request = error_id in (1, "1")
        await until(lambda: watch._listener is not None and watch._listener.done() is names_the_request)
        if not names_the_request:
            await until(lambda: clock.sleepers == 1)
        mint.states[YS[0]] = "SPENT"
        waiting = asyncio.create_task(exhausted(watch))
        await until(lambda: clock.sleepers == 2 - names_the_request)
        await clock.advance(timedelta(seconds=5))
        assert await waiting == [(YS[0], "SPENT")]


async def test_a_silent_websocket_does_not_hold_a_watch_up() -> None:
    """A mint that accepts, and then tells nothing: Nutshell moves pending payments only when it is asked."""
    clock = FakeClock()
    mint = Mint(talks=[telling()])
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, YS[:1], deadline=HOUR, clock=clock, connect=open_websocket) as watch,
    ):
        assert await take(watch, 1) == [(YS[0], "UNSPENT")]
        await until(lambda: watch._is_listening)
        mint.states[YS[0]] = "SPENT"
        waiting = asyncio.create_task(exhausted(watch))
        await until(lambda: clock.sleepers == 1)
        await clock.advance(timedelta(seconds=30))
        assert await waiting == [(YS[0], "SPENT")]


async def test_who_listens_asks_less_often() -> None:
    clock = FakeClock()
    mint = Mint(talks=[telling()])
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, YS[:1], deadline=HOUR, clock=clock, connect=open_websocket) as watch,
    ):
        await take(watch, 1)
        await until(lambda: watch._is_listening)
        waiting = asyncio.create_task(exhausted(watch))
        for seconds, polls in ((0, 1), (5, 2), (29, 2), (1, 3), (30, 4)):
            await until(lambda: clock.sleepers == 1)
            await clock.advance(timedelta(seconds=seconds))
            assert mint.polls == polls
        waiting.cancel()


async def test_a_message_that_is_too_long_ends_the_connection_only() -> None:
    async def shout(mint: Mint, socket: ServerConnection) -> None:
        subscription = await subscribed(mint, socket)
        await tell(socket, subscription, "x" * MAX_MESSAGE_BYTES)
        await socket.wait_closed()

    clock = FakeClock()
    mint = Mint(talks=[shout, telling(coin(0, "SPENT"))])
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, YS[:1], deadline=HOUR, clock=clock, connect=open_websocket) as watch,
    ):
        assert await take(watch, 1) == [(YS[0], "UNSPENT")]
        await until(lambda: clock.sleepers == 1)
        await clock.advance(timedelta(seconds=1))
        assert await exhausted(watch) == [(YS[0], "SPENT")]


async def test_an_answer_that_is_late_does_not_undo_what_was_heard() -> None:
    mint = Mint(talks=[telling(coin(0, "PENDING"))])
    clock = FakeClock()
    async with mint.client() as client:
        watch = Watch(client, Topic.COINS, YS[:1], deadline=HOUR, clock=clock, connect=open_websocket)
        slow = client.check
        heard = asyncio.Event()

        async def check(ys: list[str], *, deadline: timedelta) -> tuple[SpendState, ...]:
            states = await slow(ys, deadline=deadline)
            await heard.wait()
            return states

        client.check = check  # type: ignore[method-assign, assignment]
        async with watch:
            first = asyncio.create_task(take(watch, 1))
            await until(lambda: bool(watch._untold))
            heard.set()
            assert await first == [(YS[0], "PENDING")]
            assert not watch._untold
            assert watch._known[YS[0]].state is SpendState.PENDING


async def test_what_is_spent_stays_spent() -> None:
    mint = Mint(talks=[telling(coin(0, "SPENT"), coin(0, "UNSPENT"), coin(1, "PENDING"))])
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, YS[:2], deadline=HOUR, clock=FakeClock(), connect=open_websocket) as watch,
    ):
        changes: list[tuple[str, str]] = []
        while (YS[1], "PENDING") not in changes:
            changes += await take(watch, 1)
    assert changes.index((YS[0], "SPENT")) == max(place for place, (y, _) in enumerate(changes) if y == YS[0])


async def test_nothing_of_the_frames_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A quote's id is as good as money."""
    caplog.set_level(logging.DEBUG)
    mint = Mint(states={QUOTE: "UNPAID"}, talks=[telling({"quote": QUOTE}, quote("ISSUED"))])
    async with (
        mint.client() as client,
        Watch(client, Topic.MINT_QUOTES, [QUOTE], deadline=HOUR, clock=FakeClock(), connect=open_websocket) as watch,
    ):
        await exhausted(watch)
    ours = [record for record in caplog.records if not record.name.startswith("websockets.server")]
    assert any(record.name.endswith("notify") for record in ours)
    assert not any(QUOTE in record.getMessage() for record in ours)


# Without one.


async def test_a_client_with_a_transport_of_its_own_is_not_gone_around() -> None:
    mint = Mint(talks=[telling(coin(0, "SPENT"))])
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, YS[:1], deadline=HOUR, clock=FakeClock()) as watch,
    ):
        assert await take(watch, 1) == [(YS[0], "UNSPENT")]
        assert watch._listener is None
    assert mint.connections == 0


async def test_a_mint_that_announces_nothing_is_not_connected_to() -> None:
    mint = Mint(info={"nuts": {}}, talks=[telling()])
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, YS[:1], deadline=HOUR, clock=FakeClock(), connect=open_websocket) as watch,
    ):
        assert await take(watch, 1) == [(YS[0], "UNSPENT")]
        await until(lambda: watch._listener is not None and watch._listener.done())
    assert mint.connections == 0


async def test_without_the_package_a_watch_only_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def lacking(name: str, *arguments: Any) -> Any:
        if name.startswith("wallet_actions.cashu.websocket"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(SocketRefusedError):
        async with open_websocket("ws://127.0.0.1:9"):
            pass


async def test_polling_until_nothing_can_change() -> None:
    clock = FakeClock(auto=True, patience=timedelta(0))
    mint = Mint(states={YS[0]: "UNSPENT", YS[1]: "SPENT", YS[2]: "PENDING"})
    async with mint.client() as client, Watch(client, Topic.COINS, YS, deadline=HOUR, clock=clock) as watch:
        assert await take(watch, 3) == [(YS[0], "UNSPENT"), (YS[1], "SPENT"), (YS[2], "PENDING")]
        mint.states.update({YS[0]: "SPENT", YS[2]: "UNSPENT"})
        assert await take(watch, 2) == [(YS[0], "SPENT"), (YS[2], "UNSPENT")]
        mint.states[YS[2]] = "SPENT"
        assert await exhausted(watch) == [(YS[2], "SPENT")]
        assert await exhausted(watch) == []
    assert mint.polls == 3


async def test_the_deadline_ends_a_watch() -> None:
    clock = FakeClock(auto=True, patience=timedelta(0))
    mint = Mint()
    async with (
        mint.client() as client,
        Watch(client, Topic.COINS, YS, deadline=timedelta(seconds=61), clock=clock) as watch,
    ):
        assert len(await exhausted(watch)) == 3
    assert mint.polls == 13
    assert clock.monotonic() == 61


async def test_a_mint_that_fails_is_asked_less_and_less_often() -> None:
    """L-P5: and not before it wants to be asked."""
    clock = FakeClock(auto=True, patience=timedelta(0))
    mint = Mint(faults=[500, 502, 429, 503, 200])
    async with mint.client() as client, Watch(client, Topic.COINS, YS[:1], deadline=HOUR, clock=clock) as watch:
        assert await take(watch, 1) == [(YS[0], "UNSPENT")]
    assert clock.monotonic() == 10 + 20 + 40 + 60


async def test_a_mint_that_refuses_to_tell_is_an_error() -> None:
    mint = Mint(states={QUOTE: "UNPAID"}, faults=[400])
    async with (
        mint.client() as client,
        Watch(client, Topic.MINT_QUOTES, [QUOTE], deadline=HOUR, clock=FakeClock()) as watch,
    ):
        with pytest.raises(MintError):
            await take(watch, 1)


async def test_nothing_to_watch_ends_at_once_and_too_much_is_refused() -> None:
    mint = Mint()
    async with mint.client() as client:
        async with Watch(client, Topic.COINS, [], deadline=HOUR, connect=open_websocket) as watch:
            assert await exhausted(watch) == []
            assert watch._listener is None
        with pytest.raises(UsageError):
            Watch(client, Topic.COINS, ["02"] * (MAX_WATCHED + 1), deadline=HOUR)
    assert mint.polls == 0


async def test_a_watch_that_is_left_early_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    mint = Mint(talks=[telling()])
    async with mint.client() as client:
        async with Watch(client, Topic.COINS, YS, deadline=HOUR, clock=FakeClock(), connect=open_websocket) as watch:
            await take(watch, 1)
            await until(lambda: watch._is_listening)
        assert watch._listener is not None
        assert watch._listener.done()
    assert asyncio.all_tasks() <= before
