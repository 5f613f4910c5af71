"""Hear of coins and quotes as they change (NUT-17), and ask where a mint does not tell.

    async with Watch(client, Topic.COINS, ys, deadline=timedelta(hours=1)) as changes:
        async for change in changes:
            ...

A watch asks the mint every so often, whatever happens. Where the mint offers a websocket and the package `websockets`
is there, it also listens, asks less often, and hears sooner. So a socket that breaks, stays silent or talks nonsense
costs time and nothing else: a message that is not understood is passed over (L-P7), a broken connection is made again
after a growing delay, and an answer that is late does not undo what was heard meanwhile.

What is told is no proof of anything beyond what the same look-up would prove (see `client`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from wallet_actions.cashu.answers import SpendState, State
from wallet_actions.cashu.client import MintClient
from wallet_actions.cashu.quotes import MeltQuote, MeltQuoteState, MintQuote, MintQuoteState
from wallet_actions.clock import Clock, SystemClock
from wallet_actions.errors import ConfigurationError, RejectedError, TransientError, UsageError

logger = logging.getLogger(__name__)

Change = State | MintQuote | MeltQuote
"""What became of a coin (`Y` and `state`) or of a quote."""

POLL: Final = timedelta(seconds=5)
POLL_WHILE_LISTENING: Final = timedelta(seconds=30)
LONGEST_POLL: Final = timedelta(minutes=1)
FIRST_RECONNECT, LONGEST_RECONNECT = timedelta(seconds=1), timedelta(minutes=1)
MAX_WATCHED: Final = 1_000
MAX_MESSAGE_BYTES: Final = 256 * 1024
_FINAL: Final = frozenset({SpendState.SPENT, MintQuoteState.ISSUED, MeltQuoteState.PAID})
_REQUEST: Final = (1, "1")  # the id of the one request of a connection; some mints answer with text


class Topic(StrEnum):
    """What is watched: coins by their `Y`, or quotes by their ids."""

    COINS = "proof_state"
    MINT_QUOTES = "bolt11_mint_quote"
    MELT_QUOTES = "bolt11_melt_quote"


_FORMS: Final[Mapping[Topic, TypeAdapter[Change]]] = {
    Topic.COINS: TypeAdapter(State),
    Topic.MINT_QUOTES: TypeAdapter(MintQuote),
    Topic.MELT_QUOTES: TypeAdapter(MeltQuote),
}


class Socket(Protocol):
    """A websocket, as far as a watch needs it. Both methods raise OSError or EOFError once it is closed or broken."""

    async def send(self, text: str) -> None:
        """Send one message."""
        ...

    async def receive(self) -> str:
        """Wait for the next message."""
        ...


class SocketRefusedError(Exception):
    """There is no websocket to be had here, now or later: only ask."""


Connect = Callable[[str], AbstractAsyncContextManager[Socket]]
"""Opens the websocket at a URL. Raises OSError or EOFError where it may work later, SocketRefusedError where not."""


class Watch:
    """Tells each state of some coins or quotes once, in the order in which it becomes known.

    Iteration ends at the deadline, or when no state can change any more: every coin spent, every quote issued or paid.
    A watch is iterated once, by one task.

    Args:
        client: stays open as long as the watch does.
        ids: `Y`s or quote ids, at most `MAX_WATCHED`.
        deadline: for the whole watch.
        asks: whether to ask the mint too. Otherwise it only listens, and tells nothing where there is no websocket.
        connect: opens websockets; by default the package `websockets` does, and only for a client that connects by
            itself: what goes through a proxy must not go around it.

    Raises:
        RejectedError, ConfigurationError: from an iteration: the mint refuses to tell; see `MintClient`.
        UsageError: too many ids.
    """

    def __init__(
        self,
        client: MintClient,
        topic: Topic,
        ids: Sequence[str],
        *,
        deadline: timedelta,
        asks: bool = True,
        clock: Clock | None = None,
        connect: Connect | None = None,
    ) -> None:
        if len(ids) > MAX_WATCHED:
            raise UsageError(f"a watch is for at most {MAX_WATCHED} coins or quotes")
        self._client = client
        self._topic = topic
        self._ids = dict.fromkeys(name.lower() if topic is Topic.COINS else name for name in ids)
        self._clock = clock or SystemClock()
        self._ends_at_s = self._clock.monotonic() + deadline.total_seconds()
        self._connect = connect or (open_websocket if client.is_direct else None)
        self._known: dict[str, Change] = {}
        self._untold: dict[str, Change] = {}
        self._heard: set[str] = set()
        self._is_listening = False
        self._news = asyncio.Event()
        self._asks = asks
        self._poll_at_s = self._clock.monotonic() if asks else self._ends_at_s
        self._failures = 0
        self._listener: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._connect is not None and self._ids:
            self._listener = asyncio.create_task(self._listen(self._connect))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait({self._listener})
            if not self._listener.cancelled() and (bug := self._listener.exception()) is not None:
                raise bug

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        while True:
            for name in self._untold:
                return self._untold.pop(name)
            now_s = self._clock.monotonic()
            if now_s >= self._ends_at_s or all(_is_final(self._known.get(name)) for name in self._ids):
                raise StopAsyncIteration
            if now_s >= self._poll_at_s:
                await self._poll()
                continue
            self._news.clear()
            wait_s = min(self._poll_at_s, self._ends_at_s) - now_s
            await self._clock.wait(self._news, timedelta(seconds=wait_s))

    async def _poll(self) -> None:
        self._heard.clear()
        left = timedelta(seconds=max(0.001, self._ends_at_s - self._clock.monotonic()))
        try:
            changes = await self._ask(min(left, LONGEST_POLL))
        except TransientError as error:
            self._failures += 1
            delay = error.retry_after or POLL * 2 ** min(self._failures, 8)
            self._poll_in(min(delay, LONGEST_POLL))
            return
        self._failures = 0
        for name, change in changes.items():
            # What was heard while the answer was under way is newer than the answer.
            if name not in self._heard:
                self._take(name, change)
        self._poll_in(POLL_WHILE_LISTENING if self._is_listening else POLL)

    async def _ask(self, deadline: timedelta) -> Mapping[str, Change]:
        pending = [name for name in self._ids if not _is_final(self._known.get(name))]
        match self._topic:
            case Topic.COINS:
                states = await self._client.check(pending, deadline=deadline)
                return {y: State(Y=y, state=state) for y, state in zip(pending, states, strict=True)}
            case Topic.MINT_QUOTES:
                return {name: await self._client.mint_quote(name, deadline=deadline) for name in pending}
            case Topic.MELT_QUOTES:
                return {name: await self._client.melt_quote(name, deadline=deadline) for name in pending}

    def _poll_in(self, delay: timedelta) -> None:
        self._poll_at_s = self._clock.monotonic() + delay.total_seconds()

    def _take(self, name: str, change: Change) -> None:
        before = self._known.get(name)
        if _is_final(before) or (before is not None and before.state is change.state):
            return
        self._known[name] = change
        self._untold.pop(name, None)
        self._untold[name] = change
        self._news.set()

    async def _listen(self, connect: Connect) -> None:
        """Keep a websocket open. Ends where there is none to be had; the watch goes on asking."""
        delay = FIRST_RECONNECT
        while True:
            began_s = self._clock.monotonic()
            try:
                if not (await self._client.info()).announces(self._topic):
                    return
                async with connect(_websocket_url(self._client.url)) as socket:
                    await self._follow(socket)
            except (SocketRefusedError, RejectedError, ConfigurationError):
                return
            except (OSError, EOFError, TransientError):
                logger.debug("the websocket to the mint is down; it is tried again")
            finally:
                self._is_listening = False
                # It may be long until the next poll that was planned with the socket in mind.
                if self._asks:
                    self._poll_at_s = min(self._poll_at_s, self._clock.monotonic() + POLL.total_seconds())
                self._news.set()
            if self._clock.monotonic() - began_s >= LONGEST_RECONNECT.total_seconds():
                delay = FIRST_RECONNECT
            await self._clock.sleep(delay)
            delay = min(2 * delay, LONGEST_RECONNECT)

    async def _follow(self, socket: Socket) -> None:
        subscription = hashlib.sha256("\n".join((self._topic, *self._ids)).encode()).hexdigest()[:32]
        params = {"kind": self._topic, "subId": subscription, "filters": list(self._ids)}
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": params}))
        while True:
            message = _message(await socket.receive())
            if message is None:
                logger.debug("a message of the mint was not understood and is passed over")
            elif message.error is not None and not self._is_listening:
                # Refused; or asked to slow down, in words that name no request of ours.
                if message.id in _REQUEST:
                    raise SocketRefusedError
                raise EOFError
            elif message.id in _REQUEST and message.result is not None:
                self._is_listening = True
            elif message.params is not None and message.params.subscription == subscription:
                self._is_listening = True
                self._hear(message.params.payload)

    def _hear(self, payload: JsonValue) -> None:
        try:
            change = _FORMS[self._topic].validate_json(json.dumps(payload))
        except ValidationError:
            logger.debug("a change that the mint tells of was not understood and is passed over")
            return
        name = change.Y if isinstance(change, State) else change.quote
        if name in self._ids:
            self._heard.add(name)
            self._take(name, change)


class _Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)

    subscription: Annotated[str, Field(alias="subId")]
    payload: JsonValue = None


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)

    id: int | str | None = None
    result: JsonValue = None
    error: JsonValue = None
    params: _Params | None = None


def _message(text: str) -> _Message | None:
    try:
        return _Message.model_validate_json(text.encode("utf-8", "replace"))
    except ValidationError:
        return None


def _is_final(change: Change | None) -> bool:
    return change is not None and change.state in _FINAL


def _websocket_url(mint_url: str) -> str:
    return f"ws{mint_url.removeprefix('http')}/v1/ws"


@contextlib.asynccontextmanager
async def open_websocket(url: str) -> AsyncIterator[Socket]:
    """Open a websocket with the package `websockets` (extra `cashu`): no proxy, no redirect, nothing in the log.

    Raises:
        SocketRefusedError: the package is not installed, or the server does not speak websocket at this address.
        OSError, EOFError: it may work later.
    """
    try:
        from wallet_actions.cashu.websocket import connect
    except ImportError:
        raise SocketRefusedError from None
    async with connect(url, max_bytes=MAX_MESSAGE_BYTES) as socket:
        yield socket
