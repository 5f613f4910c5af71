"""Where commands meet the terminal: what they print, what they ask, and the event loop that they run in."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wallet_actions.ops.failures import InterruptedCommandError, NotConfirmedError
from wallet_actions.ops.text import clean

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work to its end.

    Raises:
        InterruptedCommandError: Ctrl-C; what was committed by then stays.
    """
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise InterruptedCommandError("interrupted; every action is as it was last committed") from None


def emit(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2))  # noqa: T201 the command line speaks here


def say(text: str = "") -> None:
    """Print a line. It is never folded, so that it can be searched; a terminal folds by itself."""
    console().print(Text(clean(text)), soft_wrap=True)


def grid(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, kept: Sequence[str] = (), has_header: bool = True
) -> None:
    """Print a table that fits the terminal: long values fold, and a column in which nothing stands is left out.

    Args:
        kept: columns that are never folded: short words and numbers.
        has_header: whether the columns' names are shown.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=has_header)
    shown = [at for at, name in enumerate(columns) if name in ("KIND", "ID") or any(row[at] for row in rows)]
    for at in shown:
        is_number = all(row[at].lstrip("-").isdigit() for row in rows if row[at])
        table.add_column(
            columns[at],
            no_wrap=columns[at] in kept,
            overflow="fold",
            justify="right" if is_number and columns[at] not in ("KIND", "ID") else "left",
        )
    for row in rows:
        table.add_row(*(Text(clean(row[at])) for at in shown))
    console().print(table)


def console() -> Console:
    """The standard output; coloured only on a terminal, and not where NO_COLOR is set."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def width() -> int:
    """How many characters a line holds; 80 where nobody knows."""
    return console().width


def is_interactive() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def read_answer() -> str:
    """What a person types, up to the end of the line; empty at the end of the input."""
    return sys.stdin.readline()


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person; anything but `y` or `yes` is a no.

    Args:
        yes: the answer was given on the command line.
    Raises:
        NotConfirmedError: no, or there is nobody to ask.
        InterruptedCommandError: Ctrl-C.
    """
    if yes:
        return
    if not is_interactive():
        raise NotConfirmedError("this wants a person to confirm it, and there is no terminal: add --yes to mean it")
    sys.stderr.write(f"{clean(question)} [y/N] ")
    sys.stderr.flush()
    try:
        answer = read_answer()
    except KeyboardInterrupt:
        raise InterruptedCommandError("interrupted; nothing was changed") from None
    if answer.strip().lower() not in ("y", "yes"):
        raise NotConfirmedError("not confirmed; nothing was changed")
