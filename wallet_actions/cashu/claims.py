"""Which counters the actions under way have in hand: what they had signed is theirs to add, and maybe to give away."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

from wallet_actions.checkpoint import Status
from wallet_actions.store import Store

logger = logging.getLogger(__name__)

_UNFINISHED = tuple(status for status in Status if not status.is_terminal)


async def claimed(store: Store, keyset_id: str) -> tuple[range, ...]:
    """The counters of a keyset that actions which have not ended name in their states.

    Counts as a plan, in an action of any kind, also of one that this program does not know: an object with
    `keyset_id`, `first_counter`, and how many there are as `amounts` or `blanks`; `OutputPlan` is one. A state that is
    no JSON names none that anybody could carry out.
    """
    ranges: list[range] = []
    row = 0
    while page := await store.list_actions(statuses=_UNFINISHED, after=row):
        row = page[-1].row
        for checkpoint in page:
            if checkpoint.state is None or keyset_id not in checkpoint.state:
                continue
            try:
                ranges += _plans(json.loads(checkpoint.state), keyset_id)
            except ValueError:  # one action that is spoilt does not hold up a restore (L-D12)
                logger.error(
                    "an action's state cannot be read",
                    extra={"action_kind": checkpoint.kind, "action_id": checkpoint.id},
                )
    return tuple(ranges)


def _plans(value: Any, keyset_id: str) -> Iterator[range]:
    match value:
        case {"keyset_id": str(named), "first_counter": int(first), "amounts": list(amounts)} if named == keyset_id:
            yield range(first, first + len(amounts))
        case {"keyset_id": str(named), "first_counter": int(first), "blanks": int(blanks)} if named == keyset_id:
            yield range(first, first + blanks)
    # A phase that is a plan itself may hold others.
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        yield from _plans(item, keyset_id)
