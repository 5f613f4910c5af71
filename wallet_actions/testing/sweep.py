"""Crash an action at every boundary there is, recover, and see whether all is well (T1, T2, T3).

    report = await sweep(lambda: TopUp(quote="q-1", amount=100, phase=Unpaid()), BankWorld)
    assert report.is_ok, str(report)

One run in peace counts the boundaries. Then each is tried: the process dies there, another one recovers, and dies at
each boundary of its recovery, and a third one recovers from that. Each call to a peer is tried with each fault. Around
each boundary something happens to a process that lives on: it is asked to cancel, the clock is set back. And processes
die after a fault or a request to cancel, so that the ways that only those open are taken twice. After every case the
oracles of the world are asked, and for a crash the end is compared with that of the run in peace. A case that fails is
run once more, to see in which step it went wrong.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wallet_actions.action import Action
from wallet_actions.testing.case import Case, Course, SweepReport, told
from wallet_actions.testing.life import CrashKind, Incident, Plan
from wallet_actions.testing.nursery import Nursery
from wallet_actions.testing.trial import Made, Makes, live, run_case, starts_in
from wallet_actions.testing.world import World

__all__ = [
    "CASE_VARIABLE",
    "IN_PROCESS",
    "Case",
    "Course",
    "Made",
    "Makes",
    "SweepReport",
    "live",
    "run_case",
    "starts_in",
    "sweep",
    "told",
]

CASE_VARIABLE = "WALLET_ACTIONS_CASE"
IN_PROCESS = (CrashKind.EXCEPTION, CrashKind.CANCELLATION)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which cases to try; see `sweep`."""

    crashes: Sequence[CrashKind]
    has_pairs: bool
    has_faults: bool
    has_incidents: bool
    sample: int | None
    seed: int
    only: Case | None


async def sweep(
    make: Makes,
    world: Callable[[], World[Any]],
    *,
    crashes: Sequence[CrashKind] = IN_PROCESS,
    has_pairs: bool = True,
    has_faults: bool = True,
    has_incidents: bool = True,
    sample: int | None = None,
    seed: int = 0,
    only: str | None = None,
    most_failures: int = 20,
    on_plan: Callable[[int], None] = lambda count: None,
    on_case: Callable[[Course], None] = lambda course: None,
) -> SweepReport:
    """Try every crash and every fault; see the module's docstring.

    Args:
        make: gives the action to start, or a `Start` with its changes, or several; the same ones each time. It may take
            the world, and it may be async: it is called once the world is prepared, and by each process of its own.
        world: makes a fresh world.
        crashes: the kinds of crash to try at each boundary. With SIGKILL among them every life runs in a process of its
            own, which has to find `world` and `make` by their names, and the world is a `DurableWorld`.
        has_pairs: whether to crash each recovery again, at each of its boundaries, in the first of these ways; and to
            crash after each fault and each request to cancel.
        has_faults: whether to try the faults of peers.
        has_incidents: whether to try what happens around a process that lives on.
        sample: about so many cases in place of all, chosen at random, half of them with two mishaps; for slow peers.
        seed: of the choice.
        only: one case, as a report names it; by default that in the environment's WALLET_ACTIONS_CASE.
        most_failures: stop after so many.
        on_plan: told how many cases there are, as far as that is known; then how many more, again and again.
        on_case: told of each case.

    Returns:
        The report. The run in peace has to be in order itself: its violations are the report's first failure.
    Raises:
        UsageError: SIGKILL, and what other processes need cannot be imported there; or no such case, or one that does
            not happen here.
    """
    only = only or os.environ.get(CASE_VARIABLE)
    the_one = Case.parse(only) if only else None
    choice = _Choice(crashes, has_pairs, has_faults, has_incidents, sample, seed, the_one)
    if CrashKind.SIGKILL in crashes or (the_one is not None and the_one.has_sigkill):
        async with Nursery(world, make) as nursery:
            return await _sweep(make, nursery.world, choice, most_failures, on_plan, on_case)
    return await _sweep(make, world, choice, most_failures, on_plan, on_case)


