"""What a wallet process does in its life: it prepares, it operates, it recovers.

Nothing here knows what is to go wrong, but for the kill at a write; the rest happens between it and the mint.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr

from tests.crash_matrix.points import Fault
from tests.crash_matrix.scenarios import SCENARIOS, Scenario
from tests.crash_matrix.zygote import Link
from wallet_actions.action import Action
from wallet_actions.cashu import KINDS, Cashu, Seed
from wallet_actions.cashu.conditions import Condition, hash_lock, pay_to_key
from wallet_actions.cashu.facts import TRANSACTION
from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.errors import ActionFailedError, NotFinishedError, WalletActionError
from wallet_actions.store import Store, open_store
from wallet_actions.testing.boundaries import Boundary, watched

UNFINISHED = frozenset(status for status in Status if not status.is_terminal)
SEND = "cashu_send"
LINGER_S = 0.1
PAGE = 1000


class Order(BaseModel):
    """What a process is told.

    Attributes:
        store: the URL of the wallet's file.
        mint: the mint's address, which is the proxy's.
        seed: the wallet's, as hex.
        scenario: its name.
        request: the invoice of a melt.
        token: to be received.
        preimage: that opens it.
        pubkey, digest: what a token that is sent is locked to: a key, or a hash.
        action_id: the send to be revoked.
        fault: a kill at a write.
        lingers: the process stays on for a moment when it has finished, since it is to be killed soon after.
        plant: a function that breaks the wallet, `module:function`, to see it found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str
    mint: str
    seed: SecretStr
    scenario: str
    request: str = ""
    token: SecretStr = SecretStr("")
    preimage: SecretStr = SecretStr("")
    pubkey: str = ""
    digest: str = ""
    action_id: str = ""
    fault: str = ""
    lingers: bool = False
    plant: str = ""


async def prepare(fields: Mapping[str, Any], link: Link) -> None:
    """Bring the wallet to where the operation begins."""
    order = Order.model_validate(fields)
    scenario = SCENARIOS[order.scenario]
    async with _wallet(order, None) as cashu:
        for amount in scenario.fund:
            issue = await cashu.issue(order.mint, amount)
            await cashu.issued(issue.id)
        if scenario.sends_first:
            send = await cashu.send(order.mint, scenario.amount)
            link.say("token", id=send.id, token=await cashu.token(send.id))
        if scenario.operation == "receive" and scenario.lock == "p2pk":
            link.say("key", pubkey=await cashu.wallet.receiving_key())
        if scenario.is_lost:
            swap = await cashu.swap(order.mint)
            await cashu.swapped(swap.id)
        link.say("prepared")


async def operate(fields: Mapping[str, Any], link: Link) -> None:
    """Open the wallet, and do what the scenario says."""
    order = Order.model_validate(fields)
    scenario = SCENARIOS[order.scenario]
    async with _wallet(order, link) as cashu:
        await cashu.engine.recovered()
        try:
            await _OPERATIONS[scenario.operation](cashu, order, scenario, link)
        except ActionFailedError as error:
            link.say("failed", reason=str(error))
        except WalletActionError as error:
            link.say("refused", type=type(error).__name__, reason=str(error))
        if order.lingers:
            await asyncio.sleep(LINGER_S)


async def recover(fields: Mapping[str, Any], link: Link) -> None:
    """Open the wallet, wait until all that can end has ended; then once more, when the parent has said what to revoke.

    A token that was made and that nobody has redeemed keeps its send waiting: that is no more than what the user
    wanted. Which ones these are, the wallet must be able to tell.
    """
    order = Order.model_validate(fields)
    async with _wallet(order, link) as cashu:
        report = await cashu.engine.recovered()
        sends = await settle(cashu, link)
        link.say("resting", sends=sends, resumed=report.resumed, orphans=len(report.orphans))
        for send in (await link.hear())["revoke"]:
            await cashu.revoke(send)
        for send in sends:
            await ended(cashu, SEND, send, link)
        await settle(cashu, link)
    async with open_store(order.store) as store:
        link.say("recovered", **await books(store))


@asynccontextmanager
async def _wallet(order: Order, link: Link | None) -> AsyncIterator[Cashu]:
    if order.plant:
        module, _, name = order.plant.partition(":")
        getattr(importlib.import_module(module), name)()
    fault = Fault.parse(order.fault) if order.fault else None

    def hook(boundary: Boundary) -> None:
        if link is not None:
            at = {"number": boundary.number, "moment": boundary.moment, "name": boundary.name, "phase": boundary.phase}
            link.say("write", **at)
        if fault is not None and (boundary.number, boundary.moment) == (fault.write, fault.moment):
            os.kill(os.getpid(), signal.SIGKILL)

    seed = Seed(bytes.fromhex(order.seed.get_secret_value()))
    async with watched(open_store(order.store), hook) as store, Cashu(store, seed, poll=None) as cashu:
        yield cashu


# The operations


