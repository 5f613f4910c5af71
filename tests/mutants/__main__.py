"""How good the suite is: `python -m tests.mutants` plants bugs in copies of the engine and of both stores."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.mutants.copies import RunError, Verdict
from tests.mutants.operators import Mutant
from tests.mutants.runner import Trial, choose, sources, try_all

WANTED = 0.9
DEFAULT_COUNT = 400


def main() -> int:
    """Print the survivors and the sum.

    Returns:
        The exit status: 0 if nine of ten are killed, 1 if fewer, 2 where nothing could be measured.
    """
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the tests that run are ended, the copies removed
    console = Console(width=None if sys.stdout.isatty() else 240, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        texts = sources()
        chosen = choose(texts, options.count, options.seed, options.only)
        if not chosen:
            raise RunError("there is no such mutant")
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("trying the code as it is", total=len(chosen))

            def tell(trial: Trial) -> None:
                progress.update(task, advance=1, description="trying mutants")
                if trial.run.verdict is Verdict.SURVIVED:
                    console.print(describe(trial), markup=False)

            trials = try_all(chosen, texts, options.jobs, options.seed, tell)
    except RunError as error:
        console.print(str(error), markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted: nothing was measured")
        return 130
    killed = sum(trial.run.verdict is not Verdict.SURVIVED for trial in trials)
    hung = sum(trial.run.verdict is Verdict.HUNG for trial in trials)
    if options.json is not None:
        options.json.write_text(json.dumps([_row(trial) for trial in trials], indent=1) + "\n")
    if hung:
        console.print(f"of those killed, {hung} by never ending")
    console.print(f"mutants: {killed} of {len(trials)} killed ({killed / len(trials):.1%}), seed {options.seed}")
    return 0 if killed >= WANTED * len(trials) else 1


def describe(trial: Trial) -> str:
    """A survivor: where it is, and the line before and after."""
    mutant = trial.mutant
    if not isinstance(mutant, Mutant):
        return f"survived: {mutant.path}: planted: {mutant.bug}"
    place = f"{mutant.path}:{mutant.line}"
    return f"survived: {place}: {mutant.operator}\n  - {mutant.before}\n  + {mutant.after}"


def _row(trial: Trial) -> dict[str, object]:
    mutant, run = trial.mutant, trial.run
    row: dict[str, object] = {"key": mutant.key, "path": mutant.path, "verdict": run.verdict.value}
    if isinstance(mutant, Mutant):
        row |= {"line": mutant.line, "operator": mutant.operator, "before": mutant.before, "after": mutant.after}
    last = [line for line in run.output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return row | {"seconds": round(run.seconds, 2), "killed_by": last[0] if last else None}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--count", type=_count, default=DEFAULT_COUNT, help="how many mutants, or all")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--jobs", type=_positive, default=2, help="how many at a time")
    parser.add_argument("--only", default="", metavar="TEXT", help="only mutants with this in their key")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write every verdict")
    return parser.parse_args()


def _count(text: str) -> int | None:
    return None if text == "all" else _positive(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
