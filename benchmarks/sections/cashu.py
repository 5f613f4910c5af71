"""Cashu operations against the rate at which a real mint answers the same requests, and how many requests they make."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from benchmarks import table
from benchmarks.measuring import Side
from benchmarks.sections import Plan
from benchmarks.table import Row
from wallet_actions.testing.nutshell.environment import ensure_environment
from wallet_actions.testing.nutshell.errors import MintError

OURS = "ours"
AT_ONCE = 10
SHARE_OF_RAW = 0.8
NEEDED = {"issue": 3, "send": 1, "receive": 1, "melt": 2}
"""Requests that the specification asks for: a quote, a look at it and the ecash (NUT-04); a swap (NUT-03); a quote and
the payment, whose answer is its end (NUT-05). Keys and keysets are the mint's, and are learnt once for all."""
TOPICS = {"issue": "issue", "send": "send with a swap", "receive": "receive", "melt": "melt with its quote"}


def measure(plan: Plan) -> Iterator[Row]:
    """Measure all of it."""
    try:
        ensure_environment()
    except MintError as error:
        print(f"without a mint: {error}", flush=True)
        return
    batches = 2 if plan.is_quick else 5
    found = plan.in_turns("cashu", [Side(OURS, "benchmarks.sides.cashu", {"at_once": AT_ONCE, "batches": batches})])
    if OURS in found:
        for name, needed in NEEDED.items():
            topic = TOPICS[name]
            yield table.told(f"{topic}, {AT_ONCE} at once: a second", found.spread(OURS, f"{name}_rate"), "{:.1f}")
            yield table.told(f"{topic}: the same requests alone", found.spread(OURS, f"{name}_raw"), "{:.1f}")
            share = found.ratio(OURS, OURS, f"{name}_rate", f"{name}_raw")
            yield table.at_least(f"{topic}: share of the mint's rate", share, SHARE_OF_RAW)
            requests = found.spread(OURS, f"{name}_requests")
            yield table.at_most(f"{topic}: requests each, needed", requests, needed, "{:.1f}")
    for folder in plan.ground.folder.glob("mint-*"):
        shutil.rmtree(folder)
