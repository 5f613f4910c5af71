"""What a mint says to the wallet's loss, and what it holds: when it is believed, and when nobody waits any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest

from wallet_actions.action import Action
from wallet_actions.cashu.doubt import (
    LONGEST_LOOK,
    PATIENCE,
    SHORTEST_LOOK,
    TIMES_TO_BELIEVE,
    DoubtfulPhase,
    HeldPhase,
    doubted,
    held,
)
from wallet_actions.errors import InvariantError, TransientError
from wallet_actions.transition import Done, Failed, Park, Transition

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Asking(DoubtfulPhase):
    note: str = ""


class Holding(HeldPhase):
    note: str = ""


class Ask(Action[Any, Asking | Holding, None], kind="ask"):
    @property
    def id(self) -> str:
        return "one"

    async def advance(self, wallet: Any) -> Transition[Self, None]:
        return Done()


def parked(answer: Any) -> Ask:
    assert isinstance(answer, Park)
    assert isinstance(answer.error, TransientError)
    action: Ask = answer.action
    return action


def test_an_ending_is_believed_at_the_third_look() -> None:
    ending = Failed("spent elsewhere")
    action = Ask(phase=Asking(note="kept"))
    waits = []
    for _ in range(TIMES_TO_BELIEVE - 1):
        answer = doubted(action, "spent elsewhere", ending)
        action = parked(answer)
        assert isinstance(answer, Park)
        assert answer.wake_after is not None
        waits.append(answer.wake_after)
    assert doubted(action, "spent elsewhere", ending) is ending
    assert action.phase == Asking(note="kept", doubts=TIMES_TO_BELIEVE - 1)
    assert all(wait > timedelta(0) for wait in waits)


def test_the_count_survives_a_restart() -> None:
    """L-S10."""
    action = parked(doubted(Ask(phase=Asking()), "no", Failed("no")))
    again = Ask.model_validate_json(action.model_dump_json())
    assert again.phase.doubts == 1


def test_what_the_mint_holds_is_looked_at_less_and_less_often_until_nobody_waits() -> None:
    """L-C7: a terminal answer, not a loop; the coins stay with the action."""
    action, now, waits = Ask(phase=Holding(note="kept")), NOON, []
    while now - NOON < PATIENCE:
        answer = held(action, "pending", now)
        action = parked(answer)
        assert answer.wake_after is not None
        waits.append(answer.wake_after)
        now += answer.wake_after
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (SHORTEST_LOOK, LONGEST_LOOK)
    assert len(waits) < 50
    assert action.phase == Holding(note="kept", held_since=NOON)
    for later in (now, now + timedelta(days=3)):
        with pytest.raises(InvariantError, match="stuck at the mint: pending") as caught:
            held(action, "pending", later)
        assert caught.value.rule == "stuck at the mint"


def test_a_clock_that_is_set_back_makes_no_hot_loop() -> None:
    action = parked(held(Ask(phase=Holding()), "pending", NOON))
    answer = held(action, "pending", NOON - timedelta(days=1))
    assert answer.wake_after == SHORTEST_LOOK


def test_a_hold_that_ended_meanwhile_begins_anew() -> None:
    """An hour in all is not an hour without a break."""
    action = parked(held(Ask(phase=Holding()), "pending", NOON))
    action = parked(doubted(action, "refused", Failed("refused")))
    assert action.phase == Holding(doubts=1)
    later = NOON + timedelta(hours=2)
    assert parked(held(action, "pending", later)).phase == Holding(doubts=1, held_since=later)
