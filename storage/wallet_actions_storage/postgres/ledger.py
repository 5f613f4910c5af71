# ruff: noqa: S608 - what is put together are constants and a schema's name that was checked; values are parameters
"""What is read of coins and facts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from wallet_actions.coins import ActionKey, Balance, Coin, CoinState, Fact
from wallet_actions_storage.postgres.reads import Read
from wallet_actions_storage.postgres.rows import COIN_COLUMNS, to_coin

_COINS = f"SELECT {COIN_COLUMNS} FROM {{schema}}.wa_coins"
_ORPHANS = (
    f"{_COINS} AS c WHERE state = 'reserved' AND NOT EXISTS (SELECT 1 FROM {{schema}}.wa_actions AS a"
    " WHERE a.kind = c.holder_kind AND a.id = c.holder_id AND a.ended_at IS NULL) ORDER BY id LIMIT $1"
)
_BALANCES = "SELECT account, unit, state, sum(amount)::text FROM {schema}.wa_coins WHERE state <> 'spent'"


async def coins(
    read: Read,
    account: str | None,
    unit: str | None,
    state: CoinState | None,
    holder: ActionKey | None,
    after: str,
    limit: int,
) -> list[Coin]:
    """See `Store.coins`."""
    terms, values = ["id > $1"], [after]
    wanted = (("account", account), ("unit", unit), *zip(("holder_kind", "holder_id"), holder or (), strict=False))
    for column, value in wanted:
        if value is not None:
            values.append(value)
            terms.append(f"{column} = ${len(values)}")
    # The state stands in the text and not in a parameter: only so are the partial indexes found.
    states = [state] if state is not None else [CoinState.RESERVED, CoinState.SPENT] if holder is not None else [None]
    choices = []
    for choice in states:
        chosen = [*terms] if choice is None else [*terms, f"state = '{choice.value}'"]
        if choice in {CoinState.SPENDABLE, CoinState.RESERVED}:
            chosen.append("state <> 'spent'")
        choices.append(f"{_COINS} WHERE {' AND '.join(chosen)}")
    sql = f"{' UNION ALL '.join(choices)} ORDER BY id LIMIT ${len(values) + 1}"
    return [to_coin(row) for row in await read(sql, *values, max(0, limit))]


async def coins_by_id(read: Read, ids: Collection[str]) -> list[Coin]:
    """See `Store.coins_by_id`. One moment of the database, however many they are."""
    return [to_coin(row) for row in await read(f"{_COINS} WHERE id = ANY($1::text[]) ORDER BY id", list(set(ids)))]


async def balances(read: Read, account: str | None) -> list[Balance]:
    """See `Store.balances`."""
    sql, values = _BALANCES, []
    if account is not None:
        sql, values = f"{sql} AND account = $1", [account]
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for of_account, unit, state, total in await read(f"{sql} GROUP BY account, unit, state", *values):
        sums.setdefault((of_account, unit), {})[state] = int(total)
    return [
        Balance(*group, by_state.get(CoinState.SPENDABLE, 0), by_state.get(CoinState.RESERVED, 0))
        for group, by_state in sorted(sums.items())
    ]


async def orphans(read: Read, limit: int) -> list[Coin]:
    """See `Store.orphans`."""
    return [to_coin(row) for row in await read(_ORPHANS, max(0, limit))]


async def facts(read: Read, kind: str | None, key: str | None, after: int, limit: int) -> list[tuple[int, Fact]]:
    """See `Store.facts`."""
    terms = ["row > $1"]
    values: list[Any] = [after]
    for column, value in (("kind", kind), ("key", key)):
        if value is not None:
            values.append(value)
            terms.append(f"{column} = ${len(values)}")
    sql = f"SELECT row, kind, key, body FROM {{schema}}.wa_facts WHERE {' AND '.join(terms)}"
    rows = await read(f"{sql} ORDER BY row LIMIT ${len(values) + 1}", *values, max(0, limit))
    return [(row[0], Fact(row[1], row[2], row[3])) for row in rows]
