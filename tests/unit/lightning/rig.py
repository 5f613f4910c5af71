"""A wallet on an empty memory, a node in it, and a clock that goes on as soon as everybody waits."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

from wallet_actions.action import Action
from wallet_actions.checkpoint import Checkpoint
from wallet_actions.engine import Engine
from wallet_actions.errors import ActionError
from wallet_actions.lightning import KINDS, Allot, LightningSend, LightningWallet, Payment, Sent
from wallet_actions.lightning.sandbox import DirectNode, SandboxNode
from wallet_actions.outcome import DriveMode, DriveResult
from wallet_actions.store import Store
from wallet_actions.testing.clock import FakeClock
from wallet_actions_storage import MemoryStore

BALANCE = 1_000_000

ResultT = TypeVar("ResultT")


class ScriptedNode(DirectNode):
    """The sandbox, but for what a test wants said in place of its answer.

    Attributes:
        calls: the methods, in order.
        script: by method, what is returned or raised the next times; a callable is asked.
    """

    def __init__(self, node: SandboxNode) -> None:
        super().__init__(node)
        self.calls: list[str] = []
        self.script: dict[str, list[Any]] = {"track": [], "send": [], "identity": []}

    async def identity(self) -> Any:
        return await self._play("identity", super().identity)

    async def track(self, payment_hash: str) -> Payment | None:
        answer: Payment | None = await self._play("track", lambda: super(ScriptedNode, self).track(payment_hash))
        return answer

    async def send(self, invoice: str, *, fee_limit_msat: int, timeout_s: int) -> Payment | None:
        answer: Payment | None = await self._play(
            "send",
            lambda: super(ScriptedNode, self).send(invoice, fee_limit_msat=fee_limit_msat, timeout_s=timeout_s),
        )
        return answer

    async def _play(self, name: str, really: Any) -> Any:
        self.calls.append(name)
        if not self.script[name]:
            return await really()
        answer = self.script[name].pop(0)
        if isinstance(answer, ActionError):
            raise answer
        return answer


class LightningRig:
    """Nothing runs by itself: `go`, `drive_until` and `end` drive."""

    def __init__(self, store: Store | None = None, lnd: SandboxNode | None = None) -> None:
        self.clock = FakeClock(auto=True, patience=timedelta(0))
        self.lnd = lnd or SandboxNode(balance_msat=BALANCE, clock=self.clock)
        self.node = ScriptedNode(self.lnd)
        self.store = store or MemoryStore()
        self.restart()

    async def __aenter__(self) -> Self:
        await self.store.__aenter__()
        allot = Allot(account=self.lnd.identity.account, label="channel", amount_msat=BALANCE)
        await self.engine.start(allot)
        await self.end(allot)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.store.__aexit__(*exc)

    def restart(self) -> None:
        """Another process: what a wallet only remembers is gone."""
        self.wallet = LightningWallet(self.store, self.node, clock=self.clock)
        self.engine = Engine(self.store, self.wallet, KINDS, clock=self.clock)

    async def send(self, amount_msat: int = 21_000, **details: Any) -> LightningSend:
        """A payment that is started, and not driven yet."""
        action = await LightningSend.of(self.wallet, self.lnd.invoice(amount_msat, **details), fee_limit_msat=1_000)
        await self.engine.start(action, action.opening)
        return action

    async def go(self, action: LightningSend) -> DriveResult[Sent]:
        """Drive it until it parks."""
        return await self.engine.drive(LightningSend, action.id)

    async def drive_until(self, action: LightningSend, moment: datetime) -> None:
        """Drive it whenever it is due, up to a moment."""
        while (left := moment - self.clock.now()) > timedelta(0):
            result = await self.engine.executor.drive(action.key, only_if_due=True)
            if result.wake_at is None:
                return
            await self.clock.sleep(min(left, max(result.wake_at - self.clock.now(), timedelta(milliseconds=1))))

    async def end(self, action: Action[Any, Any, ResultT]) -> ResultT:
        """Drive it to its end.

        Raises:
            ActionFailedError: it failed or was cancelled.
        """
        await self.engine.executor.drive(action.key, DriveMode.UNTIL_DONE)
        return await self.engine.executor.result(type(action), action.id)

    async def checkpoint(self, action: LightningSend) -> Checkpoint:
        found = await self.store.load(action.key)
        assert found is not None
        return found

    async def balance(self) -> tuple[int, int]:
        """Spendable and reserved."""
        (one,) = await self.wallet.balances()
        return one.spendable, one.reserved
