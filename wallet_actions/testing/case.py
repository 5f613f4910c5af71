"""One case of a sweep, how it went, and what a sweep found: told for people, and to be run again."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from wallet_actions.errors import UsageError
from wallet_actions.testing.blame import Suspect, suspects
from wallet_actions.testing.boundaries import Boundary
from wallet_actions.testing.life import CrashKind, FaultKind, Incident, Life, Plan

_ENDS = {
    CrashKind.EXCEPTION: "died",
    CrashKind.CANCELLATION: "was cancelled",
    CrashKind.SIGKILL: "was killed",
}


@dataclass(frozen=True, slots=True)
class Case:
    """What happens in each life but the last, which is always in peace.

    Its name joins the lives by `+`, and what happens in one of them by commas: `answer_lost@2,exception@9+exception@3`.
    """

    plans: tuple[Plan, ...] = ()

    def __str__(self) -> str:
        return "+".join(str(plan) for plan in self.plans) or "peace"

    @property
    def has_sigkill(self) -> bool:
        """Whether a process is to die for real."""
        return any(plan.crash_at is not None and plan.crash is CrashKind.SIGKILL for plan in self.plans)

    @classmethod
    def parse(cls, text: str) -> Case:
        """Read what `str` wrote.

        Raises:
            UsageError: not a case.
        """
        return cls(tuple(_parsed(life, text) for life in text.split("+")))


def _parsed(life: str, text: str) -> Plan:
    plan = Plan()
    for part in life.split(","):
        match = re.fullmatch(r"(\w+)@(\d+)", part)
        if match is None:
            raise UsageError(f"{text!r} is not a case such as answer_lost@2,exception@7+exception@3")
        name, at = match[1], int(match[2])
        if name in tuple(CrashKind):
            plan = replace(plan, crash_at=at, crash=CrashKind(name))
        elif name in tuple(Incident):
            plan = replace(plan, incident_at=at, incident=Incident(name))
        elif name in tuple(FaultKind):
            plan = replace(plan, fault_at=at, fault=FaultKind(name))
        else:
            raise UsageError(f"{name!r} is neither a crash, nor a fault, nor an incident")
    return plan


@dataclass(slots=True)
class Course:
    """How one case went.

    Attributes:
        lives: what each process came to, in order.
        states: what stood in the store at the end of each.
        moments: what stood there when something happened, in the order of `happenings`; empty where it is not known.
        violations: what the oracles found.
        culprits: where each of them came about, as far as that is known; see `blame`.
        ending: see `World.ending`.
    """

    case: Case
    lives: list[Life] = field(default_factory=list)
    states: list[list[str]] = field(default_factory=list)
    moments: list[list[str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    culprits: dict[str, Boundary] = field(default_factory=dict)
    ending: dict[str, object] = field(default_factory=dict)

    def check_reached(self) -> None:
        """Make sure that everything in the case has happened: else that nothing went wrong says nothing.

        Raises:
            UsageError: a process did not come that far.
        """
        planned = sum(
            at is not None for plan in self.case.plans for at in (plan.crash_at, plan.fault_at, plan.incident_at)
        )
        if len(self.happenings()) < planned:
            reached = ", ".join(
                f"process {number} came to {len(life.boundaries)} boundaries,"
                f" {sum(one.site == 'peer' and one.moment == 'before' for one in life.boundaries)} of them calls"
                for number, life in enumerate(self.lives[: len(self.case.plans)], start=1)
            )
            raise UsageError(f"case {self.case} did not happen: {reached}")

    def crashes(self) -> list[Boundary]:
        """The boundaries at which the processes died or something happened, or after which the faults of peers came."""
        return [boundary for _, boundary in self.happenings()]

    def happenings(self) -> list[tuple[str, Boundary]]:
        """What happened, and where, in order."""
        found = []
        for life in self.lives:
            plan, reached = life.plan, life.boundaries
            found += [
                (plan.fault.value.replace("_", " "), boundary)
                for boundary in reached
                if (boundary.site, boundary.number, boundary.moment) == ("peer", plan.fault_at, "before")
            ]
            if plan.incident_at is not None and len(reached) >= plan.incident_at:
                found.append((plan.incident.value.replace("_", " "), reached[plan.incident_at - 1]))
            if plan.crash_at is not None and len(reached) >= plan.crash_at:
                found.append((_ENDS[plan.crash], reached[plan.crash_at - 1]))
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

    @property
    def suspects(self) -> list[Suspect]:
        """The steps in which the violations came about, the most frequent first."""
        return suspects((course.lives, course.culprits.values() or course.crashes()) for course in self.failures)

    @property
    def extent(self) -> str:
        """What was tried, and whether anything of it could have met a peer."""
        is_alone = bool(self.boundaries) and all(boundary.site == "store" for boundary in self.boundaries)
        alone = " (no call to a peer was seen: is it wrapped?)" if is_alone else ""
        return f"{self.name}: {self.cases} cases over {len(self.boundaries)} boundaries{alone}"

    def __str__(self) -> str:
        head = f"{self.extent}, {len(self.failures)} failed"
        blamed = [f"look at {suspect}" for suspect in self.suspects]
        return "\n\n".join(["\n".join([head, *blamed]), *(told(course) for course in self.failures[:5])])


def told(course: Course) -> str:
    """One failure for people: where, what stood there before and after, what is wrong, how to run just that."""
    lines = [f"case {course.case}"]
    for number, (what, boundary) in enumerate(course.happenings()):
        lines.append(f"  {what} {boundary}")
        state = course.moments[number] if number < len(course.moments) else []
        if state and state not in course.states:  # of a process that lived on: else it is what the next one found
            lines += ["  at that moment:", *(f"    {line}" for line in state)]
    for number, state in enumerate(course.states):
        lines.append(f"  {'at the end' if number == len(course.states) - 1 else f'when process {number + 1} ended'}:")
        lines += [f"    {line}" for line in state]
    for violation in course.violations:
        lines.append(f"  violated: {violation}")
        if violation in course.culprits:
            lines.append(f"    since {course.culprits[violation]}")
    lines.append(f'  run it alone: WALLET_ACTIONS_CASE="{course.case}", or sweep(…, only="{course.case}")')
    return "\n".join(lines)
