"""The watcher: what a mint tells wakes the action that waits for it, and whatever breaks there disturbs nobody."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest
from anyio.abc import TaskGroup

from tests.unit.cashu.fake_mint import URL, Json
from tests.unit.cashu.swap_mint import Bench, Sheet
from tests.unit.cashu.vectors import MNEMONIC
from wallet_actions.action import Action
from wallet_actions.cashu import KINDS, Cashu, Issue, IssueBatch, Melt, Seed, Send, watching
from wallet_actions.cashu.notify import MAX_WATCHED, Topic
from wallet_actions.cashu.proofs import BlindedMessage, Proof
from wallet_actions.cashu.watching import WATCHED_FOR, Watcher
from wallet_actions.checkpoint import Status
from wallet_actions.engine import Engine
from wallet_actions.errors import StoreUnavailableError
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

A_MOMENT = timedelta(milliseconds=250)
TOLD: Json = {
    "nuts": {
        **{nut: {"supported": True} for nut in ("7", "9", "12")},
        "17": {"supported": [{"method": "bolt11", "unit": "sat", "commands": list(Topic)}]},
    }
}
SILENT: Json = {"nuts": {nut: {"supported": True} for nut in ("7", "9", "12")}}


@dataclass(eq=False)
class Line:
    """One open websocket, with the mint at its other end."""

    hub: Hub
    kind: str = ""
    names: tuple[str, ...] = ()
    subscription: str = ""
    messages: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)

    async def send(self, text: str) -> None:
        params = json.loads(text)["params"]
        self.kind, self.names, self.subscription = params["kind"], tuple(params["filters"]), params["subId"]
        self.messages.put_nowait(json.dumps({"jsonrpc": "2.0", "result": {"status": "OK"}, "id": 1}))
        self.hub.changed.set()

    async def receive(self) -> str:
        message = await self.messages.get()
        if message is None:
            raise EOFError
        return message

    def tell(self, payload: Json) -> None:
        params = {"subId": self.subscription, "payload": payload}
        self.messages.put_nowait(json.dumps({"jsonrpc": "2.0", "method": "subscribe", "params": params}))


@dataclass(eq=False)
class Hub:
    """All websockets of all mints.

    Attributes:
        opened: how many there ever were.
        faults: what opening the next ones raises.
    """

    lines: list[Line] = field(default_factory=list)
    opened: int = 0
    faults: list[Exception] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Line]:
        self.opened += 1
        self.changed.set()
        if self.faults:
            raise self.faults.pop(0)
        line = Line(self)
        self.lines.append(line)
        try:
            yield line
        finally:
            self.lines.remove(line)
            self.changed.set()

    def hears(self, *names: str) -> list[Line]:
        return [line for line in self.lines if set(names) <= set(line.names)]

    def spend(self, *ys: str) -> None:
        for y in ys:
            for line in self.hears(y):
                line.tell({"Y": y, "state": "SPENT"})


class Desk(Bench):
    """A wallet with an engine that runs, and a watcher."""

    hub: Hub
    engine: Engine
    watcher: Watcher

    @asynccontextmanager
    async def open(self, kind: type[Watcher] = Watcher) -> AsyncIterator[Desk]:
        self.engine = Engine(self.store, self.wallet, KINDS, clock=self.clock, poll=None)
        self.watcher = kind(self.engine, self.wallet, connect=self.hub.connect)
        tasks = asyncio.all_tasks()
        async with self.engine, self.watcher:
            yield self
        assert asyncio.all_tasks() == tasks, "a task was left behind"
        assert not self.hub.lines, "a socket was left open"

    async def send(self, *amounts: int) -> tuple[Send, tuple[Proof, ...]]:
        """A token that is out, of coins that fit."""
        for amount in amounts or (20,):
            self.mint.quote = f"fund-{len(self.mint.requests)}"
            issue = await Issue.of(self.wallet, URL, amount)
            await self.engine.start(issue, issue.opening)
            await self.engine.result(Issue, issue.id)
        send = await Send.of(self.wallet, URL, sum(amounts) or 20)
        await self.engine.start(send, send.opening)
        await self.until(lambda: self.is_parked(send))
        return send, await self.wallet.proofs(send.inputs)

    async def is_parked(self, action: Action[Any, Any, Any]) -> bool:
        return await self.status(action) is Status.PARKED

    async def is_done(self, action: Action[Any, Any, Any]) -> bool:
        return await self.status(action) is Status.DONE

    async def status(self, action: Action[Any, Any, Any]) -> Status:
        checkpoint = await self.store.load(action.key)
        assert checkpoint is not None
        return checkpoint.status

    async def listening(self, *names: str) -> Line:
        """The one line that is for these, once it is there."""
        await self.until(lambda: _now(len(self.hub.hears(*names)) == 1 and len(self.hub.lines) == self.watcher.feeds))
        return self.hub.hears(*names)[0]

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Let everything run until something is so; time stands still meanwhile."""
        for _ in range(500):
            if await condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("it never came to that")

    async def settle(self, delay: timedelta = timedelta(0)) -> None:
        await self.clock.advance(delay)
        for _ in range(100):
            await asyncio.sleep(0)

    def claim(self, proofs: Sequence[Proof], *, is_told: bool = True) -> None:
        self.mint.states |= {proof.y: "SPENT" for proof in proofs}
        if is_told:
            self.hub.spend(*[proof.y for proof in proofs])


