"""The sections of the table, a module each with `measure(plan)`, which yields its rows as they come."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.ground import Ground
from benchmarks.measuring import Rounds, Side, in_turns


@dataclass(slots=True)
class Plan:
    """What is to be measured, and what was.

    Attributes:
        rounds: how often each side runs.
        is_quick: less work, and only what has a goal.
        peers: the interpreter of their environment; None without them.
        raw: all answers, by measurement and side: for the JSON file and the plots.
    """

    ground: Ground
    rounds: int
    is_quick: bool
    peers: Path | None = None
    raw: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)

    def in_turns(self, title: str, sides: list[Side], rounds: int | None = None) -> Rounds:
        """Run sides in turns, and keep what they answered."""
        measured = in_turns(self.ground, sides, rounds or self.rounds)
        self.raw[title] = measured.answers
        return measured
