"""`wallet-actions demo`: watch a wallet being killed, and count its money afterwards."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from wallet_actions.demo.scenario import Demo, Report, Row
from wallet_actions.testing.demos.parent import ChildError
from wallet_actions.testing.demos.show import kills, put, warn, watch
from wallet_actions.testing.nutshell import MintError


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Issue ecash and pay invoices at a real mint while the wallet is killed again and again.

    Installs the Nutshell mint in an environment of its own on the first run, starts it on loopback, and stops it in the
    end. Exit status 0 only if nothing was lost and nothing is left unfinished.
    """
    console = Console(stderr=as_json)
    report = watch(
        lambda on_plan, on_row: Demo(on_plan=on_plan, on_row=on_row).run(),
        line=_line,
        first="starting the mint",
        head="Each line is one wallet process killed with SIGKILL, and the process that came after it.",
        console=console,
        faults=(ChildError, MintError),
    )
    if report is None:
        raise typer.Exit(1)
    if as_json:
        put(_as_dict(report))
    else:
        _summary(console, report)
    raise typer.Exit(0 if report.lost == 0 and report.unfinished == 0 and not report.missed else 1)


def _line(row: Row) -> str:
    what = ", ".join(row.recovery) or "nothing was left to do"
    change = row.after - row.before
    return f"{row.point.operation:5} {kills(row.kills)} {row.point.label} → [green]{what}[/] ({change:+d} sat)"


def _summary(console: Console, report: Report) -> None:
    table = Table(title="After it all", show_header=False)
    table.add_row("operations, by the wallet's history", ", ".join(f"{n} × {k}" for k, n in report.operations.items()))
    table.add_row("taken in", f"{report.taken_in} sat")
    table.add_row("paid out, and fees", f"{report.paid_out} sat, {report.fees} sat")
    table.add_row("the wallet owns", f"{report.owned} sat, {report.reserved} of it held")
    table.add_row("the mint says unspent", f"{report.outstanding} sat")
    console.print(table)
    warn(console, report.missed)
    if report.lost or report.unfinished:
        console.print(Panel("Something is missing: please report this with the lines above.", style="red"))
    put(f"demo: {report.kills} kills, {report.lost} sat lost, {report.unfinished} actions unfinished")


def _as_dict(report: Report) -> dict[str, object]:
    return {
        "kills": report.kills,
        "sat_lost": report.lost,
        "actions_unfinished": report.unfinished,
        **{name: value for name, value in asdict(report).items() if name not in {"rows", "unfinished"}},
        "rows": [
            {
                "operation": row.point.operation,
                "where": row.point.label,
                "kills": row.kills,
                "before_sat": row.before,
                "after_sat": row.after,
                "recovery": row.recovery,
            }
            for row in report.rows
        ],
    }
