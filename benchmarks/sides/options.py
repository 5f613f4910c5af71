"""What a side is told, and how it answers."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import OTHERS


@dataclass(frozen=True, slots=True)
class Options:
    """What a side is told.

    Attributes:
        folder: for its databases; what was made there for an earlier run may be there.
        at_once: how many actions are driven together.
        batches: how often, one after another.
        variant: what else the side can vary; each names its own.
        others: how many rows there are besides.
        turn: which round this is, from 0.
    """

    folder: Path
    at_once: int
    batches: int
    variant: str
    others: int
    turn: int


def read() -> Options:
    """Read the command line of a side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--batches", type=int, default=1)
    parser.add_argument("--variant", default="")
    parser.add_argument("--others", type=int, default=OTHERS)
    parser.add_argument("--turn", type=int, default=0)
    given = parser.parse_args()
    return Options(given.folder, given.at_once, given.batches, given.variant, given.others, given.turn)


def answer(**figures: float | str) -> None:
    """Tell what was measured."""
    print(json.dumps(figures))
