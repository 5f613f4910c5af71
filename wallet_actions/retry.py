"""How long to wait before a step is tried again.

The wait is quadratic: `base × attempts²`, capped, with jitter if wanted. It is a tenacity wait strategy, so any other
one (or a sum of them) can take its place for a kind. A delay that the peer asks for wins over the strategy, within the
cap (L-P5). The attempts are counted in the checkpoint, so a restart does not begin anew (L-S10).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base

from wallet_actions.clock import Chance, system_chance


class QuadraticWait(wait_base):
    """Waits `base × attempts²`, at most `cap`.

    Args:
        base: the wait after the first failure.
        cap: the longest wait.
        jitter: the share of each wait that is left to chance, 0 … 1: a wait w becomes w × (1 - jitter … 1).
        chance: where the jitter is drawn from.
    """

    def __init__(
        self,
        base: timedelta = timedelta(seconds=1),
        cap: timedelta = timedelta(hours=1),
        *,
        jitter: float = 0.0,
        chance: Chance = system_chance,
    ) -> None:
        if base <= timedelta(0) or cap < base or not 0 <= jitter <= 1:
            raise ValueError("a wait needs 0 < base <= cap and 0 <= jitter <= 1")
        self.base_s = base.total_seconds()
        self.cap_s = cap.total_seconds()
        self.jitter = jitter
        self.chance = chance

    def __call__(self, retry_state: RetryCallState) -> float:
        """The wait in seconds after `retry_state.attempt_number` failures."""
        wait_s = min(self.cap_s, self.base_s * retry_state.attempt_number**2)
        if self.jitter:
            wait_s *= 1 - self.jitter * self.chance()
        return wait_s


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What the executor does with failures of a kind; set it as the class's `retry`.

    Attributes:
        wait: a tenacity wait strategy, asked with the number of consecutive failures.
        cap: the longest delay that a peer may ask for.
        fault_budget: how many unclassified exceptions in a row a step may raise; with the next one it is stuck (L-D6).
        configuration_wait: how long to park when a person has to act (credentials, a removed method).
    """

    wait: wait_base = field(default_factory=QuadraticWait)
    cap: timedelta = timedelta(hours=1)
    fault_budget: int = 5
    configuration_wait: timedelta = timedelta(hours=1)

    def delay(self, attempts: int, retry_after: timedelta | None = None) -> timedelta:
        """How long to park after some failures in a row.

        Args:
            attempts: how many, ≥ 1.
            retry_after: what the peer asked for; wins, up to `cap`, and not below a tenth of a second for each attempt,
                or a second. A delay that is not positive asks for nothing: a peer that says "at once" again and again
                must not make a hot loop.
        """
        if retry_after is not None and retry_after > timedelta(0):
            floor = min(timedelta(seconds=attempts / 10), timedelta(seconds=1))
            return min(max(retry_after, floor), self.cap)
        state = RetryCallState(_RETRYING, None, (), {})
        state.attempt_number = attempts
        return timedelta(seconds=self.wait(state))


_RETRYING = Retrying()
