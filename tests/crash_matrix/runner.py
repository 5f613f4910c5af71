"""Finds the points of each scenario, chooses among them, and runs them on some lanes at a time."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import anyio

from tests.crash_matrix.judge import Harm, Row
from tests.crash_matrix.lane import Lane
from tests.crash_matrix.points import LONGEST_DELAY_MS, Kind, Point, delays, doubles, singles
from tests.crash_matrix.trial import Result
from wallet_actions.testing.nutshell import MintConfig

DELAYS_A_REQUEST = 3
LANES_A_JOB = 2  # a point waits about as long as it works
SHARE_OF_DOUBLES = 0.3  # of a sample


@dataclass(slots=True)
class Matrix:
    """What was found.

    Attributes:
        results: of the runs without a fault, and of all points that were reached or failed.
        not_reached: points at which nothing went wrong, since the process took another course this time.
        left_out: how many there are that were not run, by kind.
    """

    seed: int
    results: list[Result] = field(default_factory=list)
    not_reached: list[Point] = field(default_factory=list)
    left_out: dict[Kind, int] = field(default_factory=dict)

    @property
    def points(self) -> int:
        """At how many points something went wrong."""
        return sum(result.point.fault is not None for result in self.results)

    @property
    def failures(self) -> list[Result]:
        """Whatever did not end as it should, runs without a fault too."""
        return [result for result in self.results if result.findings]

    def count(self, harm: Harm) -> int:
        """After how many of them something is lost, stuck or doubled."""
        return sum(result.has(harm) for result in self.results)

    def __str__(self) -> str:
        harms = ", ".join(f"{self.count(harm)} {harm}" for harm in Harm)
        return f"crash matrix: {self.points} points, {harms}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be run.

    Attributes:
        scenarios: their names.
        count: how many points, about; None for all but the second kills and the milliseconds, of which the seed chooses
            `most` and three a request.
        jobs: how many cores to keep busy.
        config: how the mints are to be.
        plant: see `wallet.Order`.
    """

    scenarios: Sequence[str]
    seed: int
    count: int | None = None
    most: int = 0
    jobs: int = 2
    config: MintConfig = field(default_factory=MintConfig)
    plant: str = ""


Told = Callable[[Result], None]


async def run(wanted: Wanted, on_plan: Callable[[int], None], on_result: Told) -> Matrix:
    """Run the matrix.

    Args:
        on_plan: told how many more points there are to come, each time that is known.
        on_result: told of each.
    Raises:
        LifeError, MintError: it could not be run.
    """
    matrix = Matrix(wanted.seed)
    chance = random.Random(wanted.seed)
    lanes_wanted = wanted.jobs * LANES_A_JOB
    async with _lanes(wanted, lanes_wanted) as lanes:
        calm: dict[str, Row | None] = {}

        async def run_all(points: Sequence[Point]) -> list[Result]:
            on_plan(len(points))
            results = await _run(points, lanes, calm, on_result)
            matrix.results += [result for result in results if result.counts]
            matrix.not_reached += [result.point for result in results if not result.counts]
            return results

        first = await run_all([Point(name) for name in wanted.scenarios])
        calm |= {result.point.scenario: result.row for result in first}
        once, rest = _choose_once(first, wanted, chance)
        ran = await run_all(once)
        again = sorted(
            point
            for result in ran
            if _dies_at_one_place(result.point)
            for point in doubles(result.point, result.recovery)
        )
        twice, more = _some(again, _budget(wanted, len(once)), chance)
        await run_all(twice)
        for kind, points in _by_kind([*rest, *more]).items():
            matrix.left_out[kind] = len(points)
    matrix.results.sort(key=lambda result: str(result.point))
    return matrix


