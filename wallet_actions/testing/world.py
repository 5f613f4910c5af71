"""A small universe for an action: its store, its peers, its clock, and the truth about its money."""

from __future__ import annotations

import asyncio
import functools
import logging
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, ClassVar, Generic

from typing_extensions import TypeVar

from wallet_actions.action import Action
from wallet_actions.checkpoint import Status
from wallet_actions.coins import ActionKey
from wallet_actions.events import Observer
from wallet_actions.executor import Executor
from wallet_actions.outcome import Outcome
from wallet_actions.recovery import recover
from wallet_actions.registry import Registry
from wallet_actions.store import Store
from wallet_actions.testing import oracles
from wallet_actions.testing.clock import new_clock
from wallet_actions.testing.life import PEER_FAULTS, FaultKind, Incident, Life
from wallet_actions.testing.twice import DoubleDriver, is_switched_on
from wallet_actions.transition import Start
from wallet_actions_storage import MemoryStore

WalletT = TypeVar("WalletT")

SYNC = timedelta(minutes=5)
MOST_ROUNDS = 400

# Making one costs more than a whole schedule of a simulation.
_registry = functools.lru_cache(maxsize=64)(Registry)


class World(ABC, Generic[WalletT]):
    """What a test of an action needs to know. Subclass it; a fresh one is made for every run.

    Class attributes:
        kinds: the classes of actions that can be driven in it.
        faults: the faults of peers that a sweep tries. Leave out those that a peer without keys cannot bear.
        is_shared: whether its processes are the workers of a fleet, which claim what they drive (`fleet`).
    """

    kinds: ClassVar[Sequence[type[Action[Any, Any, Any]]]] = ()
    faults: ClassVar[Sequence[FaultKind]] = PEER_FAULTS
    is_shared: ClassVar[bool] = False

    def __init__(self) -> None:
        self.clock = new_clock()
        self._memory = MemoryStore(shared=self.is_shared)
        self._refused: set[str] = set()

    @abstractmethod
    def wallet(self, life: Life, store: Store) -> WalletT:
        """What the app hands to the engine in one life of its process, the peers wrapped by `life.peer`.

        Called anew for each life: what a process only remembers is gone after a crash, what the peers know is not.
        """

    def store(self) -> Store:
        """The store, not open; each call gives the same data. By default in memory."""
        return self._memory.peer()

    async def prepare(self, store: Store) -> None:
        """Fill the store before the first life: coins to spend, say."""

    async def owed(self) -> oracles.Sums | None:
        """What is outstanding in each account and unit by the peers' own books; None is not compared."""
        return None

    def effects(self) -> Mapping[str, int]:
        """How many effects each key had at the peers; more than one is a violation."""
        return {}

    def outcomes(self) -> Mapping[ActionKey, bool]:
        """Whether actions went through, by the peers' own books. One that is not named is not judged."""
        return {}

    def secrets(self) -> Iterable[str]:
        """What must not appear in any log, error, repr or history."""
        return ()

    def garbage(self, name: str, answer: Any) -> Any:
        """What an answer becomes when it is garbage."""
        return "<html>502 Bad Gateway</html>"

    def contradict(self, name: str, answer: Any) -> Any:
        """What an answer becomes when it says otherwise: a payment that was made is suddenly unknown, say.

        A world that does not say so has no such answers, and nothing of that kind is tried.
        """
        return answer

    def refusal(self, name: str) -> Exception | None:
        """What a peer that refuses a call raises; nothing has changed there.

        None is not tried: for calls that are never refused, or where the peer has done that already, by its books.
        """
        return None

    def exempt(self, fault: FaultKind, name: str) -> bool:
        """Whether a fault of a call is beyond what the action can stand, by its own documentation."""
        return False

    async def close(self) -> None:
        """Give back what the world holds."""

    # What the kit does with it

    def faults_of(self, name: str) -> list[FaultKind]:
        """The faults that a call can have here: without those that are exempt, or that the world cannot show."""
        return [fault for fault in self.faults if self._can_show(fault, name) and not self.exempt(fault, name)]

    def _can_show(self, fault: FaultKind, name: str) -> bool:
        match fault:
            case FaultKind.REFUSED:
                return self.refusal(name) is not None
            case FaultKind.CONTRADICTION:
                return type(self).contradict is not World.contradict
            case _:
                return True

    @asynccontextmanager
    async def process(self, life: Life, observers: Sequence[Observer] = ()) -> AsyncIterator[Executor]:
        """One process of the app, on the world's store, for as long as its life lasts."""
        life.garbage, life.contradict = self.garbage, self.contradict
        life.slow = lambda: self.clock.sleep(timedelta(minutes=1))
        life.refuse, life.refused, life.monotonic = self.refusal, self._refused, self.clock.monotonic
        async with self.store() as store:
            life.happen = lambda incident: self.happen(incident, store)
            seen = life.store(store)
            executor = self.executor(seen, self.wallet(life, seen), observers)
            if is_switched_on():
                DoubleDriver(executor)
            yield executor

    async def happen(self, incident: Incident, store: Store) -> None:
        """Make an incident happen."""
        match incident:
            case Incident.CANCEL:
                for action in await oracles.all_actions(store):
                    await store.request_cancel(action.key, self.clock.now())
            case Incident.CLOCK_BACK:
                self.clock.set_wall(self.clock.now() - timedelta(hours=1))

    def executor(self, store: Store, wallet: WalletT, observers: Sequence[Observer] = ()) -> Executor:
        """The executor of one process."""
        return Executor(store, wallet, _registry(tuple(self.kinds)), clock=self.clock, observers=observers)

    async def settle(self, executor: Executor) -> None:
        """Drive everything, in its time, until it has ended or nothing moves any more."""
        for _ in range(MOST_ROUNDS):
            waiting = [
                action
                for action in await oracles.all_actions(executor.store)
                if action.status in (Status.RUNNING, Status.PARKED)
            ]
            if not waiting:
                return
            now = self.clock.now()
            due = [
                action
                for action in waiting
                if action.status is Status.RUNNING or (action.wake_at is not None and action.wake_at <= now)
            ]
            if not due:
                wakes = [action.wake_at for action in waiting if action.wake_at is not None]
                due = [action for action in waiting if action.wake_at is None] if not wakes else []
                await self.clock.sleep(min(wakes) - now if wakes else SYNC)
            results = [await executor.drive(action.key) for action in due]
            leases = executor.leases
            if leases is not None and due and all(result.outcome is Outcome.BUSY for result in results):
                await self.clock.sleep(leases.lease)  # it lapses: whoever holds them has died

    async def live(self, life: Life, starts: Sequence[Start], *, observers: Sequence[Observer] = ()) -> None:
        """One life: recover as at start-up, start the actions as the app does at every start, drive them.

        Raises:
            Crashed: as planned; perhaps inside of a group.
        """
        life.task = asyncio.current_task()
        async with self.process(life, observers) as executor:
            try:
                await self._course(executor, starts)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task is not life.cancelled:
                    raise
                # The planned cancellation came through. The process lives on: nothing may be left locked in it.
                life.cancelled = None
                task.uncancel()
                await self._course(executor, starts)
            await life.end()

    async def _course(self, executor: Executor, starts: Sequence[Start]) -> None:
        await recover(executor)
        for start in starts:
            await executor.start(start.action, start.changes)
        await self.settle(executor)

    async def check(self, said: Iterable[str] = ()) -> list[str]:
        """Ask every oracle. To be asked once faults have stopped and everything had its chance to end.

        Args:
            said: what was logged meanwhile.
        """
        async with self.store() as store:
            found = await oracles.all_ended(store)
            found += await oracles.held_rightly(store)
            found += await oracles.history_complete(store)
            found += await oracles.terminal_is_final(store)
            owed = await self.owed()
            if owed is not None:
                found += await oracles.conserved(store, owed)
            found += oracles.once(self.effects())
            found += await oracles.truthful(store, self.outcomes())
            secrets = list(self.secrets())
            if secrets:
                found += oracles.unspoken([*said, *await oracles.spoken_by(store)], secrets)
            return found

    async def ending(self) -> dict[str, object]:
        """How it ended, to be compared with a run in peace.

        Take away what may be another after a crash: effects whose keys come from a counter, say, or from chance.
        """
        async with self.store() as store:
            end = await oracles.ending(store)
        return end | {f"effect {key}": count for key, count in self.effects().items()}


