"""The work: an action of ten trivial transitions with a state of about 600 bytes."""

from __future__ import annotations

from typing import Self

from benchmarks.load import PADDING, TRANSITIONS
from wallet_actions import Action, Done, Next, Phase, Transition


class Step(Phase):
    """One of the trivial steps."""

    number: int = 0


class Walk(Action[None, Step], kind="benchmark_walk"):
    """Ten transitions, the last of which is the end.

    Attributes:
        name: scattered, as ids are.
        padding: brings the state to some 600 bytes, as an invoice and the ids of some coins do.
    """

    name: str
    padding: str = PADDING

    @property
    def id(self) -> str:
        """Its name."""
        return self.name

    async def advance(self, wallet: None) -> Transition[Self]:
        """Go on to the next step."""
        return self.following()

    def following(self) -> Transition[Self]:
        """What comes after the present step."""
        if self.phase.number == TRANSITIONS - 1:
            return Done()
        return Next(self.at(Step(number=self.phase.number + 1)))
