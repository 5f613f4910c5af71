"""Simulate the engine for minutes on all the cores there are: `python -m wallet_actions.testing.simulate`.

The last line reads `simulate: N schedules, V violations, seed S`. The exit status is 1 after a violation, and the
smallest schedule that shows it stands above that line.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Protocol

from wallet_actions.testing.scenarios import Scenario
from wallet_actions.testing.schedules import Schedule, SimulationReport, replay, simulate
from wallet_actions.testing.timeline import timeline

COUNT = 100_000
TEN_MINUTES_S = 600.0
CHUNK = 100
INTERRUPTED = 130
TELL_EVERY_S = 10.0
OURS = "wallet_actions.testing.scenarios:SCENARIOS"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it.

    Returns:
        0 if all is well, 1 after a violation, 130 when it was interrupted.
    """
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, help="of all schedules; by default another one each time")
    parser.add_argument(
        "--count", type=_positive, help=f"how many schedules; by default {COUNT}, or ten minutes of them"
    )
    parser.add_argument("--seconds", type=float, help="for how long")
    parser.add_argument("--workers", type=_positive, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--scenarios", default=OURS, metavar="MODULE:NAME", help="a sequence of `Scenario`")
    parser.add_argument("--replay", metavar="JSON", help="run one schedule again, as a failure names it")
    options = parser.parse_args(arguments)
    try:
        scenarios = _load(options.scenarios)
        if options.replay is not None:
            return _replay(options.replay, scenarios)
    except ValueError as error:
        parser.error(str(error))
    is_open_ended = options.count is None and options.seconds is None
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    total = SimulationReport(seed)
    try:
        _run(
            total,
            [(options.scenarios, place) for place in range(len(scenarios))],
            count=COUNT if is_open_ended else options.count,
            seconds=TEN_MINUTES_S if is_open_ended else options.seconds,
            workers=options.workers,
        )
    except KeyboardInterrupt:
        _say(str(total))
        return INTERRUPTED
    _say(f"\n{total}" if total.failures else str(total))
    return 0 if total.is_ok else 1


def _run(
    total: SimulationReport,
    scenarios: Sequence[tuple[str, int]],
    *,
    count: int | None,
    seconds: float | None,
    workers: int,
) -> None:
    begun = time.monotonic()
    deadline = None if seconds is None else begun + seconds
    chunks = _chunks(len(scenarios), count)
    progress = _progress(count, seconds)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _leave_interrupts_to_the_parent)
    under_way: set[Future[SimulationReport]] = set()
    try:
        with progress:
            while True:
                is_over = not total.is_ok or (deadline is not None and time.monotonic() >= deadline)
                while not is_over and len(under_way) < 2 * workers and (chunk := next(chunks, None)) is not None:
                    place, first, size = chunk
                    under_way.add(pool.submit(_chunk, *scenarios[place], total.seed, first, size))
                if not under_way:
                    return
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    report = future.result()
                    total.schedules += report.schedules
                    total.violations += report.violations
                    total.failures = total.failures or report.failures
                progress.tell(total.schedules, time.monotonic() - begun)
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(scenarios: int, count: int | None) -> Iterator[tuple[int, int, int]]:
    """Which scenario, the number of its first schedule, and how many: all scenarios in turn."""
    given, place = 0, 0
    while count is None or given < count:
        size = CHUNK if count is None else min(CHUNK, count - given)
        yield place % scenarios, place // scenarios * CHUNK, size
        given += size
        place += 1


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _chunk(scenarios: str, place: int, seed: int, first: int, count: int) -> SimulationReport:
    scenario = _load(scenarios)[place]
    return simulate(scenario.make, scenario.world, seed=seed, first=first, count=count, scenario=scenario.name)


def _replay(text: str, scenarios: Sequence[Scenario]) -> int:
    schedule = Schedule.from_json(text)
    known = {scenario.name: scenario for scenario in scenarios}
    if schedule.scenario not in known:
        raise ValueError(f"there is no scenario {schedule.scenario!r}; there are {', '.join(known)}")
    run = replay(schedule, known[schedule.scenario].make, known[schedule.scenario].world)
    _say(timeline(run))
    _say(f"\nreplay: {len(run.violations)} violations")
    return 1 if run.violations else 0


def _load(path: str) -> Sequence[Scenario]:
    module, _, name = path.partition(":")
    try:
        scenarios = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error
    if not scenarios or not all(isinstance(scenario, Scenario) for scenario in scenarios):
        raise ValueError(f"{path} is not a sequence of scenarios")
    return tuple(scenarios)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


# Progress


class _Progress(Protocol):
    def __enter__(self) -> object: ...

    def __exit__(self, *exc: object) -> None: ...

    def tell(self, schedules: int, elapsed_s: float) -> None: ...


class _Lines:
    """For logs: a line now and then."""

    def __init__(self) -> None:
        self._next_s = TELL_EVERY_S

    def __enter__(self) -> None: ...

    def __exit__(self, *exc: object) -> None: ...

    def tell(self, schedules: int, elapsed_s: float) -> None:
        if elapsed_s >= self._next_s:
            self._next_s = elapsed_s + TELL_EVERY_S
            _say(f"{schedules:,} schedules, {schedules / elapsed_s:.0f} a second")


class _Bar:
    """For people: a bar that follows the count or the time, whichever is further."""

    def __init__(self, count: int | None, seconds: float | None) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._count, self._seconds = count, seconds
        self._bar = Progress(
            TextColumn("simulate"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), transient=True
        )
        self._task = self._bar.add_task("starting …", total=1.0)

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def tell(self, schedules: int, elapsed_s: float) -> None:
        shares = (schedules / self._count if self._count else 0.0, elapsed_s / self._seconds if self._seconds else 0.0)
        told = f"{schedules:,} schedules, {schedules / elapsed_s:.0f} a second"
        self._bar.update(self._task, completed=min(1.0, max(shares)), description=told)


def _progress(count: int | None, seconds: float | None) -> _Progress:
    if sys.stdout.isatty():
        try:
            return _Bar(count, seconds)
        except ImportError:  # rich comes with the extra `cli`
            pass
    return _Lines()


if __name__ == "__main__":
    sys.exit(main())
