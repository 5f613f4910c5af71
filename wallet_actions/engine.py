"""What an app holds: store, executor and runner in one `async with`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

from typing_extensions import TypeVar

from wallet_actions.action import Action
from wallet_actions.checkpoint import Checkpoint
from wallet_actions.clock import Clock
from wallet_actions.coins import ActionKey
from wallet_actions.delta import to_new_action
from wallet_actions.errors import NotFinishedError, UsageError
from wallet_actions.events import EventKind, Observer
from wallet_actions.executor import Executor
from wallet_actions.fleet import Limit
from wallet_actions.leases import LEASE
from wallet_actions.operator import Operator
from wallet_actions.outcome import DriveMode, DriveResult, Started
from wallet_actions.recovery import RecoveryReport
from wallet_actions.registry import Registry
from wallet_actions.runner import Runner
from wallet_actions.store import NewAction, Store, open_store
from wallet_actions.transition import NO_CHANGES, Changes

ResultT = TypeVar("ResultT")


@dataclass(eq=False, slots=True)
class _Transaction:
    """A transaction of the app, and what was started in it.

    Attributes:
        new: the rows of what is new, with what they start in turn; the observers hear of them after the commit.
        is_open: False once the block has ended, also in a task that was spawned in the block and outlives it.
    """

    engine: Engine
    started: list[ActionKey] = field(default_factory=list)
    new: list[Checkpoint] = field(default_factory=list)
    is_open: bool = True


_transactions: ContextVar[tuple[_Transaction, ...]] = ContextVar("transactions", default=())


class Engine:
    """Starts actions and drives them to their end, through crashes.

    On entering, whatever a crash left behind is taken up in the background, and new actions are driven as they come.

    Args:
        store: a URL (`sqlite:///wallet.db`), opened and closed here; or a store that is open already.
        wallet: what the steps act on; handed to each of them.
        kinds: the classes of actions.
        observers: told of everything that happens.
        concurrency, poll, sync, stalled, drain, retention: see `Runner`.
        lease, limits: of a worker in a fleet, see `Executor`.

    Raises:
        UsageError: a kind cannot be stored, no store is installed for the URL, or the lease will not do.
    """

    def __init__(
        self,
        store: str | Store,
        wallet: Any,
        kinds: Iterable[type[Action[Any, Any, Any]]],
        *,
        clock: Clock | None = None,
        observers: Sequence[Observer] = (),
        concurrency: int = 64,
        poll: timedelta | None = timedelta(seconds=5),
        sync: timedelta = timedelta(minutes=5),
        stalled: timedelta = timedelta(minutes=1),
        drain: timedelta = timedelta(seconds=10),
        retention: timedelta | None = None,
        lease: timedelta = LEASE,
        limits: Mapping[str, Limit] | None = None,
    ) -> None:
        self._owned = open_store(store) if isinstance(store, str) else None
        self.store: Store = store if self._owned is None else self._owned  # type: ignore[assignment]
        self.executor = Executor(
            self.store, wallet, Registry(kinds), clock=clock, observers=observers, lease=lease, limits=limits
        )
        self.runner = Runner(
            self.executor,
            concurrency=concurrency,
            poll=poll,
            sync=sync,
            stalled=stalled,
            drain=drain,
            retention=retention,
        )
        self.operator = Operator(
            self.store,
            clock=self.executor.clock,
            on_change=self.runner.notify,
            on_kind_change=self.runner.notify_kind,
            tell=self.executor.tell,
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._owned is not None:
                await stack.enter_async_context(self._owned)
            await stack.enter_async_context(self.runner)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.__aexit__(None, None, None)

    async def start(
        self, action: Action[Any, Any, ResultT], changes: Changes = NO_CHANGES, *, conn: object | None = None
    ) -> Started[ResultT]:
        """Make an action durable; it is driven from then on. See `Executor.start`."""
        started = await self.executor.start(action, changes, conn=conn)
        transaction = self._transaction()
        if conn is not None and transaction is not None:
            transaction.started.append(started.key)
            if started.is_new:
                new = to_new_action(
                    action, changes, self.executor.registry, now=self.executor.clock.now(), traceparent=None
                )
                transaction.new.extend(_rows(new))
        return started

    async def result(self, kind: type[Action[Any, Any, ResultT]], id: str) -> ResultT:
        """Wait for an action to end. See `Executor.result`.

        What is stuck at the start gets its chance first: `NotFinishedError` is raised only after the recovery.
        """
        while True:
            was_recovered = self.runner.is_recovered
            try:
                return await self.executor.result(kind, id)
            except NotFinishedError:
                if was_recovered:
                    raise
                await self.runner.recovered()

    async def drive(
        self,
        kind: type[Action[Any, Any, ResultT]],
        id: str,
        mode: DriveMode = DriveMode.UNTIL_PARK,
        *,
        wait: bool = True,
    ) -> DriveResult[ResultT]:
        """Drive one action here and now, and see how far it came. See `Executor.drive`."""
        return await self.executor.drive(ActionKey(kind.kind, id), mode, wait=wait)

    def notify(self, kind: type[Action[Any, Any, Any]], id: str) -> None:
        """Tell that something happened that this action may be waiting for: it is driven now."""
        self.runner.notify(ActionKey(kind.kind, id))

    async def cancel(self, kind: type[Action[Any, Any, Any]], id: str) -> bool:
        """Ask an action to cancel itself. See `Operator.request_cancel`."""
        return await self.operator.request_cancel(ActionKey(kind.kind, id))

    async def recovered(self) -> RecoveryReport:
        """Wait until what the last run left behind has been taken up once, and read the report."""
        return await self.runner.recovered()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Write the app's own rows and start actions in one transaction of the store.

        What it yields takes the app's SQL (`await conn.execute("INSERT …")`) and goes to `start(action, conn=conn)`.
        What was started is driven once the transaction has committed.

        Raises:
            UsageError: the store has no SQL, or a transaction is open already in this task.
        """
        if self._transaction() is not None:
            raise UsageError("a transaction is already open in this task")
        transaction = _Transaction(self)
        token = _transactions.set((*_transactions.get(), transaction))
        try:
            async with self.store.transaction() as conn:
                yield conn
        finally:
            transaction.is_open = False
            _transactions.reset(token)
        for checkpoint in transaction.new:
            self.executor.tell(EventKind.STARTED, checkpoint)
        for key in transaction.started:
            self.runner.notify(key)

    def _transaction(self) -> _Transaction | None:
        """The transaction of this engine that is open in this task."""
        return next((one for one in _transactions.get() if one.is_open and one.engine is self), None)


def _rows(new: NewAction) -> Iterator[Checkpoint]:
    """The row of an action that is started, and those of the actions it starts."""
    yield new.checkpoint
    for child in new.delta.start:
        yield from _rows(child)