async def _now(value: bool) -> bool:
    return value


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with MemoryStore() as store:
        made = Desk(store, Sheet(1000))
        made.hub = Hub()
        made.mint.routes["GET /v1/info"] = lambda body: TOLD
        yield made


async def test_a_claim_that_the_mint_tells_of_is_noticed(desk: Desk) -> None:
    """Its own first look comes after a second; nobody waits for that."""
    async with desk.open():
        send, proofs = await desk.send(20)
        await desk.listening(*[proof.y for proof in proofs])
        desk.claim(proofs, is_told=False)
        await desk.settle(A_MOMENT)
        assert await desk.is_parked(send)
        desk.claim(proofs)
        await desk.settle(A_MOMENT)
        assert await desk.is_done(send)
        await desk.until(lambda: _now(not desk.hub.lines))


async def test_news_that_come_before_the_mints_books_are_looked_for_again(desk: Desk) -> None:
    """L-P6: the mint tells of the claim first and notes it then. The token is old, so its own look is far away."""
    desk.clock.set_wall(desk.clock.now())
    async with desk.open():
        send, proofs = await desk.send(20)
        line = await desk.listening(*[proof.y for proof in proofs])
        await desk.settle(timedelta(minutes=20))
        assert line in desk.hub.lines
        asked = desk.mint.count("POST /v1/checkstate")
        desk.hub.spend(*[proof.y for proof in proofs])
        await desk.settle(A_MOMENT)
        assert await desk.is_parked(send)
        assert desk.mint.count("POST /v1/checkstate") == asked + 1
        desk.claim(proofs, is_told=False)
        await desk.settle(timedelta(seconds=1))
        assert await desk.is_done(send)


async def test_a_part_of_a_token_is_no_news(desk: Desk) -> None:
    async with desk.open():
        _, proofs = await desk.send(20)
        await desk.listening(*[proof.y for proof in proofs])
        asked = desk.mint.count("POST /v1/checkstate")
        desk.claim(proofs[:1])
        await desk.settle(A_MOMENT)
        assert desk.mint.count("POST /v1/checkstate") == asked


async def test_a_payment_that_the_mint_tells_of_is_noticed(desk: Desk) -> None:
    desk.mint.state, desk.mint.quote = "UNPAID", "unpaid"
    async with desk.open():
        issue = await Issue.of(desk.wallet, URL, 8)
        await desk.engine.start(issue, issue.opening)
        line = await desk.listening("unpaid")
        assert line.kind == Topic.MINT_QUOTES
        desk.mint.state = "PAID"
        line.tell({"quote": "unpaid", "request": "lnbc1", "state": "PAID", "unit": "sat"})
        await desk.settle(A_MOMENT)
        assert await desk.is_done(issue)


