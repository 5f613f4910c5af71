"""The databases that the workers share, and what can go wrong with them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol, Self

import anyio

from tests.chaos.plan import Fault
from wallet_actions.testing.postgres import PostgresServer
from wallet_actions.testing.tcp import Connection, Cut, Reset, Swallow, TcpFaultProxy, TcpRule

BUSY_TIMEOUT_S = 2


class Database(Protocol):
    """A database of the run's own, for as long as `async with` lasts.

    Attributes:
        counts: the faults that it has met with, by name.
    """

    counts: Counter[str]

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    def url(self, name: str, side: int | None = None) -> str:
        """The URL of a store in it.

        Args:
            name: of the store.
            side: of which worker; None for us, past all faults.
        """
        ...

    async def strike(self, fault: Fault) -> None:
        """Go wrong in that way, for as long as the fault says."""
        ...


class SQLiteFiles:
    """Files that all workers open; a fault is somebody who does not let the others write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.counts: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    def url(self, name: str, side: int | None = None) -> str:
        """See `Database`."""
        return f"sqlite:///{self._path(name)}?shared=true&busy_timeout={BUSY_TIMEOUT_S}"

    async def strike(self, fault: Fault) -> None:
        """See `Database`."""
        assert fault.name == "lock"
        if self._path("bank").exists():
            self.counts[fault.name] += 1
            connection = await asyncio.to_thread(self._lock)
            try:
                await anyio.sleep(fault.seconds)
            finally:
                connection.close()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.db"

    def _lock(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path("bank"), timeout=60, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        return connection


class PostgresBehindProxies:
    """A server that is killed and restarted, and a way to it for each worker that is cut, or ends nowhere."""

    def __init__(self, workers: int) -> None:
        self._server = PostgresServer(is_own=True)
        self._workers = workers
        self._proxies: list[TcpFaultProxy] = []
        self._stack = AsyncExitStack()
        self._repair = asyncio.Lock()
        self.counts: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._server)
            for _ in range(self._workers):
                self._proxies.append(await stack.enter_async_context(TcpFaultProxy("127.0.0.1", self._server.port)))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.__aexit__(None, None, None)

    def url(self, name: str, side: int | None = None) -> str:
        """See `Database`."""
        url = self._server.url
        if side is not None:
            url = url.replace(f":{self._server.port}/", f":{self._proxies[side].port}/")
        return f"{url}?schema={name}&busy_timeout={BUSY_TIMEOUT_S}"

    async def strike(self, fault: Fault) -> None:
        """See `Database`."""
        self.counts[fault.name] += 1
        if fault.name == "crash":
            async with self._repair:
                await asyncio.to_thread(self._server.kill)
                try:
                    await anyio.sleep(fault.seconds)
                finally:
                    with anyio.CancelScope(shield=True):
                        await asyncio.to_thread(self._server.start)
            return
        proxy = self._proxies[fault.side]
        for connection in proxy.connections:
            if not connection.is_over:
                _befall(connection, fault)
        if fault.name == "half_open":
            # For a while also those that are made anew lead nowhere.
            proxy.use(TcpRule(Swallow(), once=False))
            try:
                await anyio.sleep(fault.seconds)
            finally:
                proxy.use()


def _befall(connection: Connection, fault: Fault) -> None:
    after = connection.passed(fault.sender) + fault.after
    if fault.name == "half_open":
        connection.fault = Swallow(after, fault.sender)
    else:
        connection.fault = Cut(after, fault.sender) if fault.sender == "peer" else Reset(after, fault.sender)
