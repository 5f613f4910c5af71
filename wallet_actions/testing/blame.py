"""Which step of an action a violation lies in.

A failing case is run once more, and the oracles are asked at every boundary. A violation lies in the step that made it
what it still is at the end: before, it was not there, or was another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from wallet_actions.events import Observer
from wallet_actions.executor import Executor
from wallet_actions.testing import oracles
from wallet_actions.testing.boundaries import Boundary
from wallet_actions.testing.life import Life
from wallet_actions.testing.world import World

T = TypeVar("T")

MOST_YIELDS = 100
"""In a row; then whoever is waited for by that has to have its turn."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What the oracles found when a boundary was reached.

    Attributes:
        is_first: of its process; what is new there came about between two processes.
    """

    boundary: Boundary
    is_first: bool
    violations: frozenset[str]
    ending: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Suspect:
    """A step that violations lie in.

    Attributes:
        kind: of the action.
        step: the phase that it was in; for an action that was not there yet, the one that it begins with.
        line: the last line of its code that was seen there.
        cases: how many failing cases it is to blame for.
    """

    kind: str
    step: str
    line: str | None
    cases: int

    def __str__(self) -> str:
        place = f" ({self.line})" if self.line else ""
        return f"{self.kind} in {self.step}{place}, {self.cases} case{'s' * (self.cases != 1)}"


@dataclass(slots=True)
class Trace:
    """Asks the oracles of a world at every boundary of a case.

    Args:
        world: of the case.
        said: what was logged so far; read anew each time.
    """

    world: World[Any]
    said: Sequence[str] = ()
    marks: list[Mark] = field(default_factory=list)
    states: list[tuple[Boundary, list[str]]] = field(default_factory=list)

    def attach(self) -> None:
        """Follow every process of the world from now on."""
        process = self.world.process

        @asynccontextmanager
        async def followed(life: Life, observers: Sequence[Observer] = ()) -> AsyncIterator[Executor]:
            switch, is_first = life.switch, True

            async def follow(boundary: Boundary) -> None:
                nonlocal is_first
                if switch is not None:
                    await switch(boundary)
                await self._ask(boundary, is_first=is_first)
                is_first = False

            life.switch = follow
            async with process(life, observers) as executor:
                yield executor

        self.world.process = followed  # type: ignore[method-assign]

    async def _ask(self, boundary: Boundary, *, is_first: bool) -> None:
        self.states.append((boundary, await _AtOnce(standing_in(self.world))))
        try:
            found = await _AtOnce(self.world.check(self.said))
            ending = await _AtOnce(self.world.ending())
        except Exception:  # noqa: BLE001 what a world checks at the end need not make sense on the way
            return
        self.marks.append(Mark(boundary, is_first, frozenset(found), ending))

    def state_at(self, boundary: Boundary) -> list[str]:
        """What stood in the store when this very boundary was reached; nothing where another process came to it."""
        return next((state for reached, state in self.states if reached is boundary), [])

    def violation(self, text: str) -> Boundary | None:
        """Since when a violation is what it is at the end."""
        return self._since(lambda mark: text in mark.violations)

    def difference(self, name: str, value: object) -> Boundary | None:
        """Since when something of the ending is what it is at the end."""
        return self._since(lambda mark: mark.ending.get(name) == value)

    def _since(self, holds: Callable[[Mark], bool]) -> Boundary | None:
        since: Mark | None = None
        for mark in reversed(self.marks):
            if not holds(mark):
                return since.boundary if since is not None and not since.is_first else None
            since = mark
        return None  # from the beginning: something that never came, and no step made it so


async def standing_in(world: World[Any]) -> list[str]:
    """How all stands in the store of a world; see `oracles.standing`."""
    async with world.store() as store:
        return await oracles.standing(store)


class _AtOnce(Generic[T]):
    """Awaits something without letting others run where it only yields: whoever looks on changes nothing."""

    def __init__(self, asked: Coroutine[Any, Any, T]) -> None:
        self._asked = asked

    def __await__(self) -> Generator[Any, None, T]:
        step = partial(self._asked.send, None)
        yields = 0
        try:
            while True:
                waits_for = step()
                step = partial(self._asked.send, None)
                yields += waits_for is None
                if waits_for is None and yields % MOST_YIELDS:
                    continue
                try:
                    yield waits_for
                except BaseException as error:  # noqa: BLE001 a cancellation, which is for what is asked
                    step = partial(self._asked.throw, error)
        except StopIteration as answer:
            result: T = answer.value
            return result
        finally:
            self._asked.close()


def traced(make_world: Callable[[], World[Any]]) -> tuple[Callable[[], World[Any]], list[Trace]]:
    """Makes worlds that are followed from their first process on.

    Returns:
        What makes them, and the traces, one for each that it made.
    """
    traces: list[Trace] = []

    def make() -> World[Any]:
        trace = Trace(make_world())
        trace.attach()
        traces.append(trace)
        return trace.world

    return make, traces


async def culprits(
    trace: Trace,
    violations: Sequence[str],
    clean: Mapping[str, object] = MappingProxyType({}),
    ending: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, Boundary]:
    """Where each violation came about, as far as that is known.

    Where an action has not ended, only that is asked: its money is still on the way. Where there are no violations,
    each difference from the run in peace: beside a violation, a difference is what comes of it.
    """
    async with trace.world.store() as store:
        unended = await oracles.all_ended(store)
    found = {text: trace.violation(text) for text in violations if not unended or text in unended}
    if not found:
        for name in clean.keys() | ending.keys():
            for text in oracles.differences({name: clean.get(name)}, {name: ending.get(name)}):
                found[text] = trace.difference(name, ending.get(name))
    return {text: boundary for text, boundary in found.items() if boundary is not None}


def suspects(cases: Iterable[tuple[Sequence[Life], Iterable[Boundary]]]) -> list[Suspect]:
    """The steps that boundaries lie in, the most frequent first.

    Args:
        cases: of each failing case its lives, and the boundaries to blame.
    """
    counts: Counter[tuple[str, str]] = Counter()
    lines: dict[tuple[str, str], Counter[str]] = {}
    for lives, boundaries in cases:
        steps: dict[tuple[str, str], str | None] = {}
        for boundary in boundaries:
            step = _step(boundary)
            steps[step] = _line(boundary, lives) or steps.get(step)
        for step, line in steps.items():
            counts[step] += 1
            lines.setdefault(step, Counter()).update([line] if line else [])
    return [
        Suspect(*step, line=lines[step].most_common(1)[0][0] if lines[step] else None, cases=count)
        for step, count in counts.most_common()
    ]


def _step(boundary: Boundary) -> tuple[str, str]:
    kind = boundary.key.kind if boundary.key is not None else boundary.name
    return kind, boundary.step or boundary.phase or boundary.name


def _line(boundary: Boundary, lives: Sequence[Life]) -> str | None:
    """The line of a boundary; for a write of the executor's, the line of the same step that was seen last before."""
    line = None
    for life in lives:
        for other in life.boundaries:
            if (other.key, other.step) == (boundary.key, boundary.step) and other.line:
                line = other.line
            if other is boundary:
                return boundary.line or line
    return boundary.line or line
