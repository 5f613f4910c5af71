"""Statements of many rows: a statement costs more than its rows.

Beside them it is a call from Python, two turns of the interpreter lock, and a start of SQLite's machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

SIZES = (64, 32, 16, 8, 4, 2, 1)
"""For how many rows there are statements: few, so that few are kept prepared, 100 kB for the largest."""


def values(given: int, size: int, fillers: Sequence[str] = ()) -> str:
    """What follows VALUES: rows of some parameters, and behind them some constants."""
    row = ", ".join(["?"] * given + [*fillers])
    return ", ".join([f"({row})"] * size)


def parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut into as few parts as the sizes of the statements allow."""
    begin, end = 0, len(items)
    for size in SIZES:
        while end - begin >= size:
            yield items[begin : begin + size]
            begin += size
