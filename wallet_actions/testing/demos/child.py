"""The side of the process that gets killed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from wallet_actions.errors import WalletActionError
from wallet_actions.events import Event, EventKind
from wallet_actions.testing.boundaries import Boundary, Moment, kill_at

OrderT = TypeVar("OrderT", bound=BaseModel)


class KillPoint(BaseModel):
    """Where a process shall die.

    Attributes:
        write: which write to the store, from 1, …
        since: … counted since the process began, or since its operation did.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    write: int
    moment: Moment
    since: Literal["process", "operation"] = "operation"


class Deaths:
    """A hook for `watched`: dies where it shall, and tells of each write of the operation."""

    def __init__(self, kill: KillPoint | None) -> None:
        self._kill = kill
        self._before = 0
        self._has_begun = False

    def __call__(self, boundary: Boundary) -> None:
        """Die here, or tell of it."""
        if not self._has_begun:
            self._before = boundary.number
        if self._kill is not None and (self._has_begun or self._kill.since == "process"):
            offset = self._before if self._kill.since == "operation" else 0
            kill_at(self._kill.write + offset, self._kill.moment)(boundary)
        if self._has_begun:
            say("write", write=boundary.number - self._before, moment=boundary.moment, phase=boundary.phase)

    async def begin(self, **details: object) -> None:
        """Say that it has recovered, and wait to be told that the operation may begin."""
        say("recovered", **details)
        await asyncio.to_thread(sys.stdin.readline)
        self._has_begun = True


def say(what: str, **details: object) -> None:
    """Write one line, at once."""
    sys.stdout.write(json.dumps({"what": what, **details}) + "\n")
    sys.stdout.flush()


def tell(event: Event) -> None:
    """An observer that says what happens to the actions, but not that they were started."""
    if event.kind is not EventKind.STARTED:
        say("event", event=event.kind.value, kind=event.key.kind, phase=event.phase)


def main(order: type[OrderT], run: Callable[[OrderT], Awaitable[None]]) -> None:
    """Read the order and run it; exit status 1 with one line where it fails."""
    told = order.model_validate_json(sys.stdin.readline())

    async def obey() -> None:
        await run(told)

    try:
        asyncio.run(obey())
    except WalletActionError as error:
        say("error", message=str(error))
        sys.exit(1)
