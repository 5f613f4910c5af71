"""A demo as people see it: a progress bar, a line for each kill, and a verdict."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from wallet_actions.errors import WalletActionError

RowT = TypeVar("RowT")
ReportT = TypeVar("ReportT")

Play = Callable[[Callable[[int], None], Callable[[RowT], None]], Awaitable[ReportT]]


def watch(
    play: Play[RowT, ReportT],
    *,
    line: Callable[[RowT], str],
    first: str,
    head: str,
    console: Console,
    faults: tuple[type[Exception], ...] = (WalletActionError,),
) -> ReportT | None:
    """Run a demo and show how it goes.

    Args:
        play: runs it; is given what to tell of the number of kills to come, and of each once it is over.
        line: of a kill, with rich's markup.
        first: what it does until the number is known.
        head: what stands above the lines.
        console: to show it on.
        faults: what says why the demo cannot be run.
    Returns:
        The report; None where the demo could not be run, and has said why.
    """

    async def run() -> ReportT:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(first, total=None)

            def on_plan(count: int) -> None:
                progress.update(task, description="killing", total=count)
                console.print(head)

            def on_row(row: RowT) -> None:
                progress.advance(task)
                console.print(line(row), highlight=False)

            return await play(on_plan, on_row)

    try:
        return asyncio.run(run())
    except faults as error:
        Console(stderr=True).print(f"demo: {error}", style="red", highlight=False, markup=False)
        return None


def kills(count: int) -> str:
    """How often processes died at one point, with rich's markup."""
    if count == 1:
        return "[red]killed[/]"
    return f"[red]killed {count}×[/]" if count else "not killed"


def warn(console: Console, missed: list[str]) -> None:
    """Tell of the points at which no process died."""
    for label in missed:
        console.print(f"Nothing was killed at this point, so it proves nothing: {label}", style="red", markup=False)


def put(text: object) -> None:
    """Write what is for scripts: a line without markup or folding, or a report as JSON."""
    sys.stdout.write((text if isinstance(text, str) else json.dumps(text, indent=2)) + "\n")
    sys.stdout.flush()
