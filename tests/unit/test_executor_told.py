"""What the executor tells beside its answers: to observers, in the row, and to whoever waits for the end."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from tests.actions import SECOND, Job, Rig, done, job, parked, raising, settle
from wallet_actions.checkpoint import Status
from wallet_actions.errors import InvariantError, TransientError
from wallet_actions.events import EventKind
from wallet_actions.outcome import Outcome
from wallet_actions.testing.clock import FakeClock

pytestmark = pytest.mark.anyio


async def test_a_start_remembers_whose_trace_it_belongs_to() -> None:
    """W3C trace context, so that what is driven a day later is found from what has started it."""
    span = NonRecordingSpan(SpanContext(0xA1, 0xB2, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)))

    async with Rig() as rig:
        with trace.use_span(span):
            traced = await rig.start("traced")
        plain = await rig.start("plain")

        assert (await rig.row(traced)).traceparent == f"00-{'a1':0>32}-{'b2':0>16}-01"
        assert (await rig.row(plain)).traceparent is None


async def test_an_event_tells_how_many_attempts_there_were() -> None:
    async with Rig(raising(TransientError("busy")), raising(TransientError("busy")), done) as rig:
        key = await rig.start()
        for _ in range(3):
            await rig.executor.drive(key)

    assert [(event.kind, event.attempts) for event in rig.events] == [
        (EventKind.STARTED, 0),
        (EventKind.RETRIED, 1),
        (EventKind.RETRIED, 2),
        (EventKind.DONE, 0),
    ]


async def test_a_drive_that_ends_stuck_hands_over_the_action() -> None:
    async with Rig(raising(InvariantError("the sums differ"))) as rig:
        key = await rig.start()

        result = await rig.executor.drive(key)

    assert (result.outcome, result.action) == (Outcome.STUCK, job())


async def test_on_retry_may_know_that_it_is_done() -> None:
    """After a lost answer the peer may say that it has happened (L-P2)."""
    async with Rig(raising(TransientError("no answer"))) as rig:
        rig.desk.answers["on_retry"] = [done]
        key = await rig.start()

        result = await rig.executor.drive(key)

        assert (result.outcome, await rig.status(key)) == (Outcome.DONE, Status.DONE)


class Noting(FakeClock):
    """Notes for how long somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[timedelta | None] = []

    async def wait(self, event: asyncio.Event, delay: timedelta | None) -> bool:
        self.waits.append(delay)
        return await super().wait(event, delay)


@pytest.mark.parametrize(("poll", "wait"), [(timedelta(hours=1), timedelta(hours=1)), (None, SECOND)])
async def test_whoever_waits_for_a_result_looks_as_often_as_asked(poll: timedelta | None, wait: timedelta) -> None:
    """For actions that another process drives."""
    clock = Noting()
    async with Rig(parked(), clock=clock) as rig:
        key = await rig.start()
        waiter = asyncio.ensure_future(rig.executor.result(Job, key.id, poll=poll))
        await settle()
        waiter.cancel()
        await asyncio.wait([waiter])

    assert clock.waits == [wait]
