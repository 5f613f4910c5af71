"""The world in which the checkpoints of payments were recorded: the sandbox's state machine, its books kept as JSON.

Keys and preimages are those of a test: nothing in the files is worth anything. To record what a new schema version
writes, and nothing else: `python -m tests.corpus.lightning_worlds`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from pydantic import JsonValue, TypeAdapter

from wallet_actions.errors import TransientError
from wallet_actions.executor import Executor
from wallet_actions.lightning import KINDS, Allot, LightningSend, LightningWallet, Payment, PaymentStatus
from wallet_actions.lightning.phases import Dispatched
from wallet_actions.lightning.sandbox import DirectNode, Fate, Record, SandboxNode
from wallet_actions.registry import Registry
from wallet_actions.store import Store
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.corpus import record
from wallet_actions.testing.life import Life
from wallet_actions.testing.oracles import Sums
from wallet_actions.testing.world import World
from wallet_actions.transition import Start

FOLDER = Path(__file__).with_name("lightning")
START = datetime(2030, 1, 1, tzinfo=UTC)
BALANCE, AMOUNT, FEE_LIMIT, EXPIRY_S = 1_000_000, 21_000, 1_000, 3600
STATES = TypeAdapter(list[PaymentStatus])


class LossyNode(DirectNode):
    """The sandbox, but the first sendings may get lost on the way, as its books say."""

    def __init__(self, world: LightningWorld) -> None:
        super().__init__(world.node)
        self._world = world

    async def send(self, invoice: str, *, fee_limit_msat: int, timeout_s: int) -> Payment | None:
        if self._world.lost:
            self._world.lost -= 1
            raise TransientError("the request was lost")
        return await super().send(invoice, fee_limit_msat=fee_limit_msat, timeout_s=timeout_s)


class LightningWorld(World[LightningWallet]):
    """A wallet that may spend a part of a node's balance, and an invoice for it.

    Attributes:
        lost: how many sendings do not reach the node.
    """

    kinds: ClassVar[list[Any]] = [*KINDS]

    def __init__(self) -> None:
        super().__init__()
        self.clock: FakeClock
        self.clock.set_wall(START)
        self.node = SandboxNode(balance_msat=BALANCE, clock=self.clock, seed="corpus")
        self.invoice = self.node.invoice(AMOUNT, expiry_s=EXPIRY_S)
        self.lost = 0

    def wallet(self, life: Life, store: Store) -> LightningWallet:
        return LightningWallet(store, life.peer(LossyNode(self), "lnd"), clock=self.clock)

    async def owed(self) -> Sums:
        return {(self.node.identity.account, "msat"): self.node.balance_msat}

    def secrets(self) -> Iterable[str]:
        return [self.invoice, *self.node._preimages.values()]

    def peers(self) -> JsonValue:
        """All of it: so the files do not hang on how the sandbox makes its keys."""
        node = self.node
        return {
            "pubkey": node.pubkey,
            "balance_msat": node.balance_msat,
            "fate": node.fate.value,
            "lost": self.lost,
            "preimages": {**node._preimages},
            "settled": {**node.settled},
            "records": [
                {
                    "payment_hash": one.payment_hash,
                    "invoice": one.invoice,
                    "amount_msat": one.amount_msat,
                    "states": STATES.dump_python(one.states, mode="json"),
                    "fee_msat": one.fee_msat,
                    "failure_reason": one.failure_reason,
                    "starts": one.starts,
                }
                for one in node.records.values()
            ],
        }

    def set_peers(self, known: Any) -> None:
        node = self.node
        node.pubkey, node.balance_msat, node.fate = known["pubkey"], known["balance_msat"], Fate(known["fate"])
        node._preimages, self.lost = dict(known["preimages"]), known["lost"]
        node.settled.clear()
        node.settled.update(known["settled"])
        node.records = {
            one["payment_hash"]: Record(**{**one, "states": STATES.validate_python(one["states"])})
            for one in known["records"]
        }


async def payment(world: LightningWorld) -> LightningSend:
    """With coins that were booked before; a part of the coin comes back at once."""
    async with world.store() as store:
        wallet = LightningWallet(store, DirectNode(world.node), clock=world.clock)
        executor = Executor(store, wallet, Registry(world.kinds), clock=world.clock)
        await executor.start(allot(world))
        await executor.drive(allot(world).key)
        return await LightningSend.of(wallet, world.invoice, fee_limit_msat=FEE_LIMIT)


async def settled(world: LightningWorld) -> Start:
    action = await payment(world)
    return Start(action, action.opening)


async def failed(world: LightningWorld) -> Start:
    world.node.fate = Fate.FAIL
    return await settled(world)


async def doubted(world: LightningWorld) -> Start:
    """An earlier process has sent it, and nobody knows what came of that; sent once more, it fails."""
    world.node.fate = Fate.FAIL
    action = await payment(world)
    return Start(action.at(Dispatched(sender="an earlier life", is_unanswered=True)), action.opening)


async def expired(world: LightningWorld) -> Start:
    """It never reaches the node."""
    world.lost = 1_000
    return await settled(world)


def allot(world: LightningWorld) -> Allot:
    return Allot(account=world.node.identity.account, label="channel", amount_msat=BALANCE)


async def allotted(world: LightningWorld) -> Start:
    return Start(allot(world))


MAKES: dict[str, Callable[[LightningWorld], Any]] = {
    "settled": settled,
    "failed": failed,
    "doubted": doubted,
    "expired": expired,
    "allotted": allotted,
}


async def main() -> None:
    for name, make in MAKES.items():
        for path in await record(FOLDER / name, make, LightningWorld):
            sys.stdout.write(f"{path.relative_to(FOLDER)}\n")


if __name__ == "__main__":
    asyncio.run(main())
