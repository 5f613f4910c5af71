"""`wallet-actions demo-saga`: watch sagas being killed, and count what they leave behind."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from wallet_actions.demo_saga.process import ChildError
from wallet_actions.demo_saga.scenario import Demo, Report, Row


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Take snapshots at a cloud, and roll them back, while the process is killed again and again.

    The cloud is a sandbox on loopback with DigitalOcean's shapes and delays. Exit status 0 only if no snapshot was
    leaked, lost or made twice, and nothing is left unfinished.
    """
    console = Console(stderr=as_json)
    try:
        report = asyncio.run(_watch(console))
    except ChildError as error:
        Console(stderr=True).print(f"demo: {error}", style="red", highlight=False)
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps(_as_dict(report), indent=2))  # noqa: T201 this is the command's output
    else:
        _summary(console, report)
    raise typer.Exit(0 if report.leaked == 0 and report.unfinished == 0 and not report.missed else 1)


async def _watch(console: Console) -> Report:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("counting writes and requests", total=None)

        def on_plan(count: int) -> None:
            progress.update(task, description="killing the process", total=count)
            console.print("Each line is one process killed with SIGKILL, and what the one after it wrote to recover.")

        def on_row(row: Row) -> None:
            progress.advance(task)
            console.print(_line(row), highlight=False)

        return await Demo(on_plan=on_plan, on_row=on_row).run()


def _line(row: Row) -> str:
    how = "[red]killed[/]" if row.was_killed else "not killed"
    what = ", ".join(row.recovery) or "nothing was left to do"
    return f"{row.point.course:11} {how} {row.point.label} → [green]{what}[/]"


def _summary(console: Console, report: Report) -> None:
    for label in report.missed:
        console.print(f"Nothing was killed at this point, so it proves nothing: {label}", style="red", markup=False)
    told = ", ".join(f"{count} × {status}" for status, count in sorted(report.sagas.items()))
    console.print(f"The sagas, by their own history: {told}", highlight=False)
    print(  # noqa: T201 the last line is for scripts: no markup, no folding
        f"demo: {report.kills} kills, {report.leaked} resources leaked, {report.unfinished} actions unfinished",
        flush=True,
    )


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