async def run_only(points: Sequence[Point], wanted: Wanted) -> Matrix:
    """Run some points alone, and the scenarios that they belong to without a fault.

    Raises:
        As `run`.
    """
    matrix = Matrix(wanted.seed)
    async with _lanes(wanted, 1) as lanes:
        names = dict.fromkeys(point.scenario for point in points)
        calm = {name: await lanes[0].run(Point(name)) for name in names}
        matrix.results += calm.values()
        for point in points:
            result = await lanes[0].run(point, calm[point.scenario].row)
            matrix.results += [result] if result.counts else []
            matrix.not_reached += [] if result.counts else [point]
    return matrix


class _lanes(AsyncExitStack):  # noqa: N801 it is used as a function
    def __init__(self, wanted: Wanted, count: int) -> None:
        super().__init__()
        self._made = [Lane(wanted.config, plant=wanted.plant) for _ in range(count)]

    async def __aenter__(self) -> list[Lane]:  # type: ignore[override]
        await super().__aenter__()
        try:
            return [await self.enter_async_context(lane) for lane in self._made]
        except BaseException:
            await self.aclose()
            raise


async def _run(
    points: Sequence[Point], lanes: Sequence[Lane], calm: Mapping[str, Row | None], on_result: Told
) -> list[Result]:
    waiting = iter(points)
    results: list[Result] = []

    async def work(lane: Lane) -> None:
        for point in waiting:
            result = await lane.run(point, calm.get(point.scenario))
            results.append(result)
            on_result(result)

    async with anyio.create_task_group() as tasks:
        for lane in lanes:
            tasks.start_soon(work, lane)
    return results


def _choose_once(calm: Sequence[Result], wanted: Wanted, chance: random.Random) -> tuple[list[Point], list[Point]]:
    """The points at which one thing goes wrong, and those of them that are left out."""
    every: list[Point] = []
    late: list[Point] = []
    for result in sorted(calm, key=lambda result: result.point):
        name, course = result.point.scenario, result.operation
        every += singles(name, course)
        late += delays(name, course)
    third = LONGEST_DELAY_MS // DELAYS_A_REQUEST + 1
    by_third: dict[object, list[Point]] = defaultdict(list)
    for point in late:
        if point.fault is not None:
            by_third[point.scenario, point.fault.request, point.fault.delay_ms // third].append(point)
    chosen = [chance.choice(points) for points in by_third.values()]
    left = set(late) - set(chosen)
    once = every + chosen
    if wanted.count is not None and len(once) > wanted.count * (1 - SHARE_OF_DOUBLES):
        once, dropped = _some(once, round(wanted.count * (1 - SHARE_OF_DOUBLES)), chance)
        left |= set(dropped)
    chance.shuffle(once)  # those that wait long are then not all at the end
    return once, sorted(left)


def _dies_at_one_place(point: Point) -> bool:
    """Whether its recovery takes the same course each time: some milliseconds after an answer it may be anywhere."""
    return point.fault is not None and point.fault.what == "kill" and point.fault.moment != "delivered"


def _budget(wanted: Wanted, spent: int) -> int:
    return wanted.most if wanted.count is None else max(0, wanted.count - spent)


def _some(points: Iterable[Point], count: int, chance: random.Random) -> tuple[list[Point], list[Point]]:
    """Choose some, in turn of each scenario and kind, of second kills of each first one; and those that are left."""
    strata: dict[object, list[Point]] = defaultdict(list)
    for point in points:
        strata[point.scenario, point.kind, point.fault if point.second is not None else None].append(point)
    decks = list(strata.values())
    for deck in decks:
        chance.shuffle(deck)
    chance.shuffle(decks)
    dealt = list(_dealt(decks))
    return dealt[:count], dealt[count:]


def _dealt(decks: list[list[Point]]) -> Iterator[Point]:
    """One of each deck, again and again."""
    while decks := [deck for deck in decks if deck]:
        for deck in decks:
            yield deck.pop()


def _by_kind(points: Iterable[Point]) -> dict[Kind, list[Point]]:
    kinds: dict[Kind, list[Point]] = defaultdict(list)
    for point in points:
        if point.kind is not None:
            kinds[point.kind].append(point)
    return kinds
