"""`make sweep-cashu`: Issue, Melt and Swap at a real mint, crashed at every boundary and every pair, and every fault.

In one process everything; killed with SIGKILL a choice, which the seed decides. The last line is for scripts.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import secrets
import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.integration.cashu_swap_world import SwapWorld, swap
from tests.integration.cashu_worlds import CashuWorld, MeltWorld, issue, melt
from wallet_actions.testing.life import CrashKind
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions.testing.report import print_report, write_page
from wallet_actions.testing.sweep import IN_PROCESS, Course, SweepReport, sweep

ACTIONS: dict[str, tuple[Any, Any]] = {
    "Issue": (issue, CashuWorld),
    "Melt": (melt, MeltWorld),
    "Swap": (swap, SwapWorld),
}


async def run(progress: Progress, wanted: argparse.Namespace) -> list[SweepReport]:
    reports = []
    async with NutshellMint(MintConfig(input_fee_ppk=wanted.input_fee_ppk)) as mint:
        for name, (make, world) in ACTIONS.items():
            for crashes in (IN_PROCESS, (CrashKind.SIGKILL,)):
                is_killed = CrashKind.SIGKILL in crashes
                task = progress.add_task(f"{name}, {'killed' if is_killed else 'in one process'}", total=0)
                total = 0

                def on_plan(count: int, task: object = task) -> None:
                    nonlocal total
                    total += count
                    progress.update(task, total=total)  # type: ignore[arg-type]

                def on_case(course: Course, task: object = task) -> None:
                    progress.advance(task)  # type: ignore[arg-type]
                    if course.violations:
                        progress.console.print(f"[red]failed[/] {course.case}")

                report = await sweep(
                    make,
                    functools.partial(world, mint=mint),
                    crashes=crashes,
                    sample=wanted.sigkill if is_killed else wanted.sample,
                    seed=wanted.seed,
                    on_plan=on_plan,
                    on_case=on_case,
                )
                reports.append(report)
    return reports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the choice of what is killed")
    parser.add_argument("--sample", type=int, help="so many cases of each action in one process, in place of all")
    parser.add_argument("--sigkill", type=int, default=60, help="how many cases of each action are killed for real")
    parser.add_argument("--input-fee-ppk", type=int, default=100, help="the mint's fee for spending a coin")
    arguments = parser.parse_args()
    console = Console()
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        reports = asyncio.run(run(progress, arguments))
    for number, report in enumerate(reports, start=1):
        print_report(report, console)
        if not report.is_ok:
            console.print(f"the timeline: {write_page(report, f'sweep-cashu-{number}.html')}")
    cases, failed = sum(report.cases for report in reports), sum(len(report.failures) for report in reports)
    sys.stdout.write(f"sweep-cashu: {cases} cases, {failed} failed, seed {arguments.seed}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
