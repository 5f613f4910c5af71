"""A run for people: one column a process, one line a turn; what is read in one go stands together."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from wallet_actions.testing.fates import FINE, Lot

if TYPE_CHECKING:
    from wallet_actions.testing.runs import Run
    from wallet_actions.testing.scheduler import Turn

WIDTH = 40


def timeline(run: Run) -> str:
    """Tell a run: what each process did, in the order in which it happened, what befell it, and what is wrong."""
    columns = range(1, run.processes + 1)
    lines = [_row("time", {number: [f"process {number}"] for number in columns}, run.processes)]
    lines.append(_row("─" * 8, {number: ["─" * WIDTH] for number in columns}, run.processes))
    for turns in _together(run.turns):
        first = turns[0]
        if first.process:
            told = _told(first) if len(turns) == 1 else textwrap.wrap(", ".join(turn.what for turn in turns), WIDTH)
            lines.append(_row(f"{first.at_s:.2f} s", {first.process: told}, run.processes))
        else:
            lines.append(f"  … {first.what}")
    lines += [f"in the end: {state}" for state in run.states]
    lines += [f"violated: {violation}" for violation in run.violations]
    return "\n".join(lines)


def _together(turns: Sequence[Turn]) -> Iterator[list[Turn]]:
    """Each turn by itself, but what a process reads without being disturbed at once."""
    reads: list[Turn] = []
    for turn in turns:
        is_read = turn.touches == "read" and turn.fate is FINE and turn.is_answered
        if reads and not (is_read and turn.process == reads[0].process):
            yield reads
            reads = []
        if is_read:
            reads.append(turn)
        else:
            yield [turn]
    if reads:
        yield reads


def _told(turn: Turn) -> list[str]:
    told = textwrap.wrap(turn.what, WIDTH)
    if turn.fate is not FINE:
        told += textwrap.wrap(f"⚡ {turn.fate}", WIDTH)
    elif not turn.is_answered:
        told[-1:] = textwrap.wrap(f"{told[-1]} ✗", WIDTH)
    if turn.fate.lot in (Lot.CANCEL, Lot.NOTIFY, Lot.SECOND_DRIVER, Lot.CLOCK_FORWARD) and not turn.is_answered:
        told[-1:] = textwrap.wrap(f"{told[-1]} ✗", WIDTH)
    return told


def _row(time: str, cells: dict[int, list[str]], processes: int) -> str:
    height = max([1, *map(len, cells.values())])
    rows = []
    for line in range(height):
        row = [f"{time if line == 0 else '':>10}"]
        for number in range(1, processes + 1):
            cell = cells.get(number, [])
            row.append(f"{cell[line] if line < len(cell) else '':<{WIDTH}}")
        rows.append(" │ ".join(row).rstrip())
    return "\n".join(rows)
