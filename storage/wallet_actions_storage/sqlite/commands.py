"""The programs that are not about one action's next step: pruning, pauses, counters, orphans."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from wallet_actions.coins import MAX_AMOUNT
from wallet_actions.errors import UsageError
from wallet_actions_storage.sqlite.actions import stamp
from wallet_actions_storage.sqlite.program import Program
from wallet_actions_storage.sqlite.rows import to_micros

_PRUNABLE = (
    "SELECT row, kind, id, last_history FROM wa_actions"
    " WHERE prunable_at IS NOT NULL AND prunable_at < ? ORDER BY prunable_at LIMIT ?"
)
_FORGET_HISTORY = (
    "DELETE FROM wa_history WHERE row IN ("
    " WITH RECURSIVE past (row) AS ("
    "  SELECT ? UNION ALL SELECT previous FROM wa_history JOIN past USING (row) WHERE previous IS NOT NULL)"
    " SELECT row FROM past)"
)
_FORGET_PAYLOADS = (
    "UPDATE wa_coins SET payload = '' WHERE holder_id = ? AND holder_kind = ? AND state = 'spent' AND payload <> ''"
)
_FORGET_STATE = "UPDATE wa_actions SET state = NULL, last_history = NULL, prunable_at = NULL WHERE row = ?"
_RELEASE_ORPHAN = (
    "UPDATE wa_coins SET state = 'spendable', holder_kind = NULL, holder_id = NULL"
    " WHERE id = ? AND state = 'reserved' AND NOT EXISTS ("
    " SELECT 1 FROM wa_actions WHERE kind = holder_kind AND id = holder_id AND ended_at IS NULL)"
)
_PAUSE = "INSERT INTO wa_paused_kinds (kind) VALUES (?) ON CONFLICT (kind) DO NOTHING"
_RESUME = "DELETE FROM wa_paused_kinds WHERE kind = ?"
_COUNTER = "SELECT next FROM wa_counters WHERE name = ?"
_SET_COUNTER = (
    "INSERT INTO wa_counters (name, next) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET next = excluded.next"
)


def prune(before: datetime, limit: int) -> Program[int]:
    """Forget the details of those that ended first."""
    rows = (yield (_PRUNABLE, (to_micros(before), limit))).rows
    # The time of a write that only its history tells is noted before that goes, and the rows' numbers may come again.
    if rows:
        yield stamp(0)
    for row, kind, action_id, last_history in rows:
        if last_history is not None:
            yield (_FORGET_HISTORY, (last_history,))
        yield (_FORGET_PAYLOADS, (action_id, kind))
        yield (_FORGET_STATE, (row,))
    if rows:
        yield stamp(0)
    return len(rows)


def release_orphans(ids: Collection[str]) -> Program[int]:
    """Free these coins where they are reserved for an action that has ended or does not exist."""
    freed = 0
    for coin_id in dict.fromkeys(ids):
        freed += (yield (_RELEASE_ORPHAN, (coin_id,))).count
    return freed


def set_kind_paused(kind: str, is_paused: bool) -> Program[None]:
    """Pause or resume a kind."""
    yield (_PAUSE if is_paused else _RESUME, (kind,))


def allocate(counter: str, count: int) -> Program[int]:
    """Take values of a counter.

    Raises:
        UsageError: so many are not left; nothing was written.
    """
    reply = yield (_COUNTER, (counter,))
    first: int = reply.rows[0][0] if reply.rows else 0
    if first > MAX_AMOUNT - count:
        raise UsageError(f"counter {counter} does not have {count} values left")
    yield (_SET_COUNTER, (counter, first + count))
    return first
