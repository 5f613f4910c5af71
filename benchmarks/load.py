"""What all sides have in common: how much, how large, in which order. Imports nothing of the product, for the peers."""

from __future__ import annotations

import random
from collections.abc import Iterator

TRANSITIONS = 10
PADDING = "x" * 500
OTHERS = 10_000
SEED = 1


def names(count: int, *, salt: str = "") -> list[str]:
    """Ids, the same ones for each side."""
    chance = random.Random(f"{SEED}{salt}")
    return [f"{chance.getrandbits(128):032x}" for _ in range(count)]


def rounds_of(at_once: int, batches: int, others: int = OTHERS) -> Iterator[list[int]]:
    """Which of the others are driven together: scattered, each at most once."""
    order = random.Random(SEED).sample(range(others), at_once * batches)
    for batch in range(batches):
        yield order[batch * at_once : (batch + 1) * at_once]