async def test_payments_of_a_batch_that_the_mint_tells_of_are_noticed(desk: Desk) -> None:
    """All of them: until then the paid ones wait for the others."""
    states: dict[str, str] = {}

    def quote(body: Json) -> Json:
        name = str(body["_"]).rpartition("/")[2]
        if name == "bolt11":
            name = f"q{len(states)}"
        return {"quote": name, "request": "lnbc1", "state": states.setdefault(name, "UNPAID"), "unit": "sat"}

    desk.mint.routes |= {"POST /v1/mint/quote": quote, "GET /v1/mint/quote": quote}
    async with desk.open():
        batch = await IssueBatch.of(desk.wallet, URL, [8, 16])
        await desk.engine.start(batch, batch.opening)
        line = await desk.listening("q0", "q1")
        assert line.kind == Topic.MINT_QUOTES
        for name in sorted(states):
            assert await desk.is_parked(batch)
            states[name] = "PAID"
            line.tell(quote({"_": f"GET /{name}"}))
            await desk.settle(A_MOMENT)
        assert await desk.is_done(batch)


@pytest.mark.parametrize(("state", "ending"), [("PAID", Status.DONE), ("UNPAID", Status.FAILED)])
async def test_a_payment_under_way_is_listened_for_and_not_asked_for(desk: Desk, state: str, ending: Status) -> None:
    """Beside the action nobody asks, since two that ask have some mints sign the change twice."""
    blanks: list[BlindedMessage] = []

    def take(body: Json) -> Json:
        blanks.extend(BlindedMessage.model_validate(output) for output in body["outputs"])
        return desk.mint.melt_quote()

    async with desk.open():
        desk.mint.quote = "fund"
        issue = await Issue.of(desk.wallet, URL, 32)
        await desk.engine.start(issue, issue.opening)
        await desk.engine.result(Issue, issue.id)
        desk.mint.quote, desk.mint.state = "melt", "PENDING"
        desk.mint.routes["POST /v1/melt/bolt11"] = take
        desk.mint.signed.clear()
        melt = await Melt.of(desk.wallet, URL, "lnbc100n1pjqqqqq")
        await desk.engine.start(melt, melt.opening)
        line = await desk.listening("melt")
        assert line.kind == Topic.MELT_QUOTES
        await desk.settle(timedelta(minutes=20))
        asked = desk.mint.count("GET /v1/melt/quote")
        while desk.mint.count("GET /v1/melt/quote") == asked:
            await desk.settle(timedelta(seconds=1))
        line.tell(desk.mint.melt_quote())
        await desk.settle(timedelta(seconds=30))
        assert await desk.is_parked(melt)
        assert desk.mint.count("GET /v1/melt/quote") == asked + 1, "no news, and its own turn comes once a minute"
        desk.mint.state = state
        for blank, amount in zip(blanks, (16, 4, 1) if state == "PAID" else (), strict=False):
            desk.mint.sign(blank, amount)
        line.tell(desk.mint.melt_quote())
        await desk.settle(A_MOMENT)
        assert await desk.status(melt) is ending


async def test_one_line_is_for_all_tokens_of_a_mint(desk: Desk) -> None:
    async with desk.open():
        first, proofs = await desk.send(20)
        await desk.listening(*[proof.y for proof in proofs])
        second, others = await desk.send(5)
        await desk.settle(A_MOMENT)
        await desk.settle(A_MOMENT)
        await desk.listening(*[proof.y for proof in (*proofs, *others)])
        desk.claim(others)
        await desk.settle(A_MOMENT)
        assert (await desk.status(first), await desk.status(second)) == (Status.PARKED, Status.DONE)
        desk.claim(proofs)
        await desk.settle(A_MOMENT)
        assert await desk.is_done(first)


