"""What the user sees while an operation is under way: on stderr, and moving only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

from wallet_actions.cashu import Cashu
from wallet_actions.coins import ActionKey
from wallet_actions.events import Event
from wallet_actions.ops.text import clean

WORDS = {
    "unpaid": "waiting for the payment",
    "secrets_prepared": "paid; the mint is asked for the coins",
    "mint_requested": "paid; the mint is asked for the coins",
    "proofs_reserved": "the coins are set aside",
    "proofs_pending": "the token is being claimed",
    "swap_requested": "the mint is asked for new coins",
    "melt_requested": "the mint is asked to pay",
    "payment_pending": "the payment is under way",
    "token_created": "waiting until the token is claimed",
    "rolling_back": "the token is being taken back",
    "scanning": "the mint is asked what it has signed",
}
UNDER_WAY, LEAVE = "under way", "; Ctrl-C leaves it under way"


class Display:
    """One line that tells how far an operation is.

    Args:
        progress: None where there is no terminal; then only obstacles are told, each of them once.
    """

    def __init__(self, progress: Progress | None, phase: str) -> None:
        self._progress = progress
        self._words = WORDS.get(phase, UNDER_WAY)
        self._obstacle = ""
        self._told: set[str] = set()
        self._task = None if progress is None else progress.add_task(f"{self._words}{LEAVE}", total=None)

    def show(self, words: str, *, completed: int | None = None, total: int | None = None) -> None:
        """Say how far it is; with a bar, where there are numbers."""
        self._words = words
        self._draw(completed=completed, total=total)

    def meet(self, event: Event) -> None:
        """Follow an event of the operation."""
        self._obstacle = "" if event.error is None or event.status.is_terminal else clean(event.error.message)
        if self._progress is not None:
            if event.phase != "scanning":  # which tells more of itself
                self._words = WORDS.get(event.phase, UNDER_WAY)
            self._draw()
        elif self._obstacle and self._obstacle not in self._told:
            self._told.add(self._obstacle)
            print(f"{self._obstacle}; trying again", file=sys.stderr, flush=True)  # noqa: T201

    def _draw(self, *, completed: int | None = None, total: int | None = None) -> None:
        if self._progress is None or self._task is None:
            return
        shown = f"{self._words}: {self._obstacle}; trying again" if self._obstacle else self._words
        self._progress.update(self._task, description=f"{shown}{LEAVE}", completed=completed, total=total)


@contextmanager
def showing(cashu: Cashu, key: ActionKey, phase: str, *, is_quiet: bool, has_bar: bool) -> Iterator[Display]:
    """Show how an operation gets on while the block lasts.

    Args:
        phase: where it is now.
        is_quiet: show nothing.
        has_bar: there will be numbers.
    """
    with ExitStack() as stack:
        progress = None
        if sys.stderr.isatty() and not is_quiet:
            columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
            columns += [BarColumn()] if has_bar else []
            console = Console(stderr=True, highlight=False, markup=False, emoji=False)
            progress = stack.enter_context(Progress(*columns, TimeElapsedColumn(), console=console, transient=True))
        display = Display(progress, phase)

        def look(event: Event) -> None:
            if event.key == key:
                display.meet(event)

        if not is_quiet:
            stack.callback(cashu.engine.executor.observe(look))
        yield display
