"""A worker in a process of its own: `python -m tests.integration.fleet_worker FILE NOTES NAME quick|slow`.

It tells on stdout what it does. A slow one waits in its step until a line comes on stdin.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self, assert_never

from wallet_actions.action import Action, Phase
from wallet_actions.engine import Engine
from wallet_actions.events import Event, EventKind
from wallet_actions.store import open_store
from wallet_actions.testing.recorder import recorded
from wallet_actions.transition import Changes, Done, Next, Transition

LEASE = timedelta(seconds=1)


@dataclass(frozen=True)
class Peer:
    """Keeps its own books: a file for each key that had an effect, made once."""

    books: Path
    is_slow: bool

    async def pay(self, key: str) -> None:
        tell(f"begun {key}")
        if self.is_slow:
            await asyncio.to_thread(sys.stdin.readline)
        with (self.books / key).open("a") as effects:
            effects.write("asked\n")


class Ready(Phase):
    pass


class Paid(Phase):
    pass


class Pay(Action[Peer, Ready | Paid], kind="pay"):
    """Pays once, by its key, with one coin."""

    name: str

    @property
    def id(self) -> str:
        return self.name

    async def advance(self, wallet: Peer) -> Transition[Self]:
        match self.phase:
            case Ready():
                await wallet.pay(self.name)
                return Next(self.at(Paid()), Changes(notes=["paid"]))
            case Paid():
                return Done(changes=Changes(spend=[f"coin-{self.name}"]))
            case _:
                assert_never(self.phase)


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def hear(event: Event) -> None:
    if event.kind in (EventKind.DONE, EventKind.SUPERSEDED):
        tell(f"{event.kind.value} {event.key.id}")


async def main(file: str, notes: str, name: str, mode: str) -> None:
    books = Path(notes).parent / "books"
    handle = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    store = recorded(open_store(f"sqlite:///{file}?shared=true"), name, lambda line: _write(handle, line))
    async with store:
        peer = Peer(books, mode == "slow")
        tell("ready")  # before it drives: what it says then comes later
        async with Engine(store, peer, [Pay], lease=LEASE, observers=[hear], drain=timedelta(0)):
            await asyncio.Event().wait()


def _write(handle: int, line: str) -> None:
    os.write(handle, f"{line}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
