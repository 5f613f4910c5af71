"""Sets the tools of the kit on a small action, and tells in which steps they found something."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

from tests.kit.cases import Planted, Tool, Twin
from tests.kit.worlds import SmallWorld
from wallet_actions.testing import corpus
from wallet_actions.testing.blame import Suspect, suspects
from wallet_actions.testing.double import double_drive
from wallet_actions.testing.interleavings import interleavings
from wallet_actions.testing.life import Incident
from wallet_actions.testing.schedules import Failure, simulate
from wallet_actions.testing.seeds import hash_seeds
from wallet_actions.testing.sweep import IN_PROCESS, Course, starts_in, sweep
from wallet_actions.transition import Start

Subject = Planted | Twin

SCHEDULES = 200
DEPTH = 20
MOST_INTERLEAVINGS = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """What a tool found.

    Attributes:
        steps: the phases that it blames, the most suspicious first.
        line: of the action's code, where the tool knows it.
        text: its report.
    """

    steps: tuple[str, ...]
    line: str = ""
    text: str = field(default="", repr=False)


async def findings(subject: Subject, tools: Iterable[Tool], module: str) -> dict[Tool, Finding]:
    """Set tools on a small action.

    Args:
        module: where it is defined.
    Returns:
        By tool what it found; one that found nothing is not there.
    """
    wanted = set(tools)
    found = await _swept(subject, wanted) if wanted & SWEPT else {}
    for tool in wanted - SWEPT:
        finding = await _OTHERS[tool](subject, module)
        if finding is not None:
            found[tool] = finding
    return {tool: finding for tool, finding in found.items() if tool in wanted}


SWEPT = frozenset({Tool.PEACE, Tool.CRASHES, Tool.FAULTS, Tool.CANCEL, Tool.CLOCK, Tool.SECRETS})


async def _swept(subject: Subject, tools: set[Tool]) -> dict[Tool, Finding]:
    """One sweep, of what the tools need of it."""
    has_crashes = Tool.CRASHES in tools
    report = await sweep(
        subject.make,
        subject.world,
        crashes=IN_PROCESS if has_crashes else (),
        has_pairs=has_crashes,
        has_faults=has_crashes or bool(tools & {Tool.FAULTS, Tool.SECRETS}),
        has_incidents=has_crashes or bool(tools & {Tool.CANCEL, Tool.CLOCK}),
    )
    failures: dict[Tool, list[Course]] = {}
    for course in report.failures:
        for tool in _tools(course):
            failures.setdefault(tool, []).append(course)
    return {tool: _swept_out(courses) for tool, courses in failures.items()}


def _swept_out(courses: list[Course]) -> Finding:
    found: list[Suspect] = suspects((course.lives, course.culprits.values() or course.crashes()) for course in courses)
    # The first two must not be equally suspicious: that would be naming neither.
    steps = [one.step for one in found if one.cases == found[0].cases]
    return Finding(tuple(steps), (found[0].line or "") if found else "", "\n".join(map(str, found)))


def _tools(course: Course) -> set[Tool]:
    tools = {Tool.SECRETS} if any(" secret" in text for text in course.violations) else set()
    for plan in course.case.plans:
        if plan.crash_at is not None:
            tools.add(Tool.CRASHES)
        elif plan.fault_at is not None:
            tools.add(Tool.FAULTS)
        else:
            tools.add(Tool.CANCEL if plan.incident is Incident.CANCEL else Tool.CLOCK)
    return tools or {Tool.PEACE}


async def _double(subject: Subject, module: str) -> Finding | None:
    report = await double_drive(subject.make, subject.world)
    steps = tuple(dict.fromkeys(one.step.rpartition(" in ")[2] for one in report.differences))
    return None if report.is_ok else Finding(steps, text=str(report))


async def _seeds(subject: Subject, module: str) -> Finding | None:
    name = f"{module}:{'PLANTED' if isinstance(subject, Planted) else 'TWIN'}"
    report = await hash_seeds(f"{name}.make", f"{name}.world", seeds=(1, 3))
    return None if report.is_ok else Finding(tuple(one.step for one in report.unstable), text=str(report))


async def _interleavings(subject: Subject, module: str) -> Finding | None:
    # In a thread, because it makes event loops of its own.
    report = await asyncio.to_thread(interleavings, subject.make, subject.world, depth=DEPTH, most=MOST_INTERLEAVINGS)
    return None if report.failure is None else _failed(report.failure)


async def _simulation(subject: Subject, module: str) -> Finding | None:
    report = await asyncio.to_thread(simulate, subject.make, subject.world, seed=1, count=SCHEDULES)
    return None if report.is_ok else _failed(report.failures[0])


def _failed(failure: Failure) -> Finding:
    found = failure.suspects
    return Finding(tuple(one.step for one in found), (found[0].line or "") if found else "", str(failure))


async def _corpus(subject: Subject, module: str) -> Finding | None:
    make, world = subject.older or (subject.make, subject.world)

    async def first(here: SmallWorld) -> Start:
        return (await starts_in(make, here))[0]  # one action at a time is recorded

    with TemporaryDirectory() as folder:
        await corpus.record(folder, first, world)
        report = await corpus.replay(folder, subject.world)
    # A file is named by kind, schema version and phase.
    steps = dict.fromkeys(name.removesuffix(".json").split("-")[2] for name in report.problems)
    return None if report.is_ok else Finding(tuple(steps), text=str(report))


_OTHERS: dict[Tool, Callable[[Subject, str], Awaitable[Finding | None]]] = {
    Tool.DOUBLE: _double,
    Tool.SEEDS: _seeds,
    Tool.INTERLEAVINGS: _interleavings,
    Tool.SIMULATION: _simulation,
    Tool.CORPUS: _corpus,
}
