"""The matrix as a table and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.crash_matrix.judge import Harm
from tests.crash_matrix.points import Kind
from tests.crash_matrix.runner import Matrix
from tests.crash_matrix.trial import Result

ALL = "all"
MOST_TOLD = 20


def print_matrix(matrix: Matrix, console: Console) -> None:
    """The table, what failed and how to run it again, what was left out; the last line is for scripts."""
    console.print(_table(matrix))
    console.print(f"{sum(result.kills for result in matrix.results)} processes were killed; seed {matrix.seed}")
    if matrix.left_out:
        left = "; ".join(f"{kind}: {count}" for kind, count in sorted(matrix.left_out.items()))
        console.print(f"left out, by the choice of the seed: {left}")
    if matrix.not_reached:
        told = ", ".join(map(str, matrix.not_reached[:MOST_TOLD]))
        console.print(f"not counted, since nothing went wrong there this time: {len(matrix.not_reached)} ({told})")
    for result in matrix.failures[:MOST_TOLD]:
        print_failure(result, console)
    if len(matrix.failures) > MOST_TOLD:
        console.print(f"… and {len(matrix.failures) - MOST_TOLD} more")
    console.print(str(matrix), soft_wrap=True)


def print_failure(result: Result, console: Console) -> None:
    """One point at which something is not as it should be."""
    console.print(f"{result.point}", style="red", soft_wrap=True)
    for finding in result.findings:
        console.print(f"  {finding}", soft_wrap=True)
    console.print(f"  again: make crash-matrix ONLY={shlex.quote(str(result.point))}", soft_wrap=True)


def as_json(matrix: Matrix) -> dict[str, Any]:
    """All there is to say."""
    return {
        "points": matrix.points,
        **{harm.value: matrix.count(harm) for harm in Harm},
        "seed": matrix.seed,
        "killed": sum(result.kills for result in matrix.results),
        "left_out": {kind.value: count for kind, count in matrix.left_out.items()},
        "not_reached": [str(point) for point in matrix.not_reached],
        "table": {
            name: {
                kind or "no fault": _counts(results) for kind in (None, *Kind) if (results := _cell(matrix, name, kind))
            }
            for name in _names(matrix)
        },
        "results": [
            {
                "point": str(result.point),
                "kind": result.point.kind,
                "seconds": round(result.seconds, 2),
                "killed": result.kills,
                "wrote": result.phases,
                "findings": [str(finding) for finding in result.findings],
            }
            for result in matrix.results
        ],
    }


def _table(matrix: Matrix) -> Table:
    table = Table(title="points, and after how many of them something is lost (L), stuck (S) or doubled (D)")
    table.add_column("operation", no_wrap=True, min_width=max(map(len, [ALL, *_names(matrix)])))
    for kind in Kind:
        table.add_column(kind.value, justify="right", max_width=9)
    table.add_column("points", justify="right")
    for harm in Harm:
        table.add_column(harm.value, justify="right")
    names = _names(matrix)
    for name in (*names, ALL):
        results = [result for result in matrix.results if name in (ALL, result.point.scenario)]
        cells = [_shown(_counts(_cell(matrix, name, kind))) for kind in Kind]
        counts = _counts(results)
        points = str(sum(result.point.fault is not None for result in results))
        table.add_row(name, *cells, points, *(str(counts[harm.value]) for harm in Harm), end_section=name == names[-1])
    return table


def _names(matrix: Matrix) -> list[str]:
    return list(dict.fromkeys(result.point.scenario for result in matrix.results))


def _cell(matrix: Matrix, name: str, kind: Kind | None) -> list[Result]:
    return [result for result in matrix.results if result.point.kind is kind and name in (ALL, result.point.scenario)]


def _counts(results: Sequence[Result]) -> dict[str, int]:
    return {
        "points": len(results),
        **{harm.value: sum(result.has(harm) for result in results) for harm in Harm},
    }


def _shown(counts: dict[str, int]) -> str:
    if not counts["points"]:
        return "–"
    harms = [f"{counts[harm.value]}{harm.value[0].upper()}" for harm in Harm if counts[harm.value]]
    return " ".join([str(counts["points"]), *harms])
