"""What a sweep found, for people: a table for the terminal, and a page with the timeline of each failing schedule.

The page is one file that asks for nothing else. It shows ids, phases and amounts; what the world calls a secret has
been masked before (`World.secrets`), and everything is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from wallet_actions.testing.boundaries import Boundary
from wallet_actions.testing.case import Case, Course, SweepReport
from wallet_actions.testing.life import CrashKind, Life

if TYPE_CHECKING:
    from rich.console import Console

MOST_SHOWN = 20

_ENDS = {
    CrashKind.EXCEPTION: "died",
    CrashKind.CANCELLATION: "was cancelled",
    CrashKind.SIGKILL: "was killed with SIGKILL",
}


def print_report(report: SweepReport, console: Console | None = None) -> None:
    """Print a line on a sweep, and a table of what failed."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    failed = len(report.failures)
    console.print(Text(f"{report.extent}, ").append(f"{failed} failed", style="bold red" if failed else "bold green"))
    if not failed:
        return
    for suspect in report.suspects:
        console.print(Text(f"look at {suspect}", style="yellow"))
    table = Table("violated", "cases", "the first of them", "what happened", show_lines=True)
    for violations, courses in _alike(report.failures)[:MOST_SHOWN]:
        happened = "\n".join(_happened(life) for life in courses[0].lives)
        # As text: what stands in it is not markup.
        cells = (str(len(courses)), str(courses[0].case), happened)
        table.add_row(Text("\n".join(violations), style="red"), *(Text(cell) for cell in cells))
    console.print(table)


def _alike(failures: Sequence[Course]) -> list[tuple[tuple[str, ...], list[Course]]]:
    """The failures by what they violate, the most frequent first."""
    groups: dict[tuple[str, ...], list[Course]] = {}
    for course in failures:
        groups.setdefault(tuple(course.violations), []).append(course)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def write_page(report: SweepReport, path: str | Path, *, test: str | None = None) -> Path:
    """Write the page.

    Args:
        test: the id of the test that swept, for the command that runs one case alone.
    Returns:
        Where it is, absolute.
    """
    file = Path(path).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page_of(report, test=test), encoding="utf-8")
    return file


def page_of(report: SweepReport, *, test: str | None = None) -> str:
    """The page, as HTML."""
    shown = report.failures[:MOST_SHOWN]
    title = f"{report.name}: {len(report.failures)} of {report.cases} cases failed"
    verdict = "bad" if report.failures else "good"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>",
        f'<h1><span class="{verdict}">{len(report.failures)} failed</span> {escape(report.name)}</h1>',
        f"<p>{report.cases} cases over {len(report.boundaries)} boundaries.</p>",
    ]
    if report.suspects:
        items = "".join(f"<li>{escape(str(suspect))}</li>" for suspect in report.suspects)
        parts.append(f"<h2>Where to look</h2><ol>{items}</ol>")
    parts += [_course(course, number, test) for number, course in enumerate(shown)]
    if len(report.failures) > len(shown):
        parts.append(f"<p>And {len(report.failures) - len(shown)} more.</p>")
    rows = "".join(_row(number, boundary, "", "") for number, boundary in enumerate(report.boundaries, start=1))
    parts.append(f"<details><summary>The run in peace</summary>{_table(rows)}</details>")
    parts.append("</main></body></html>")
    return "\n".join(parts)


def command_for(case: Case, test: str | None) -> str:
    """How to run one case alone."""
    quoted = f'WALLET_ACTIONS_CASE="{case}"'
    return f"{quoted} pytest '{test}'" if test else f'{quoted}, or sweep(…, only="{case}")'


def _course(course: Course, number: int, test: str | None) -> str:
    violations = "".join(
        f"<li>{escape(violation)}"
        + (
            f"<br><small>since {escape(str(course.culprits[violation]))}</small>"
            if violation in course.culprits
            else ""
        )
        + "</li>"
        for violation in course.violations
    )
    timeline = "".join(_life(course, index) for index in range(len(course.lives)))
    return (
        f"<details{' open' if number == 0 else ''}><summary>case <code>{escape(str(course.case))}</code></summary>"
        f'<h3>Violated</h3><ul class="bad">{violations}</ul>'
        f"<h3>Run it alone</h3><pre>{escape(command_for(course.case, test))}</pre>"
        f"<h3>Timeline</h3>{timeline}</details>"
    )


