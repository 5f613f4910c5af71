"""How a restore is begun, or gone on with, and followed while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import cast

from wallet_actions.cashu.restore import Restore, RestoreProgress, restore_id
from wallet_actions.cashu.wallet import CashuWallet
from wallet_actions.checkpoint import Checkpoint, Status
from wallet_actions.coins import ActionKey
from wallet_actions.engine import Engine
from wallet_actions.errors import UnknownActionError
from wallet_actions.events import Event

LONGEST_LOOK = timedelta(seconds=1)
"""How long it may take to see what another process has done."""


async def begin(engine: Engine, wallet: CashuWallet, mint_url: str) -> Restore:
    """Start a restore of a mint, or find the one that has not ended; it is driven at once, however it was parked.

    Two that are begun at the same time, in whatever process, are the same one: their number counts those that ended.

    Raises:
        As `Restore.of`, which is asked only where there is none under way.
    """
    url = wallet.mint(mint_url).url
    run = 0
    while (checkpoint := await engine.store.load(_key(url, run))) is not None and checkpoint.status.is_terminal:
        run += 1
    if checkpoint is None:
        restore = await Restore.of(wallet, url, run=run)
        if (await engine.start(restore, restore.opening)).is_new:
            return restore
        checkpoint = await _load(engine, restore.id)
    engine.notify(Restore, checkpoint.id)
    return _decoded(engine, checkpoint)


async def follow(engine: Engine, id: str) -> AsyncIterator[RestoreProgress]:
    """Tell how far a restore is, now and whenever it has come further, whoever drives it, until it ends or is stuck.

    Raises:
        UnknownActionError: there is no such restore.
    """
    changed = asyncio.Event()

    def look(event: Event) -> None:
        if event.key == (Restore.kind, id):
            changed.set()

    forget = engine.executor.observe(look)
    told: RestoreProgress | None = None
    try:
        while True:
            changed.clear()
            checkpoint = await _load(engine, id)
            progress = _progress(engine, checkpoint)
            if progress is not None and progress != told:
                yield progress
                told = progress
            if checkpoint.status not in (Status.RUNNING, Status.PARKED):
                return
            await engine.executor.clock.wait(changed, LONGEST_LOOK)
    finally:
        forget()


def _key(url: str, run: int) -> ActionKey:
    return ActionKey(Restore.kind, restore_id(url, run))


async def _load(engine: Engine, id: str) -> Checkpoint:
    checkpoint = await engine.store.load(ActionKey(Restore.kind, id))
    if checkpoint is None:
        raise UnknownActionError(Restore.kind, id)
    return checkpoint


def _decoded(engine: Engine, checkpoint: Checkpoint) -> Restore:
    return cast("Restore", engine.executor.registry.decode(checkpoint))


def _progress(engine: Engine, checkpoint: Checkpoint) -> RestoreProgress | None:
    """None once the details have been pruned."""
    return None if checkpoint.state is None else _decoded(engine, checkpoint).progress
