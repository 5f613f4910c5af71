"""Every order in which two drivers of one action can meet, up to a depth (T7).

    report = interleavings(lambda: TopUp(quote="q-1", amount=100, phase=Unpaid()), BankWorld, depth=20)
    assert report.is_ok, str(report)

The action is there, and each driver is a process that drives it to its end. Each read and write of the store and each
call to a peer is a point where the other one may go first; each way is run from the beginning, in a fresh world. Two
orders that differ only in things that cannot matter to each other (two reads; a call to a peer and a write to the
store) are run once. Where the store or the stage of an action shows in a peer without being written, that is not so:
then say `is_reduced=False`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wallet_actions.testing.fates import Fate, Lot
from wallet_actions.testing.processes import Driving
from wallet_actions.testing.runs import Limits, Run
from wallet_actions.testing.scheduler import Point, Waiting
from wallet_actions.testing.schedules import Failure, Schedule, blamed
from wallet_actions.testing.simulation import run
from wallet_actions.testing.trial import Makes
from wallet_actions.testing.world import World

Asleep = dict[tuple[int, int], str]
"""Who need not go now, since all that comes of it was seen: process and place, and what it would touch."""


@dataclass(slots=True)
class InterleavingsReport:
    """What was found.

    Attributes:
        explored: how many interleavings were run.
        skipped: how many of those turned out to be another one in another order.
        is_complete: whether that was all of them: none had a choice left beyond the depth.
        failure: the first that went wrong, as it was found.
    """

    depth: int
    explored: int = 0
    skipped: int = 0
    is_complete: bool = True
    failure: Failure | None = None

    @property
    def is_ok(self) -> bool:
        """Whether nothing went wrong."""
        return self.failure is None

    def __str__(self) -> str:
        extent = "all there are" if self.is_complete else f"to a depth of {self.depth} choices"
        head = f"{self.explored} interleavings, {extent}: {'no violation' if self.is_ok else 'a violation'}"
        return head if self.failure is None else f"{self.failure}\n\n{head}"


def driving_limits(drivers: int = 2, crashes: int = 0) -> Limits:
    """The limits under which interleavings are run, and under which one of them is replayed."""
    lots = frozenset((Lot.CRASH_BEFORE, Lot.CRASH_AFTER)) if crashes else frozenset()
    return Limits(processes=drivers, lots=lots, most_lots=crashes, driving=(Driving.BARE,))


def interleavings(
    make: Makes,
    world: Callable[[], World[Any]],
    *,
    depth: int = 20,
    drivers: int = 2,
    crashes: int = 0,
    most: int = 100_000,
    is_reduced: bool = True,
    on_run: Callable[[Run], None] = lambda run: None,
) -> InterleavingsReport:
    """Run every interleaving, and stop at the first that goes wrong.

    Args:
        make: gives the action, or several, as for `sweep`.
        world: makes a fresh world.
        depth: how many choices to try out in each run; behind that, whoever runs goes on until it has to wait.
        crashes: at how many moments, in each run, one of the drivers may die and come back.
        most: stop after so many.
        is_reduced: whether to leave out what can only come to the same.
        on_run: told of each.
    """
    limits = driving_limits(drivers, crashes)
    report = InterleavingsReport(depth)
    tree = _Tree(depth, is_reduced=is_reduced)
    while report.explored < most:
        one = run(make, world, tree, limits)
        report.explored += 1
        report.skipped += tree.is_repetition
        report.is_complete = report.is_complete and not tree.is_cut
        on_run(one)
        if one.violations:
            schedule = Schedule(one.choices)
            report.failure = Failure(report.explored, schedule, schedule, one, blamed(one, make, world, limits))
            return report
        if not tree.turn():
            return report
    report.is_complete = False
    return report


@dataclass(slots=True)
class _Node:
    """One choice on the way: what there was to choose from, which is taken, and who need not go."""

    options: Sequence[tuple[tuple[int, int], str] | None]
    asleep: Asleep
    choice: int = 0
    seen: Asleep = field(default_factory=dict)

    def next_from(self, first: int) -> bool:
        for place in range(first, len(self.options)):
            option = self.options[place]
            if option is None or option[0] not in self.asleep:
                self.choice = place
                return True
        return False


class _Tree:
    """Walks through all choices depth first, by running from the beginning each time: a `Source`."""

    def __init__(self, depth: int, *, is_reduced: bool) -> None:
        self._depth = depth
        self._is_reduced = is_reduced
        self._path: list[_Node] = []
        self._begin()

    def _begin(self) -> None:
        self._place = 0
        self._asleep: Asleep = {}
        self.is_cut = False
        self.is_repetition = False

    def turn(self) -> bool:
        """Go to the next way; False after the last one."""
        while self._path:
            node = self._path[-1]
            option = node.options[node.choice]
            if option is not None and self._is_reduced:
                node.seen[option[0]] = option[1]
            if node.next_from(node.choice + 1):
                self._begin()
                return True
            self._path.pop()
        return False

    def draw(self, point: Point, options: Sequence[Any], about: Waiting | None = None) -> int:
        """See `Source`."""
        if self.is_repetition or self._place >= self._depth:
            self.is_cut = self.is_cut or not self.is_repetition
            return 0
        if self._place == len(self._path):
            node = _Node([_named(option) for option in options], self._asleep if point is Point.WHO else {})
            if not node.next_from(0):
                self.is_repetition = True
                return 0
            self._path.append(node)
        node = self._path[self._place]
        self._place += 1
        if point is Point.WHO:
            option = node.options[node.choice]
            self._asleep = {} if option is None else _still_asleep({**node.asleep, **node.seen}, *option)
        return node.choice


def _named(option: Waiting | Fate | None) -> tuple[tuple[int, int], str] | None:
    if not isinstance(option, Waiting):
        return None
    return (option.process, option.place), option.touches


def _still_asleep(asleep: Asleep, who: tuple[int, int], touches: str) -> Asleep:
    return {other: its for other, its in asleep.items() if other != who and _is_independent(its, touches)}


def _is_independent(one: str, other: str) -> bool:
    if "life" in (one, other):
        return True
    if "peer" in (one, other):
        return one != other
    return one == other == "read"
