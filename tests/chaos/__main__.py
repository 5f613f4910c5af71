"""`make chaos`: four workers share a database, and everything that can go wrong with them and with it does.

The last line reads `chaos: A actions, K kills, Z zombies, D database faults: L lost, X doubled, S stuck`. The exit
status is 0 only with nothing lost, doubled or stuck; 1 otherwise, 2 where it could not be run, 130 when it was
interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.chaos.course import Chaos, Report, Settings
from tests.crash_matrix.judge import Harm
from tests.crash_matrix.lives import LifeError
from wallet_actions.testing.nutshell import MintConfig, MintError, NutshellMint
from wallet_actions.testing.postgres import PostgresMissingError

DATABASES = ("sqlite", "postgres")
CANNOT_RUN = (LifeError, MintError, PostgresMissingError, OSError)
INTERRUPTED = 130
WIDTH = 150
TELL_EVERY_S = 10.0
ACTIONS_A_SECOND = 20
LEAST_S = 8.0
INPUT_FEE_PPK = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="of what is done and when; by default another one each time")
    parser.add_argument("--actions", type=int, default=2000, help="how many at the bank, on each database")
    parser.add_argument("--mint-actions", type=int, default=200, help="how many at the real mint, on each database")
    parser.add_argument("--only", choices=DATABASES, help="one of the databases")
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"over which they are spread, on each database; by default one for {ACTIONS_A_SECOND} actions",
    )
    parser.add_argument("--json", type=Path, help="write what came of it into this file")
    parser.add_argument("--keep", type=Path, help="leave in this folder what each worker asked of its store and heard")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    try:
        reports = asyncio.run(_run(options, seed, console))
    except KeyboardInterrupt:
        console.print("interrupted: nothing was measured")
        return INTERRUPTED
    except (*CANNOT_RUN, ExceptionGroup) as error:
        if not isinstance(_first(error), CANNOT_RUN):
            raise
        console.print(f"the chaos could not be run: {_first(error)}")
        return 2
    _print(reports, seed, console)
    if options.json is not None:
        told = {"seed": seed, "courses": [_told(report) for report in reports]}
        options.json.write_text(json.dumps(told, indent=1))
    return 1 if any(report.findings for report in reports) else 0


async def _run(options: argparse.Namespace, seed: int, console: Console) -> list[Report]:
    databases = DATABASES if options.only is None else (options.only,)
    reports = []
    async with AsyncExitStack() as stack:
        for database in databases:
            # A mint for each: it keeps the books of one wallet.
            mint = None
            if options.mint_actions:
                mint = await stack.enter_async_context(NutshellMint(MintConfig(input_fee_ppk=INPUT_FEE_PPK)))
            settings = Settings(
                database=database,
                seed=seed,
                actions=options.actions,
                mint_actions=options.mint_actions,
                keep=options.keep,
                seconds=options.seconds or max(LEAST_S, options.actions / ACTIONS_A_SECOND),
            )
            reports.append(await _course(settings, mint, console))
    return reports


async def _course(settings: Settings, mint: NutshellMint | None, console: Console) -> Report:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        begun = told = time.monotonic()

        def on_progress(count: int, report: Report) -> None:
            nonlocal told
            text = f"{settings.database}, {report.kills} kills, {report.zombies} zombies"
            progress.update(task, completed=count, description=text)
            if not console.is_terminal and time.monotonic() - told >= TELL_EVERY_S:
                told = time.monotonic()
                console.print(f"{text}: {count} of {total} begun, {told - begun:.0f} s")

        chaos = Chaos(settings, mint, on_progress)
        total = chaos.asked_for
        task = progress.add_task(settings.database, total=total)
        return await chaos.run()


def _print(reports: Sequence[Report], seed: int, console: Console) -> None:
    table = Table("", *(report.database for report in reports), title=f"After it all, seed {seed}")
    for name in sorted({name for report in reports for name in report.statuses}):
        table.add_row(name, *(str(report.statuses[name]) for report in reports))
    table.add_section()
    table.add_row("kills", *(str(report.kills) for report in reports))
    table.add_row("zombies", *(str(report.zombies) for report in reports))
    table.add_row("database faults", *(_counts(report.faults) for report in reports))
    for name in dict.fromkeys(name for report in reports for name in report.facts):
        values = (report.facts.get(name, "") for report in reports)
        table.add_row(name, *(_counts(value) if isinstance(value, dict) else str(value) for value in values))
    table.add_row("seconds", *(f"{report.seconds:.0f}" for report in reports))
    console.print(table)
    for report in reports:
        for finding in report.findings:
            console.print(f"{report.database}: {finding}", style="red", soft_wrap=True)
    console.print(summary(reports), soft_wrap=True)


def summary(reports: Sequence[Report]) -> str:
    """The last line."""
    harms = Counter(finding.harm for report in reports for finding in report.findings)
    return (
        f"chaos: {sum(report.actions for report in reports)} actions, {sum(report.kills for report in reports)} kills, "
        f"{sum(report.zombies for report in reports)} zombies, "
        f"{sum(report.faults.total() for report in reports)} database faults: "
        f"{harms[Harm.LOST]} lost, {harms[Harm.DOUBLED]} doubled, {harms[Harm.STUCK]} stuck"
    )


def _counts(counts: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _told(report: Report) -> dict[str, Any]:
    return {
        "database": report.database,
        "actions": report.actions,
        "kills": report.kills,
        "zombies": report.zombies,
        "database_faults": dict(report.faults),
        "statuses": dict(report.statuses),
        "facts": report.facts,
        "events": report.events,
        "seconds": round(report.seconds, 1),
        "findings": [{"harm": finding.harm.value, "text": finding.text} for finding in report.findings],
    }


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
