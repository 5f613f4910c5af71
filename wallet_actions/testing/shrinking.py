"""From a run that went wrong to the smallest one that goes wrong in the same way.

A run is put down as what departs from the dullest one: how many processes there are and how they drive, who was made
to wait for whom, and what befell whom. Each of these names a process and the number of its turn, so one can be left out
and the others keep their meaning. They are left out, many at a time and then one by one, while it still fails. Where
that was a crash or a retry, the turns behind it have other numbers: so a mishap also knows what was being done, and for
which time.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wallet_actions.testing.fates import Fate
from wallet_actions.testing.runs import Limits, Run
from wallet_actions.testing.scheduler import Point, Waiting
from wallet_actions.testing.simulation import run
from wallet_actions.testing.sources import Listed, stripped
from wallet_actions.testing.trial import Makes
from wallet_actions.testing.world import World

MOST_RUNS = 600
TIME = 0


@dataclass(frozen=True, slots=True)
class _Switch:
    """Where a process could have gone on, another one did, or another task of its own; or time passed.

    Attributes:
        process, place: who could have gone on, and how many turns it had had.
        instead: which process went; TIME if none.
        task: which of the waiting tasks of that one.
    """

    process: int
    place: int
    instead: int
    task: int = 0


@dataclass(frozen=True, slots=True)
class _Mishap:
    """What befell the turn of a process.

    Attributes:
        what, nth: what it was doing, and the how manieth time that this could go wrong, from 1.
    """

    process: int
    place: int
    fate: Fate
    what: str
    nth: int


_Departure = _Switch | _Mishap


@dataclass(frozen=True, slots=True)
class _Script:
    """A run as its departures.

    Attributes:
        driving: of each process, the place of its way to drive.
        is_by_name: whether mishaps are found by what was being done, and not by the number of the turn.
    """

    driving: tuple[int, ...]
    departures: tuple[_Departure, ...]
    is_by_name: bool = False

    def without(self, process: int) -> _Script:
        """The same with one process less; those behind it move up."""

        def moved(number: int) -> int:
            return number - (number > process)

        driving = self.driving[: process - 1] + self.driving[process:]
        departures: list[_Departure] = []
        for one in self.departures:
            if isinstance(one, _Switch):
                if process not in (one.process, one.instead):
                    departures.append(replace(one, process=moved(one.process), instead=moved(one.instead)))
            elif one.process != process:
                departures.append(replace(one, process=moved(one.process)))
        return _Script(driving, tuple(departures))


class _Recorder(Listed):
    """Makes the choices of a schedule, and notes what they mean."""

    def __init__(self, choices: Sequence[int]) -> None:
        super().__init__(choices)
        self._driving: list[int] = []
        self._departures: list[_Departure] = []
        self._times: Counter[tuple[int, str]] = Counter()

    def script(self, processes: int) -> _Script:
        """What was noted."""
        driving = [*self._driving, *[0] * processes][:processes]
        return _Script(tuple(driving), tuple(self._departures))

    def draw(self, point: Point, options: Sequence[Any], about: Waiting | None = None) -> int:
        """See `Source`."""
        choice = super().draw(point, options, about)
        if about is not None:
            self._times[about.process, about.what] += 1
        if point is Point.DRIVING:
            self._driving.append(choice)
        elif point is Point.WHO and choice:
            self._departures.append(_switch(options, choice))
        elif point is Point.FATE and choice and about is not None:
            nth = self._times[about.process, about.what]
            self._departures.append(_Mishap(about.process, about.place, options[choice], about.what, nth))
        return choice


def _switch(options: Sequence[Waiting | None], choice: int) -> _Switch:
    could, went = options[0], options[choice]
    if could is None:
        raise ValueError("whoever can go stands before the time")
    if went is None:
        return _Switch(could.process, could.place, TIME)
    before = [one for one in options[:choice] if one is not None and one.process == went.process]
    return _Switch(could.process, could.place, went.process, len(before))


class _Scripted:
    """Makes the choices of a script; what does not fit any more is left out."""

    def __init__(self, script: _Script) -> None:
        self._processes = len(script.driving)
        self._driving = iter(script.driving)
        self._switches: defaultdict[tuple[int, int], deque[_Switch]] = defaultdict(deque)
        self._is_by_name = script.is_by_name
        self._times: Counter[tuple[int, str]] = Counter()
        self._fates: dict[tuple[int, int | str, int], Fate] = {}
        for one in script.departures:
            if isinstance(one, _Switch):
                self._switches[one.process, one.place].append(one)
            elif script.is_by_name:
                self._fates[one.process, one.what, one.nth] = one.fate
            else:
                self._fates[one.process, one.place, 1] = one.fate

    def draw(self, point: Point, options: Sequence[Any], about: Waiting | None = None) -> int:
        """See `Source`."""
        match point:
            case Point.PROCESSES:
                return min(self._processes, len(options)) - 1
            case Point.DRIVING:
                return min(next(self._driving, 0), len(options) - 1)
            case Point.FATE:
                fate = self._fate(about) if about is not None else None
                return options.index(fate) if fate in options else 0
            case Point.WHO:
                return self._who(options)

    def _fate(self, about: Waiting) -> Fate | None:
        self._times[about.process, about.what] += 1
        if self._is_by_name:
            return self._fates.get((about.process, about.what, self._times[about.process, about.what]))
        return self._fates.get((about.process, about.place, 1))

    def _who(self, options: Sequence[Waiting | None]) -> int:
        could = options[0]
        waiting = self._switches.get((could.process, could.place)) if could is not None else None
        if not waiting:
            return 0
        switch = waiting.popleft()
        if switch.instead == TIME:
            return len(options) - 1 if options[-1] is None else 0
        places = [at for at, one in enumerate(options) if one is not None and one.process == switch.instead]
        return places[min(switch.task, len(places) - 1)] if places else 0


def shrink(failed: Run, make: Makes, world: Callable[[], World[Any]], limits: Limits) -> Run:
    """The smallest run that fails like this one, as far as leaving out goes.

    Smaller is: fewer processes, then fewer crashes and other mishaps, fewer switches, fewer turns.
    """
    search = _Search(failed, make, world, limits)
    script, before = search.recorded(), None
    while script != before and search.runs < MOST_RUNS:
        before = script
        for candidates in (_fewer_processes, _duller_driving, _fewer_departures):
            script = search.along(script, candidates)
    return search.best


class _Search:
    def __init__(self, failed: Run, make: Makes, world: Callable[[], World[Any]], limits: Limits) -> None:
        self.best = failed
        self.runs = 0
        self._signs = _signs(failed)
        self._make, self._world, self._limits = make, world, limits

    def along(self, script: _Script, candidates: Callable[[_Script], Iterator[_Script]]) -> _Script:
        """Go to the first candidate that still fails, and from there on, until none does."""
        is_moving = True
        while is_moving:
            is_moving = False
            for candidate in candidates(script):
                if self.runs >= MOST_RUNS:
                    return script
                if self._is_better(candidate):
                    script, is_moving = self.recorded() if candidate.is_by_name else candidate, True
                    break
        return script

    def recorded(self) -> _Script:
        """The best run so far as a script, by the numbers of its turns."""
        recorder = _Recorder(self.best.choices)
        self.best = run(self._make, self._world, recorder, self._limits)
        return recorder.script(self.best.processes)

    def _is_better(self, script: _Script) -> bool:
        self.runs += 1
        one = run(self._make, self._world, _Scripted(script), self._limits)
        if self._signs & _signs(one) and _size(one) <= _size(self.best):
            self.best = one
            return True
        return False


def _fewer_processes(script: _Script) -> Iterator[_Script]:
    if len(script.driving) > 1:
        for process in range(1, len(script.driving) + 1):
            yield script.without(process)


def _duller_driving(script: _Script) -> Iterator[_Script]:
    for place, way in enumerate(script.driving):
        for duller in range(way):
            yield replace(script, driving=(*script.driving[:place], duller, *script.driving[place + 1 :]))


def _fewer_departures(script: _Script) -> Iterator[_Script]:
    departures = script.departures
    size = len(departures)
    while size:
        for start in range(0, len(departures), size):
            yield replace(script, departures=departures[:start] + departures[start + size :])
        size //= 2
    for place in range(len(departures)):
        yield replace(script, departures=departures[:place] + departures[place + 1 :], is_by_name=True)


def _signs(run: Run) -> set[str]:
    return {re.sub(r"\d+", "#", violation) for violation in run.violations}


def _size(run: Run) -> tuple[int, ...]:
    return (run.processes, run.lots, run.switches, len(run.turns), sum(stripped(run.choices)))
