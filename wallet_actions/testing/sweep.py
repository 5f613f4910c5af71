"""Crash an action at every boundary there is, recover, and see whether all is well (T1, T2, T3).

    report = await sweep(lambda: TopUp(quote="q-1", amount=100, phase=Unpaid()), BankWorld)
    assert report.is_ok, report

One run in peace counts the boundaries. Then each is tried: the process dies there, another one recovers, and dies at
each boundary of its recovery, and a third one recovers from that. Each call to a peer is tried with each fault. After
every case the oracles of the world are asked, and for a crash the end is compared with that of the run in peace.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wallet_actions.action import Action
from wallet_actions.testing import oracles
from wallet_actions.testing.boundaries import Boundary
from wallet_actions.testing.life import Crashed, CrashKind, FaultKind, Life, Plan
from wallet_actions.testing.world import Listener, World
from wallet_actions.transition import Start

Makes = Callable[[], "Action[Any, Any, Any] | Start | Sequence[Action[Any, Any, Any] | Start]"]

IN_PROCESS = (CrashKind.EXCEPTION, CrashKind.CANCELLATION)


@dataclass(frozen=True, slots=True)
class Case:
    """What happens in each life but the last, which is always in peace."""

    plans: tuple[Plan, ...] = ()

    def __str__(self) -> str:
        return "+".join(str(plan) for plan in self.plans) or "peace"

    @classmethod
    def parse(cls, text: str) -> Case:
        """Read what `str` wrote.

        Raises:
            ValueError: not a case.
        """
        plans = []
        for part in text.split("+"):
            match = re.fullmatch(r"(\w+)@(\d+)", part)
            if match is None:
                raise ValueError(f"{text!r} is not a case such as exception@7 or answer_lost@2+exception@3")
            name, at = match[1], int(match[2])
            if name in tuple(CrashKind):
                plans.append(Plan(crash_at=at, crash=CrashKind(name)))
            else:
                plans.append(Plan(fault_at=at, fault=FaultKind(name)))
        return cls(tuple(plans))


@dataclass(slots=True)
class Course:
    """How one case went.

    Attributes:
        lives: what each process came to, in order.
        states: what stood in the store at the end of each.
        violations: what the oracles found.
        ending: see `World.ending`.
    """

    case: Case
    lives: list[Life] = field(default_factory=list)
    states: list[list[str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    ending: dict[str, object] = field(default_factory=dict)

    def crashes(self) -> list[Boundary]:
        """The boundaries at which the processes died, or after which the faults of peers came."""
        found = []
        for life in self.lives:
            plan = life.plan
            if plan.crash_at is not None and len(life.boundaries) >= plan.crash_at:
                found.append(life.boundaries[plan.crash_at - 1])
            if plan.fault_at is not None:
                found += [
                    b for b in life.boundaries if (b.site, b.number, b.moment) == ("peer", plan.fault_at, "before")
                ]
        return found


@dataclass(slots=True)
class SweepReport:
    """What a sweep found.

    Attributes:
        name: of the action.
        boundaries: those of the run in peace.
        cases: how many were tried.
        failures: those that went wrong, each with its violations.
    """

    name: str
    boundaries: list[Boundary] = field(default_factory=list)
    cases: int = 0
    failures: list[Course] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether nothing went wrong."""
        return not self.failures

    def __str__(self) -> str:
        head = f"{self.name}: {self.cases} cases over {len(self.boundaries)} boundaries, {len(self.failures)} failed"
        return "\n\n".join([head, *(told(course) for course in self.failures[:5])])


def told(course: Course) -> str:
    """One failure for people: where, what stood there before and after, what is wrong, how to run just that."""
    lines = [f"case {course.case}"]
    lines += [f"  died {boundary}" for boundary in course.crashes()]
    for number, state in enumerate(course.states):
        lines.append(f"  {'at the end' if number == len(course.states) - 1 else f'when process {number + 1} ended'}:")
        lines += [f"    {line}" for line in state]
    lines += [f"  violated: {violation}" for violation in course.violations]
    lines.append(f'  run it alone: WALLET_ACTIONS_CASE="{course.case}", or sweep(…, only="{course.case}")')
    return "\n".join(lines)


