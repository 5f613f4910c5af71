"""What very many parked actions cost: at the start, in memory, and each transition."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import table
from benchmarks.measuring import Side
from benchmarks.sections import Plan
from benchmarks.sides.parked import DUE, MANY
from benchmarks.table import Row

FEW = 1_000
FLUSH_MS = 0.1
COUNTS = (1_000, 10_000, 100_000, 1_000_000)


def measure(plan: Plan) -> Iterator[Row]:
    """Measure all of it."""

    def side(name: str, variant: str, others: int = MANY, **more: object) -> Side:
        arguments = {"variant": variant, "others": others, **more}
        return Side(name, "benchmarks.sides.parked", arguments, FLUSH_MS)

    # Makes the file too, which is the longest part.
    plan.in_turns("the file", [side("open", "open")], 1)
    topic = f"{MANY:,} parked"
    found = plan.in_turns("parked", [side("open", "open"), side("start", "start")])
    if "open" in found:
        title = f"{topic}: opening and finding {DUE} due, ms"
        yield table.at_most(title, found.spread("open", "open_ms"), 50, "{:.1f}")
    if "start" in found:
        yield table.told(f"{topic}: a runner's start, ms", found.spread("start", "start_ms"))
        early = found.spread("start", "decoded_early")
        yield table.at_most(f"{topic}: not due, but decoded at the start", early, 0, "{:.0f}")
    weighed = plan.in_turns("parked, weighed", [side("memory", "memory")], 1)
    if "memory" in weighed:
        yield table.at_most(f"{topic}: bytes each in the runner", weighed.spread("memory", "bytes_each"), 300, "{:.1f}")
    counts = (FEW, MANY) if plan.is_quick else COUNTS
    sides = [side(f"{others:,} rows", "drive", others, at_once=100, batches=8) for others in counts]
    grown = plan.in_turns("cost against rows", sides, max(plan.rounds, 7))
    few, many = f"{FEW:,} rows", f"{MANY:,} rows"
    if few in grown and many in grown:
        yield table.told(f"{topic}: µs a transition, 100 at once", grown.spread(many, "cost_us"), "{:.1f}")
        title = f"{topic}: its growth from {FEW:,} rows"
        yield table.at_most(title, grown.ratio(many, few, "cost_us"), 1.3)
