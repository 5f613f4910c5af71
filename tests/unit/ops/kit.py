"""A shop whose payments go wrong in every way, and a database full of them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar, assert_never

from pydantic import BaseModel, SecretStr
from typer.testing import CliRunner

from wallet_actions.action import Action, Phase
from wallet_actions.coins import ActionKey, Coin
from wallet_actions.engine import Engine
from wallet_actions.errors import ConfigurationError, InvariantError, TransientError
from wallet_actions.executor import Executor
from wallet_actions.operator import Operator
from wallet_actions.ops.program import app as commands
from wallet_actions.registry import Registry
from wallet_actions.store import Store, open_store
from wallet_actions.transition import Changes, Done, Failed, Next, Park, Transition

T = TypeVar("T")

MAIN = "from wallet_actions.ops.cli import main; main()"
ROOT = Path(__file__).parents[3]
SECRET = "tell-nobody"  # in every place where a secret may stand
PLANS = ("done", "park", "wait", "stuck", "fail", "config")


@dataclass(frozen=True)
class Shop:
    is_up: bool


class Receipt(BaseModel):
    order: str
    preimage: SecretStr


class Ready(Phase):
    pass


class Sent(Phase):
    token: SecretStr
    hint: str


class Pay(Action[Shop, Ready | Sent, Receipt], kind="pay"):
    """Goes as its order says; where the shop is up, all but the failures end well."""

    order: str
    amount: int
    password: SecretStr

    @property
    def id(self) -> str:
        return self.order

    @property
    def plan(self) -> str:
        return self.order.partition("-")[0]

    async def advance(self, wallet: Shop) -> Transition[Self, Receipt]:
        match self.phase:
            case Ready():
                sent = self.at(Sent(token=SecretStr(SECRET), hint="by post"))
                return Next(sent, Changes(notes=["sent it"]))
            case Sent():
                return self._arrived() if wallet.is_up else self._planned()
            case _:
                assert_never(self.phase)

    def _arrived(self) -> Transition[Self, Receipt]:
        return Done(Receipt(order=self.order, preimage=SecretStr(SECRET)))

    def _planned(self) -> Transition[Self, Receipt]:
        match self.plan:
            case "done":
                return self._arrived()
            case "park":
                return Park(self, wake_after=timedelta(hours=1), error=TransientError("the mint is away"))
            case "stuck":
                raise InvariantError("the books do not add up", rule="books add up")
            case "fail":
                return Failed("no route to the shop")
            case "config":
                raise ConfigurationError("the key of the shop is refused")
            case _:
                return Park(self)

    async def on_cancel(self, wallet: Shop) -> Transition[Self, Receipt] | None:
        return Failed("called off")


class Broken(Action[Shop, Ready], kind="pay"):
    """A class of the same kind that cannot read what `Pay` wrote."""

    other: int

    @property
    def id(self) -> str:
        return str(self.other)

    async def advance(self, wallet: Shop) -> Transition[Self]:
        return Done()


# What --app may name


def app(store: Store) -> tuple[Shop, list[type[Pay]]]:
    return Shop(is_up=True), [Pay]


def down(store: Store) -> tuple[Shop, list[type[Pay]]]:
    return Shop(is_up=False), [Pay]


def foreign(store: Store) -> tuple[Shop, list[type[Broken]]]:
    return Shop(is_up=True), [Broken]


async def later(store: Store) -> Any:
    return app(store)


@asynccontextmanager
async def managed(store: Store) -> AsyncIterator[Any]:
    await asyncio.sleep(0)
    yield app(store)


@dataclass
class Described:
    wallet: Shop
    kinds: tuple[type[Pay], ...]


def described(store: Store) -> Described:
    return Described(Shop(is_up=True), (Pay,))


def engine(store: Store) -> Engine:
    return Engine(store, Shop(is_up=True), [Pay])


def other_engine(store: Store) -> Engine:
    return Engine(open_store("memory://"), Shop(is_up=True), [Pay])


def raising(store: Store) -> None:
    raise RuntimeError(f"the seed is {SECRET}")


def leaving(store: Store) -> None:
    sys.exit(5)


def interrupted(store: Store) -> None:
    raise KeyboardInterrupt


def wrong(store: Store) -> int:
    return 3


def not_kinds(store: Store) -> tuple[Shop, list[type[int]]]:
    return Shop(is_up=True), [int]


def no_list(store: Store) -> tuple[Shop, type[Pay]]:
    return Shop(is_up=True), Pay


def twice(store: Store) -> tuple[Shop, list[Any]]:
    return Shop(is_up=True), [Pay, Broken]


NOT_A_FUNCTION = 7


# The database


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def work(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


async def pay(store: Store, order: str, *, is_up: bool = False) -> None:
    """Start a payment that holds a coin of 64 sat, and drive it once."""
    coin = Coin(f"coin-{order}", "https://mint.example", "sat", 64, payload=SECRET)
    action = Pay(order=order, amount=64, password=SecretStr(SECRET), phase=Ready())
    executor = Executor(store, Shop(is_up=is_up), Registry([Pay]))
    await executor.start(action, Changes(add=[coin], reserve=[coin]))
    await executor.drive(ActionKey("pay", order))


def make(path: Path, *orders: str) -> Path:
    """A database with these payments, driven once while the shop is down."""

    async def fill() -> None:
        async with open_store(url_of(path)) as store:
            for order in orders:
                await pay(store, order)

    work(fill())
    return path


def operate(path: Path, do: Any) -> None:
    """Have an operator do something behind the command line's back."""

    async def go() -> None:
        async with open_store(url_of(path)) as store:
            await do(Operator(store))

    work(go())


def row(path: Path, id: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(cli("show", "pay", id, "--db", str(path), "--json").out)
    return shown


# The command line


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)


def cli(*args: str, env: dict[str, str] | None = None, columns: int = 80) -> Ran:
    """The command line in this process."""
    result = CliRunner().invoke(commands, args, env={"COLUMNS": str(columns), **(env or {})})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def spawn(*args: str, cwd: Path = ROOT, env: dict[str, str] | None = None, code: str | None = None) -> Ran:
    """The command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code or MAIN, *args],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def assert_silent_about_secrets(*runs: Ran) -> None:
    for ran in runs:
        assert SECRET not in ran.out
        assert SECRET not in ran.err


def assert_one_line(ran: Ran, *parts: str, status: int = 2) -> None:
    assert ran.status == status, ran
    assert ran.out == ""
    assert ran.err.endswith("\n")
    assert len(ran.err.splitlines()) == 1, ran.err
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in ran.err


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a folder with its bytes and the time of its last change."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir()) if path.is_file()
    }


ORDERS: Sequence[str] = tuple(f"{plan}-1" for plan in PLANS)
