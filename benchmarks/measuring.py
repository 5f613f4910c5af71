"""Running sides in turns, each in a process of its own, and what comes of it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.ground import Ground

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 300.0


class SideFailedError(Exception):
    """A side ended without an answer; the message ends with what it said."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a measurement.

    Attributes:
        name: as it is shown.
        module: which is run, as in `benchmarks.sides.ours`.
        arguments: its options, without the folder.
        flush_ms: what a flush costs it; None for no shim at all.
        interpreter: default is this one.
        folder: default is the ground's.
    """

    name: str
    module: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    flush_ms: float | None = None
    interpreter: Path | None = None
    folder: Path | None = None

    def run(self, ground: Ground, turn: int) -> dict[str, Any]:
        """Run it once.

        Raises:
            SideFailedError: see there.
        """
        given = {"folder": self.folder or ground.folder, "turn": turn, **self.arguments}
        command = [str(self.interpreter or sys.executable), "-m", self.module]
        for name, value in given.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        environment = os.environ | ({} if self.flush_ms is None else ground.environment(self.flush_ms))
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
            )
        except subprocess.TimeoutExpired:
            raise SideFailedError(f"{self.name} took longer than {PATIENCE_S:.0f} s") from None
        if done.returncode != 0 or not done.stdout.strip():
            raise SideFailedError(f"{self.name} failed: {done.stderr[-400:]}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def shown(self, form: str = "{:,.0f}") -> str:
        """The median, and the range in brackets."""
        return f"{form.format(self.median)} ({form.format(min(self.values))}–{form.format(max(self.values))})"


class Rounds:
    """The answers of some sides, in turns.

    Args:
        answers: by the side's name, one a round.
    """

    def __init__(self, answers: dict[str, list[dict[str, Any]]]) -> None:
        self.answers = answers

    def __contains__(self, name: object) -> bool:
        return bool(self.answers.get(str(name)))

    def spread(self, name: str, figure: str) -> Spread:
        """A figure of one side."""
        return Spread(tuple(float(answer[figure]) for answer in self.answers[name]))

    def ratio(self, name: str, other: str, figure: str, other_figure: str | None = None) -> Spread:
        """A figure of one side over that of another, round by round: what slows a round down slows both."""
        pairs = zip(self.answers[name], self.answers[other], strict=False)
        return Spread(tuple(float(one[figure]) / float(two[other_figure or figure]) for one, two in pairs))


def in_turns(ground: Ground, sides: Sequence[Side], rounds: int) -> Rounds:
    """Run the sides in turns: A B A B, and so on.

    A side that fails is told of on standard error and left out from then on.
    """
    answers: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    left_out: set[str] = set()
    for turn in range(rounds):
        for side in sides:
            if side.name in left_out:
                continue
            try:
                answers[side.name].append(side.run(ground, turn))
            except SideFailedError as error:
                left_out.add(side.name)
                answers[side.name].clear()
                print(error, file=sys.stderr, flush=True)
    return Rounds(answers)
