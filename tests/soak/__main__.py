"""`make soak`: thousands of operations by two processes that share one wallet's file, killed again and again.

The last line reads `soak: N operations, K kills: L lost, S stuck, D doubled`. The exit status is 0 only with nothing
lost, stuck or doubled; 1 otherwise, 2 where it could not be run, 130 when it was interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tests.crash_matrix.lives import LifeError
from tests.soak.course import Report, Soak
from wallet_actions.testing.nutshell import MintConfig, MintError

OPERATIONS_A_KILL = 20
CANNOT_RUN = (LifeError, MintError, OSError)
INTERRUPTED = 130
WIDTH = 150
TELL_EVERY_S = 15.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, help="of what is asked for; by default another one each time")
    parser.add_argument("--count", type=int, default=2000, help="how many operations")
    parser.add_argument("--kills", type=int, help=f"how many; by default one in {OPERATIONS_A_KILL} operations")
    parser.add_argument("--input-fee-ppk", type=int, default=100, help="the mint's fee for spending a coin")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("soak", total=options.count)
            told = begun = time.monotonic()

            def on_progress(count: int, kills: int) -> None:
                nonlocal told
                progress.update(task, completed=count, description=f"soak, {kills} kills")
                if not console.is_terminal and time.monotonic() - told >= TELL_EVERY_S:
                    told = time.monotonic()
                    console.print(f"{count} of {options.count} operations, {kills} kills, {told - begun:.0f} s")

            soak = Soak(
                seed=seed,
                count=options.count,
                kills=options.count // OPERATIONS_A_KILL if options.kills is None else options.kills,
                config=MintConfig(input_fee_ppk=options.input_fee_ppk),
                on_progress=on_progress,
            )
            report = asyncio.run(soak.run())
    except KeyboardInterrupt:
        console.print("interrupted: nothing was measured")
        return INTERRUPTED
    except (*CANNOT_RUN, ExceptionGroup) as error:
        if not isinstance(_first(error), CANNOT_RUN):
            raise
        console.print(f"the soak could not be run: {_first(error)}")
        return 2
    _print(report, console)
    return 1 if report.findings else 0


def _print(report: Report, console: Console) -> None:
    table = Table(title="After it all", show_header=False)
    table.add_row(
        "by the wallet's history", ", ".join(f"{n} × {name}" for name, n in sorted(report.operations.items()))
    )
    table.add_row("not begun", ", ".join(f"{n} × {name}" for name, n in report.refusals.most_common()) or "none")
    table.add_row("the wallet owns", f"{report.owned} sat")
    table.add_row("others own", f"{report.elsewhere} sat")
    twice = f", {report.left} of them for payments that it settled twice at once" if report.left else ""
    table.add_row("the mint owes", f"{report.outstanding} sat{twice}")
    table.add_row("seed", str(report.seed))
    console.print(table)
    for finding in report.findings:
        console.print(str(finding), style="red", soft_wrap=True)
    console.print(str(report), soft_wrap=True)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
