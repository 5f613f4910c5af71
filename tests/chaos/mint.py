"""The operations at a real mint that the workers share: what `tests.soak` asks of two processes, asked of the fleet."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import anyio
from anyio.abc import TaskGroup

from tests.crash_matrix.judge import Finding
from tests.crash_matrix.lives import Life, Line, Zygote
from tests.crash_matrix.payee import Payee
from tests.soak.course import Soak, _Side
from wallet_actions.testing.nutshell import NutshellMint

AT_ONCE = 2  # operations of each worker


@dataclass(slots=True)
class _Teller:
    """What a side is told by, in place of the process that forks its lives."""

    send: Callable[[Line], Awaitable[None]]

    async def tell(self, line: Line) -> None:
        await self.send({"do": "mint", "task": line})


class MintCourse(Soak):
    """A soak whose processes are somebody else's.

    Args:
        seconds: over which the operations are spread.
        tells: how each worker is told something.
    """

    def __init__(
        self,
        *,
        seed: int,
        count: int,
        mint: NutshellMint,
        payee: Payee,
        store: str,
        seconds: float,
        tells: list[Callable[[Line], Awaitable[None]]],
        tasks: TaskGroup,
    ) -> None:
        super().__init__(seed=seed, count=count, kills=0)
        self._mint, self._payee = mint, payee
        self._order = {"store": store, "mint": mint.url, "seed": secrets.token_hex(32)}
        self._sides = [_Side(cast(Zygote, _Teller(tell))) for tell in tells]
        self._seconds = seconds
        self._begun_s = asyncio.get_running_loop().time()
        self._tasks = tasks

    @property
    def order(self) -> dict[str, Any]:
        """The mint's address and the wallet's seed, for the workers."""
        return {name: self._order[name] for name in ("mint", "seed")}

    @property
    def has_begun_all(self) -> bool:
        """Whether as many operations have begun as were wanted."""
        return self._begun >= self._count

    @property
    def findings(self) -> list[Finding]:
        """What is not as it should be."""
        return self.report.findings

    async def weather(self) -> None:
        """How the mint's payments go changes all the time."""
        await self._mint.give_payments_one_fate()
        await self._weather()

    async def opened(self, side: int, life: Life) -> None:
        """A worker is there, and can be asked."""
        one = self._sides[side]
        one.life = life
        for _ in range(AT_ONCE):
            await self._ask(one)

    async def heed(self, side: int, line: Line) -> None:
        """A worker says something of its operations."""
        await self._heed(self._sides[side], line)

    def gone(self, side: int) -> None:
        """A worker has died."""
        self._take_back(self._sides[side])

    async def finish(self, zygote: Zygote) -> None:
        """Have all end, and hold the wallet against the mint's books. The workers are gone by then."""
        await self._finish(zygote)

    async def _ask(self, side: _Side) -> None:
        self._tasks.start_soon(self._ask_in_time, side, side.life)

    async def _ask_in_time(self, side: _Side, life: Life) -> None:
        # As many as should have begun by now, however many were refused or died with a worker.
        while True:
            early_s = self._early_s()
            if early_s <= 0:
                break
            await anyio.sleep(early_s)
        if self.has_begun_all:
            return
        with anyio.CancelScope(shield=True):  # or a token that was drawn would be lost
            task = await self._draw()
        if side.life is not life or life.is_over:
            self._return(task)
            return
        self._number += 1
        side.asked[self._number] = task
        await side.zygote.tell({"number": self._number, **task})

    def _early_s(self) -> float:
        now_s = asyncio.get_running_loop().time() - self._begun_s
        return self._seconds * self._begun / max(1, self._count) - now_s
