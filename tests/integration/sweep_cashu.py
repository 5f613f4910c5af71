"""`make sweep-cashu`: every action at a real mint, crashed at every boundary and every pair, and every fault.

In one process everything; killed with SIGKILL a choice, which the seed decides. The last line is for scripts.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import secrets
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.integration.cashu_receive_world import LockedWorld as LockedReceiveWorld
from tests.integration.cashu_receive_world import ReceiveWorld, RestWorld, receive
from tests.integration.cashu_send_worlds import ExactWorld, RevokeWorld, SendWorld, send
from tests.integration.cashu_send_worlds import LockedWorld as LockedSendWorld
from tests.integration.cashu_swap_world import SwapWorld, swap
from tests.integration.cashu_worlds import (
    FAILS,
    FAILS_LATER,
    SETTLES,
    BatchWorld,
    CashuWorld,
    MeltWorld,
    batch,
    issue,
    melt,
)
from tests.integration.restore_worlds import RestoreWorld, restore
from wallet_actions.testing.life import CrashKind
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions.testing.report import print_report, write_page
from wallet_actions.testing.sweep import IN_PROCESS, Course, SweepReport, sweep


class Play(NamedTuple):
    """An action in a world.

    Attributes:
        settings: of the mint, meanwhile.
    """

    make: Any
    world: Any
    settings: Mapping[str, Any] = MappingProxyType({})


PLAYS: dict[str, Play] = {
    "Issue": Play(issue, CashuWorld),
    "Issue, several": Play(batch, BatchWorld),
    "Melt": Play(melt, MeltWorld),
    "Melt, fails": Play(melt, MeltWorld, FAILS),
    "Melt, pending, settles": Play(melt, MeltWorld, SETTLES),
    "Melt, pending, fails": Play(melt, MeltWorld, FAILS_LATER),
    "Swap": Play(swap, SwapWorld),
    "Send": Play(send, SendWorld),
    "Send, exact": Play(send, ExactWorld),
    "Send, taken back": Play(send, RevokeWorld),
    "Send, locked": Play(send, LockedSendWorld),
    "Receive": Play(receive, ReceiveWorld),
    "Receive, locked": Play(receive, LockedReceiveWorld),
    "Receive, the rest": Play(receive, RestWorld),
    "Restore": Play(restore, RestoreWorld),
}


async def run(progress: Progress, wanted: argparse.Namespace) -> list[SweepReport]:
    reports = []
    async with NutshellMint(MintConfig(input_fee_ppk=wanted.input_fee_ppk)) as mint:
        for name, (make, world, settings) in PLAYS.items():
            if wanted.only and not name.startswith(wanted.only):
                continue
            await mint.set(**settings)
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
            await mint.reset()
    return reports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the choice of what is killed")
    parser.add_argument("--sample", type=int, help="so many cases of each action in one process, in place of all")
    parser.add_argument("--sigkill", type=int, default=60, help="how many cases of each action are killed for real")
    parser.add_argument("--only", metavar="NAME", help="the actions whose names begin so: Send, say")
    parser.add_argument("--input-fee-ppk", type=int, default=100, help="the mint's fee for spending a coin")
    arguments = parser.parse_args()
    console = Console()
    columns = (TextColumn("{task.description:38}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
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
