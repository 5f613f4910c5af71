"""Runs points one after the other, at a mint of its own, so that the mint's books are about one wallet at a time."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import anyio

from tests.crash_matrix.judge import Row
from tests.crash_matrix.lives import Zygote
from tests.crash_matrix.payee import Payee
from tests.crash_matrix.points import Point
from tests.crash_matrix.trial import WALLET, Result, Trial
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions.testing.proxy import FaultProxy


class Lane:
    """A mint, a proxy in front of it, and a process that forks wallets, for as long as `async with` lasts.

    Args:
        plant: see `wallet.Order`.
    """

    def __init__(self, config: MintConfig, *, plant: str = "") -> None:
        self._config = config
        self.plant = plant
        self._stack = AsyncExitStack()
        self._number = 0

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._folder = Path(stack.enter_context(TemporaryDirectory(prefix="crash-matrix-")))
            self.mint = await stack.enter_async_context(NutshellMint(self._config))
            self.proxy = await stack.enter_async_context(FaultProxy(self.mint.url))
            self.zygote = await stack.enter_async_context(Zygote(WALLET))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.__aexit__(None, None, None)

    async def run(self, point: Point, calm: Row | None = None) -> Result:
        """Let a wallet meet with a point, recover, and be judged.

        Args:
            calm: the row that the operation leaves in the history when nothing goes wrong; None where it is not known.
        Raises:
            LifeError, MintError: the point could not be run.
        """
        self._number += 1
        path = self._folder / f"{self._number}.db"
        begun = anyio.current_time()
        async with Payee(self.mint.url) as payee:
            result = await Trial(self, point, path, payee).run(calm)
        result.seconds = anyio.current_time() - begun
        for file in self._folder.glob(f"{self._number}.db*"):
            file.unlink()
        return result