def _life(course: Course, index: int) -> str:
    life = course.lives[index]
    found = [_place(course, where) for where in course.culprits.values()]
    places = [place for number, place in found if number == index]
    rows = "".join(
        _row(place, boundary, *_mark(life, place, boundary, places))
        for place, boundary in enumerate(life.boundaries, start=1)
    )
    before = course.states[index - 1] if index else ["nothing"]
    reached = [id(boundary) for boundary in life.boundaries]
    meanwhile = "".join(
        _state("In the store at that moment", state)
        for (_, boundary), state in zip(course.happenings(), course.moments, strict=False)
        if id(boundary) in reached and state
    )
    after = course.states[index] if index < len(course.states) else []
    return (
        f"<section><h4>Process {index + 1} {escape(_end(life))}</h4>"
        f"{_state('In the store before', before)}{_table(rows)}{meanwhile}"
        f"{_state('In the store after', after)}</section>"
    )


def _place(course: Course, culprit: Boundary) -> tuple[int, int]:
    """In which life it was reached, from 0, and where, from 1: the last time, since one life is like the other."""
    places = [
        (index, place)
        for index, life in enumerate(course.lives)
        for place, boundary in enumerate(life.boundaries, start=1)
        if boundary == culprit
    ]
    return places[-1] if places else (-1, 0)


def _mark(life: Life, place: int, boundary: Boundary, culprits: Sequence[int]) -> tuple[str, str]:
    """A class, and what is said beside the boundary."""
    plan = life.plan
    marks = [
        ("dead", f"✝ {_ENDS[plan.crash]} here", plan.crash_at == place),
        ("fault", f"⚡ {_words(plan.incident)}", plan.incident_at == place),
        (
            "fault",
            f"⚡ {_words(plan.fault)}",
            (boundary.site, boundary.number, boundary.moment) == ("peer", plan.fault_at, "before"),
        ),
        ("since", "it went wrong here", place in culprits),
    ]
    found = [(name, text) for name, text, is_so in marks if is_so]
    return (found[0][0], ", ".join(text for _, text in found)) if found else ("", "")


def _row(place: int, boundary: Boundary, name: str, said: str) -> str:
    what = "write" if boundary.site == "store" else "call"
    leads_to = f" → {boundary.phase}" if boundary.phase else ""
    cells = [
        str(place),
        boundary.moment,
        f"{what} {boundary.number}: {boundary.name}{leads_to}",
        boundary.step or "",
        boundary.line or "",
        said,
    ]
    return f'<tr class="{name}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _table(rows: str) -> str:
    names = ("", "", "boundary", "phase", "line", "")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _state(title: str, lines: Sequence[str]) -> str:
    return f"<h5>{title}</h5><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _end(life: Life) -> str:
    plan = life.plan
    if plan.crash_at is not None and len(life.boundaries) >= plan.crash_at:
        return _ENDS[plan.crash]
    if plan.fault_at is not None:
        return f"lived on, with a fault of its peer: {_words(plan.fault)}"
    if plan.incident_at is not None:
        return f"lived on, with an incident: {_words(plan.incident)}"
    return "lived in peace"


def _happened(life: Life) -> str:
    return next((f"{said}: {boundary}" for said, boundary in _marked(life)), _end(life))


def _marked(life: Life) -> Iterator[tuple[str, Boundary]]:
    for place, boundary in enumerate(life.boundaries, start=1):
        _, said = _mark(life, place, boundary, ())
        if said:
            yield said, boundary


def _words(name: str) -> str:
    return str(name).replace("_", " ")


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --bad: #b3261e; --good: #1a7f37; --soft: #8881; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #6fdd8b; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
h4 { margin: 0 0 .3rem; } h5 { font-size: .85rem; margin: .6rem 0 .2rem; opacity: .75; }
h1 span { padding: .1rem .5rem; border-radius: .3rem; border: 1px solid currentColor; font-size: 1.1rem; }
ul { margin: .2rem 0; padding-left: 1.3rem; }
.bad { color: var(--bad); } .good { color: var(--good); } .bad small { color: CanvasText; opacity: .75; }
details { border: 1px solid var(--line); border-radius: .5rem; margin: 1rem 0; padding: .6rem 1rem; }
summary { cursor: pointer; font-weight: 600; }
section { border-left: 3px solid var(--line); margin: .8rem 0; padding: .2rem 0 .2rem 1rem; }
pre { background: var(--soft); border-radius: .3rem; padding: .5rem .8rem; overflow-x: auto; user-select: all; }
code, td { font-family: ui-monospace, monospace; font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .15rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-size: .8rem; opacity: .75; } td:first-child { text-align: right; opacity: .6; }
tr.dead td, tr.fault td { background: color-mix(in srgb, var(--bad) 15%, transparent); font-weight: 600; }
tr.since td { background: color-mix(in srgb, orange 18%, transparent); font-weight: 600; }
"""
