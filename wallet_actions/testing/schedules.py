"""Thousands of schedules from one seed, and the smallest one that fails.

    report = simulate(lambda: TopUp(quote="q-1", amount=100, phase=Unpaid()), BankWorld, seed=7, count=1000)
    assert report.is_ok, report

A seed gives the same schedules, and a schedule the same run, on any machine. A failure is shrunk: what is left are the
processes, crashes, faults and switches that it takes. `replay` runs just that again. These functions make an event loop
of their own, so they are not coroutines: call them outside of any loop.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Self

from wallet_actions.testing.blame import Suspect, culprits, suspects, traced
from wallet_actions.testing.runs import Limits, Run
from wallet_actions.testing.scheduler import Point
from wallet_actions.testing.simulation import run
from wallet_actions.testing.sweep import Makes, started
from wallet_actions.testing.timeline import timeline
from wallet_actions.testing.world import World
from wallet_actions.transition import Start

MOST_SHRINKING_RUNS = 1500


@dataclass(frozen=True, slots=True)
class Schedule:
    """What decides a run: its choices. Those behind the last one are the dullest, 0.

    Attributes:
        choices: each the place of what is chosen among what there is at that moment.
        scenario: whose it is, for people.
    """

    choices: tuple[int, ...] = ()
    scenario: str = ""

    def to_json(self) -> str:
        """Write it, on one line."""
        return json.dumps({"scenario": self.scenario, "choices": self.choices}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read it.

        Raises:
            ValueError: not a schedule.
        """
        read = json.loads(text)
        choices = read.get("choices") if isinstance(read, dict) else None
        if not isinstance(choices, list) or not all(type(choice) is int and choice >= 0 for choice in choices):
            raise ValueError("a schedule has choices: integers from 0 on")
        return cls(tuple(choices), str(read.get("scenario", "")))


class Listed:
    """Makes the choices of a schedule, and then the dullest ones."""

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices = iter(choices)

    def draw(self, point: Point, options: Sequence[Any]) -> int:
        """See `Source`. A choice that there is not becomes the last one that there is."""
        return min(next(self._choices, 0), len(options) - 1)


class Seeded:
    """Makes choices at random: each schedule with a wildness of its own.

    Args:
        seed: the same text gives the same choices.
    """

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)  # noqa: S311 a schedule has to be repeatable, not secret
        self._switching = self._random.choice((0.02, 0.1, 0.3, 0.6))
        self._harm = self._random.choice((0.0, 0.02, 0.05, 0.15))
        self._waiting = self._random.choice((0.0, 0.05, 0.3))

    def draw(self, point: Point, options: Sequence[Any]) -> int:
        """See `Source`."""
        chance, last = self._random.random, len(options) - 1
        match point:
            case Point.WHO:
                if options[last] is None and chance() < self._waiting:
                    return last
                others = last - (options[last] is None)
                return 1 + int(chance() * others) if others and chance() < self._switching else 0
            case Point.FATE:
                if chance() >= self._harm:
                    return 0
                crashes = [place for place, fate in enumerate(options) if fate.lot.is_crash]
                return self._random.choice(crashes) if crashes and chance() < 0.3 else 1 + int(chance() * last)
            case Point.PROCESSES:
                return 0 if chance() < 0.1 else 1 + int(chance() * last)
            case Point.DRIVING:
                return last if chance() < 0.2 else int(chance() * last)


@dataclass(slots=True)
class Failure:
    """A schedule that went wrong.

    Attributes:
        number: which of its seed's it was.
        found: as it was found.
        schedule: the smallest that goes wrong in the same way.
        run: that one's run.
        suspects: the steps in which it went wrong; see `blame`.
    """

    number: int
    found: Schedule
    schedule: Schedule
    run: Run
    suspects: list[Suspect] = field(default_factory=list)

    def __str__(self) -> str:
        run = self.run
        counts = (
            f"{run.processes} processes, {run.crashes} crashes, {run.lots - run.crashes} other mishaps,"
            f" {run.switches} switches, {len(run.turns)} turns"
        )
        blamed = [f"look at {suspect}" for suspect in self.suspects]
        head = "\n".join([f"schedule {self.number}, {self.schedule.scenario}: {counts}", *blamed])
        return f"{head}\n\n{timeline(run)}\n\nreplay: {self.schedule.to_json()}"


