"""When to drive what is parked: the nearest wake times, however many there are in the store.

A wallet may have a million parked actions. Their wake times stand in the store in order, found by index, so only the
nearest are kept here. Up to the *horizon* an agenda is complete; what is due later is left to the store, and is read on
from there before the horizon is reached.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

from wallet_actions.coins import ActionKey

NEAREST = 10_000
HEAP_SLACK = 64


class Agenda:
    """The nearest wake times, by the monotonic clock.

    Whatever is due before `horizon_s` and was put here is here. What is due later is left out, unless the store does
    not know of it.

    Args:
        nearest: how many wake times to keep, ≥ 1; up to twice as many before the later ones are let go.

    Attributes:
        nearest: see above.
        horizon_s: inf while everything is kept.
    """

    def __init__(self, nearest: int = NEAREST) -> None:
        self.nearest = nearest
        self._heap: list[tuple[float, ActionKey]] = []
        self._due_s: dict[ActionKey, float] = {}
        self._own: set[ActionKey] = set()  # at times that are not the store's
        self._is_read = False
        self.horizon_s = math.inf

    def __len__(self) -> int:
        return len(self._due_s)

    def __contains__(self, key: object) -> bool:
        return key in self._due_s

    @property
    def heap_size(self) -> int:
        """How many entries are kept, those that do not count any more included."""
        return len(self._heap)

    @property
    def next_s(self) -> float:
        """When to look again, at the latest; inf for never."""
        return self._heap[0][0] if self._heap else math.inf

    def due_s(self, key: ActionKey) -> float:
        """When an action is due; inf if it is not here."""
        return self._due_s.get(key, math.inf)

    def put(self, key: ActionKey, due_s: float, *, is_stored: bool = True) -> None:
        """Note when an action is due, in place of what was noted before.

        Args:
            is_stored: whether that is its wake time in the store, so that it can be found there again.
        """
        if is_stored:
            self._own.discard(key)
            if due_s > self.horizon_s:
                self._due_s.pop(key, None)
                return
        else:
            self._own.add(key)
        self._due_s[key] = due_s
        heapq.heappush(self._heap, (due_s, key))
        if len(self._heap) > 2 * len(self._due_s) + HEAP_SLACK:  # most are of actions that were put here anew since
            self._rebuild()
        if len(self._due_s) - len(self._own) > 2 * self.nearest and not self._is_read:
            stored = sorted(due_s for key, due_s in self._due_s.items() if key not in self._own)
            self._end_at(stored[self.nearest - 1])

    def remove(self, key: ActionKey) -> None:
        """Forget when an action is due."""
        self._due_s.pop(key, None)
        self._own.discard(key)

    def take_due(self, now_s: float) -> Iterator[ActionKey]:
        """Take out what is due by now, in order."""
        while self._heap and self._heap[0][0] <= now_s:
            due_s, key = heapq.heappop(self._heap)
            if self._due_s.get(key) == due_s:  # else it was put here anew since
                self.remove(key)
                yield key

    def has_room(self, waiting: int) -> bool:
        """Whether it is worth reading on.

        Args:
            waiting: how many that were taken out are not driven yet.
        """
        return not self._is_read and len(self._due_s) - len(self._own) + waiting <= self.nearest // 2

    def begin_reading(self) -> None:
        """Keep whatever is put here until `end_reading`: it may come to stand in the store where was read already."""
        self._is_read = True
        self.horizon_s = math.inf

    def end_reading(self, horizon_s: float) -> None:
        """All that is due before was put here.

        Args:
            horizon_s: inf where the store has no more.
        """
        self._is_read = False
        self._end_at(horizon_s)

    def _end_at(self, horizon_s: float) -> None:
        self.horizon_s = horizon_s
        own = self._own
        self._due_s = {key: due_s for key, due_s in self._due_s.items() if due_s <= horizon_s or key in own}
        self._rebuild()

    def _rebuild(self) -> None:
        self._heap = [(due_s, key) for key, due_s in self._due_s.items()]
        heapq.heapify(self._heap)
