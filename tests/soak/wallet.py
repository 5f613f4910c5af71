"""What a wallet process does in the soak: the operations that it is told, some at a time, until it is killed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Literal

import anyio
from pydantic import BaseModel, ConfigDict, SecretStr

from tests.crash_matrix.wallet import books, ended, settle
from tests.crash_matrix.zygote import Link
from wallet_actions.cashu import Cashu, Seed, Send
from wallet_actions.errors import ActionFailedError, WalletActionError
from wallet_actions.store import open_store

POLL = timedelta(seconds=1)

OperationName = Literal["issue", "melt", "send", "receive", "swap"]


class Order(BaseModel):
    """Which wallet it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str
    mint: str
    seed: SecretStr


class Task(BaseModel):
    """One operation to begin; amounts in sat.

    Attributes:
        number: what it is called here.
        request: the invoice of a melt.
        token: what is to be received.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    name: OperationName
    amount: int = 0
    request: str = ""
    token: SecretStr = SecretStr("")


async def work(fields: Mapping[str, Any], link: Link) -> None:
    """Recover in the background, and begin each operation as it is told, until there is an empty line."""
    order = Order.model_validate(fields)
    async with _wallet(order) as cashu, anyio.create_task_group() as tasks:
        link.say("open")
        while task := await link.hear():
            tasks.start_soon(_do, cashu, order, Task.model_validate(task), link)
        link.say("closing")


async def finish(fields: Mapping[str, Any], link: Link) -> None:
    """Wait until all has ended; the sends whose tokens nobody was told of, when the parent has dealt with these."""
    order = Order.model_validate(fields)
    async with _wallet(order) as cashu:
        await cashu.engine.recovered()
        sends = await settle(cashu, link)
        link.say("resting", sends=sends)
        for send in (await link.hear())["revoke"]:
            await cashu.revoke(send)
        for send in sends:
            cashu.engine.notify(Send, send)  # one that was out for long is looked up rarely
            await ended(cashu, Send.kind, send, link)
        await settle(cashu, link)
    async with open_store(order.store) as store:
        link.say("finished", **await books(store))


def _wallet(order: Order) -> Cashu:
    return Cashu(order.store, Seed(bytes.fromhex(order.seed.get_secret_value())), poll=POLL)


async def _do(cashu: Cashu, order: Order, task: Task, link: Link) -> None:
    try:
        await _OPERATIONS[task.name](cashu, order, task, link)
    except ActionFailedError as error:
        link.say("over", number=task.number, reason=str(error))
    except WalletActionError as error:
        link.say("refused", number=task.number, type=type(error).__name__, reason=str(error))
    else:
        link.say("over", number=task.number)


async def _issue(cashu: Cashu, order: Order, task: Task, link: Link) -> None:
    issue = await cashu.issue(order.mint, task.amount)
    link.say("started", number=task.number, id=issue.id)
    await cashu.issued(issue.id)


async def _melt(cashu: Cashu, order: Order, task: Task, link: Link) -> None:
    melt = await cashu.melt(order.mint, task.request)
    link.say("started", number=task.number, id=melt.id)
    await cashu.paid(melt.id)


async def _send(cashu: Cashu, order: Order, task: Task, link: Link) -> None:
    send = await cashu.send(order.mint, task.amount)
    link.say("started", number=task.number, id=send.id)
    link.say("token", number=task.number, id=send.id, token=await cashu.token(send.id))


async def _receive(cashu: Cashu, order: Order, task: Task, link: Link) -> None:
    receive = await cashu.receive(task.token.get_secret_value())
    link.say("started", number=task.number, id=receive.id)
    await cashu.received(receive.id)


async def _swap(cashu: Cashu, order: Order, task: Task, link: Link) -> None:
    swap = await cashu.swap(order.mint, amount=task.amount)
    link.say("started", number=task.number, id=swap.id)
    await cashu.swapped(swap.id)


_OPERATIONS: dict[OperationName, Callable[[Cashu, Order, Task, Link], Awaitable[None]]] = {
    "issue": _issue,
    "melt": _melt,
    "send": _send,
    "receive": _receive,
    "swap": _swap,
}