async def _sweep(
    make: Makes,
    world: Callable[[], World[Any]],
    choice: _Choice,
    most_failures: int,
    on_plan: Callable[[int], None],
    on_case: Callable[[Course], None],
) -> SweepReport:
    peace = await _judged(Case(), make, world, None)
    report = SweepReport(name=_name(peace), boundaries=peace.lives[0].boundaries)
    if peace.violations:
        report.failures.append(peace)
        return report
    async for cases in _batches(peace, make, world, choice):
        on_plan(len(cases))
        for case in cases:
            course = await _judged(case, make, world, peace)
            report.cases += 1
            on_case(course)
            if choice.only is not None:
                course.check_reached()
            if course.violations:
                report.failures.append(course)
                if len(report.failures) >= most_failures:
                    return report
    return report


def _name(peace: Course) -> str:
    started = [b.key for b in peace.lives[0].boundaries if b.name == "create" and b.key is not None]
    return ", ".join(dict.fromkeys(key.kind for key in started)) or "nothing"


async def _judged(case: Case, make: Makes, world: Callable[[], World[Any]], peace: Course | None) -> Course:
    """Run a case; where it fails, once more, to see since when."""
    clean = peace.ending if peace is not None and not any(_changes_ending(plan) for plan in case.plans) else None
    course = await run_case(case, make, world, clean)
    if course.violations:
        again = await run_case(case, make, world, clean, is_traced=True)
        if again.violations:
            return again
    return course


def _changes_ending(plan: Plan) -> bool:
    return plan.fault_at is not None or (plan.incident_at is not None and plan.incident is Incident.CANCEL)


async def _batches(
    peace: Course, make: Makes, world: Callable[[], World[Any]], choice: _Choice
) -> AsyncIterator[list[Case]]:
    if choice.only is not None:
        yield [choice.only]
        return
    boundaries = len(peace.lives[0].boundaries)
    cases = [Case((Plan(crash_at=at, crash=kind),)) for kind in choice.crashes for at in range(1, boundaries + 1)]
    here = world()
    try:
        if choice.has_faults:
            cases += _faults(peace, here)
        if choice.has_incidents:
            cases += [
                Case((Plan(incident_at=at, incident=incident),))
                for incident in _incidents(here)
                for at in range(1, boundaries + 1)
            ]
    finally:
        await here.close()

    async def pairs(first: Plan) -> list[Case]:
        recovery = (await run_case(Case((first,)), make, world)).lives[1].boundaries
        return [Case((first, Plan(crash_at=at, crash=first.crash))) for at in range(1, len(recovery) + 1)]

    async def crashes_after(case: Case) -> list[Case]:
        (plan,) = case.plans
        course = await run_case(case, make, world)
        reached = course.lives[0].boundaries
        since = next((place for place, boundary in enumerate(reached, start=1) if boundary in course.crashes()), 0)
        # An action that tries again and again comes to the same place each time: once there is enough.
        places = {replace(boundary, number=0): at for at, boundary in reversed([*enumerate(reached, start=1)][since:])}
        return [Case((replace(plan, crash_at=at, crash=choice.crashes[0]),)) for at in sorted(places.values())]

    firsts = [Plan(crash_at=at, crash=choice.crashes[0]) for at in range(1, boundaries + 1)] if choice.has_pairs else []
    if choice.sample is None:
        yield cases
        for first in firsts:
            yield await pairs(first)
        for case in cases if choice.has_pairs else ():
            if any(map(_changes_ending, case.plans)):
                yield await crashes_after(case)
        return
    chance = random.Random(choice.seed)  # noqa: S311 a choice that can be made again
    count = choice.sample // 2 if firsts else 0
    faulty = [case for case in cases if any(map(_changes_ending, case.plans))]
    yield chance.sample(cases, min(len(cases), choice.sample - count))
    for number in range(count):
        is_fault = bool(faulty) and number % 2 == 1
        found = await (crashes_after(chance.choice(faulty)) if is_fault else pairs(chance.choice(firsts)))
        yield [chance.choice(found)] if found else []


def _faults(peace: Course, world: World[Any]) -> Iterable[Case]:
    calls = {b.number: b.name for b in peace.lives[0].boundaries if b.site == "peer"}
    for number, name in calls.items():
        for fault in world.faults_of(name):
            yield Case((Plan(fault_at=number, fault=fault),))


def _incidents(world: World[Any]) -> list[Incident]:
    can_cancel = any(kind.on_cancel is not Action.on_cancel for kind in world.kinds)
    return [incident for incident in Incident if incident is not Incident.CANCEL or can_cancel]
