"""Where something goes wrong, and what: the points of the matrix and their names.

A point is a scenario and the fault that befalls its process, then perhaps the one that befalls its recovery:
`melt.pending-fails/kill@w3.after/kill@r2.answered`. Writes to the store and requests to the mint are counted from 1
since the process began. What there is to count is found by a run without a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

LONGEST_DELAY_MS = 50


class Kind(StrEnum):
    """What goes wrong, as the table has it."""

    WRITE = "killed at a write"
    REQUEST = "killed, not asked"
    ANSWER = "killed, not told"
    DELAY = "killed, 0–50 ms on"
    UNSENT = "request lost"
    LOST = "answer lost"
    BAD_GATEWAY = "502, but done"
    TWICE = "killed twice"


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that goes wrong in one life of a process.

    Attributes:
        what: `kill` with SIGKILL; `lose` a request or its answer; `502` in place of the answer, when the mint did it.
        write: which write to the store; or
        request: which request.
        moment: `before` and `after` a write; `before` the request reaches the mint; `answered`, when the mint has
            answered and the wallet does not know; `delivered`, when the answer was handed to its connection.
        delay_ms: from then to the kill.
    """

    what: str
    write: int = 0
    request: int = 0
    moment: str = ""
    delay_ms: int = 0

    def __str__(self) -> str:
        place = f"w{self.write}" if self.write else f"r{self.request}"
        moment = f"+{self.delay_ms}ms" if self.moment == "delivered" else f".{self.moment}"
        return f"{self.what}@{place}{moment}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote.

        Raises:
            ValueError: it is not that.
        """
        match = re.fullmatch(r"(kill|lose|502)@([wr])([1-9]\d*)(?:\.(before|after|answered)|\+(\d+)ms)", text)
        if match is None:
            raise ValueError(f"{text!r} is no fault of a point")
        what, site, number, moment, delay = match.groups()
        moments = ("before", "after") if site == "w" else ("before", "answered", None)
        if moment not in moments or (what != "kill" and (site == "w" or moment is None)):
            raise ValueError(f"{text!r} is no fault of a point")
        return cls(
            what,
            write=int(number) if site == "w" else 0,
            request=int(number) if site == "r" else 0,
            moment=moment or "delivered",
            delay_ms=int(delay or 0),
        )

    @property
    def kind(self) -> Kind:
        """Where it belongs in the table."""
        match self:
            case Fault(what="502"):
                return Kind.BAD_GATEWAY
            case Fault(what="lose", moment="before"):
                return Kind.UNSENT
            case Fault(what="lose"):
                return Kind.LOST
            case Fault(moment="delivered"):
                return Kind.DELAY
            case Fault(write=0, moment="before"):
                return Kind.REQUEST
            case Fault(write=0):
                return Kind.ANSWER
            case _:
                return Kind.WRITE


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One run of a scenario with what goes wrong in it; without a fault, the run that all others are held against."""

    scenario: str
    fault: Fault | None = None
    second: Fault | None = None

    def __str__(self) -> str:
        return "/".join([self.scenario, *(str(one) for one in (self.fault, self.second) if one is not None)])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote.

        Raises:
            ValueError: it is not that.
        """
        scenario, *faults = text.split("/")
        if len(faults) > 2:
            raise ValueError(f"{text!r} is no point: at most two things go wrong")
        return cls(scenario, *map(Fault.parse, faults))

    @property
    def kind(self) -> Kind | None:
        """Where it belongs in the table."""
        if self.fault is None:
            return None
        return self.fault.kind if self.second is None else Kind.TWICE


@dataclass(frozen=True, slots=True)
class Course:
    """What one life of a wallet did.

    Attributes:
        writes: to the store, by what they lead to.
        requests: to the mint, by method and path.
    """

    writes: Sequence[str] = field(default=())
    requests: Sequence[str] = field(default=())


def kills(course: Course) -> Iterator[Fault]:
    """A kill at each point of a life."""
    for write in range(1, len(course.writes) + 1):
        yield Fault("kill", write=write, moment="before")
        yield Fault("kill", write=write, moment="after")
    for request in range(1, len(course.requests) + 1):
        yield Fault("kill", request=request, moment="before")
        yield Fault("kill", request=request, moment="answered")


def singles(scenario: str, course: Course) -> Iterator[Point]:
    """All points of a scenario at which one thing goes wrong, but for the kills some milliseconds after an answer."""
    for fault in kills(course):
        yield Point(scenario, fault)
    for request in range(1, len(course.requests) + 1):
        yield Point(scenario, Fault("lose", request=request, moment="before"))
        yield Point(scenario, Fault("lose", request=request, moment="answered"))
        yield Point(scenario, Fault("502", request=request, moment="answered"))


def delays(scenario: str, course: Course) -> Iterator[Point]:
    """All points at which the process is killed some milliseconds after an answer, at a resolution of one."""
    for request in range(1, len(course.requests) + 1):
        for delay_ms in range(LONGEST_DELAY_MS + 1):
            yield Point(scenario, Fault("kill", request=request, moment="delivered", delay_ms=delay_ms))


def doubles(point: Point, recovery: Course) -> Iterator[Point]:
    """A second kill at each point of the recovery from the first."""
    for fault in kills(recovery):
        yield Point(point.scenario, point.fault, fault)
