"""The engine alone: processor time of a transition on the memory store, and of the import."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import table
from benchmarks.measuring import Side
from benchmarks.sections import Plan
from benchmarks.table import Row

AT_ONCE, BATCHES = 100, 40
IMPORTS = {
    "wallet_actions": "import wallet_actions",
    "pydantic": "import pydantic",
    "Engine, Action": "from wallet_actions import Action, Engine",
    "BaseModel, asyncio": "import asyncio; from pydantic import BaseModel",
}


def measure(plan: Plan) -> Iterator[Row]:
    """Measure all of it."""
    arguments = {"at_once": AT_ONCE, "batches": BATCHES, "variant": "memory", "others": AT_ONCE * BATCHES}
    found = plan.in_turns("engine alone", [Side("memory", "benchmarks.sides.ours", arguments)])
    if "memory" in found:
        topic = "engine alone (memory store): µs of CPU a transition"
        yield table.at_most(topic, found.spread("memory", "cpu_us"), 25, "{:.1f}")
    sides = [Side(name, "benchmarks.sides.imports", {"variant": text}) for name, text in IMPORTS.items()]
    found = plan.in_turns("imports", sides, 2 * plan.rounds + 1)
    ours, theirs, used, needed = IMPORTS
    if all(name in found for name in IMPORTS):
        yield table.at_most("import wallet_actions, times import pydantic", found.ratio(ours, theirs, "import_ms"), 1.3)
        # Pydantic's own import is lazy: what an app pays is told beside it.
        topic = f"import {used}, times import {needed}"
        yield table.told(topic, found.ratio(used, needed, "import_ms"), "{:.2f}")
        yield table.told(f"import {used}, ms of CPU", found.spread(used, "import_ms"))
