"""The websocket of a `Watch`, over the package `websockets`; imported only where that is installed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as _open
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException

from wallet_actions.cashu.notify import Socket, SocketRefusedError

_LATER = frozenset({408, 425, 429})
_OPEN_S, _PING_S, _CLOSE_S = 20, 20, 2

_silent = logging.Logger("wallet_actions.cashu.websocket.frames", level=logging.CRITICAL + 1)
"""Frames hold the ids of quotes, which are as good as money: the package would log them."""


class _Direct(_open):
    """Follows no redirect: where the mint moved to is for a person to decide."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Connection:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        try:
            await self._connection.send(text)
        except ConnectionClosed as error:
            raise EOFError from error

    async def receive(self) -> str:
        try:
            message = await self._connection.recv()
        except ConnectionClosed as error:
            raise EOFError from error
        return message if isinstance(message, str) else ""


@contextlib.asynccontextmanager
async def connect(url: str, *, max_bytes: int) -> AsyncIterator[Socket]:
    """Open a websocket; see `open_websocket`.

    Args:
        max_bytes: how long a message may be; a longer one ends the connection.
    """
    opening = _Direct(
        url,
        open_timeout=_OPEN_S,
        ping_interval=_PING_S,
        ping_timeout=_PING_S,
        close_timeout=_CLOSE_S,
        max_size=max_bytes,
        compression=None,
        proxy=None,
        logger=_silent,
    )
    try:
        connection = await opening
    except InvalidURI as error:
        raise SocketRefusedError from error
    except InvalidStatus as error:
        if error.response.status_code >= 500 or error.response.status_code in _LATER:
            raise EOFError from error
        raise SocketRefusedError from error
    except (WebSocketException, TimeoutError) as error:
        raise EOFError from error
    try:
        yield _Connection(connection)
    finally:
        await connection.close()
