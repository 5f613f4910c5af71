"""Runs one case in a fresh world, and asks the oracles."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from wallet_actions.action import Action
from wallet_actions.testing import oracles
from wallet_actions.testing.blame import Trace, culprits, standing_in
from wallet_actions.testing.case import Case, Course
from wallet_actions.testing.life import Crashed, Life, Plan
from wallet_actions.testing.nursery import ChildError
from wallet_actions.testing.world import Listener, World
from wallet_actions.transition import Start

Made = Action[Any, Any, Any] | Start | Sequence[Action[Any, Any, Any] | Start]
Makes = Callable[[], Made] | Callable[[Any], Made] | Callable[[], Awaitable[Made]] | Callable[[Any], Awaitable[Made]]
"""Makes what is to be started, given the world or nothing."""


async def starts_in(make: Makes, world: World[Any]) -> list[Start]:
    """What is to be started in a world that is prepared, as a list."""
    made: Any = make(world) if _takes_a_world(make) else make()  # type: ignore[call-arg] # it was looked at
    made = await made if inspect.isawaitable(made) else made
    items = list(made) if isinstance(made, Sequence) else [made]
    return [item if isinstance(item, Start) else Start(item) for item in items]


def _takes_a_world(make: Makes) -> bool:
    return any(
        parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in inspect.signature(make).parameters.values()
    )


async def run_case(
    case: Case,
    make: Makes,
    make_world: Callable[[], World[Any]],
    clean: Mapping[str, object] | None = None,
    *,
    is_traced: bool = False,
) -> Course:
    """Run one case in a fresh world, ask the oracles, and note how it ended.

    Args:
        clean: how it has to end; None does not compare.
        is_traced: whether to ask the oracles at every boundary, and so find the culprits.
    """
    course = Course(case)
    world = make_world()
    try:
        async with world.store() as store:
            await world.prepare(store)
        starts = await starts_in(make, world)
        with Listener() as listener:
            trace = Trace(world, listener.said)
            if is_traced:
                trace.attach()
            for plan in (*case.plans, Plan()):
                life = Life(plan)
                course.lives.append(life)
                course.violations += await live(world, life, starts)
                course.culprits |= life.violations
                course.states.append(await standing_in(world))
            found = await world.check(listener.said)
        course.ending = await world.ending()
        if is_traced:
            course.moments = [trace.state_at(boundary) for boundary in course.crashes()]
            course.culprits |= await culprits(trace, found, clean or course.ending, course.ending)
        secrets = set(world.secrets())
    finally:
        await world.close()
    if clean is not None:
        found += oracles.differences(clean, course.ending)
    course.violations += found
    _mask(course, secrets)
    return course


def _mask(course: Course, secrets: Collection[str]) -> None:
    """Nothing of a course that is shown to people tells a secret, whatever the errors in the store do."""
    course.states = [[oracles.masked(line, secrets) for line in state] for state in course.states]
    course.moments = [[oracles.masked(line, secrets) for line in state] for state in course.moments]
    course.violations = [oracles.masked(violation, secrets) for violation in course.violations]
    course.culprits = {oracles.masked(violation, secrets): where for violation, where in course.culprits.items()}


async def live(world: World[Any], life: Life, starts: Sequence[Start]) -> list[str]:
    """Live one life to its end, and say what was wrong with it."""
    task = asyncio.ensure_future(world.live(life, starts))
    await asyncio.wait([task])
    if task.cancelled():
        return ["the process was cancelled, and nobody had ordered that"]
    error = task.exception()
    await life.end()
    if life.is_over:
        return list(life.violations)  # and not whatever came up on the way down from a crash
    if isinstance(error, ChildError):
        return [str(error)]
    if error is not None:
        return [f"the process failed with {type(error).__name__}"] if isinstance(error, Exception) else _raise(error)
    swallower = life.cancelled
    if swallower is not None and not swallower.cancelled() and life.plan.crash_at is not None:
        life.violations["a cancellation was swallowed: the step went on"] = life.boundaries[life.plan.crash_at - 1]
    return list(life.violations)


def _raise(error: BaseException) -> list[str]:
    if isinstance(error, Crashed):
        return []
    raise error
