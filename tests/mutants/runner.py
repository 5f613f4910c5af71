"""Runs the suite against mutants, some at a time, each job in a copy of its own."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from tests.mutants.copies import ROOT, Copy, Run, RunError, Verdict
from tests.mutants.operators import Mutant, mutants
from tests.mutants.planted import PLANTED, Planted
from tests.mutants.targets import TARGETS, equivalents

SHORTEST_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Trial:
    """A mutant, and how the tests ended."""

    mutant: Mutant | Planted
    run: Run


def choose(sources: dict[str, str], count: int | None, seed: int, only: str = "") -> list[Mutant | Planted]:
    """All planted bugs, and a sample of the mutants.

    Args:
        sources: the text of each target.
        count: how many of both together; None for all.
        only: a part of the keys of those to choose from.
    Raises:
        RunError: a known equivalent names no mutant.
    """
    found = [mutant for path, text in sources.items() for mutant in mutants(path, text)]
    known = {one.key for one in equivalents()}
    stale = known - {mutant.key for mutant in found}
    if stale:
        raise RunError("equivalent.toml names mutants that are not there:\n" + "\n".join(sorted(stale)))
    for bug in PLANTED:
        bug.apply(sources[bug.path])
    planted = [bug for bug in PLANTED if only in bug.key]
    pool = [mutant for mutant in found if mutant.key not in known and only in mutant.key]
    size = len(pool) if count is None else min(len(pool), max(0, count - len(planted)))
    chosen: list[Mutant | Planted] = [*planted, *random.Random(seed).sample(pool, size)]
    return chosen if count is None else chosen[:count]


def prove_clean(copy: Copy, patterns: Iterable[tuple[str, ...]], timeout_s: float) -> dict[tuple[str, ...], float]:
    """Run the tests against the code as it is.

    Returns:
        For each set of tests, how long it takes, in seconds.
    Raises:
        RunError: they fail: what they say of a mutant would mean nothing.
    """
    durations = {}
    for tests in dict.fromkeys(patterns):
        run = copy.run(tests, timeout_s)
        if run.verdict is not Verdict.SURVIVED:
            raise RunError(f"the code as it is does not pass:\n{run.output}")
        durations[tests] = run.seconds
    return durations


def sources() -> dict[str, str]:
    """The text of each target, as it stands in the work tree."""
    return {path: (ROOT / path).read_text() for path in TARGETS}


def try_all(
    chosen: Sequence[Mutant | Planted],
    texts: dict[str, str],
    jobs: int,
    seed: int,
    told: Callable[[Trial], None],
) -> list[Trial]:
    """Try each mutant.

    Args:
        jobs: how many at a time.
        told: each trial as it ends.
    Raises:
        RunError: see `prove_clean` and `Copy.run`.
    """
    with ExitStack() as stack:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for _ in range(jobs):
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="mutants-")))
            copies.put(Copy(folder, seed))
        copy = copies.get()
        if any(copy.read(path) != text for path, text in texts.items()):
            raise RunError("the code changed while it was copied; start again")
        copies.put(copy)
        durations = prove_clean(copy, (TARGETS[one.path] for one in chosen), 600.0)
        stopped = threading.Event()

        def attempt(mutant: Mutant | Planted) -> Trial | None:
            if stopped.is_set():
                return None
            copy = copies.get()
            try:
                tests = TARGETS[mutant.path]
                timeout_s = max(SHORTEST_TIMEOUT_S, 3 * durations[tests])
                run = copy.run(tests, timeout_s, path=mutant.path, text=mutant.apply(texts[mutant.path]))
            except BaseException:
                stopped.set()
                raise
            finally:
                copies.put(copy)
            trial = Trial(mutant, run)
            told(trial)
            return trial

        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        try:
            return [trial for trial in pool.map(attempt, chosen) if trial is not None]
        except BaseException:
            stopped.set()
            raise
