"""The process that gets killed: a Cashu wallet that recovers, does one operation, and says what happens.

It reads one line of JSON (`Order`) from its standard input, and writes one line of JSON for each thing that happens to
its standard output. Once it has recovered it waits for a second line before it begins its operation. Run it with
`python -m wallet_actions.demo.child`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Literal

from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter

from wallet_actions.cashu import Cashu, Issue, Seed
from wallet_actions.cashu.facts import TRANSACTION
from wallet_actions.checkpoint import Status
from wallet_actions.errors import ActionFailedError, WalletActionError
from wallet_actions.events import Event, EventKind
from wallet_actions.store import open_store
from wallet_actions.testing.boundaries import Boundary, Moment, kill_at, watched

UNFINISHED = frozenset(status for status in Status if not status.is_terminal)


class KillPoint(BaseModel):
    """Where this process shall die.

    Attributes:
        write: which write to the store, from 1, …
        since: … counted since the process began, or since its operation did.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    write: int
    moment: Moment
    since: Literal["process", "operation"] = "operation"


class Order(BaseModel):
    """What the process is to do.

    Attributes:
        store: the URL of the wallet's database.
        mint: the mint's URL, or that of the proxy in front of it.
        mnemonic: the wallet's seed.
        operation: None only recovers.
        amount: of an issue, in sat.
        request: the invoice of a melt.
        kill: None lives on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str
    mint: str
    mnemonic: SecretStr
    operation: Literal["issue", "melt"] | None = None
    amount: int = 0
    request: str = ""
    kill: KillPoint | None = None


def say(what: str, **details: object) -> None:
    """Write one line, at once."""
    sys.stdout.write(json.dumps({"what": what, **details}) + "\n")
    sys.stdout.flush()


async def unfinished(cashu: Cashu) -> int:
    """How many actions have not ended."""
    counts = await cashu.engine.store.count_actions()
    return sum(count for (_, status), count in counts.items() if status in UNFINISHED)


async def balance(cashu: Cashu) -> dict[str, int]:
    """What the wallet owns, in sat."""
    balances = await cashu.balances()
    return {
        "spendable": sum(one.spendable for one in balances),
        "reserved": sum(one.reserved for one in balances),
    }


async def books(cashu: Cashu) -> dict[str, object]:
    """What the wallet's own history says: how many operations ended how, and the sums of those that succeeded."""
    counts: dict[str, int] = {}
    sums = {"taken_in": 0, "paid_out": 0, "fees": 0}
    for _, fact in await cashu.engine.store.facts(kind=TRANSACTION, limit=100_000):
        row = json.loads(fact.body)
        name = f"{row['operation']} {row['state']}"
        counts[name] = counts.get(name, 0) + 1
        if row["state"] == "done":
            sums["taken_in" if row["operation"] == Issue.kind else "paid_out"] += row["amount"]
            sums["fees"] += row["fee"]
    return {"operations": counts, **sums}


async def settle(cashu: Cashu) -> None:
    """Wait until every action has ended, one way or the other."""
    for checkpoint in await cashu.engine.operator.list_actions(statuses=UNFINISHED, limit=10_000):
        wait = cashu.issued if checkpoint.kind == Issue.kind else cashu.paid
        try:
            await wait(checkpoint.id)
        except ActionFailedError:
            continue


async def run(order: Order) -> None:
    """Recover, then do what was ordered."""
    first_write = 0
    is_operating = False

    def hook(boundary: Boundary) -> None:
        nonlocal first_write
        if not is_operating:
            first_write = boundary.number
        if order.kill is not None and (is_operating or order.kill.since == "process"):
            offset = first_write if order.kill.since == "operation" else 0
            kill_at(order.kill.write + offset, order.kill.moment)(boundary)
        say("write", write=boundary.number - first_write, moment=boundary.moment, phase=boundary.phase)

    def observe(event: Event) -> None:
        if event.kind is not EventKind.STARTED:
            say("event", kind=event.key.kind, id=event.key.id, event=event.kind.value, phase=event.phase)

    seed = Seed.from_mnemonic(order.mnemonic.get_secret_value())
    async with (
        watched(open_store(order.store), hook) as store,
        Cashu(store, seed, observers=[observe], poll=None) as cashu,
    ):
        report = await cashu.engine.recovered()
        await settle(cashu)
        say(
            "recovered",
            resumed=report.resumed,
            completed=report.completed,
            failed=report.failed,
            stuck=report.stuck,
            unfinished=await unfinished(cashu),
            **await balance(cashu),
        )
        await asyncio.to_thread(sys.stdin.readline)
        is_operating = True
        match order.operation:
            case "issue":
                action = await cashu.issue(order.mint, order.amount)
                say("started", kind=action.kind, id=action.id)
                await cashu.issued(action.id)
            case "melt":
                payment = await cashu.melt(order.mint, order.request)
                say("started", kind=payment.kind, id=payment.id)
                await cashu.paid(payment.id)
            case None:
                pass
        say("finished", unfinished=await unfinished(cashu), **await balance(cashu), **await books(cashu))


def main() -> None:
    """Read the order and run it; exit status 1 with one line where it fails."""
    order = TypeAdapter(Order).validate_json(sys.stdin.readline())
    try:
        asyncio.run(run(order))
    except WalletActionError as error:
        say("error", type=type(error).__name__, message=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
