"""What it costs to release an action's coins, whatever else is in the wallet."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import table
from benchmarks.measuring import Side
from benchmarks.sections import Plan
from benchmarks.table import Row

MANY, FEW = 1_000_000, 10
FLUSH_MS = 0.1


def measure(plan: Plan) -> Iterator[Row]:
    """Measure all of it."""
    sides = [
        Side(f"{others:,} coins", "benchmarks.sides.coins", {"others": others, "batches": 300}, FLUSH_MS)
        for others in (FEW, MANY)
    ]
    found = plan.in_turns("coins", sides)
    few, many = (side.name for side in sides)
    if few in found and many in found:
        yield table.told(f"an end that releases 5 coins, {few} beside, µs", found.spread(few, "end_us"))
        yield table.told(f"an end that releases 5 coins, {many} beside, µs", found.spread(many, "end_us"))
        title = f"an end that releases coins: {many} against {few}"
        yield table.at_most(title, found.ratio(many, few, "end_us"), 1.3)
