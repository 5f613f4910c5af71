"""`make crash-matrix`: every operation, and everything that can go wrong in it, with real processes at a real mint.

The last line reads `crash matrix: P points, L lost, S stuck, D doubled`. The exit status is 0 only with nothing lost,
stuck or doubled; 1 otherwise, 2 where the matrix could not be run, 130 when it was interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.crash_matrix.lives import LifeError
from tests.crash_matrix.points import Point
from tests.crash_matrix.report import as_json, print_failure, print_matrix
from tests.crash_matrix.runner import Matrix, Wanted, run, run_only
from tests.crash_matrix.scenarios import SCENARIOS
from tests.crash_matrix.trial import Result
from wallet_actions.testing.nutshell import MintConfig, MintError

SECOND_KILLS = 600
INTERRUPTED = 130
WIDTH = 150
TELL_EVERY_S = 15.0
CANNOT_RUN = (LifeError, MintError, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)
    wanted = Wanted(
        scenarios=options.scenarios,
        seed=secrets.randbelow(10**6) if options.seed is None else options.seed,
        count=options.count,
        most=SECOND_KILLS,
        jobs=options.jobs,
        config=MintConfig(input_fee_ppk=options.input_fee_ppk, keyset_version=options.keyset_version),
        plant=options.plant,
    )
    try:
        matrix = _run(wanted, options.only, console)
    except KeyboardInterrupt:
        console.print("interrupted: nothing was measured")
        return INTERRUPTED
    except (*CANNOT_RUN, ExceptionGroup) as error:
        if not isinstance(_first(error), CANNOT_RUN):
            raise
        console.print(f"the matrix could not be run: {_first(error)}")
        return 2
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(matrix), indent=1) + "\n")
    print_matrix(matrix, console)
    return 1 if matrix.failures or not matrix.points else 0


def _run(wanted: Wanted, only: Sequence[Point], console: Console) -> Matrix:
    if only:
        matrix = asyncio.run(run_only(only, wanted))
        for result in matrix.results:
            console.print(f"{result.point}: {', '.join(result.phases)}", soft_wrap=True)
        return matrix
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        teller = _Teller(progress, console)
        return asyncio.run(run(wanted, teller.plan, teller.result))


class _Teller:
    """Tells how far it is: on a bar, or with a line now and then."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress, self._console = progress, console
        self._task = progress.add_task("crash matrix", total=0)
        self._total = self._done = self._failed = 0
        self._begun = self._told = time.monotonic()

    def plan(self, count: int) -> None:
        self._total += count
        self._progress.update(self._task, total=self._total)

    def result(self, result: Result) -> None:
        self._done += 1
        self._progress.advance(self._task)
        if result.findings:
            self._failed += 1
            print_failure(result, self._console)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._told >= TELL_EVERY_S:
            self._told = now
            self._console.print(
                f"{self._done} of {self._total} points, {self._failed} failed, {now - self._begun:.0f} s"
            )


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash_matrix", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the choice; by default another one each time")
    parser.add_argument(
        "--count", type=_positive, metavar="N", help="about so many points, of all operations and kinds"
    )
    parser.add_argument("--jobs", type=_positive, default=2, help="how many cores to keep busy")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all that was found")
    parser.add_argument(
        "--only", type=_checked(Point.parse), action="append", default=[], metavar="ID", help="one point"
    )
    parser.add_argument("--scenarios", type=_names, default=list(SCENARIOS), metavar="NAMES", help=", ".join(SCENARIOS))
    parser.add_argument("--input-fee-ppk", type=int, default=100, help="the mints' fee for spending a coin")
    parser.add_argument("--keyset-version", type=int, choices=(1, 2), default=2, help="of the mints")
    parser.add_argument("--plant", default="", metavar="MODULE:FUNCTION", help="break the wallet, to see it found")
    return parser.parse_args(arguments)


def _checked(parse: Callable[[str], Point]) -> Callable[[str], Point]:
    def parsed(text: str) -> Point:
        try:
            point = parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        _names(point.scenario)
        return point

    return parsed


def _names(text: str) -> list[str]:
    names = [name for known in text.split(",") for name in SCENARIOS if name == known or name.split(".")[0] == known]
    unknown = [
        part for part in text.split(",") if not any(name.split(".")[0] == part or name == part for name in names)
    ]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"there is no operation {', '.join(unknown)}; there are {', '.join(SCENARIOS)}"
        )
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