async def _issue(cashu: Cashu, order: Order, scenario: Scenario, link: Link) -> None:
    issue = await cashu.issue(order.mint, scenario.amount)
    link.say("started", kind=issue.kind, id=issue.id)
    await cashu.issued(issue.id)


async def _issue_many(cashu: Cashu, order: Order, scenario: Scenario, link: Link) -> None:
    batch = await cashu.issue_many(order.mint, [scenario.amount, 2 * scenario.amount, 3 * scenario.amount])
    link.say("started", kind=batch.kind, id=batch.id)
    await cashu.issued_many(batch.id)


async def _melt(cashu: Cashu, order: Order, scenario: Scenario, link: Link) -> None:
    melt = await cashu.melt(order.mint, order.request)
    link.say("started", kind=melt.kind, id=melt.id)
    await cashu.paid(melt.id)


async def _send(cashu: Cashu, order: Order, scenario: Scenario, link: Link) -> None:
    send = await cashu.send(order.mint, scenario.amount, condition=_condition(order))
    link.say("started", kind=send.kind, id=send.id)
    link.say("token", id=send.id, token=await cashu.token(send.id))
    if scenario.is_claimed:
        await link.hear()  # it has been
        await cashu.claimed(send.id)


async def _receive(cashu: Cashu, order: Order, scenario: Scenario, link: Link) -> None:
    preimage = order.preimage.get_secret_value()
    receive = await cashu.receive(order.token.get_secret_value(), preimages=[preimage] if preimage else [])
    link.say("started", kind=receive.kind, id=receive.id)
    await cashu.received(receive.id)


async def _swap(cashu: Cashu, order: Order, scenario: Scenario, link: Link) -> None:
    swap = await cashu.swap(order.mint)
    link.say("started", kind=swap.kind, id=swap.id)
    await cashu.swapped(swap.id)


async def _revoke(cashu: Cashu, order: Order, scenario: Scenario, link: Link) -> None:
    await cashu.revoke(order.action_id)
    await cashu.claimed(order.action_id)


async def _restore(cashu: Cashu, order: Order, scenario: Scenario, link: Link) -> None:
    restore = await cashu.restore(order.mint)
    link.say("started", kind=restore.kind, id=restore.id)
    await cashu.restored(restore.id)


def _condition(order: Order) -> Condition | None:
    if order.pubkey:
        return pay_to_key(order.pubkey)
    return hash_lock(order.digest) if order.digest else None


_OPERATIONS: dict[str, Callable[[Cashu, Order, Scenario, Link], Awaitable[None]]] = {
    "issue": _issue,
    "issue_many": _issue_many,
    "melt": _melt,
    "send": _send,
    "receive": _receive,
    "swap": _swap,
    "revoke": _revoke,
    "restore": _restore,
}


# What it has come to


_KINDS: dict[str, type[Action[Any, Any, Any]]] = {one.kind: one for one in KINDS}


async def _unfinished(store: Store) -> list[Checkpoint]:
    return list(await store.list_actions(statuses=UNFINISHED, limit=PAGE))


async def settle(cashu: Cashu, link: Link) -> dict[str, str]:
    """Wait until all has ended but the sends whose tokens are out.

    Returns:
        Their tokens, by id.
    """
    tokens: dict[str, str] = {}
    for row in await _unfinished(cashu.engine.store):
        if row.kind == SEND and not _is_called_back(row):
            try:
                token = await cashu.token(row.id)
            except WalletActionError:
                token = ""  # it has ended, or is stuck
            now = await cashu.engine.store.load(row.key)
            if token and now is not None and not now.status.is_terminal and not _is_called_back(now):
                tokens[row.id] = token
                continue
        await ended(cashu, row.kind, row.id, link)
    return tokens


def _is_called_back(row: Checkpoint) -> bool:
    return row.cancel is not CancelState.NONE or row.phase == "rolling_back"


async def ended(cashu: Cashu, kind: str, id: str, link: Link) -> None:
    """Wait until an action has ended, however; tell if it cannot go on."""
    try:
        await cashu.engine.result(_KINDS[kind], id)
    except ActionFailedError:
        pass
    except NotFinishedError as error:
        link.say("stuck", reason=str(error))


async def books(store: Store) -> dict[str, Any]:
    """What a wallet's file says: all its coins, its history, and how many of its actions there are and go on."""
    coins: list[list[Any]] = []
    while page := await store.coins(after=coins[-1][0] if coins else "", limit=PAGE):
        coins += [[coin.id, coin.amount, coin.state.value] for coin in page]
    rows: list[dict[str, Any]] = []
    cursor = 0
    while facts := await store.facts(kind=TRANSACTION, after=cursor, limit=PAGE):
        cursor = facts[-1][0]
        rows += [json.loads(fact.body) for _, fact in facts]
    counts = await store.count_actions()
    return {
        "coins": coins,
        "rows": rows,
        "actions": sum(counts.values()),
        "unfinished": [f"{row.key}: {row.status.value} in {row.phase}" for row in await _unfinished(store)],
        "orphans": len(await store.orphans()),
    }
