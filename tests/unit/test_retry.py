"""Back-off (L-S10, L-P5)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tenacity.wait import wait_fixed, wait_incrementing

from wallet_actions.retry import QuadraticWait, RetryPolicy

SECOND = timedelta(seconds=1)


def test_the_delay_grows_with_the_square_of_the_failures_up_to_its_cap() -> None:
    policy = RetryPolicy()

    assert [policy.delay(n) / SECOND for n in (1, 2, 3, 10, 59, 60, 61, 10**9)] == [
        1,
        4,
        9,
        100,
        3481,
        3600,
        3600,
        3600,
    ]


def test_base_and_cap_are_taken_over() -> None:
    policy = RetryPolicy(wait=QuadraticWait(timedelta(milliseconds=250), timedelta(seconds=2)))

    assert [policy.delay(n) / SECOND for n in (1, 2, 3)] == [0.25, 1, 2]


def test_jitter_takes_away_at_most_its_share() -> None:
    drawn = iter((0.0, 0.5, 1.0))
    policy = RetryPolicy(wait=QuadraticWait(jitter=0.5, chance=lambda: next(drawn)))

    assert [policy.delay(2) / SECOND for _ in range(3)] == [4, 3, 2]


def test_without_jitter_chance_is_not_asked() -> None:
    def chance() -> float:
        raise AssertionError("nothing here is left to chance")

    assert RetryPolicy(wait=QuadraticWait(chance=chance)).delay(1) == SECOND


def test_the_delay_that_the_peer_wants_wins_within_the_cap() -> None:
    policy = RetryPolicy(cap=timedelta(minutes=10))

    assert policy.delay(5, timedelta(seconds=3)) == timedelta(seconds=3)
    assert policy.delay(5, timedelta(days=3)) == timedelta(minutes=10)


@pytest.mark.parametrize("wanted_s", [0, -3])
def test_a_peer_that_says_at_once_does_not_make_a_hot_loop(wanted_s: int) -> None:
    """G8, L-P5: it asks for nothing, so the back-off grows as it would."""
    policy = RetryPolicy()

    assert [policy.delay(n, timedelta(seconds=wanted_s)) / SECOND for n in (1, 2, 5)] == [1, 4, 25]


def test_a_tiny_delay_grows_with_the_attempts() -> None:
    """G8."""
    tiny = timedelta(milliseconds=1)

    assert [RetryPolicy().delay(n, tiny) / SECOND for n in (1, 5, 50)] == [0.1, 0.5, 1]


def test_any_wait_of_tenacity_will_do() -> None:
    policy = RetryPolicy(wait=wait_fixed(3) + wait_incrementing(start=1, increment=2))

    assert [policy.delay(n) / SECOND for n in (1, 2, 3)] == [4, 6, 8]


@pytest.mark.parametrize(
    ("base", "cap", "jitter"),
    [(0, 10, 0.0), (-1, 10, 0.0), (10, 1, 0.0), (1, 10, -0.1), (1, 10, 1.1)],
)
def test_a_wait_that_makes_no_sense_is_refused(base: int, cap: int, jitter: float) -> None:
    with pytest.raises(ValueError, match="a wait needs"):
        QuadraticWait(timedelta(seconds=base), timedelta(seconds=cap), jitter=jitter)
