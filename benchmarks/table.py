"""The table: a row each, the figure, the goal, and whether it was met."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.measuring import Spread

WIDTHS = (66, 28, 8)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        topic: what was measured.
        shown: the figure, as it is shown.
        median: the figure.
        goal: None for what is only told.
        sense: whether the figure is to be at least or at most the goal.
    """

    topic: str
    shown: str
    median: float
    goal: float | None = None
    sense: Literal[">=", "<="] = ">="

    @property
    def is_met(self) -> bool | None:
        """Whether the goal was met; None without a goal."""
        if self.goal is None:
            return None
        return self.median >= self.goal if self.sense == ">=" else self.median <= self.goal

    def line(self) -> str:
        """The row as text."""
        goal = "" if self.goal is None else f"{'≥' if self.sense == '>=' else '≤'} {self.goal:g}"
        verdict = {True: "met", False: "MISSED", None: ""}[self.is_met]
        cells = zip((self.topic, self.shown, goal), WIDTHS, strict=True)
        return " ".join([*(text.ljust(width) for text, width in cells), verdict]).rstrip()

    def told(self) -> dict[str, Any]:
        """For the JSON file."""
        return {**asdict(self), "is_met": self.is_met}


def at_least(topic: str, spread: Spread, goal: float, form: str = "{:.2f}") -> Row:
    """A figure that shall not be lower."""
    return Row(topic, spread.shown(form), spread.median, goal, ">=")


def at_most(topic: str, spread: Spread, goal: float, form: str = "{:.2f}") -> Row:
    """A figure that shall not be higher."""
    return Row(topic, spread.shown(form), spread.median, goal, "<=")


def told(topic: str, spread: Spread, form: str = "{:,.0f}") -> Row:
    """A figure without a goal."""
    return Row(topic, spread.shown(form), spread.median)


def closing_line(rows: Iterable[Row]) -> str:
    """How many goals were met."""
    verdicts = [row.is_met for row in rows if row.is_met is not None]
    return f"bench: {sum(verdicts)} of {len(verdicts)} goals met"
