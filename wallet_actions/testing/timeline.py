"""A run for people: one column a process, one line a turn."""

from __future__ import annotations

import textwrap
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
    for turn in run.turns:
        if turn.process:
            lines.append(_row(f"{turn.at_s:.2f} s", {turn.process: _told(turn)}, run.processes))
        else:
            lines.append(f"  … {turn.what}")
    lines += [f"in the end: {state}" for state in run.states]
    lines += [f"violated: {violation}" for violation in run.violations]
    return "\n".join(lines)


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
