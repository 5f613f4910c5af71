"""Hear from the mints of claims and payments, and drive the actions that wait for them at once (NUT-17).

Every such action asks its mint by itself, ever more rarely; that alone is enough. Where a mint has a websocket for it,
a watcher listens beside that: one connection for all coins of a mint, one for all its quotes. It proves nothing and
writes nothing: it wakes the action, which looks for itself. So whatever breaks here costs time and nothing else.

Of payments under way (`Melt`) it is only listened, and nothing asked: some mints move a payment on when they are asked
for it, which the action does every minute at least, and two that ask at the same time have them sign the change twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Self

import anyio
from anyio.abc import TaskGroup

from wallet_actions.action import Action
from wallet_actions.cashu import issue_batch_phases as batch
from wallet_actions.cashu.answers import SpendState, State
from wallet_actions.cashu.issue import Issue, Unpaid
from wallet_actions.cashu.issue_batch import IssueBatch
from wallet_actions.cashu.melt import Melt
from wallet_actions.cashu.melt_phases import PaymentPending
from wallet_actions.cashu.notify import MAX_WATCHED, Change, Connect, Topic, Watch
from wallet_actions.cashu.quotes import MeltQuote, MeltQuoteState, MintQuoteState
from wallet_actions.cashu.send import Send
from wallet_actions.cashu.sending import TokenCreated
from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.engine import Engine
from wallet_actions.errors import CheckpointDecodeError
from wallet_actions.events import Event, EventKind
from wallet_actions.retry import RetryPolicy

logger = logging.getLogger(__name__)

WATCHED_FOR: Final = timedelta(hours=1)
"""How long after its start an action is watched; what is still open then is not urgent."""

MOST_FEEDS: Final = 16
SETTLE: Final = timedelta(milliseconds=200)
"""Actions that begin within that time cost one new connection, not one each."""

PAUSE: Final = timedelta(seconds=30)
"""How long actions have to end once all is told; then they are watched anew."""

LOOKS: Final = tuple(timedelta(seconds=seconds) for seconds in (0.1, 1, 5, 30))
"""How long after the news, and then after one another, an action looks: mints tell of a claim before they note it."""

_AGAIN: Final = RetryPolicy()
_WAITING: Final = {
    Send.kind: TokenCreated.tag,
    Issue.kind: Unpaid.tag,
    IssueBatch.kind: batch.Unpaid.tag,
    Melt.kind: PaymentPending.tag,
}
_PAID: Final = frozenset({MintQuoteState.PAID, MintQuoteState.ISSUED})
_PARKED: Final = frozenset({EventKind.PARKED, EventKind.RETRIED})


class Feed(NamedTuple):
    """What one connection is for: the coins of a mint, or its quotes."""

    mint: str
    topic: Topic


@dataclass(slots=True)
class _Subject:
    """An action that waits.

    Attributes:
        ids: what it waits for: all of them; sensitive, where they are of quotes.
        until: when it is no longer watched.
    """

    feed: Feed
    until: datetime
    ids: tuple[str, ...] = field(repr=False)


class Watcher:
    """Watches what the actions of an engine wait for, for as long as its `async with` lasts.

    At most `MOST_FEEDS` connections are open, and each is for the newest actions, with `MAX_WATCHED` coins or quotes in
    all. Mints without a websocket are left alone, and so are those that are reached through a transport of the app's.

    Args:
        engine: running, with `wallet`.
        connect: opens the websockets; see `Watch`.
    """

    def __init__(self, engine: Engine, wallet: CashuWallet, *, connect: Connect | None = None) -> None:
        self._engine = engine
        self._wallet = wallet
        self._connect = connect
        self._clock = engine.executor.clock
        self._subjects: dict[ActionKey, _Subject | None] = {}  # None: not to be watched
        self._new: dict[ActionKey, None] = {}
        self._news = asyncio.Event()
        self._feeds: dict[Feed, asyncio.Event] = {}  # that are followed; set when others are to be watched
        self._silent: set[Feed] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._forget = self._engine.executor.observe(self._look)
        self._task = asyncio.create_task(self._run(), name="wallet_actions.cashu.watcher")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._forget()
        if self._task is not None:
            self._task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({self._task})

    @property
    def feeds(self) -> int:
        """How many connections are open, or being opened."""
        return len(self._feeds)

    def _look(self, event: Event) -> None:
        if event.key.kind not in _WAITING:
            return
        if event.kind in _PARKED and event.phase == _WAITING[event.key.kind]:
            if event.key not in self._subjects:
                self._new[event.key] = None
                self._news.set()
        elif event.status is not Status.RUNNING or event.phase != _WAITING[event.key.kind]:
            self._drop(event.key)

    def _drop(self, key: ActionKey) -> None:
        self._new.pop(key, None)
        subject = self._subjects.pop(key, None)
        if subject is not None and subject.feed in self._feeds and not self._ids(subject.feed):
            self._feeds[subject.feed].set()

    # In the background

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._find()
                async with anyio.create_task_group() as tasks:
                    while True:
                        await self._news.wait()
                        self._news.clear()
                        await self._take_in()
                        self._open_feeds(tasks)
                        failures = 0
            except Exception as error:  # noqa: BLE001 the actions ask for themselves; it is begun again
                failures += 1
                logger.warning("the watcher failed; it begins again", extra={"error_type": type(error).__name__})
            await self._clock.sleep(_AGAIN.delay(failures))

    async def _find(self) -> None:
        """What was parked before this start."""
        row = 0
        while page := await self._engine.store.list_actions(statuses=[Status.PARKED], kinds=list(_WAITING), after=row):
            row = page[-1].row
            for checkpoint in page:
                self._add(checkpoint)
        self._news.set()

    async def _take_in(self) -> None:
        while self._new:
            key = next(iter(self._new))
            checkpoint = await self._engine.store.load(key)
            is_waiting = key in self._new  # it may have gone on meanwhile
            self._new.pop(key, None)
            if is_waiting and checkpoint is not None:
                self._add(checkpoint)

    def _open_feeds(self, tasks: TaskGroup) -> None:
        now = self._clock.now()
        for key, subject in self._subjects.items():
            if subject is None or subject.feed in self._silent or subject.feed in self._feeds:
                continue
            if subject.until <= now:
                self._subjects[key] = None
            elif len(self._feeds) < MOST_FEEDS:
                self._feeds[subject.feed] = asyncio.Event()
                tasks.start_soon(self._follow, subject.feed, tasks)

    def _add(self, checkpoint: Checkpoint) -> None:
        key, until = checkpoint.key, checkpoint.created_at + WATCHED_FOR
        if key in self._subjects or checkpoint.status.is_terminal:
            return
        self._subjects[key] = None
        if until <= self._clock.now():
            return
        try:
            waits_for = _waits_for(self._engine.executor.registry.decode(checkpoint))
        except CheckpointDecodeError:
            return  # whoever drives it sets it apart
        if waits_for is not None:
            feed, ids = waits_for
            self._subjects[key] = _Subject(feed, until, ids)
            if feed in self._feeds:
                self._feeds[feed].set()

    def _ids(self, feed: Feed) -> dict[str, ActionKey]:
        """What is to be watched, of the newest actions."""
        now, found = self._clock.now(), dict[str, ActionKey]()
        for key, subject in reversed(self._subjects.items()):
            if subject is None or subject.feed != feed or subject.until <= now:
                continue
            if len(found) + len(subject.ids) > MAX_WATCHED:
                break
            found |= dict.fromkeys(subject.ids, key)
        return found

    async def _follow(self, feed: Feed, tasks: TaskGroup) -> None:
        failures = 0
        changed = self._feeds[feed]
        try:
            while ids := self._ids(feed):
                changed.clear()
                try:
                    if not await self._has_socket(feed):
                        self._silent.add(feed)
                        return
                    await self._watch(feed, ids, changed, tasks)
                    failures = 0
                except Exception as error:  # noqa: BLE001 a mint's fault is no reason not to watch the others
                    failures += 1
                    logger.debug("a mint cannot be watched", extra={"error_type": type(error).__name__})
                    await self._clock.sleep(_AGAIN.delay(failures))
        finally:
            self._feeds.pop(feed, None)
            self._news.set()  # another one may have waited for the place

    async def _has_socket(self, feed: Feed) -> bool:
        client = self._wallet.mint(feed.mint).client
        is_reachable = self._connect is not None or client.is_direct
        return is_reachable and (await client.info()).announces(feed.topic)

    async def _watch(self, feed: Feed, ids: Mapping[str, ActionKey], changed: asyncio.Event, tasks: TaskGroup) -> None:
        """Until others are to be watched."""
        missing: dict[ActionKey, set[str]] = {}
        for name, key in ids.items():
            missing.setdefault(key, set()).add(name)
        watch = Watch(
            self._wallet.mint(feed.mint).client,
            feed.topic,
            list(ids),
            deadline=WATCHED_FOR,
            clock=self._clock,
            connect=self._connect,
            asks=feed.topic is not Topic.MELT_QUOTES,
        )
        async with _closed_at_any_rate(watch), anyio.create_task_group() as own:
            own.start_soon(self._wait_for_others, changed, own)
            async for change in watch:
                name = change.Y if isinstance(change, State) else change.quote
                if not _is_news(change) or name not in ids:
                    continue
                key = ids[name]
                missing[key].discard(name)
                if not missing[key]:
                    tasks.start_soon(self._wake, key)
            await self._clock.wait(changed, PAUSE)
            own.cancel_scope.cancel()

    async def _wait_for_others(self, changed: asyncio.Event, own: TaskGroup) -> None:
        await changed.wait()
        await self._clock.sleep(SETTLE)
        own.cancel_scope.cancel()

    async def _wake(self, key: ActionKey) -> None:
        for delay in LOOKS:
            await self._clock.sleep(delay)
            if key not in self._subjects:
                return
            self._engine.runner.notify(key)


def _waits_for(action: Action[Any, Any, Any]) -> tuple[Feed, tuple[str, ...]] | None:
    match action:
        case Send(mint=mint, phase=TokenCreated(coins=coins)):
            return Feed(mint, Topic.COINS), coins
        case Issue(mint=mint, quote=quote, phase=Unpaid()):
            return Feed(mint, Topic.MINT_QUOTES), (quote.get_secret_value(),)
        case IssueBatch(mint=mint, offers=offers, phase=batch.Unpaid(waiting=waiting)):
            return Feed(mint, Topic.MINT_QUOTES), tuple(offers[place].quote.get_secret_value() for place in waiting)
        case Melt(mint=mint, quote=quote, phase=PaymentPending()):
            return Feed(mint, Topic.MELT_QUOTES), (quote.get_secret_value(),)
        case _:
            return None


def _is_news(change: Change) -> bool:
    if isinstance(change, MeltQuote):
        return change.state is not MeltQuoteState.PENDING
    return change.state is SpendState.SPENT or change.state in _PAID


@asynccontextmanager
async def _closed_at_any_rate(watch: Watch) -> AsyncIterator[None]:
    """Enter a watch, and leave it also where everything around it is being cancelled."""
    await watch.__aenter__()
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await watch.__aexit__()