async def sweep(
    make: Makes,
    world: Callable[[], World[Any]],
    *,
    crashes: Sequence[CrashKind] = IN_PROCESS,
    has_pairs: bool = True,
    has_faults: bool = True,
    only: str | None = None,
    most_failures: int = 20,
    on_case: Callable[[Course], None] = lambda course: None,
) -> SweepReport:
    """Try every crash and every fault; see the module's docstring.

    Args:
        make: gives the action to start, or a `Start` with its changes, or several; the same ones each time.
        world: makes a fresh world.
        crashes: the kinds of crash to try at each boundary.
        has_pairs: whether to crash each recovery again, at each of its boundaries.
        has_faults: whether to try the faults of peers.
        only: one case, as a report names it.
        most_failures: stop after so many.
        on_case: told of each case.

    Returns:
        The report. The run in peace has to be in order itself: its violations are the report's first failure.
    """
    starts = started(make)
    report = SweepReport(name=", ".join(str(start.action.kind) for start in starts))
    peace = await run_case(Case(), starts, world)
    report.boundaries = peace.lives[0].boundaries
    if peace.violations:
        report.failures.append(peace)
        return report
    cases = _one(only) if only else _cases(peace, starts, world, crashes, has_pairs, has_faults)
    async for case in cases:
        course = await run_case(case, starts, world)
        if not any(plan.fault_at is not None for plan in case.plans):
            course.violations += oracles.differences(peace.ending, course.ending)
        report.cases += 1
        on_case(course)
        if course.violations:
            report.failures.append(course)
            if len(report.failures) >= most_failures:
                break
    return report


def started(make: Makes) -> list[Start]:
    """What is to be started, as a list."""
    made = make()
    items = list(made) if isinstance(made, Sequence) else [made]
    return [item if isinstance(item, Start) else Start(item) for item in items]


async def run_case(case: Case, starts: Sequence[Start], make_world: Callable[[], World[Any]]) -> Course:
    """Run one case in a fresh world, ask the oracles, and note how it ended."""
    course = Course(case)
    world = make_world()
    try:
        async with world.store() as store:
            await world.prepare(store)
        with Listener() as listener:
            for plan in (*case.plans, Plan()):
                life = Life(plan)
                course.lives.append(life)
                course.violations += await _live(world, life, starts)
                course.states.append(await _state(world))
            course.violations += await world.check(listener.said)
        course.ending = await world.ending()
    finally:
        await world.close()
    return course


async def _live(world: World[Any], life: Life, starts: Sequence[Start]) -> list[str]:
    task = asyncio.ensure_future(world.live(life, starts))
    await asyncio.wait([task])
    if task.cancelled():
        return ["the process was cancelled, and nobody had ordered that"]
    error = task.exception()
    await life.end()
    if life.is_over:
        return []  # whatever came up on the way down from a crash
    if error is not None:
        return [f"the process failed with {type(error).__name__}"] if isinstance(error, Exception) else _raise(error)
    swallower = life.cancelled
    if swallower is not None and not swallower.cancelled():
        return ["a cancellation was swallowed: the step went on"]
    return []


def _raise(error: BaseException) -> list[str]:
    if isinstance(error, Crashed):
        return []
    raise error


async def _cases(
    peace: Course,
    starts: Sequence[Start],
    world: Callable[[], World[Any]],
    crashes: Sequence[CrashKind],
    has_pairs: bool,
    has_faults: bool,
) -> AsyncIterator[Case]:
    boundaries = len(peace.lives[0].boundaries)
    for kind in crashes:
        for at in range(1, boundaries + 1):
            yield Case((Plan(crash_at=at, crash=kind),))
    if has_faults:
        for case in _faults(peace, world):
            yield case
    if has_pairs:
        for at in range(1, boundaries + 1):
            first = Plan(crash_at=at)
            recovery = (await run_case(Case((first,)), starts, world)).lives[1].boundaries
            for again in range(1, len(recovery) + 1):
                yield Case((first, Plan(crash_at=again)))


def _faults(peace: Course, make_world: Callable[[], World[Any]]) -> Iterable[Case]:
    world = make_world()
    calls = {b.number: b.name for b in peace.lives[0].boundaries if b.site == "peer"}
    for number, name in calls.items():
        for fault in world.faults:
            if not world.exempt(fault, name):
                yield Case((Plan(fault_at=number, fault=fault),))


async def _one(only: str) -> AsyncIterator[Case]:
    yield Case.parse(only)


async def _state(world: World[Any]) -> list[str]:
    async with world.store() as store:
        lines = [
            f"{action.key}: {action.status.value} in {action.phase}, version {action.version}"
            + (f", {action.attempts} attempts" if action.attempts else "")
            + (f", {action.error.message}" if action.error else "")
            for action in await oracles.all_actions(store)
        ]
        lines += [
            f"{one.account}: {one.spendable} {one.unit} spendable, {one.reserved} reserved"
            for one in await store.balances()
        ]
        return lines or ["nothing"]
