"""How wild a run of a simulation may get, and what comes of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from wallet_actions.testing.fates import FINE, Lot
from wallet_actions.testing.processes import Driving
from wallet_actions.testing.scheduler import MOST_TURNS, Turn


@dataclass(frozen=True, slots=True)
class Limits:
    """How wild a simulation may get.

    Attributes:
        processes: at most; a schedule may have fewer.
        lots: what may happen.
        most_lots: how often anything may happen in one schedule.
        horizon: after so many turns nothing happens any more.
        driving: the ways to drive.
        most_turns: after so many the run counts as one that does not end.
    """

    processes: int = 3
    lots: frozenset[Lot] = frozenset(Lot) - {Lot.FINE}
    most_lots: int = 6
    horizon: int = 300
    driving: tuple[Driving, ...] = (Driving.STEPWISE, Driving.TASKS, Driving.RUNNER)
    most_turns: int = MOST_TURNS


@dataclass(slots=True)
class Run:
    """One run of a world.

    Attributes:
        choices: those that were made; they give the same run again.
        turns: what happened, in order.
        violations: what the oracles found, and what failed.
        processes: how many there were.
        switches: how often a process had to wait though it could have gone on.
        states: how the actions ended, a line each.
    """

    choices: tuple[int, ...]
    turns: list[Turn]
    violations: list[str] = field(default_factory=list)
    processes: int = 0
    switches: int = 0
    states: list[str] = field(default_factory=list)

    @property
    def crashes(self) -> int:
        """How often a process died."""
        return sum(turn.fate.lot.is_crash for turn in self.turns)

    @property
    def lots(self) -> int:
        """How often anything happened."""
        return sum(turn.fate is not FINE for turn in self.turns)

    def fingerprint(self) -> str:
        """A hash of the trace: equal for equal runs, in any process on any machine."""
        told = "\n".join(map(str, [*self.turns, *self.violations]))
        return hashlib.sha256(told.encode()).hexdigest()
