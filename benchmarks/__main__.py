"""Measure, print the table, and keep everything: `python -m benchmarks --help`.

The exit status is 0 whatever is found: a figure is no test.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.ground import ground, load, machine
from benchmarks.measuring import ROOT
from benchmarks.peers.environment import PeersMissingError, ensure_environment
from benchmarks.sections import Plan
from benchmarks.table import Row, closing_line

SECTIONS = ("sqlite", "engine", "coins", "parked", "cashu", "postgres")
ROUNDS = 7
QUICK_ROUNDS = 5


def read() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against named limits and peers.")
    parser.add_argument("--quick", action="store_true", help="only what has a goal; less than five minutes")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION", help=str(SECTIONS))
    parser.add_argument("--rounds", type=int, help=f"how often each side runs (default {ROUNDS}; quick {QUICK_ROUNDS})")
    parser.add_argument("--json", type=Path, help="keep everything in this file")
    parser.add_argument("--plots", type=Path, help="draw PNG and SVG into this folder")
    parser.add_argument("--no-peers", action="store_true", help="install and measure no peers")
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for."""
    given = read()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the folder, often on memory, is removed
    begun_s, load_before = time.monotonic(), load()
    peers = None if given.no_peers else _peers()
    rows: list[Row] = []
    with ground() as place:
        plan = Plan(place, given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS), given.quick, peers)
        facts = machine()
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
        print(f"{place.described()}; median (range) of {plan.rounds} rounds; load {load_before}", flush=True)
        for name in given.only:
            measure: Callable[[Plan], Iterator[Row]] = import_module(f"benchmarks.sections.{name}").measure
            print(f"\n{name}")
            for row in measure(plan):
                rows.append(row)
                print(row.line(), flush=True)
        seconds = round(time.monotonic() - begun_s)
        print(f"\nload before {load_before}, after {load()}; {seconds} s")
        everything: dict[str, Any] = {
            "machine": facts,
            "ground": place.described(),
            "rounds": plan.rounds,
            "load": {"before": load_before, "after": load()},
            "seconds": seconds,
            "rows": [row.told() for row in rows],
            "answers": plan.raw,
        }
    _keep(given, everything, peers)
    print(closing_line(rows))


def _peers() -> Path | None:
    try:
        return ensure_environment()
    except PeersMissingError as error:
        print(f"without peers: {error}", flush=True)
        return None


def _keep(given: argparse.Namespace, everything: dict[str, Any], peers: Path | None) -> None:
    text = json.dumps(everything, indent=1, ensure_ascii=False)
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(text + "\n", "utf-8")
    if given.plots is None:
        return
    if peers is None:
        print("without plots: matplotlib is in the peers' environment")
        return
    given.plots.mkdir(parents=True, exist_ok=True)
    command = [str(peers), "-m", "benchmarks.peers.plot", str(given.plots.absolute())]
    done = subprocess.run(command, cwd=ROOT, input=text, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        print(f"without plots: {done.stderr[-300:]}")


if __name__ == "__main__":
    main()
