"""An action as a step of a saga: another saga, or whatever else the engine drives.

The child is started with the write that keeps the step waiting, so there is none without a row in the ledger. It is
driven like every action, by itself; the saga looks from time to time whether it has ended. Undone it is by what it can
do: one that is under way is asked to cancel itself; one that has failed has undone itself already; one that is done is
undone by another action, `reversal`, which for a saga is there already. Where that is stuck, so is the saga, once all
else of it is undone; whoever has mended the child retries first the child and then the saga.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from datetime import timedelta
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel

from wallet_actions.action import Action
from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.clock import Clock
from wallet_actions.errors import ConfigurationError, RejectedError
from wallet_actions.registry import Kind
from wallet_actions.saga.context import Context
from wallet_actions.saga.saga import Saga
from wallet_actions.saga.step import Step, Wait
from wallet_actions.store import Store

AnyAction = Action[Any, Any, Any]


class ChildWallet(Protocol):
    """What a step that is an action wants of the wallet."""

    @property
    def clock(self) -> Clock:
        """The engine's clock."""
        ...

    @property
    def store(self) -> Store:
        """The engine's store, open."""
        ...


WalletT = TypeVar("WalletT", bound=ChildWallet)
InputT = TypeVar("InputT", bound=BaseModel)
ResultT = TypeVar("ResultT")


class ChildStep(Step[WalletT, InputT, ResultT], Generic[WalletT, InputT, ResultT]):
    """A step that is done by an action of its own; it returns that action's result.

    The child's kind is registered with the engine like any other. If it fails or is cancelled, so has the step. A
    deadline of the step's counts here too: a child that takes longer is asked to cancel itself in the rollback.

    Class attributes:
        poll: how often to look at the child, at first; …
        most_poll: … later after a tenth of the time that it has taken so far, but at least this often.
    """

    poll: ClassVar[timedelta] = timedelta(seconds=2)
    most_poll: ClassVar[timedelta] = timedelta(minutes=1)

    @abstractmethod
    def child(self, context: Context[WalletT, InputT]) -> Action[Any, Any, ResultT]:
        """The action, not started; the same one at each call: its id follows from the context (`context.key`, say)."""

    def reversal(
        self, context: Context[WalletT, InputT], child: Action[Any, Any, ResultT], result: ResultT
    ) -> AnyAction | None:
        """The action that undoes the child, which is done. By default a saga's own reversal; None has none."""
        return child.reversal(result) if isinstance(child, Saga) else None  # type: ignore[arg-type]

    async def execute(self, context: Context[WalletT, InputT]) -> ResultT | Wait:
        """Start the child, and wait for it."""
        child = self.child(context)
        found = await context.wallet.store.load(child.key)
        if found is None:
            return Wait(self.poll, start=(child,))
        if found.status is Status.DONE:
            return _result(child, found)
        if found.status.is_terminal:
            raise RejectedError(f"{child.key} {found.status.value}: {_reason(found)}")
        return self._later(context)

    async def compensate(self, context: Context[WalletT, InputT]) -> Wait | None:
        """Cancel the child, or reverse it."""
        child = self.child(context)
        store = context.wallet.store
        found = await store.load(child.key)
        if found is None or found.status in (Status.FAILED, Status.CANCELLED):
            return None
        if found.status is not Status.DONE:
            if found.cancel is CancelState.NONE:
                await store.request_cancel(child.key, context.wallet.clock.now())
            return self._undone_later(context, found)
        undo = self.reversal(context, child, _result(child, found))
        if undo is None:
            raise RejectedError(f"{child.key} is done, and there is no way to undo it")
        undone = await store.load(undo.key)
        if undone is None:
            return Wait(self.poll, start=(undo,))
        if undone.status in (Status.FAILED, Status.CANCELLED):
            raise RejectedError(f"{undo.key} {undone.status.value}: {_reason(undone)}")
        return None if undone.status is Status.DONE else self._undone_later(context, undone)

    def _later(self, context: Context[WalletT, InputT]) -> Wait:
        taken = context.wallet.clock.now() - context.started_at
        return Wait(max(self.poll, min(taken / 10, self.most_poll)))

    def _undone_later(self, context: Context[WalletT, InputT], found: Checkpoint) -> Wait:
        if found.status is Status.STUCK:
            raise RejectedError(f"{found.key} is stuck: {_reason(found)}")
        return self._later(context)


@functools.cache
def _kind(action_class: type[AnyAction]) -> Kind:
    return Kind(action_class)


def _result(child: Action[Any, Any, ResultT], found: Checkpoint) -> ResultT:
    try:
        result: ResultT = _kind(type(child)).result.decode(found.result)
    except ValueError:
        raise ConfigurationError(f"{child.key} is done, but this code cannot read its result") from None
    return result


def _reason(found: Checkpoint) -> str:
    return found.error.message if found.error is not None else "no reason was recorded"
