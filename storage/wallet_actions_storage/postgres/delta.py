# ruff: noqa: S608 - what is put together are constants; values are parameters
"""The program that writes a delta: coins, counters, facts and the app's statements, by the rules of `Delta`.

Each part is one statement, however many coins it names, and a second one only where something was not as expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wallet_actions.coins import ActionKey, Coin, CoinState, Fact
from wallet_actions.errors import InvariantError, ReservationError
from wallet_actions.store import Delta
from wallet_actions_storage.postgres.program import Program, Query, Row
from wallet_actions_storage.postgres.sql import Sql

_ADD = (
    "INSERT INTO {schema}.wa_coins (id, account, unit, amount, payload, state)"
    " SELECT *, 'spendable' FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])"
    " AS given (id, account, unit, amount, payload) ORDER BY id ON CONFLICT (id) DO NOTHING RETURNING id"
)
_VALUES_OF = "SELECT id, account, unit, amount FROM {schema}.wa_coins WHERE id = ANY($1::text[])"
_RELEASE = (
    "UPDATE {schema}.wa_coins SET state = 'spendable', holder_kind = NULL, holder_id = NULL"
    " WHERE id = ANY($1::text[]) AND holder_kind = $2 AND holder_id = $3 AND state = 'reserved' RETURNING id"
)
_FREE = "SELECT id FROM {schema}.wa_coins WHERE id = ANY($1::text[]) AND state = 'spendable' ORDER BY id FOR UPDATE"
_RESERVE = (
    f"WITH free AS ({_FREE} SKIP LOCKED) UPDATE {{schema}}.wa_coins AS c"
    " SET state = 'reserved', holder_kind = $2, holder_id = $3"
    " FROM free WHERE c.id = free.id AND c.state = 'spendable' RETURNING c.id"
)
_SPEND = (
    "UPDATE {schema}.wa_coins SET state = 'spent'"
    " WHERE id = ANY($1::text[]) AND holder_kind = $2 AND holder_id = $3 AND state = 'reserved' RETURNING id"
)
_STATES_OF = "SELECT id, state, holder_kind, holder_id FROM {schema}.wa_coins WHERE id = ANY($1::text[])"
_RAISE_COUNTERS = (
    "INSERT INTO {schema}.wa_counters AS c (name, next)"
    " SELECT * FROM unnest($1::text[], $2::bigint[]) AS given (name, next) ORDER BY name"
    " ON CONFLICT (name) DO UPDATE SET next = greatest(c.next, excluded.next)"
)
_WRITE_FACTS = (
    "INSERT INTO {schema}.wa_facts AS f (kind, key, body, action_kind, action_id)"
    " SELECT kind, key, body, $4, $5 FROM unnest($1::text[], $2::text[], $3::text[])"
    " WITH ORDINALITY AS given (kind, key, body, place) ORDER BY place"
    " ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body"
    " WHERE f.action_kind = excluded.action_kind AND f.action_id = excluded.action_id RETURNING kind, key"
)
_FACT = "SELECT body, action_kind, action_id FROM {schema}.wa_facts WHERE kind = $1 AND key = $2"


def apply_delta(sql: Sql, key: ActionKey, delta: Delta) -> Program[None]:
    """Write what an action changes beside its checkpoint, in the port's order; children are left to the caller.

    Raises:
        InvariantError, ReservationError: see `Delta`; what was written before has to be undone.
    """
    if delta.add:
        yield from _add(sql, delta.add)
    if delta.release:
        yield from _release(sql, key, delta.release)
    if delta.reserve:
        yield from _reserve(sql, key, delta.reserve)
    if delta.spend:
        yield from _spend(sql, key, delta.spend)
    if delta.counters:
        values: dict[str, int] = {}
        for name, value in delta.counters:
            values[name] = max(0, value, values.get(name, 0))
        yield (_RAISE_COUNTERS.format(schema=sql.schema), (list(values), list(values.values())))
    if delta.facts:
        yield from _write_facts(sql, key, delta.facts)
    for statement in delta.statements:  # noqa: UP028 - a tuple takes no reply
        yield statement


def free_coins(deltas: Iterable[Delta], sql: Sql) -> Query | None:
    """Lock the free coins that units are to reserve, in the order of their ids, as all who choose among them do.

    Afterwards nobody waits for a coin: one that was freed since then and is locked counts as taken.

    Returns:
        None where nobody wants any.
    """
    wanted = {coin_id for delta in deltas for coin_id in _reserved(delta) if _is_storable(coin_id)}
    return (_FREE.format(schema=sql.schema), (sorted(wanted),)) if wanted else None


def _is_storable(text: str) -> bool:
    """What is not is refused to its own unit alone."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _reserved(delta: Delta) -> list[str]:
    found = list(delta.reserve)
    for child in delta.start:
        found += _reserved(child.delta)
    return found


