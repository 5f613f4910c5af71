"""The program that writes a delta: coins, counters, facts and the app's statements, by the rules of `Delta`."""

from __future__ import annotations

from wallet_actions.coins import ActionKey, Coin, CoinState, Fact
from wallet_actions.errors import InvariantError, ReservationError
from wallet_actions.store import Delta
from wallet_actions_storage.sqlite.program import Program, Query

_ADD = (
    "INSERT INTO wa_coins (id, account, unit, amount, state, payload) VALUES (?, ?, ?, ?, 'spendable', ?)"
    " ON CONFLICT (id) DO NOTHING"
)
_VALUE_OF = "SELECT account, unit, amount FROM wa_coins WHERE id = ?"
_RELEASE = (
    "UPDATE wa_coins SET state = 'spendable', holder_kind = NULL, holder_id = NULL"
    " WHERE id = ? AND holder_id = ? AND holder_kind = ? AND state = 'reserved'"
)
_RESERVE = "UPDATE wa_coins SET state = 'reserved', holder_kind = ?, holder_id = ? WHERE id = ? AND state = 'spendable'"
_SPEND = "UPDATE wa_coins SET state = 'spent' WHERE id = ? AND holder_id = ? AND holder_kind = ? AND state = 'reserved'"
_STATE_OF = "SELECT state, holder_kind, holder_id FROM wa_coins WHERE id = ?"
_RELEASE_ALL = (
    "UPDATE wa_coins SET state = 'spendable', holder_kind = NULL, holder_id = NULL"
    " WHERE holder_id = ? AND holder_kind = ? AND state = 'reserved'"
)
_RAISE_COUNTER = (
    "INSERT INTO wa_counters (name, next) VALUES (?, max(0, ?))"
    " ON CONFLICT (name) DO UPDATE SET next = max(next, excluded.next)"
)
_WRITE_FACT = (
    "INSERT INTO wa_facts (kind, key, body, action_kind, action_id) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body"
    " WHERE action_kind = excluded.action_kind AND action_id = excluded.action_id"
)
_FACT = "SELECT body, action_kind, action_id FROM wa_facts WHERE kind = ? AND key = ?"


def apply_delta(key: ActionKey, delta: Delta) -> Program[None]:
    """Write what an action changes beside its checkpoint, in the port's order; children are left to the caller.

    Raises:
        InvariantError, ReservationError: see `Delta`; what was written before has to be undone.
    """
    for coin in delta.add:
        yield from _add(coin)
    for coin_id in delta.release:
        yield from _release(key, coin_id)
    if delta.reserve:
        yield from _reserve(key, delta.reserve)
    for coin_id in delta.spend:
        yield from _spend(key, coin_id)
    for name, value in delta.counters:
        yield (_RAISE_COUNTER, (name, value))
    for fact in delta.facts:
        yield from _write_fact(key, fact)
    for statement in delta.statements:  # noqa: UP028 - a tuple takes no reply
        yield statement


def release_all(key: ActionKey) -> Query:
    """Free every coin that an action still holds (L-C4). By index: other coins cost nothing."""
    return (_RELEASE_ALL, (key.id, key.kind))


def _add(coin: Coin) -> Program[None]:
    reply = yield (_ADD, (coin.id, coin.account, coin.unit, coin.amount, coin.payload))
    if reply.count:
        return
    reply = yield (_VALUE_OF, (coin.id,))
    if tuple(reply.rows[0]) != (coin.account, coin.unit, coin.amount):
        raise InvariantError(
            f"coin {coin.id} is known already, with another account, unit or amount",
            rule="a coin's account, unit and amount never change",
        )


def _release(key: ActionKey, coin_id: str) -> Program[None]:
    reply = yield (_RELEASE, (coin_id, key.id, key.kind))
    if reply.count:
        return
    state, holder = yield from _state_of(key, coin_id)
    if state == CoinState.RESERVED:
        raise InvariantError(
            f"{key} would release coin {coin_id}, which {holder} holds",
            rule="an action releases only coins that it holds",
        )


def _reserve(key: ActionKey, coin_ids: tuple[str, ...]) -> Program[None]:
    taken: dict[str, None] = {}
    for coin_id in coin_ids:
        reply = yield (_RESERVE, (key.kind, key.id, coin_id))
        if not reply.count:
            state, holder = yield from _state_of(key, coin_id)
            if state == CoinState.SPENT or holder != key:
                taken[coin_id] = None
    if taken:
        raise ReservationError(tuple(taken))


def _spend(key: ActionKey, coin_id: str) -> Program[None]:
    reply = yield (_SPEND, (coin_id, key.id, key.kind))
    if reply.count:
        return
    _, holder = yield from _state_of(key, coin_id)
    if holder != key:
        raise InvariantError(
            f"{key} would spend coin {coin_id}, which it does not hold",
            rule="an action spends only coins that it holds",
        )


def _state_of(key: ActionKey, coin_id: str) -> Program[tuple[str, ActionKey]]:
    reply = yield (_STATE_OF, (coin_id,))
    if not reply.rows:
        raise InvariantError(f"{key} names coin {coin_id}, which does not exist", rule="a coin is added before use")
    state, *holder = reply.rows[0]
    return state, ActionKey(*holder)


def _write_fact(key: ActionKey, fact: Fact) -> Program[None]:
    reply = yield (_WRITE_FACT, (fact.kind, fact.key, fact.body, key.kind, key.id))
    if reply.count:
        return
    reply = yield (_FACT, (fact.kind, fact.key))
    body, *owner = reply.rows[0]
    if body != fact.body:
        raise InvariantError(
            f"{key} would write over the fact {fact.kind} {fact.key} of {ActionKey(*owner)}",
            rule="a fact is written over only by the action that wrote it",
        )
