"""Where the choices of a run come from: a schedule, or chance."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from wallet_actions.testing.scheduler import Point, Waiting

AT_A_PEER = 4
"""How much more often something befalls a call to a peer: few turns are such calls, and the money moves there."""


class Listed:
    """Makes the choices of a schedule, and then the dullest ones."""

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices = iter(choices)

    def draw(self, point: Point, options: Sequence[Any], about: Waiting | None = None) -> int:
        """See `Source`. A choice that there is not becomes the last one that there is."""
        return min(next(self._choices, 0), len(options) - 1)


class Seeded:
    """Makes choices at random: each schedule with a wildness of its own.

    Args:
        seed: the same text gives the same choices.
    """

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)  # noqa: S311 a schedule has to be repeatable, not secret
        self._switching = self._random.choice((0.02, 0.1, 0.3, 0.6))
        self._harm = self._random.choice((0.0, 0.02, 0.05, 0.15))
        self._waiting = self._random.choice((0.0, 0.05, 0.3))

    def draw(self, point: Point, options: Sequence[Any], about: Waiting | None = None) -> int:
        """See `Source`."""
        chance, last = self._random.random, len(options) - 1
        match point:
            case Point.WHO:
                if options[last] is None and chance() < self._waiting:
                    return last
                others = last - (options[last] is None)
                return 1 + int(chance() * others) if others and chance() < self._switching else 0
            case Point.FATE:
                is_peer = about is not None and about.touches == "peer"
                if chance() >= self._harm * (AT_A_PEER if is_peer else 1):
                    return 0
                crashes = [place for place, fate in enumerate(options) if fate.lot.is_crash]
                return self._random.choice(crashes) if crashes and chance() < 0.3 else 1 + int(chance() * last)
            case Point.PROCESSES:
                return 0 if chance() < 0.1 else 1 + int(chance() * last)
            case Point.DRIVING:
                return last if chance() < 0.2 else int(chance() * last)


def stripped(choices: Sequence[int]) -> tuple[int, ...]:
    """Choices without the dull ones at the end: they go without saying."""
    length = len(choices)
    while length and not choices[length - 1]:
        length -= 1
    return tuple(choices[:length])
