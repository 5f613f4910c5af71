"""What a module of planted bugs, or of their twins, says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from tests.kit.worlds import SmallWorld
from wallet_actions.testing.sweep import Makes


class Tool(StrEnum):
    """A tool of the kit, or a part of its sweep."""

    PEACE = "sweep: run in peace"
    CRASHES = "sweep: crashes"
    FAULTS = "sweep: faults of peers"
    CANCEL = "sweep: requests to cancel"
    CLOCK = "sweep: clock set back"
    SECRETS = "sweep: secrets oracle"
    DOUBLE = "double drive"
    SEEDS = "hash seeds"
    INTERLEAVINGS = "interleavings"
    SIMULATION = "simulation"
    CORPUS = "upgrade corpus"


@dataclass(frozen=True, slots=True)
class Planted:
    """A small action with a bug in it.

    Attributes:
        bug: what is wrong, in a few words.
        tool: what has to find it.
        step: the phase in which it lies, and which the tool has to name.
        lesson: the line of LESSONS that it breaks.
        older: for the corpus, what the action and its world were before the upgrade.
    """

    bug: str
    tool: Tool
    step: str
    lesson: str
    make: Makes = field(repr=False)
    world: type[SmallWorld] = field(repr=False)
    older: tuple[Makes, type[SmallWorld]] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Twin:
    """A small action that is as it should be.

    Attributes:
        of: the modules of the bugs that it does not have.
        older: as in `Planted`.
    """

    of: tuple[str, ...]
    make: Makes = field(repr=False)
    world: type[SmallWorld] = field(repr=False)
    older: tuple[Makes, type[SmallWorld]] | None = field(default=None, repr=False)