@dataclass(slots=True)
class SimulationReport:
    """What a simulation found.

    Attributes:
        schedules: how many were run.
        violations: how many of them went wrong.
        failures: the first of those, shrunk.
    """

    seed: int
    schedules: int = 0
    violations: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether nothing went wrong."""
        return not self.violations

    def __str__(self) -> str:
        last = f"simulate: {self.schedules} schedules, {self.violations} violations, seed {self.seed}"
        return "\n\n".join([*map(str, self.failures), last])


def simulate(
    make: Makes,
    world: Callable[[], World[Any]],
    *,
    seed: int,
    count: int,
    first: int = 0,
    limits: Limits | None = None,
    scenario: str = "",
    most_failures: int = 1,
    on_run: Callable[[Run], None] = lambda run: None,
) -> SimulationReport:
    """Run schedules of a seed, and shrink the first that fail.

    Args:
        make: gives what to start, as for `sweep`; each process starts it all.
        world: makes a fresh world.
        count: how many schedules.
        first: the number of the first one, from 0.
        limits: how wild it may get.
        scenario: what the schedules are to be called.
        most_failures: stop after so many.
        on_run: told of each.
    """
    wild, starts = limits or Limits(), started(make)
    report = SimulationReport(seed)
    for number in range(first, first + count):
        one = run(starts, world, Seeded(f"{seed}/{number}"), wild)
        report.schedules += 1
        on_run(one)
        if one.violations:
            report.violations += 1
            found = Schedule(one.choices, scenario)
            smallest = shrink(one, starts, world, wild)
            schedule = Schedule(_stripped(smallest.choices), scenario)
            report.failures.append(Failure(number, found, schedule, smallest, blamed(smallest, starts, world, wild)))
            if report.violations >= most_failures:
                break
    return report


def replay(schedule: Schedule, make: Makes, world: Callable[[], World[Any]], *, limits: Limits | None = None) -> Run:
    """Run one schedule again; under the same limits it is the same run.

    Raises:
        ValueError: the world asks for choices that the schedule cannot be of.
    """
    return run(started(make), world, Listed(schedule.choices), limits or Limits())


def blamed(failed: Run, starts: Sequence[Start], world: Callable[[], World[Any]], limits: Limits) -> list[Suspect]:
    """The steps in which a run went wrong: it is run again, and the oracles are asked at every boundary."""
    make, traces = traced(world)
    again = run(starts, make, Listed(failed.choices), limits)
    return suspects([((), asyncio.run(culprits(traces[0], again.violations)).values())])


def shrink(failed: Run, starts: Sequence[Start], world: Callable[[], World[Any]], limits: Limits) -> Run:
    """The smallest run that fails like this one, as far as a greedy search goes.

    Smaller is: fewer processes, then fewer crashes and other mishaps, fewer switches, fewer turns.
    """
    best, wanted, runs = failed, _signs(failed), 0

    def better(choices: tuple[int, ...]) -> bool:
        nonlocal best, runs
        runs += 1
        one = run(starts, world, Listed(choices), limits)
        if _signs(one) & wanted and _size(one) < _size(best):
            best = one
            return True
        return False

    is_shrinking = True
    while is_shrinking and runs < MOST_SHRINKING_RUNS:
        is_shrinking = False
        attempts = _smaller(_stripped(best.choices))
        for choices in attempts:
            if runs >= MOST_SHRINKING_RUNS:
                break
            if better(choices):
                is_shrinking = True
                attempts = _smaller(_stripped(best.choices))
                break
    return best


def _smaller(choices: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    length, size = len(choices), len(choices)
    while size:
        for start in range(0, length, size):
            block = choices[start : start + size]
            if any(block):
                yield choices[:start] + (0,) * len(block) + choices[start + size :]
        for start in range(0, length, size):
            yield choices[:start] + choices[start + size :]
        size //= 2
    for place, choice in enumerate(choices):
        for lower in range(1, choice):
            yield (*choices[:place], lower, *choices[place + 1 :])


def _stripped(choices: tuple[int, ...]) -> tuple[int, ...]:
    length = len(choices)
    while length and not choices[length - 1]:
        length -= 1
    return choices[:length]


def _signs(run: Run) -> set[str]:
    return {re.sub(r"\d+", "#", violation) for violation in run.violations}


def _size(run: Run) -> tuple[int, ...]:
    choices = _stripped(run.choices)
    return (run.processes, run.lots, run.switches, len(run.turns), len(choices), sum(choices))
