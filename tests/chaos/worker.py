"""What a worker process does: it drives whatever is due, starts what it is told to, and knows nothing of the faults."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
from pydantic import BaseModel, ConfigDict, SecretStr

from tests.chaos import planted
from tests.chaos.desk import KINDS, LIMITS, Desk, Driver, Payment, Reserved, choose, driver, make
from tests.chaos.recorder import Recorder
from tests.crash_matrix.zygote import Link
from tests.soak import wallet as soak
from wallet_actions.action import Action
from wallet_actions.cashu import Cashu, Seed
from wallet_actions.checkpoint import Checkpoint
from wallet_actions.clock import SystemClock
from wallet_actions.coins import ActionKey
from wallet_actions.engine import Engine
from wallet_actions.errors import ReservationError, StoreUnavailableError, WalletActionError
from wallet_actions.retry import RetryPolicy
from wallet_actions.step import Decision, decide
from wallet_actions.store import open_store
from wallet_actions.transition import Changes

SYNC, POLL, DRAIN = timedelta(seconds=4), timedelta(milliseconds=500), timedelta(seconds=3)
CONCURRENCY = 24
TRIES = 5


class Order(BaseModel):
    """What a worker is told.

    Attributes:
        life: what it is called, new at each start.
        store: the URL of the store that all share.
        bank: the port of the bank.
        history: the file for what it asks of the store.
        lease_s: of a claim, in seconds.
        ahead_s: by how much its clock is wrong.
        mint_store, mint, seed: of the Cashu wallet; none where `mint` is empty.
        plant: a bug, see `planted`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    life: str
    store: str
    bank: int
    history: Path
    lease_s: float
    ahead_s: float = 0.0
    mint_store: str = ""
    mint: str = ""
    seed: SecretStr = SecretStr("")
    plant: str = ""


class WrongClock(SystemClock):
    """The machine's clock as it would be were it set wrong, and monotonic time as it is."""

    def __init__(self, ahead_s: float) -> None:
        super().__init__()
        self._ahead = timedelta(seconds=ahead_s)

    def now(self) -> datetime:
        """A wall clock that is ahead."""
        return super().now() + self._ahead


async def work(fields: Mapping[str, Any], link: Link) -> None:
    """Drive and obey until there is an empty line."""
    order = Order.model_validate(fields)
    async with AsyncExitStack() as stack:
        engine = await _opened(stack, order)
        cashu = await _opened_wallet(stack, order) if order.mint else None
        tasks = await stack.enter_async_context(anyio.create_task_group())
        link.say("open")
        while line := await link.hear():
            if line["do"] == "mint" and cashu is not None:
                tasks.start_soon(_use_mint, cashu, order, line["task"], link)
            else:
                tasks.start_soon(_obey, engine, line, link)
        tasks.cancel_scope.cancel()  # whoever waits for a result need not any more
        link.say("closing")


async def _opened(stack: AsyncExitStack, order: Order) -> Engine:
    clock, lease = WrongClock(order.ahead_s), timedelta(seconds=order.lease_s)
    while True:
        store = open_store(order.store)
        try:
            await stack.enter_async_context(store)
            break
        except StoreUnavailableError:
            await asyncio.sleep(0.1)
    planted.spoil(order.plant, store)
    Recorder(order.history, order.life).attach(store)
    desk = Desk(store, order.bank, is_keyless=planted.is_keyless(order.plant))
    engine = Engine(
        *(store, desk, KINDS),
        clock=clock,
        concurrency=CONCURRENCY,
        poll=POLL,
        sync=SYNC,
        drain=DRAIN,
        lease=lease,
        limits=LIMITS,
    )
    executor = engine.executor

    async def attributed(action: Action[Any, Any, Any], checkpoint: Checkpoint, policy: RetryPolicy) -> Decision:
        assert executor.leases is not None
        driver.set(Driver(order.life, executor.leases.owner, *checkpoint.key, checkpoint.version))
        return await decide(action, desk, checkpoint, policy, executor.clock)

    executor.decide = attributed  # type: ignore[method-assign]
    await stack.enter_async_context(engine)
    return engine


async def _opened_wallet(stack: AsyncExitStack, order: Order) -> Cashu:
    seed = Seed(bytes.fromhex(order.seed.get_secret_value()))
    while True:
        cashu = Cashu(order.mint_store, seed, poll=POLL, clock=WrongClock(order.ahead_s), drain=DRAIN)
        leases = cashu.engine.executor.leases
        assert leases is not None
        leases.lease = timedelta(seconds=order.lease_s)
        try:
            return await stack.enter_async_context(cashu)
        except StoreUnavailableError:
            await asyncio.sleep(0.1)


async def _obey(engine: Engine, line: dict[str, Any], link: Link) -> None:
    try:
        match line["do"]:
            case "start":
                link.say("started", number=line["number"], is_new=await _start(engine, line["task"]))
            case "cancel":
                await engine.operator.request_cancel(ActionKey(*line["key"]))
            case "notify":
                engine.runner.notify(ActionKey(*line["key"]))
    except WalletActionError as error:
        if line["do"] == "start":
            link.say("sorry", number=line["number"], type=type(error).__name__)


async def _start(engine: Engine, task: dict[str, Any]) -> bool:
    action = make(task)
    if not (isinstance(action, Payment) and task.get("reserves")):
        return (await engine.start(action)).is_new
    for _ in range(TRIES):
        inputs = await choose(engine.store, action.tenant, action.amount)
        if inputs is None:
            break
        try:
            reserving = action.at(Reserved(inputs=tuple(inputs)))
            return (await engine.start(reserving, Changes(reserve=inputs))).is_new
        except ReservationError:
            continue
    return (await engine.start(action)).is_new


class _MintLink(Link):
    """What an operation at the mint says, marked as such."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def say(self, what: str, **details: object) -> None:
        """Pass it on."""
        self._link.say("mint", line={"what": what, **details})


async def _use_mint(cashu: Cashu, order: Order, task: dict[str, Any], link: Link) -> None:
    about = soak.Order(store=order.mint_store, mint=order.mint, seed=order.seed)
    await soak._do(cashu, about, soak.Task.model_validate(task), _MintLink(link))
