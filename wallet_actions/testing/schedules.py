"""Thousands of schedules from one seed, and the smallest one that fails.

    report = simulate(lambda: TopUp(quote="q-1", amount=100, phase=Unpaid()), BankWorld, seed=7, count=1000)
    assert report.is_ok, str(report)

A seed gives the same schedules, and a schedule the same run, on any machine. A failure is shrunk: what is left are the
processes, crashes, faults and switches that it takes. `replay` runs just that again. These functions make an event loop
of their own, so they are not coroutines: call them outside of any loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from wallet_actions.testing.blame import Suspect, culprits, suspects, traced
from wallet_actions.testing.runs import Limits, Run
from wallet_actions.testing.shrinking import shrink
from wallet_actions.testing.simulation import run
from wallet_actions.testing.sources import Listed, Seeded, stripped
from wallet_actions.testing.timeline import timeline
from wallet_actions.testing.trial import Makes
from wallet_actions.testing.world import World


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
            f"processes {run.processes}, crashes {run.crashes}, other mishaps {run.lots - run.crashes},"
            f" switches {run.switches}, turns {len(run.turns)}"
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
        make: gives what to start, as for `sweep`; it is called for each schedule, and each process starts it all.
        world: makes a fresh world.
        count: how many schedules.
        first: the number of the first one, from 0.
        limits: how wild it may get.
        scenario: what the schedules are to be called.
        most_failures: stop after so many.
        on_run: told of each.
    """
    wild = limits or Limits()
    report = SimulationReport(seed)
    for number in range(first, first + count):
        one = run(make, world, Seeded(f"{seed}/{number}"), wild)
        report.schedules += 1
        on_run(one)
        if one.violations:
            report.violations += 1
            found = Schedule(one.choices, scenario)
            smallest = shrink(one, make, world, wild)
            schedule = Schedule(stripped(smallest.choices), scenario)
            report.failures.append(Failure(number, found, schedule, smallest, blamed(smallest, make, world, wild)))
            if report.violations >= most_failures:
                break
    return report


def replay(schedule: Schedule, make: Makes, world: Callable[[], World[Any]], *, limits: Limits | None = None) -> Run:
    """Run one schedule again; under the same limits it is the same run."""
    return run(make, world, Listed(schedule.choices), limits or Limits())


def blamed(failed: Run, make: Makes, world: Callable[[], World[Any]], limits: Limits) -> list[Suspect]:
    """The steps in which a run went wrong: it is run again, and the oracles are asked at every boundary."""
    watched, traces = traced(world)
    again = run(make, watched, Listed(failed.choices), limits)
    return suspects([((), asyncio.run(culprits(traces[0], again.violations)).values())])
