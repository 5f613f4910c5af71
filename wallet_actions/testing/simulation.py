"""One run of a world: several processes over one store, whatever may happen to them, and what comes of it.

Each process has its own life, executor, wallet and view of the store; every read and write of the store and every call
to a peer is a turn (see `scheduler`). Processes die and come back, lose the store or the peers for a while, have clocks
that differ and jump, are asked to cancel, are notified, and drive one action twice at once. Then all that stops, and
everything has to end, with the oracles of the world content. The choices of a
source decide everything, so the same choices give the same run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from wallet_actions.coins import ActionKey
from wallet_actions.errors import StoreUnavailableError, UnknownActionError
from wallet_actions.operator import Operator
from wallet_actions.store import Store
from wallet_actions.testing import oracles
from wallet_actions.testing.boundaries import WRITES, Boundary
from wallet_actions.testing.clock import clocks
from wallet_actions.testing.fates import CUT_OFF_FOR, FINE, JUMP, ONLY_FINE, Fate, Lot, fates_of
from wallet_actions.testing.life import Crashed, FaultKind, Life, Plan
from wallet_actions.testing.processes import OPEN, Driving, Process
from wallet_actions.testing.runs import Limits, Run
from wallet_actions.testing.scheduler import (
    EndlessError,
    Point,
    Scheduler,
    SimulatedClock,
    Source,
    skew,
)
from wallet_actions.testing.trial import Makes, starts_in
from wallet_actions.testing.turns import TurnTakingLife, pauses
from wallet_actions.testing.world import Listener, World
from wallet_actions.transition import Start

_process: ContextVar[Process | None] = ContextVar("process", default=None)


def run(make: Makes, make_world: Callable[[], World[Any]], source: Source, limits: Limits) -> Run:
    """Run a fresh world once, by the choices of a source.

    Args:
        make: as for `sweep`; called once the world is prepared, before anything can happen to a process.
    """
    scheduler = Scheduler(source, most_turns=limits.most_turns)
    loop = scheduler.loop
    try:
        simulation = _Simulation(scheduler, make, make_world, limits)
        loop.set_task_factory(_keep_task)
        loop.set_exception_handler(_mind)
        with Listener() as listener:
            try:
                loop.run_until_complete(simulation.main(listener.said))
                loop.run_until_complete(loop.shutdown_asyncgens())
            except EndlessError as error:
                simulation.violations.append(str(error))
                loop.set_exception_handler(lambda loop, context: None)  # of tasks that are left behind
        return simulation.result()
    finally:
        loop.close()


class _Simulation:
    def __init__(self, scheduler: Scheduler, make: Makes, make_world: Callable[[], World[Any]], limits: Limits) -> None:
        self._scheduler = scheduler
        self._loop = scheduler.loop
        self._make = make
        self._starts: Sequence[Start] = ()
        self._keys: tuple[ActionKey, ...] = ()
        self._limits = limits
        self._lots_left = limits.most_lots
        self.violations: list[str] = []
        self._states: list[str] = []
        self._processes: list[Process] = []
        self._deliveries: list[asyncio.Task[None]] = []
        self._dead: list[asyncio.Task[Any]] = []
        self._all_over = asyncio.Event()
        token = clocks.set(lambda: SimulatedClock(scheduler.loop))
        try:
            self._world = make_world()
        finally:
            clocks.reset(token)

    def result(self) -> Run:
        """What came of it."""
        return Run(
            tuple(self._scheduler.choices),
            self._scheduler.turns,
            self.violations,
            len(self._processes),
            self._scheduler.switches,
            self._states,
        )

    async def main(self, said: list[str]) -> None:
        """Run all processes to their end, and ask the oracles."""
        world = self._world
        try:
            async with world.store() as store:
                await world.prepare(store)
                self._starts = await starts_in(self._make, world)
                self._keys = tuple(start.action.key for start in self._starts)
                await self._set_up(store)
                await self._go(store)
                self.violations += await world.check(said)
                self._states = [
                    f"{action.key}: {action.status.value} in {action.phase}, version {action.version}"
                    for action in await oracles.all_actions(store)
                ]
        finally:
            await world.close()

    async def _set_up(self, store: Store) -> None:
        limits, draw = self._limits, self._scheduler.draw
        counts = range(1, limits.processes + 1)
        if Driving.BARE in limits.driving:
            executor = self._world.executor(store, self._world.wallet(Life(), store))
            for start in self._starts:
                await executor.start(start.action, start.changes)
            counts = counts[-1:]
        for number in range(1, counts[draw(Point.PROCESSES, counts)] + 1):
            self._processes.append(Process(number, limits.driving[draw(Point.DRIVING, limits.driving)]))

    async def _go(self, store: Store) -> None:
        scheduler = self._scheduler
        living = [asyncio.ensure_future(self._lives(process)) for process in self._processes]
        watch = asyncio.ensure_future(self._watch(store))
        scheduler.is_on = True
        await self._unless_stopped(living)
        await self._unless_stopped(self._deliveries)
        scheduler.is_on = False
        if scheduler.stopped.done():
            self.violations.append(scheduler.stopped.result())
            for process in self._processes:
                process.crash()
            for task in (*living, *self._deliveries):
                task.cancel()
        watch.cancel()
        rest = [task for process in self._processes for task in process.tasks]
        await asyncio.gather(watch, *living, *self._deliveries, *self._dead, *rest, return_exceptions=True)

    async def _unless_stopped(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        waiting: set[asyncio.Future[Any]] = set(tasks)
        while waiting and not self._scheduler.stopped.done():
            _, waiting = await asyncio.wait({*waiting, self._scheduler.stopped}, return_when=asyncio.FIRST_COMPLETED)
            waiting.discard(self._scheduler.stopped)

    async def _watch(self, store: Store) -> None:
        """Tell the runners, who would run for ever, once there is nothing left to do."""
        while not self._all_over.is_set():
            await self._scheduler.time_passed.wait()
            self._scheduler.time_passed.clear()
            if not await store.list_actions(statuses=OPEN, limit=1):
                there = [await store.load(key) for key in self._keys]
                if None not in there:
                    self._all_over.set()

    # One process

    async def _lives(self, process: Process) -> None:
        skew.set(process.ahead)
        while True:
            life = process.begin(TurnTakingLife())
            task = self._loop.create_task(self._live(process, life))
            process.tasks.append(task)
            await asyncio.wait([task])
            if life.delayed or life.late:
                self._deliveries.append(asyncio.ensure_future(self._deliver(process, life)))
            if not life.is_over:
                error = None if task.cancelled() else task.exception()
                if error is not None:
                    self.violations.append(f"process {process.number} failed with {_told(error)}")
                process.crash()  # whatever is left of it
                return
            self._dead += process.tasks

    async def _live(self, process: Process, life: Life) -> None:
        _process.set(process)
        is_restart = process.lives > 1
        turn = await self._scheduler.turn(
            process.number,
            process.lives,
            "starts again" if is_restart else f"starts, driving {process.driving.value}",
            "life",
            lambda: _STARTS if is_restart and Lot.CLOCK_BACK in self._lots() else ONLY_FINE,
        )
        turn.is_answered = True
        self._count(turn.fate)
        if turn.fate.lot is Lot.CLOCK_BACK:
            process.ahead[0] -= JUMP
        life.switch = lambda boundary: self._switch(process, life, boundary)
        pauses.set(lambda what: self._step(process, what))
        async with self._world.process(life) as executor:
            process.executor = executor
            await process.run(executor, self._starts, self._all_over)
            while process.asides:  # one can bring about another
                await process.asides.pop()

    async def _step(self, process: Process, what: str) -> None:
        turn = await self._scheduler.turn(process.number, process.lives, what, "write")
        process.life.check()
        turn.is_answered = True

    async def _deliver(self, process: Process, life: Life) -> None:
        turn = await self._scheduler.turn(process.number, process.lives, "what was on its way arrives", "peer")
        await life.end()
        turn.is_answered = True

    # What becomes of it

    def _lots(self) -> frozenset[Lot]:
        if self._lots_left and len(self._scheduler.turns) < self._limits.horizon:
            return self._limits.lots
        return frozenset()

    def _count(self, fate: Fate) -> None:
        if fate.lot is not Lot.FINE:
            self._lots_left -= 1

    async def _switch(self, process: Process, life: Life, boundary: Boundary) -> None:
        place = (boundary.site, boundary.number)
        if boundary.moment == "after":
            turn = process.under_way.pop(place)
            if turn.fate.lot is Lot.CRASH_AFTER:
                raise process.crash()
            if turn.fate.lot is Lot.UNANSWERED:
                raise StoreUnavailableError("the answer of the store was lost")
            turn.is_answered = True
            return
        is_peer, is_write = boundary.site == "peer", boundary.name in WRITES
        is_drive = asyncio.current_task() in process.drives
        turn = await self._scheduler.turn(
            process.number,
            process.lives,
            _what(boundary),
            "peer" if is_peer else "write" if is_write else "read",
            lambda: self._fates(process, boundary, is_write=is_write, is_drive=is_drive),
        )
        self._count(turn.fate)
        self._meet(process, life, boundary, turn.fate)
        if process.cut_until_s.get(boundary.site, 0.0) > self._loop.time():
            raise (
                ConnectionResetError("the peer cannot be reached")
                if is_peer
                else StoreUnavailableError("the store cannot be reached")
            )
        if is_peer or is_write:
            process.under_way[place] = turn
        else:
            turn.is_answered = True

    def _fates(self, process: Process, boundary: Boundary, *, is_write: bool, is_drive: bool) -> Sequence[Fate]:
        lots = self._lots()
        if not lots or process.cut_until_s.get(boundary.site, 0.0) > self._loop.time():
            return ONLY_FINE
        faults: tuple[FaultKind, ...] = ()
        if boundary.site == "peer":
            faults = tuple(self._world.faults_of(boundary.name))
        if not is_drive:
            lots -= {Lot.DRIVER_CANCELLED}
        return fates_of(boundary.site, is_write=is_write, lots=lots, faults=faults, keys=self._keys)

    def _meet(self, process: Process, life: Life, boundary: Boundary, fate: Fate) -> None:
        match fate:
            case Fate(lot=Lot.CRASH_BEFORE):
                raise process.crash()
            case Fate(lot=Lot.LOST):
                raise StoreUnavailableError("the store was not reached")
            case Fate(lot=Lot.FAULT, fault=FaultKind() as fault):
                life.plan = Plan(fault_at=boundary.number, fault=fault)
            case Fate(lot=Lot.CUT_OFF):
                process.cut_until_s[boundary.site] = self._loop.time() + CUT_OFF_FOR.total_seconds()
            case Fate(lot=Lot.CLOCK_FORWARD):
                process.ahead[0] += JUMP
            case Fate(lot=Lot.DRIVER_CANCELLED):
                task = asyncio.current_task()
                if task is not None:
                    task.cancel()  # what it is at still happens; it does not hear of it
            case Fate(lot=Lot.NOTIFY, key=ActionKey() as key):
                process.notify(key)
            case Fate(lot=Lot.CANCEL, key=ActionKey() as key):
                process.asides.append(asyncio.ensure_future(self._ask_to_cancel(process, key)))
            case Fate(lot=Lot.SECOND_DRIVER, key=ActionKey() as key):
                process.asides.append(asyncio.ensure_future(process.drive_once(key)))

    async def _ask_to_cancel(self, process: Process, key: ActionKey) -> None:
        executor = process.executor
        if executor is not None:
            operator = Operator(executor.store, clock=executor.clock, on_change=process.notify)
            with suppress(UnknownActionError, StoreUnavailableError):
                await operator.request_cancel(key)


_STARTS = (FINE, Fate(Lot.CLOCK_BACK))


def _what(boundary: Boundary) -> str:
    about = f" {boundary.key}" if boundary.key is not None else ""
    leads_to = f" → {boundary.phase}" if boundary.phase is not None else ""
    return f"{boundary.name}{about}{leads_to}"


def _told(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(_told(one) for one in error.exceptions)
    return f"{type(error).__name__}: {error}"


def _keep_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **kwargs)
    process = _process.get()
    if process is not None:
        process.tasks.append(task)
    return task


def _mind(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), Crashed):
        loop.default_exception_handler(context)
