"""Telling other processes that something is due at once, and hearing of it.

A notification only makes somebody poll sooner, so it is sent after the commit, never more than one at a time, and not
flushed. It is never part of a batch: a transaction that notifies holds a lock of the whole server until it is flushed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from wallet_actions.errors import WalletActionError
from wallet_actions_storage.postgres.readers import Readers
from wallet_actions_storage.postgres.session import connect_to
from wallet_actions_storage.postgres.settings import Settings

_LOG = logging.getLogger(__name__)
_HEARTBEAT_S = 15.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0


class Messenger:
    """Sends and hears notifications for a store that is open."""

    def __init__(self, settings: Settings, readers: Readers) -> None:
        self._settings = settings
        self._readers = readers
        self._name = secrets.token_hex(8)
        self._channel = f"wa_{settings.schema}"
        self._own_channel = f"wa_{self._name}"
        self._is_warned = False
        self._callbacks: list[Callable[[], None]] = []
        self._hearing: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._is_wanted = False
        self._is_closed = False

    def tell(self) -> None:
        """Tell the others, some time soon."""
        if not self._settings.listen_dsn or self._is_closed:
            return
        self._is_wanted = True
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send(), name="notifying of a PostgreSQL store")

    @asynccontextmanager
    async def listen(self, on_wake: Callable[[], None]) -> AsyncIterator[None]:
        """Hear the others, for a block. Where the connection is lost, `on_wake` is called once there is another."""
        if not self._settings.listen_dsn:
            yield
            return
        self._callbacks.append(on_wake)
        try:
            if self._hearing is None:
                is_ready = asyncio.Event()
                self._hearing = asyncio.create_task(self._hear(is_ready), name="listening of a PostgreSQL store")
                with suppress(TimeoutError):
                    await asyncio.wait_for(is_ready.wait(), self._settings.patience_s)
            yield
        finally:
            self._callbacks.remove(on_wake)
            if not self._callbacks:
                await self._stop_hearing()

    async def close(self) -> None:
        """Send what is to be sent, and stop."""
        self._is_closed = True
        if self._sending is not None:
            await asyncio.wait([self._sending])
        await self._stop_hearing()

    async def _send(self) -> None:
        while self._is_wanted:
            self._is_wanted = False
            await self._notify(self._channel)

    async def _notify(self, channel: str) -> bool:
        """Send, and tell whether it was sent: polls find what nobody tells."""
        with suppress(WalletActionError):
            await self._readers.execute(
                f"BEGIN; SET LOCAL synchronous_commit = off; SELECT pg_notify('{channel}', '{self._name}'); COMMIT"
            )
            return True
        return False

    async def _stop_hearing(self) -> None:
        task, self._hearing = self._hearing, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _hear(self, is_ready: asyncio.Event) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await self._hear_once(is_ready)
                pause_s = _FIRST_PAUSE_S
            except Exception as error:  # noqa: BLE001 whatever the driver raises, it listens again
                _LOG.info("the listening connection was lost", extra={"reason": type(error).__name__})
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _hear_once(self, is_ready: asyncio.Event) -> None:
        """Listen until the connection is lost."""
        is_lost, is_heard = asyncio.Event(), asyncio.Event()
        connection = await connect_to(self._settings.listen_dsn, self._settings, self._settings.patience_s)
        try:
            connection.add_termination_listener(lambda _: is_lost.set())
            await connection.add_listener(self._own_channel, lambda *_: is_heard.set())
            await connection.add_listener(self._channel, self._on_notification)
            if is_ready.is_set():
                self._wake()  # what was told meanwhile was lost
            is_ready.set()
            is_sent = await self._notify(self._own_channel)
            while not is_lost.is_set():
                try:
                    await asyncio.wait_for(is_lost.wait(), _HEARTBEAT_S)
                except TimeoutError:
                    if is_sent and not is_heard.is_set():
                        self._warn()
                    # A connection that is only half there does not tell so by itself.
                    await connection.fetchval("SELECT 1", timeout=self._settings.patience_s)
        finally:
            connection.terminate()

    def _on_notification(self, *arguments: Any) -> None:
        if arguments[-1] != self._name:
            self._wake()

    def _warn(self) -> None:
        if not self._is_warned:
            self._is_warned = True
            _LOG.warning(
                "notifications do not arrive, so that what others make due is found by polls alone:"
                " behind a pooler, set listen to the URL of the server itself, or to false"
            )

    def _wake(self) -> None:
        for on_wake in tuple(self._callbacks):
            on_wake()
