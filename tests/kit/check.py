"""How honest the kit is: `python -m tests.kit.check` sets it on planted bugs, and on their correct twins."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.kit.cases import Planted, Tool, Twin
from tests.kit.tools import Finding, findings

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the kit did on one planted bug.

    Attributes:
        name: the module.
        finding: what the tool found that has to find it.
    """

    name: str
    planted: Planted
    finding: Finding | None

    @property
    def is_caught(self) -> bool:
        """Whether it was found, and the right step named and no other."""
        return self.finding is not None and self.finding.steps == (self.planted.step,)


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a tool has to say against an action that is as it should be."""

    name: str
    tool: Tool
    finding: Finding


def planted() -> Iterator[tuple[str, Planted]]:
    """All planted bugs, by module."""
    for path in sorted((HERE / "planted").glob("*.py")):
        module = importlib.import_module(f"tests.kit.planted.{path.stem}")
        yield path.stem, module.PLANTED


def twins() -> Iterator[tuple[str, Twin]]:
    """All correct twins, by module."""
    for path in sorted((HERE / "twins").glob("*.py")):
        module = importlib.import_module(f"tests.kit.twins.{path.stem}")
        yield path.stem, module.TWIN


async def judge(name: str, bug: Planted) -> Verdict:
    """Set the tool that has to find it on a planted bug."""
    found = await findings(bug, [bug.tool], f"tests.kit.planted.{name}")
    return Verdict(name, bug, found.get(bug.tool))


async def alarms(name: str, twin: Twin) -> list[Alarm]:
    """Set every tool on a correct twin."""
    found = await findings(twin, list(Tool), f"tests.kit.twins.{name}")
    return [Alarm(name, tool, finding) for tool, finding in found.items()]


async def check(on_step: Callable[[], None] = lambda: None) -> tuple[list[Verdict], list[Alarm]]:
    """Try all of them.

    Args:
        on_step: told of each module that is done.
    """
    verdicts, false = [], []
    for name, bug in planted():
        verdicts.append(await judge(name, bug))
        on_step()
    for name, twin in twins():
        false += await alarms(name, twin)
        on_step()
    return verdicts, false


def table(verdicts: list[Verdict]) -> Table:
    """Which tool catches which bug, and where it says that the bug lies."""
    shown = Table(box=box.SIMPLE, pad_edge=False)
    for head in ("planted bug", "caught by", "lies in", "named", "at", ""):
        shown.add_column(head)
    for one in verdicts:
        named = ", ".join(one.finding.steps) or "no step" if one.finding else "not found"
        shown.add_row(
            one.planted.bug,
            one.planted.tool.value,
            one.planted.step,
            named,
            one.finding.line if one.finding else "",
            "[green]caught[/]" if one.is_caught else "[red]missed[/]",
        )
    return shown


def main() -> int:
    """Print the table and the sum.

    Returns:
        The exit status: 0 only if every bug is caught and nothing else is.
    """
    console = Console(width=None if sys.stdout.isatty() else 140)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("setting the kit on itself", total=len([*planted(), *twins()]))
        verdicts, false = asyncio.run(check(lambda: progress.advance(task)))
    console.print(table(verdicts))
    for alarm in false:
        console.print(f"false alarm: {alarm.name}, {alarm.tool.value}:\n{alarm.finding.text}", markup=False)
    caught = sum(verdict.is_caught for verdict in verdicts)
    console.print(f"planted bugs caught: {caught}/{len(verdicts)}, false alarms: {len(false)}", highlight=False)
    return 0 if caught == len(verdicts) and not false else 1


if __name__ == "__main__":
    sys.exit(main())
