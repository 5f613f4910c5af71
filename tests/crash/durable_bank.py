"""A bank in a file, and worlds around it that other processes can make."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from wallet_actions import Action, Changes, Coin, Done, Next, Park, Phase, Transition
from wallet_actions.store import Store
from wallet_actions.testing.durable import DurableWorld
from wallet_actions.testing.life import Life
from wallet_actions.testing.oracles import Sums

SECRET = "bearer"


class Bank:
    """Pays a quote the second time that it is asked, and collects it once, however often it is asked."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def _read(self) -> dict[str, int]:
        books: dict[str, int] = json.loads(self._file.read_text()) if self._file.exists() else {}
        return books

    def _count(self, what: str) -> int:
        books = self._read()
        books[what] = books.get(what, 0) + 1
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(books))
        partial.rename(self._file)
        return books[what]

    def collected(self, quote: str) -> int:
        return self._read().get(f"collected {quote}", 0)

    async def paid_at(self, quote: str) -> datetime | None:
        return datetime(2030, 1, 1, tzinfo=UTC) if self._count(f"asked {quote}") > 1 else None

    async def collect(self, quote: str) -> list[Coin]:
        if not self.collected(quote):
            self._count(f"collected {quote}")
        return [Coin(id=f"{quote}/1", account="bank", unit="sat", amount=100, payload=SECRET)]

    async def collect_anew(self, quote: str) -> list[Coin]:
        """What a bank without keys does: each time it is asked, another coin."""
        times = self._count(f"collected {quote}")
        return [Coin(id=f"{quote}/{times}", account="bank", unit="sat", amount=100, payload=SECRET)]


class Wallet:
    def __init__(self, bank: Bank) -> None:
        self.bank = bank


class Unpaid(Phase): ...


class Paid(Phase):
    paid_at: datetime


class Receipt(BaseModel):
    amount: int


class TopUp(Action[Wallet, Unpaid | Paid, Receipt], kind="durable_top_up"):
    quote: str

    @property
    def id(self) -> str:
        return self.quote

    async def advance(self, wallet: Wallet) -> Transition[TopUp, Receipt]:
        match self.phase:
            case Unpaid():
                paid_at = await wallet.bank.paid_at(self.quote)
                if paid_at is None:
                    return Park(self, wake_after=timedelta(seconds=5))
                return Next(self.at(Paid(paid_at=paid_at)))
            case Paid():
                coins = await self._collect(wallet)
                return Done(Receipt(amount=100), changes=Changes(add=coins))

    async def _collect(self, wallet: Wallet) -> list[Coin]:
        return await wallet.bank.collect(self.quote)


class Forgetful(TopUp, kind="durable_forgetful"):
    """Planted: another effect each time."""

    async def _collect(self, wallet: Wallet) -> list[Coin]:
        return await wallet.bank.collect_anew(self.quote)


class BankWorld(DurableWorld[Wallet]):
    kinds: ClassVar[list[Any]] = [TopUp, Forgetful]

    def __init__(self, folder: Path | None = None, *, greeting: str = "hello") -> None:
        super().__init__(folder)
        self.greeting = greeting
        self.bank = Bank(self.folder / "bank.json")

    async def prepare(self, store: Store) -> None:
        (self.folder / "greeting").write_text(self.greeting)

    def wallet(self, life: Life, store: Store) -> Wallet:
        assert (self.folder / "greeting").read_text() in {"hello", "from the parent"}
        return Wallet(life.peer(self.bank, "bank"))

    async def owed(self) -> Sums:
        return {("bank", "sat"): 100 * self.bank.collected("q")}

    def effects(self) -> Mapping[str, int]:
        return {"q": self.bank.collected("q")}

    def secrets(self) -> Iterable[str]:
        return [SECRET]


class PrepaidWorld(BankWorld):
    """Where the quote is paid already: fewer boundaries."""

    async def prepare(self, store: Store) -> None:
        await super().prepare(store)
        await self.bank.paid_at("q")


class HangingWorld(BankWorld):
    def wallet(self, life: Life, store: Store) -> Wallet:
        if (self.folder / "started").exists():
            os.read(os.pipe()[0], 1)
        (self.folder / "started").touch()
        return super().wallet(life, store)


class TalkingWorld(BankWorld):
    """Prints a secret; only the process that is killed does."""

    def wallet(self, life: Life, store: Store) -> Wallet:
        print("printed", SECRET, flush=True)  # noqa: T201
        return super().wallet(life, store)


class LeavingWorld(BankWorld):
    def wallet(self, life: Life, store: Store) -> Wallet:
        os._exit(7)


def top_up() -> TopUp:
    return TopUp(quote="q", phase=Unpaid())


def forgetful() -> Forgetful:
    return Forgetful(quote="q", phase=Unpaid())


async def from_the_world(world: BankWorld) -> TopUp:
    return TopUp(quote=(world.folder / "greeting").read_text()[:0] + "q", phase=Unpaid())
