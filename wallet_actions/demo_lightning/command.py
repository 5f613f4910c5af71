"""`wallet-actions demo-lightning`: watch a wallet being killed while it pays, and count its money afterwards."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from wallet_actions.demo_lightning.scenario import Demo, Report, Row
from wallet_actions.testing.demos.show import kills, put, warn, watch


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Pay Lightning invoices while the wallet is killed again and again.

    The node is a sandbox on loopback: LND's payment states behind gRPC, with TLS and a macaroon. Exit status 0 only if
    the wallet agrees with the node, nothing was paid twice, and nothing is left unfinished.
    """
    console = Console(stderr=as_json)
    report = watch(
        lambda on_plan, on_row: Demo(on_plan=on_plan, on_row=on_row).run(),
        line=_line,
        first="counting writes",
        head="Each line is one wallet killed with SIGKILL while it paid, and what those after it wrote to recover.",
        console=console,
    )
    if report is None:
        raise typer.Exit(1)
    if as_json:
        put(_as_dict(report))
    else:
        _summary(console, report)
    raise typer.Exit(0 if report.is_ok else 1)


def _line(row: Row) -> str:
    what = ", ".join(row.recovery) or "nothing was left to do"
    return f"{row.point.ending:6} {kills(row.kills)} {row.point.label} → [green]{what}[/]"


def _summary(console: Console, report: Report) -> None:
    warn(console, report.missed)
    console.print(
        f"The wallet owns {report.owned} msat, {report.reserved} of it held; by its own books the node has "
        f"{report.balance} msat, and paid {report.paid_twice} invoices twice.",
        highlight=False,
    )
    put(f"demo: {report.kills} kills, {report.lost_sat} sat lost, {report.unfinished} actions unfinished")


def _as_dict(report: Report) -> dict[str, object]:
    return {
        "kills": report.kills,
        "sat_lost": report.lost_sat,
        "actions_unfinished": report.unfinished,
        "wallet_msat": report.owned,
        "held_msat": report.reserved,
        "node_msat": report.balance,
        "paid_twice": report.paid_twice,
        "rows": [
            {"ending": row.point.ending, "where": row.point.label, "kills": row.kills, "recovery": row.recovery}
            for row in report.rows
        ],
    }
