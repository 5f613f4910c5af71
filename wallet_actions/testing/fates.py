"""What may become of something that a process does in a simulation."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from wallet_actions.coins import ActionKey
from wallet_actions.testing.boundaries import Site
from wallet_actions.testing.life import FaultKind

CUT_OFF_FOR = timedelta(seconds=3)
JUMP = timedelta(seconds=90)


class Lot(StrEnum):
    """What happens; the value is how a timeline tells it."""

    FINE = ""
    CRASH_BEFORE = "the process dies before"
    CRASH_AFTER = "the process dies after"
    LOST = "the store is not reached"
    UNANSWERED = "committed, the answer is lost"
    FAULT = "fault of the peer"
    CUT_OFF = "cut off for 3 s"
    CLOCK_FORWARD = "its clock jumps 90 s ahead"
    CLOCK_BACK = "its clock is set back 90 s"
    CANCEL = "somebody asks to cancel"
    NOTIFY = "a notification comes for"
    SECOND_DRIVER = "another task drives"
    DRIVER_CANCELLED = "whoever drives is cancelled"

    @property
    def is_crash(self) -> bool:
        """Whether the process dies of it."""
        return self in (Lot.CRASH_BEFORE, Lot.CRASH_AFTER)


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one thing that a process does.

    Attributes:
        key: the action that a request, a notification or a second driver is about.
        fault: of the peer.
    """

    lot: Lot = Lot.FINE
    key: ActionKey | None = None
    fault: FaultKind | None = None

    def __str__(self) -> str:
        if self.fault is not None:
            return f"{self.lot.value}: {self.fault.value.replace('_', ' ')}"
        return self.lot.value if self.key is None else f"{self.lot.value} {self.key}"


FINE = Fate()
ONLY_FINE = (FINE,)


@functools.cache
def fates_of(
    site: Site, *, is_write: bool, lots: frozenset[Lot], faults: tuple[FaultKind, ...], keys: tuple[ActionKey, ...]
) -> tuple[Fate, ...]:
    """What may become of a call, the dullest first.

    Args:
        is_write: of the store.
        lots: what may happen at all.
        faults: those that this call to a peer can have.
        keys: the actions that others may want something from.
    """
    fates = _of_store(is_write) if site == "store" else _of_peer(faults)
    fates += [Fate(Lot.CUT_OFF), Fate(Lot.CLOCK_FORWARD)]
    fates += [Fate(lot, key=key) for lot in (Lot.CANCEL, Lot.NOTIFY, Lot.SECOND_DRIVER) for key in keys]
    fates += [Fate(Lot.DRIVER_CANCELLED)]
    return (FINE, *(fate for fate in fates if fate.lot in lots))


def _of_store(is_write: bool) -> list[Fate]:
    if not is_write:
        return [Fate(Lot.CRASH_BEFORE), Fate(Lot.LOST)]
    return [Fate(Lot.CRASH_BEFORE), Fate(Lot.CRASH_AFTER), Fate(Lot.LOST), Fate(Lot.UNANSWERED)]


def _of_peer(faults: tuple[FaultKind, ...]) -> list[Fate]:
    return [Fate(Lot.CRASH_BEFORE), Fate(Lot.CRASH_AFTER), *(Fate(Lot.FAULT, fault=fault) for fault in faults)]
