"""Random sagas, crashes, faults and requests to cancel: whole or nothing, undone in reverse, all in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.saga.kit import Job, ShopWorld, Work, whole_or_nothing
from tests.unit.saga.nested import Outer, outer
from wallet_actions.action import Action
from wallet_actions.testing import oracles
from wallet_actions.testing.case import Case
from wallet_actions.testing.life import CrashKind, FaultKind, Incident, Plan
from wallet_actions.testing.trial import run_case

STEPS = ["a", "b", "c", "d", "e"]
FAULTS = [fault for fault in ShopWorld.faults if fault not in (FaultKind.CONTRADICTION, FaultKind.OUTAGE)]


class AnyWorld(ShopWorld):
    kinds: ClassVar[Sequence[type[Action[Any, Any, Any]]]] = [Work, Outer]

    async def check(self, said: Iterable[str] = ()) -> list[str]:
        """One that is stuck with what its peer keeps has not ended, and must not have."""
        async with self.store() as store:
            return (
                await whole_or_nothing(store, self.peer)
                + await oracles.history_complete(store)
                + await oracles.terminal_is_final(store)
                + oracles.once(self.effects())
            )


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    some = st.frozensets(st.sampled_from(STEPS), max_size=2)
    none = st.just(frozenset[str]())
    return Job(fails=draw(some), waits=draw(some), sticks=draw(st.one_of(none, some)))


@st.composite
def sagas(draw: st.DrawFn) -> Action[Any, Any, Any]:
    job = draw(jobs())
    if draw(st.integers(0, 4)) == 0:
        return outer(Job(fails=job.fails, waits=job.waits))
    names = draw(st.lists(st.sampled_from(STEPS), min_size=1, unique=True))
    plan: list[list[str]] = []
    joins = st.booleans()
    for name in names:
        if draw(joins) and plan:
            plan[-1].append(name)
        else:
            plan.append([name])
    return Work.new("s", job, steps=plan)


@st.composite
def lives(draw: st.DrawFn) -> Plan:
    place = st.one_of(st.none(), st.integers(1, 40))
    return Plan(
        crash_at=draw(place),
        crash=draw(st.sampled_from([CrashKind.EXCEPTION, CrashKind.CANCELLATION])),
        fault_at=draw(st.one_of(st.none(), st.integers(1, 12))),
        fault=draw(st.sampled_from(FAULTS)),
        incident_at=draw(place),
        incident=draw(st.sampled_from(list(Incident))),
    )


@pytest.mark.timeout(300)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(saga=sagas(), plans=st.lists(lives(), max_size=3))
def test_a_saga_is_whole_or_nothing_is_left(saga: Action[Any, Any, Any], plans: list[Plan]) -> None:
    course = asyncio.run(run_case(Case(tuple(plans)), lambda: saga, AnyWorld))
    assert not course.violations, "\n".join([f"{course.case}", *course.violations, *course.states[-1]])
