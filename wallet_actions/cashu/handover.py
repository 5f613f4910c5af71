"""How a token is asked for, waited for, and asked back while it is out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

from wallet_actions.cashu.send import Send
from wallet_actions.cashu.sending import TokenCreated
from wallet_actions.cashu.starting import start_with_coins
from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.engine import Engine
from wallet_actions.errors import (
    ActionFailedError,
    NotFinishedError,
    RejectedError,
    UnknownActionError,
    UsageError,
)
from wallet_actions.events import Event

LONGEST_LOOK = timedelta(seconds=1)
"""How long it may take to see what another process has done."""


async def begin(engine: Engine, wallet: CashuWallet, mint_url: str, amount: int, unit: str, **options: Any) -> Send:
    """Start a `Send`, with other coins where somebody else took the first choice.

    Raises:
        As `Cashu.send`.
    """

    async def start(send: Send) -> None:
        await engine.start(send, send.opening)

    async def choose_again(send: Send) -> Send:
        return await send.with_other_coins(wallet)

    send = await Send.of(wallet, mint_url, amount, unit, **options)
    return await start_with_coins(wallet, mint_url, send, start=start, choose_again=choose_again)


async def token(engine: Engine, id: str) -> str:
    """Wait until the token exists. It is told also while the action is held up, but not once it is being taken back.

    Raises:
        As `Cashu.token`.
    """
    async with aclosing(_rows(engine, id)) as rows:
        async for row in rows:
            was_recovered = engine.runner.is_recovered
            send = _decoded(engine, row)
            if row.status in (Status.FAILED, Status.CANCELLED):
                raise ActionFailedError(Send.kind, id, row.status, row.error)
            text = None if send is None else _handed_out(send, row)
            if text is not None:
                return text
            if row.status is Status.DONE:
                raise UsageError("the token was claimed long ago, and its details were pruned")
            if row.status not in (Status.RUNNING, Status.PARKED):
                if was_recovered:
                    raise NotFinishedError(Send.kind, id, row.status, row.error)
                await engine.runner.recovered()
    raise AssertionError  # it ends by return or by an error


async def revoke(engine: Engine, wallet: CashuWallet, id: str) -> bool:
    """Ask for a token back, and wait until that is answered.

    Raises:
        As `Cashu.revoke`.
    """
    if not await engine.cancel(Send, id):
        await _load(engine, id)
        return False
    async with aclosing(_rows(engine, id)) as rows:
        async for row in rows:
            send = _decoded(engine, row)
            if row.cancel is CancelState.ACCEPTED and not (send is not None and isinstance(send.phase, TokenCreated)):
                return True
            if row.status.is_terminal or send is None:
                return False
            if row.cancel is not CancelState.REQUESTED:
                if (obstacle := await send.obstacle(wallet)) is not None:
                    raise RejectedError(obstacle)
                return False
            if row.status not in (Status.RUNNING, Status.PARKED):
                raise NotFinishedError(Send.kind, id, row.status, row.error)
    raise AssertionError  # it ends by return or by an error


async def _rows(engine: Engine, id: str) -> AsyncGenerator[Checkpoint, None]:
    """The action's row, now and whenever it may have changed."""
    changed = asyncio.Event()

    def look(event: Event) -> None:
        if event.key == (Send.kind, id):
            changed.set()

    forget = engine.executor.observe(look)
    try:
        while True:
            changed.clear()
            yield await _load(engine, id)
            await engine.executor.clock.wait(changed, LONGEST_LOOK)
    finally:
        forget()


async def _load(engine: Engine, id: str) -> Checkpoint:
    checkpoint = await engine.store.load(ActionKey(Send.kind, id))
    if checkpoint is None:
        raise UnknownActionError(Send.kind, id)
    return checkpoint


def _decoded(engine: Engine, checkpoint: Checkpoint) -> Send | None:
    if checkpoint.state is None:
        return None
    action = engine.executor.registry.decode(checkpoint)
    return action if isinstance(action, Send) else None


def _handed_out(send: Send, row: Checkpoint) -> str | None:
    return send.token if row.status is Status.DONE or isinstance(send.phase, TokenCreated) else None