class Listener(logging.Handler):
    """Collects what is logged, and nobody else hears it: texts, arguments, errors and those behind them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        said = [f"{record.getMessage()} {extra}"]
        if record.exc_info and record.exc_info[1] is not None:
            said += _told(record.exc_info[1])
        if record.stack_info:
            said.append(record.stack_info)
        self.said.append("\n".join(said))

    def __enter__(self) -> Listener:
        root = logging.getLogger()
        self._level, self._others = root.level, root.handlers
        root.setLevel(logging.DEBUG)
        # Alone: what is said in thousands of lives is for the oracles, not for whoever runs the tests.
        root.handlers = [self]
        return self

    def __exit__(self, *exc: object) -> None:
        root = logging.getLogger()
        root.handlers = self._others
        root.setLevel(self._level)


def _told(error: BaseException) -> list[str]:
    """All that a traceback tells of an error and those behind it, but for the lines of code."""
    behind = [error.__cause__] if error.__cause__ is not None else []
    if error.__context__ is not None and not error.__suppress_context__:
        behind.append(error.__context__)
    if isinstance(error, BaseExceptionGroup):
        behind += error.exceptions
    own = [repr(error), *traceback.format_exception_only(error)]
    return own + [text for one in behind for text in _told(one)]


_STANDARD = frozenset(logging.makeLogRecord({}).__dict__)