async def test_what_was_out_before_this_start_is_watched(desk: Desk) -> None:
    async with desk.open():
        send, proofs = await desk.send(20)
    async with desk.open():
        await desk.listening(*[proof.y for proof in proofs])
        desk.claim(proofs)
        await desk.settle(A_MOMENT)
        assert await desk.is_done(send)


async def test_what_is_long_out_is_not(desk: Desk) -> None:
    turns = 0

    class Counting(Watcher):
        def _open_feeds(self, tasks: TaskGroup) -> None:
            nonlocal turns
            turns += 1
            super()._open_feeds(tasks)

    async with desk.open(Counting):
        send, proofs = await desk.send(20)
        await desk.listening(*[proof.y for proof in proofs])
        await desk.settle(WATCHED_FOR)
        await desk.settle(watching.PAUSE)
        assert not desk.hub.lines
        opened = desk.hub.opened
        before = turns
        await desk.settle()
        assert turns == before, "it does not turn in circles over it"
    async with desk.open():
        await desk.settle(A_MOMENT)
        assert desk.hub.opened == opened
        assert await desk.is_parked(send)


async def test_a_mint_without_websockets_is_left_alone(desk: Desk) -> None:
    """Not one request beyond asking whether it has them."""
    desk.mint.routes["GET /v1/info"] = lambda body: SILENT
    async with desk.open():
        for _ in range(2):
            await desk.send(20)
            await desk.settle(A_MOMENT)
        assert desk.mint.requests[-1] != "POST /v1/checkstate"
        assert desk.mint.count("POST /v1/checkstate") == 0
        assert desk.watcher.feeds == 0
    assert desk.hub.opened == 0


async def test_what_goes_through_a_transport_of_the_apps_is_left_alone(desk: Desk) -> None:
    """A socket would go around the proxy."""
    async with desk.open():
        desk.watcher = Watcher(desk.engine, desk.wallet)
        async with desk.watcher:
            await desk.send(20)
            await desk.settle(A_MOMENT)
            assert desk.watcher.feeds == 0


@pytest.mark.parametrize("fault", [OSError("no route"), EOFError()])
async def test_a_line_that_does_not_come_about_disturbs_nobody(desk: Desk, fault: Exception) -> None:
    desk.hub.faults = [fault] * 3
    async with desk.open():
        send, proofs = await desk.send(20)
        for _ in range(20):
            await desk.settle(timedelta(seconds=2))
        assert not desk.hub.faults, "it is tried again"
        await desk.listening(*[proof.y for proof in proofs])
        desk.claim(proofs)
        await desk.settle(A_MOMENT)
        assert await desk.is_done(send)


async def test_a_bug_in_whatever_opens_lines_disturbs_nobody(desk: Desk) -> None:
    """Then the coins are asked for; and it is gone with the watcher."""
    desk.hub.faults = [RuntimeError("a bug")]
    async with desk.open():
        send, proofs = await desk.send(20)
        await desk.settle(timedelta(minutes=20))
        desk.claim(proofs)
        await desk.settle(timedelta(seconds=6))
        assert await desk.is_done(send)
        await desk.settle(A_MOMENT)


async def test_nonsense_disturbs_nobody(desk: Desk) -> None:
    """L-P7."""
    async with desk.open():
        send, proofs = await desk.send(20)
        line = await desk.listening(*[proof.y for proof in proofs])
        for nonsense in ("", "[]", "{}", "null", json.dumps({"method": "subscribe", "params": {"subId": 7}})):
            line.messages.put_nowait(nonsense)
        line.tell({"Y": "02" + "0" * 64, "state": "SPENT"})
        line.tell({"Y": proofs[0].y, "state": "BURNT"})
        desk.claim(proofs)
        await desk.settle(A_MOMENT)
        assert await desk.is_done(send)


