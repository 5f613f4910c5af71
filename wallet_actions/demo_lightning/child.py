"""The process that gets killed: a wallet that recovers, pays one invoice, and says what happens.

It reads one line of JSON (`Order`) from its standard input, and writes one line of JSON for each thing that happens to
its standard output. Once it has recovered it waits for a second line before it pays. Run it with
`python -m wallet_actions.demo_lightning.child`.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, SecretStr

from wallet_actions.checkpoint import Status
from wallet_actions.clock import SystemClock
from wallet_actions.engine import Engine
from wallet_actions.errors import ActionFailedError
from wallet_actions.lightning import KINDS, Allot, LightningSend, LightningWallet, LndAddress, LndClient, pay
from wallet_actions.store import open_store
from wallet_actions.testing.boundaries import watched
from wallet_actions.testing.demos.child import Deaths, KillPoint, main, say, tell

UNFINISHED = frozenset(status for status in Status if not status.is_terminal)
SOON = timedelta(minutes=1)


class Order(BaseModel):
    """What the process is to do.

    Attributes:
        store: the URL of the wallet's database.
        target, certificate, macaroon: the node's.
        allot_msat: what the wallet may spend of the node's balance.
        invoice: None only recovers.
        later_s: by how much its clock is ahead.
        kill: None lives on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str
    target: str
    certificate: str
    macaroon: SecretStr
    allot_msat: int
    invoice: str | None = None
    later_s: float = 0.0
    kill: KillPoint | None = None


class LaterClock(SystemClock):
    """The machine's clock, that much ahead."""

    def __init__(self, later: timedelta) -> None:
        super().__init__()
        self._later = later

    def now(self) -> datetime:
        """The wall clock, and more."""
        return super().now() + self._later


async def settle(engine: Engine) -> None:
    """Wait until every action has ended, or waits for more than a minute."""
    changed = asyncio.Event()
    forget = engine.executor.observe(lambda event: changed.set())
    try:
        while True:
            changed.clear()
            now = engine.executor.clock.now()
            waiting = await engine.operator.list_actions(statuses=UNFINISHED, limit=10_000)
            if all(one.wake_at is not None and one.wake_at - now > SOON for one in waiting):
                return
            await engine.executor.clock.wait(changed, timedelta(seconds=1))
    finally:
        forget()


async def state(engine: Engine) -> dict[str, int]:
    """What the wallet owns, in msat, and how many actions have not ended."""
    balances = await engine.store.balances()
    counts = await engine.store.count_actions()
    return {
        "spendable": sum(one.spendable for one in balances),
        "reserved": sum(one.reserved for one in balances),
        "unfinished": sum(count for (_, status), count in counts.items() if status in UNFINISHED),
    }


async def run(order: Order) -> None:
    """Recover, then pay what was ordered."""
    deaths = Deaths(order.kill)
    clock = LaterClock(timedelta(seconds=order.later_s))
    address = LndAddress(order.target, order.certificate.encode(), order.macaroon)
    async with watched(open_store(order.store), deaths) as store, LndClient(address, clock=clock) as client:
        wallet = LightningWallet(store, client, clock=clock)
        async with Engine(store, wallet, KINDS, clock=clock, observers=[tell], poll=None) as engine:
            await engine.recovered()
            await settle(engine)
            if order.kill is None or order.kill.since == "operation":
                account = (await wallet.identity()).account
                allot = Allot(account=account, label="demo", amount_msat=order.allot_msat)
                await engine.start(allot)
                await engine.result(Allot, allot.id)
            await deaths.begin(**await state(engine))
            if order.invoice is not None:
                payment_hash = await pay(engine, wallet, order.invoice, fee_limit_msat=1_000)
                try:
                    await engine.result(LightningSend, payment_hash)
                except ActionFailedError as error:
                    say("failed", message=str(error))
            say("finished", **await state(engine))


if __name__ == "__main__":
    main(Order, run)
