"""The process that gets killed: a Cashu wallet that recovers, does one operation, and says what happens.

It reads one line of JSON (`Order`) from its standard input, and writes one line of JSON for each thing that happens to
its standard output. Once it has recovered it waits for a second line before it begins its operation. Run it with
`python -m wallet_actions.demo.child`.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, SecretStr

from wallet_actions.cashu import Cashu, Issue, Seed
from wallet_actions.cashu.facts import TRANSACTION
from wallet_actions.checkpoint import Status
from wallet_actions.errors import ActionFailedError
from wallet_actions.store import open_store
from wallet_actions.testing.boundaries import watched
from wallet_actions.testing.demos.child import Deaths, KillPoint, main, say, tell

UNFINISHED = frozenset(status for status in Status if not status.is_terminal)


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
    deaths = Deaths(order.kill)
    seed = Seed.from_mnemonic(order.mnemonic.get_secret_value())
    async with (
        watched(open_store(order.store), deaths) as store,
        Cashu(store, seed, observers=[tell], poll=None) as cashu,
    ):
        report = await cashu.engine.recovered()
        await settle(cashu)
        await deaths.begin(
            resumed=report.resumed,
            completed=report.completed,
            failed=report.failed,
            stuck=report.stuck,
            unfinished=await unfinished(cashu),
            **await balance(cashu),
        )
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


if __name__ == "__main__":
    main(Order, run)