async def test_a_mint_that_does_not_answer_is_tried_again(desk: Desk) -> None:
    def fail(body: Json) -> Json:
        raise httpx.ConnectError("down")

    async with desk.open():
        send, proofs = await desk.send(20)
        await desk.listening(*[proof.y for proof in proofs])
    desk.mint.routes["GET /v1/info"] = fail
    async with desk.open():
        await desk.settle(A_MOMENT)
        assert not desk.hub.lines
        desk.mint.routes["GET /v1/info"] = lambda body: TOLD
        await desk.settle(timedelta(seconds=2))
        await desk.listening(*[proof.y for proof in proofs])
        desk.claim(proofs)
        await desk.settle(A_MOMENT)
        assert await desk.is_done(send)


async def test_a_store_that_fails_disturbs_nobody(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watcher begins again; nothing of it reaches the app."""
    async with desk.open():
        send, proofs = await desk.send(20)
    failures = 2

    async def fail(**options: Any) -> Any:
        nonlocal failures
        if failures and options.get("kinds") is not None:
            failures -= 1
            raise StoreUnavailableError("busy")
        return await type(desk.store).list_actions(desk.store, **options)

    monkeypatch.setattr(desk.store, "list_actions", fail)
    async with desk.open():
        for _ in range(10):
            await desk.settle(timedelta(milliseconds=700))
        assert not failures
        await desk.listening(*[proof.y for proof in proofs])
        desk.claim(proofs)
        await desk.settle(A_MOMENT)
        assert await desk.is_done(send)


async def test_there_is_a_bound_to_the_lines(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that came first has it; the other one's turn comes when it is free."""
    monkeypatch.setattr(watching, "MOST_FEEDS", 1)
    desk.mint.state, desk.mint.quote = "UNPAID", "unpaid"
    async with desk.open():
        issue = await Issue.of(desk.wallet, URL, 8)
        await desk.engine.start(issue, issue.opening)
        line = await desk.listening("unpaid")
        desk.mint.state = "PAID"
        _, proofs = await desk.send(20)
        await desk.settle(A_MOMENT)
        assert desk.hub.lines == [line]
        line.tell({"quote": "unpaid", "request": "lnbc1", "state": "PAID", "unit": "sat"})
        desk.mint.quote = "unpaid"
        await desk.settle(A_MOMENT)
        assert await desk.is_done(issue)
        await desk.settle(A_MOMENT)
        await desk.listening(*[proof.y for proof in proofs])


async def test_there_is_a_bound_to_what_a_line_is_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest tokens come first."""
    assert MAX_WATCHED >= 2
    monkeypatch.setattr(watching, "MAX_WATCHED", 3)
    async with desk.open():
        _, old = await desk.send(3)
        await desk.settle(A_MOMENT)
        _, new = await desk.send(5)
        for _ in range(3):
            await desk.settle(A_MOMENT)
        (line,) = desk.hub.lines
        assert set(line.names) == {proof.y for proof in new}
        assert len(old) == len(new) == 2


async def test_an_app_watches_where_it_is_asked_to(desk: Desk) -> None:
    """By default there is no watcher; where there is one, it ends with the app."""
    tasks = asyncio.all_tasks()
    for watch in (False, True):
        seed = Seed.from_mnemonic(MNEMONIC)
        async with Cashu(desk.store, seed, connect=desk.mint.client, clock=desk.clock, poll=None, watch=watch):
            names = {task.get_name() for task in asyncio.all_tasks() - tasks}
            assert ("wallet_actions.cashu.watcher" in names) is watch
    assert asyncio.all_tasks() == tasks


async def test_a_quotes_id_is_told_to_nobody(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """It is as good as money."""
    caplog.set_level(logging.DEBUG)
    desk.hub.faults = [RuntimeError("a bug with secret-quote in it")] * 2
    desk.mint.state, desk.mint.quote = "UNPAID", "secret-quote"
    async with desk.open():
        issue = await Issue.of(desk.wallet, URL, 8)
        await desk.engine.start(issue, issue.opening)
        for _ in range(5):
            await desk.settle(timedelta(seconds=1))
        assert "secret-quote" not in repr(desk.watcher._subjects)
    assert "secret-quote" not in caplog.text
