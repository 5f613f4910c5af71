"""Draws what was measured, read as JSON from standard input, into a folder: PNG and SVG under names that stay.

Run by the interpreter of the peers' environment, which has matplotlib.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib  # type: ignore[import-not-found, unused-ignore]

matplotlib.use("Agg")
from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

COLOURS = {
    "ours": "#1b6ca8",
    "raw sqlite3": "#444444",
    "DBOS + WAL": "#c8553d",
    "DBOS as installed": "#e0a458",
    "procrastinate": "#6a994e",
}
LABELS = {"procrastinate": "procrastinate on PostgreSQL"}


def costs(answers: dict[str, Any], flush: str) -> dict[str, dict[int, list[float]]]:
    """Microseconds a transition by side and by how many are driven at once."""
    found: dict[str, dict[int, list[float]]] = {}
    for title, sides in answers.items():
        if not title.startswith(flush) or " at once" not in title:
            continue
        at_once = int(title.removeprefix(flush).split(" at once")[0].strip(" ,").replace(",", ""))
        for side, given in sides.items():
            if side in COLOURS and given:
                found.setdefault(side, {}).setdefault(at_once, []).extend(1e6 / answer["rate"] for answer in given)
    return found


def draw_line(axes: Any, label: str, colour: str, points: dict[int, list[float]]) -> None:
    """A line through the medians, and the range behind it."""
    places = sorted(points)
    axes.plot(places, [statistics.median(points[place]) for place in places], "o-", color=colour, label=label)
    low, high = ([edge(points[place]) for place in places] for edge in (min, max))
    axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def keep(figure: Any, folder: Path, name: str) -> None:
    """Write both forms."""
    figure.tight_layout()
    for form in ("png", "svg"):
        figure.savefig(folder / f"{name}.{form}", dpi=150, metadata={"Date": None} if form == "svg" else None)
    pyplot.close(figure)


def draw_concurrency(everything: dict[str, Any], folder: Path) -> None:
    """Cost against how many actions are driven at once."""
    answers = everything["answers"]
    flushes = [flush for flush in ("0.1 ms flush", "1 ms flush", "bare disk") if costs(answers, flush)]
    if not flushes:
        return
    figure, grid = pyplot.subplots(1, len(flushes), figsize=(5.5 * len(flushes), 4.2), sharey=True, squeeze=False)
    for axes, flush in zip(grid[0], flushes, strict=True):
        for side, points in costs(answers, flush).items():
            draw_line(axes, LABELS.get(side, side), COLOURS[side], points)
        axes.set(xscale="log", yscale="log", title=flush, xlabel="actions at once")
        axes.grid(which="major", alpha=0.3)
    grid[0][0].set_ylabel("µs a durable transition")
    grid[0][0].legend(fontsize=8)
    keep(figure, folder, "performance-concurrency")


def draw_parked(everything: dict[str, Any], folder: Path) -> None:
    """Cost against how many actions are parked in the file."""
    given = everything["answers"].get("cost against rows", {})
    points = {
        int(name.split(" ")[0].replace(",", "")): [answer["cost_us"] for answer in answers]
        for name, answers in given.items()
        if answers
    }
    if not points:
        return
    figure, axes = pyplot.subplots(figsize=(5.5, 4.2))
    draw_line(axes, "ours, 100 at once, 0.1 ms flush", COLOURS["ours"], points)
    for side, colour in COLOURS.items():
        known = costs(everything["answers"], "0.1 ms flush").get(side, {}).get(100)
        if side != "ours" and known:
            label = f"{LABELS.get(side, side)}, nothing parked"
            axes.axhline(statistics.median(known), color=colour, linestyle=":", label=label)
    axes.set(xscale="log", yscale="log", xlabel="parked actions in the file", ylabel="µs a durable transition")
    axes.grid(which="major", alpha=0.3)
    axes.legend(fontsize=8)
    keep(figure, folder, "performance-parked")


def main() -> None:
    """Draw all there is."""
    pyplot.rcParams["svg.hashsalt"] = "wallet_actions"
    everything = json.load(sys.stdin)
    folder = Path(sys.argv[1])
    draw_concurrency(everything, folder)
    draw_parked(everything, folder)


if __name__ == "__main__":
    main()
