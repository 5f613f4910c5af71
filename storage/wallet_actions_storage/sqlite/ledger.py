# ruff: noqa: S608 - what is put together are constants of this package; values are always parameters
"""What is read of coins and facts, as functions on the reading connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Any

from wallet_actions.coins import ActionKey, Balance, Coin, CoinState, Fact
from wallet_actions_storage.sqlite.rows import COIN_COLUMNS, to_coin

_COIN = f"SELECT {COIN_COLUMNS} FROM wa_coins WHERE id = ?"
_ORPHANS = (
    f"SELECT {COIN_COLUMNS} FROM wa_coins INDEXED BY wa_coins_reserved WHERE state = 'reserved' AND NOT EXISTS ("
    " SELECT 1 FROM wa_actions WHERE kind = holder_kind AND wa_actions.id = holder_id AND ended_at IS NULL)"
    " ORDER BY id LIMIT ?"
)
_HALF = 32
_BALANCES = (
    f"SELECT account, unit, state, sum(amount >> {_HALF}), sum(amount & {2**_HALF - 1}) FROM wa_coins"
    " WHERE state <> 'spent'"
)


def coins(
    connection: sqlite3.Connection,
    account: str | None,
    unit: str | None,
    state: CoinState | None,
    holder: ActionKey | None,
    after: str,
    limit: int,
) -> list[Coin]:
    """See `Store.coins`."""
    terms, values = ["id > ?"], [after]
    for column, value in (("account", account), ("unit", unit)):
        if value is not None:
            terms.append(f"{column} = ?")
            values.append(value)
    if holder is not None:
        terms += ["holder_id = ?", "holder_kind = ?"]
        values += [holder.id, holder.kind]
    # The state stands in the text and not in a parameter: only so are the partial indexes found.
    states = [state] if state is not None else [CoinState.RESERVED, CoinState.SPENT] if holder is not None else [None]
    choices, parameters = [], []
    for choice in states:
        chosen = [*terms] if choice is None else [*terms, f"state = '{choice.value}'"]
        if choice in {CoinState.SPENDABLE, CoinState.RESERVED}:
            chosen.append("state <> 'spent'")
        choices.append(f"SELECT {COIN_COLUMNS} FROM wa_coins WHERE {' AND '.join(chosen)}")
        parameters += values
    sql = f"{' UNION ALL '.join(choices)} ORDER BY id LIMIT ?"
    return [to_coin(row) for row in connection.execute(sql, (*parameters, max(0, limit))).fetchall()]


def coins_by_id(connection: sqlite3.Connection, ids: Collection[str]) -> list[Coin]:
    """See `Store.coins_by_id`. One moment of the database, however many they are."""
    connection.execute("BEGIN")
    try:
        found = (connection.execute(_COIN, (coin_id,)).fetchone() for coin_id in sorted(set(ids)))
        return [to_coin(row) for row in found if row is not None]
    finally:
        connection.execute("COMMIT")


def balances(connection: sqlite3.Connection, account: str | None) -> list[Balance]:
    """See `Store.balances`. Summed up in two halves: a sum of SQLite's does not go beyond 64 bits."""
    sql, parameters = _BALANCES, []
    if account is not None:
        sql, parameters = f"{sql} AND account = ?", [account]
    sums: dict[tuple[str, str], dict[str, int]] = {}
    rows: list[Any] = connection.execute(f"{sql} GROUP BY account, unit, state", parameters).fetchall()
    for of_account, unit, state, high, low in rows:
        sums.setdefault((of_account, unit), {})[state] = (high << _HALF) + low
    return [
        Balance(*group, by_state.get(CoinState.SPENDABLE, 0), by_state.get(CoinState.RESERVED, 0))
        for group, by_state in sorted(sums.items())
    ]


def orphans(connection: sqlite3.Connection, limit: int) -> list[Coin]:
    """See `Store.orphans`."""
    return [to_coin(row) for row in connection.execute(_ORPHANS, (max(0, limit),)).fetchall()]


def facts(
    connection: sqlite3.Connection, kind: str | None, key: str | None, after: int, limit: int
) -> list[tuple[int, Fact]]:
    """See `Store.facts`."""
    terms = ["row > ?"]
    parameters: list[Any] = [after]
    # Without a key the index of kinds and keys is not taken: the whole kind would be sorted for each page.
    for column, value in (("kind" if key is not None else "+kind", kind), ("key", key)):
        if value is not None:
            terms.append(f"{column} = ?")
            parameters.append(value)
    sql = f"SELECT row, kind, key, body FROM wa_facts WHERE {' AND '.join(terms)} ORDER BY row LIMIT ?"
    rows = connection.execute(sql, (*parameters, max(0, limit))).fetchall()
    return [(row, Fact(kind, key, body)) for row, kind, key, body in rows]