def _add(sql: Sql, coins: tuple[Coin, ...]) -> Program[None]:
    values = [(coin.id, coin.account, coin.unit, coin.amount, coin.payload) for coin in coins]
    added = yield (_ADD.format(schema=sql.schema), tuple(map(list, zip(*values, strict=True))))
    if len(added) == len(coins):
        return
    known = {row[0]: tuple(row) for row in (yield (_VALUES_OF.format(schema=sql.schema), ([v[0] for v in values],)))}
    for value in values:
        if known.get(value[0]) != value[:4]:
            raise InvariantError(
                f"coin {value[0]} is known already, with another account, unit or amount",
                rule="a coin's account, unit and amount never change",
            )


def _release(sql: Sql, key: ActionKey, coin_ids: tuple[str, ...]) -> Program[None]:
    released = yield (_RELEASE.format(schema=sql.schema), (list(coin_ids), *key))
    for coin_id, state, holder in (yield from _others(sql, key, coin_ids, released)):
        if state == CoinState.RESERVED:
            raise InvariantError(
                f"{key} would release coin {coin_id}, which {holder} holds",
                rule="an action releases only coins that it holds",
            )


def _reserve(sql: Sql, key: ActionKey, coin_ids: tuple[str, ...]) -> Program[None]:
    reserved = yield (_RESERVE.format(schema=sql.schema), (list(coin_ids), *key))
    others = yield from _others(sql, key, coin_ids, reserved)
    taken = [coin_id for coin_id, state, holder in others if state == CoinState.SPENT or holder != key]
    if taken:
        raise ReservationError(tuple(taken))


def _spend(sql: Sql, key: ActionKey, coin_ids: tuple[str, ...]) -> Program[None]:
    spent = yield (_SPEND.format(schema=sql.schema), (list(coin_ids), *key))
    for coin_id, _, holder in (yield from _others(sql, key, coin_ids, spent)):
        if holder != key:
            raise InvariantError(
                f"{key} would spend coin {coin_id}, which it does not hold",
                rule="an action spends only coins that it holds",
            )


def _others(
    sql: Sql, key: ActionKey, coin_ids: tuple[str, ...], changed: Sequence[Row]
) -> Program[list[tuple[str, str, ActionKey]]]:
    """Those that a statement did not change: id, state and holder, in the order given."""
    left = list(dict.fromkeys(coin_ids).keys() - {row[0] for row in changed})
    if not left:
        return []
    rows = yield (_STATES_OF.format(schema=sql.schema), (left,))
    found = {row[0]: (row[1], ActionKey(row[2], row[3])) for row in rows}
    answer = []
    for coin_id in dict.fromkeys(coin_ids):
        if coin_id in left:
            if coin_id not in found:
                raise InvariantError(
                    f"{key} names coin {coin_id}, which does not exist", rule="a coin is added before use"
                )
            answer.append((coin_id, *found[coin_id]))
    return answer


def _write_facts(sql: Sql, key: ActionKey, facts: tuple[Fact, ...]) -> Program[None]:
    last = {(fact.kind, fact.key): fact.body for fact in facts}
    columns = ([kind for kind, _ in last], [name for _, name in last], list(last.values()))
    written = {(row[0], row[1]) for row in (yield (_WRITE_FACTS.format(schema=sql.schema), (*columns, *key)))}
    for fact in facts:
        if (fact.kind, fact.key) in written:
            continue
        ((body, *owner),) = yield (_FACT.format(schema=sql.schema), (fact.kind, fact.key))
        if body != fact.body:
            raise InvariantError(
                f"{key} would write over the fact {fact.kind} {fact.key} of {ActionKey(*owner)}",
                rule="a fact is written over only by the action that wrote it",
            )
