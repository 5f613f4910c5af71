"""`wallet-actions demo-saga`: watch sagas being killed, and count what they leave behind."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer
from rich.console import Console

from wallet_actions.demo_saga.scenario import Demo, Report, Row
from wallet_actions.testing.demos.show import kills, put, warn, watch


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Take snapshots at a cloud, and roll them back, while the process is killed again and again.

    The cloud is a sandbox on loopback with DigitalOcean's shapes and delays. Exit status 0 only if no snapshot was
    leaked, lost or made twice, and nothing is left unfinished.
    """
    console = Console(stderr=as_json)
    report = watch(
        lambda on_plan, on_row: Demo(on_plan=on_plan, on_row=on_row).run(),
        line=_line,
        first="counting writes and requests",
        head="Each line is one process killed with SIGKILL, and what the one after it wrote to recover.",
        console=console,
    )
    if report is None:
        raise typer.Exit(1)
    if as_json:
        put(_as_dict(report))
    else:
        _summary(console, report)
    raise typer.Exit(0 if report.leaked == 0 and report.unfinished == 0 and not report.missed else 1)


def _line(row: Row) -> str:
    runs = [(event, len(list(same))) for event, same in groupby(row.recovery)]
    what = ", ".join(event if count == 1 else f"{event} ×{count}" for event, count in runs) or "nothing was left to do"
    return f"{row.point.course:11} {kills(row.was_killed)} {row.point.label} → [green]{what}[/]"


def _summary(console: Console, report: Report) -> None:
    warn(console, report.missed)
    told = ", ".join(f"{count} × {status}" for status, count in sorted(report.sagas.items()))
    console.print(f"The sagas, by their own history: {told}", highlight=False)
    put(f"demo: {report.kills} kills, {report.leaked} resources leaked, {report.unfinished} actions unfinished")


def _as_dict(report: Report) -> dict[str, object]:
    return {
        "kills": report.kills,
        "resources_leaked": report.leaked,
        "actions_unfinished": report.unfinished,
        "sagas": report.sagas,
        "rows": [
            {
                "course": row.point.course,
                "where": row.point.label,
                "was_killed": row.was_killed,
                "recovery": row.recovery,
            }
            for row in report.rows
        ],
    }
