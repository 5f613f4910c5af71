"""Worlds for payments: the sandbox's state machine as a plain peer, and the truth about its money."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from wallet_actions.coins import ActionKey
from wallet_actions.errors import TransientError
from wallet_actions.executor import Executor
from wallet_actions.lightning import KINDS, Allot, LightningSend, LightningWallet, NodeIdentity, Payment, PaymentStatus
from wallet_actions.lightning.sandbox import DirectNode, Fate, NodeError, SandboxNode
from wallet_actions.registry import Registry
from wallet_actions.store import Store
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.life import FaultKind, Life
from wallet_actions.testing.oracles import Sums
from wallet_actions.testing.world import World
from wallet_actions.transition import Start

BALANCE, AMOUNT, FEE_LIMIT, FEE = 1_000_000, 21_000, 1_000, 100
OTHER_HASH = "00" * 32


class PayingWorld(World[LightningWallet]):
    """The payment goes through."""

    kinds: ClassVar[list[Any]] = [*KINDS]
    fates: ClassVar[tuple[Fate, ...]] = (Fate.SETTLE,)
    expiry: ClassVar[timedelta] = timedelta(hours=3)

    def __init__(self) -> None:
        super().__init__()
        self.node = SandboxNode(balance_msat=BALANCE, fee_msat=FEE, clock=self.clock, seed="world")
        self.invoice = self.node.invoice(AMOUNT, expiry_s=int(self.expiry.total_seconds()))

    async def prepare(self, store: Store) -> None:
        wallet = LightningWallet(store, DirectNode(self.node), clock=self.clock)
        executor = Executor(store, wallet, Registry(self.kinds), clock=self.clock)
        allot = Allot(account=self.node.identity.account, label="channel", amount_msat=BALANCE)
        await executor.start(allot)
        await executor.drive(allot.key)
        self.action = await LightningSend.of(wallet, self.invoice, fee_limit_msat=FEE_LIMIT)
        self.node.decide(self.action.payment_hash, *self.fates)

    def wallet(self, life: Life, store: Store) -> LightningWallet:
        return LightningWallet(store, self.peer(life), clock=self.clock)

    def peer(self, life: Life) -> Any:
        return life.peer(DirectNode(self.node), "lnd")

    async def owed(self) -> Sums:
        for record in self.node.records.values():  # what is still under way ends some day
            self.node.run(record)
            self.node.run(record)
        return {(self.node.identity.account, "msat"): self.node.balance_msat}

    def effects(self) -> Mapping[str, int]:
        return self.node.settled

    def outcomes(self) -> Mapping[ActionKey, bool]:
        return {self.action.key: self.node.settled[self.action.payment_hash] > 0}

    def secrets(self) -> Iterable[str]:
        return [self.node.preimage(self.action.payment_hash), self.invoice]

    def garbage(self, name: str, answer: Any) -> Any:
        if name == "lnd.identity":
            return NodeIdentity("02" * 33, "mainnet")
        return Payment(OTHER_HASH, PaymentStatus.FAILED)

    def contradict(self, name: str, answer: Any) -> Any:
        """The payment is unknown, or under way again; that it has ended, LND says only when it is true."""
        if isinstance(answer, Payment):
            return replace(answer, status=PaymentStatus.IN_FLIGHT, preimage=None) if answer.status.is_final else None
        return answer


class FailingWorld(PayingWorld):
    """The payment fails; but whoever starts it anew afterwards pays."""

    fates: ClassVar[tuple[Fate, ...]] = (Fate.FAIL, Fate.SETTLE)

    def exempt(self, fault: FaultKind, name: str) -> bool:
        # A request that was answered does not come a second time: over HTTP/2 nobody repeats it.
        return name == "lnd.send" and fault is FaultKind.DUPLICATED_LATE


def opened(world: PayingWorld) -> Start:
    return Start(world.action, world.action.opening)


class _LateNode(DirectNode):
    """The first sending arrives half an hour late, and nobody hears of it; the second one is answered."""

    def __init__(self, world: LateCopyWorld) -> None:
        super().__init__(world.node)
        self._world = world

    async def track(self, payment_hash: str) -> Payment | None:
        self._world.land()
        return await super().track(payment_hash)

    async def send(self, invoice: str, *, fee_limit_msat: int, timeout_s: int) -> Payment | None:
        world = self._world
        world.land()
        if world.lands_at is None:
            world.lands_at = world.clock.now() + timedelta(minutes=30)
            raise TransientError("the answer was lost")
        return await super().send(invoice, fee_limit_msat=fee_limit_msat, timeout_s=timeout_s)


class LateCopyWorld(FailingWorld):
    """The payment fails, and a copy of its first sending starts it anew, long after that; then it is paid."""

    faults: ClassVar[tuple[FaultKind, ...]] = (FaultKind.ANSWER_LOST, FaultKind.OVERTAKEN)

    def __init__(self) -> None:
        super().__init__()
        self.lands_at: datetime | None = None
        self.has_landed = False

    def peer(self, life: Life) -> Any:
        return life.peer(_LateNode(self), "lnd")

    def land(self, *, is_over: bool = False) -> None:
        is_due = self.lands_at is not None and (is_over or self.clock.now() >= self.lands_at)
        if is_due and not self.has_landed:
            self.has_landed = True
            self.node.clock = FakeClock(self.lands_at)  # nobody looked when it came
            with contextlib.suppress(NodeError):
                self.node.send(self.invoice, fee_limit_msat=FEE_LIMIT)
            self.node.clock = self.clock

    async def owed(self) -> Sums:
        self.land(is_over=True)
        return await super().owed()

    async def ending(self) -> dict[str, object]:
        return {}  # a crash may keep the first copy from being sent at all; then the payment fails
