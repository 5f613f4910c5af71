"""The memory store, the SQLite store and the PostgreSQL store give equal answers to whatever they are asked (L-B3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pooler import Pooler
from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord, Status, Wake
from wallet_actions.coins import MAX_AMOUNT, ActionKey, Coin, CoinState, Fact
from wallet_actions.errors import ReservationError, WalletActionError
from wallet_actions.store import Created, Delta, NewAction, Store, Write
from wallet_actions.testing.contract.base import at, checkpoint, coin, everything, joined, new
from wallet_actions.testing.postgres import PostgresServer
from wallet_actions_storage import MemoryStore, SQLiteStore
from wallet_actions_storage.postgres import PostgresStore

Opener = Callable[[], Store]
Call = Callable[[Store], Coroutine[Any, Any, object]]
Operation = tuple[str, Any]

KINDS = ("pay", "Pay")
COINS = ("c1", "c2", "C1", "c10")
ACTIVE = [status for status in Status if not status.is_terminal]
ENDS = [status for status in Status if status.is_terminal]

keys = st.sampled_from(
    [ActionKey("pay", "a")] * 3 + [ActionKey("pay", "b"), ActionKey("Pay", "a"), ActionKey("pay", "A")]
)
times = st.integers(-3, 30).map(lambda seconds: at(seconds / 4))
texts = st.sampled_from(["", "x", "7", "007", "é", "e\u0301", "[1]"])
some_coins = st.lists(st.sampled_from(COINS), min_size=1, max_size=2).map(tuple)
coins = st.builds(
    Coin,
    st.sampled_from(COINS),
    st.just("m"),
    st.sampled_from(["sat"] * 7 + ["usd"]),
    st.sampled_from([1] * 7 + [MAX_AMOUNT]),
    texts,
)
facts = st.builds(Fact, st.just("f"), st.sampled_from("klmn"), texts)
counters = st.tuples(st.sampled_from("nm"), st.integers(0, 20))


def deltas(depth: int = 1) -> st.SearchStrategy[Delta]:
    """What a unit writes: nothing, one thing, or two, so that many succeed; with children that write themselves."""
    one = st.one_of(
        st.builds(Delta, add=st.lists(coins, min_size=1, max_size=3).map(tuple)),
        st.builds(Delta, release=some_coins),
        st.builds(Delta, reserve=some_coins),
        st.builds(Delta, spend=some_coins),
        st.builds(lambda ids: Delta(reserve=ids, spend=ids), some_coins),
        st.builds(Delta, counters=st.lists(counters, min_size=1, max_size=2).map(tuple)),
        st.builds(Delta, facts=st.lists(facts, min_size=1, max_size=2).map(tuple)),
        *([st.builds(Delta, start=st.lists(news(depth - 1), min_size=1, max_size=2).map(tuple))] if depth else []),
    )
    return st.one_of(st.just(Delta()), one, st.builds(joined, one, one))


def news(depth: int = 1) -> st.SearchStrategy[NewAction]:
    """An action to be started."""

    def build(key: ActionKey, time: Any, wake_at: Any, status: Status, delta: Delta, notes: Sequence[str]) -> NewAction:
        row = checkpoint(key.id, kind=key.kind, time=time, wake_at=wake_at, status=status)
        return NewAction(row, delta, tuple(notes))

    notes = st.lists(texts, max_size=2)
    return st.builds(build, keys, times, st.none() | times, st.sampled_from(ACTIVE), deltas(depth), notes)


@st.composite
def writes(draw: st.DrawFn, statuses: Sequence[Status]) -> tuple[Write, int]:
    """The next write of an action, and how far its version is off."""
    key = draw(keys)
    row = checkpoint(
        key.id,
        kind=key.kind,
        status=draw(st.sampled_from(statuses)),
        time=draw(times),
        wake_at=draw(st.none() | times),
        state=draw(texts),
        error=draw(st.none() | st.builds(ErrorRecord, texts, texts)),
        result=draw(st.none() | texts),
    )
    cancel = draw(st.sampled_from([None, None, *CancelState]))
    write = Write(
        0, replace(row, attempts=draw(st.integers(0, 3))), draw(texts), (draw(texts),), draw(deltas()), cancel
    )
    return write, draw(st.sampled_from([0, 0, 0, 0, 0, 1, -1]))


OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    st.tuples(st.just("create"), news()),
    st.tuples(st.just("create"), news()),
    st.tuples(st.just("save"), writes(ACTIVE)),
    st.tuples(st.just("save"), writes(ACTIVE)),
    st.tuples(st.just("save"), writes(list(Status))),
    st.tuples(st.just("finish"), writes(ENDS)),
    st.tuples(st.just("finish"), writes(list(Status))),
    st.tuples(st.just("request_cancel"), st.tuples(keys, times)),
    st.tuples(st.just("prune"), st.tuples(times, st.integers(1, 3))),
    st.tuples(st.just("set_kind_paused"), st.tuples(st.sampled_from(KINDS), st.booleans())),
    st.tuples(st.just("allocate"), st.tuples(st.sampled_from("nm"), st.integers(-1, 9))),
    st.tuples(st.just("release_orphans"), st.tuples(some_coins)),
    st.tuples(st.just("reopen"), st.none()),
)


async def call_for(operation: Operation, model: Store) -> Call:
    """What to ask of each store; versions follow what one of them holds."""
    name, arguments = operation
    if name == "create":
        return lambda store: store.create(arguments)
    if name not in ("save", "finish"):
        return lambda store: getattr(store, name)(*arguments[:1], **_named(name, arguments))
    write, offset = arguments
    found = await model.load(write.checkpoint.key)
    expected = max(0, offset + (found.version if found is not None else 0))
    ready = replace(write, expected_version=expected, checkpoint=replace(write.checkpoint, version=expected + 1))
    return lambda store: getattr(store, name)(ready)


def _named(name: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
    names = {"request_cancel": "at", "prune": "limit", "set_kind_paused": "is_paused", "allocate": "count"}
    return {names[name]: arguments[1]} if name in names else {}


async def answer_of(call: Call, store: Store) -> object:
    """What a store answers, or how it refuses."""
    try:
        return told(await call(store))
    except ReservationError as error:
        return ReservationError, sorted(error.coin_ids)
    except WalletActionError as error:
        return type(error)


def told(value: object) -> object:
    """A store's answer without its cursors: they grow, and may leave numbers out."""
    match value:
        case Created(checkpoint, is_new):
            return told(checkpoint), is_new
        case Checkpoint() | Wake():
            return replace(value, row=0)
        case (int(), Fact() as fact):
            return fact
        case ActionKey() | str():
            return value
        case list() | tuple():
            return [told(one) for one in value]
    return value


async def all_of(store: Store) -> object:
    """Everything that the port tells."""
    wakes = await store.wakes(until=None)
    coins = await store.coins(limit=2)
    after = next((action.row for action in await store.list_actions(limit=1)), 0)
    found: list[object] = [
        *await everything(store),
        wakes,
        await store.wakes(until=at(3), limit=2),
        await store.wakes(until=None, after=wakes[0], limit=2) if wakes else None,
        await store.idle(),
        await store.idle(after=after, limit=1),
        await store.running(before=at(4)),
        await store.running(before=at(100), after=after, limit=1),
        await store.count_actions(),
        await store.list_actions(statuses=[Status.PARKED, Status.DONE], kinds=["pay"], after=after, limit=2),
        await store.balances(),
        await store.balances("m"),
        await store.orphans(),
        await store.coins(after=coins[0].id, state=CoinState.RESERVED) if coins else None,
        await store.coins(holder=ActionKey("pay", "a")),
        await store.coins(account="m", unit="sat", state=CoinState.SPENDABLE),
        await store.coins_by_id(["c10", "c1", "unknown"]),
        await store.facts(kind="f", key="k"),
        await store.facts(after=next((cursor for cursor, _ in await store.facts(limit=1)), 0), limit=1),
        await store.history(ActionKey("pay", "a"), after=0, limit=2),
    ]
    return told(found)


PRELUDE = (
    new("a", Delta(add=tuple(replace(coin(name), account="m") for name in COINS), reserve=COINS[:2])),
    new("b"),
    new("a", kind="Pay"),
)
"""What every store begins with, so that much of what is asked for can be done."""


_schemas = count()


async def compare(operations: Sequence[Operation], make: Opener) -> None:
    """Ask a store whatever the memory store is asked."""
    model, store = MemoryStore(), make()
    async with model:
        await store.__aenter__()
        try:
            for either in (model, store):
                for start in PRELUDE:
                    await either.create(start)
            for operation in operations:
                if operation[0] == "reopen":
                    await store.__aexit__(None, None, None)
                    store = make()
                    await store.__aenter__()
                else:
                    call = await call_for(operation, model)
                    assert await answer_of(call, store) == await answer_of(call, model)
                assert await all_of(store) == await all_of(model)
        finally:
            await store.__aexit__(None, None, None)


@settings(max_examples=100, deadline=None)
@given(st.lists(OPERATIONS, min_size=4, max_size=30))
def test_sqlite_gives_equal_answers(operations: list[Operation]) -> None:
    with TemporaryDirectory() as folder:
        asyncio.run(compare(operations, lambda: SQLiteStore(Path(folder) / "wallet.db")))


@pytest.fixture(scope="module")
def pooler(postgres_server: PostgresServer) -> Iterator[Pooler]:
    with Pooler(postgres_server.url) as pooler:
        yield pooler


@settings(max_examples=20, deadline=None)
@given(st.lists(OPERATIONS, min_size=4, max_size=30))
def test_postgres_gives_equal_answers(postgres_server: PostgresServer, operations: list[Operation]) -> None:
    schema = f"differential_{next(_schemas)}"
    asyncio.run(compare(operations, lambda: PostgresStore(postgres_server.url, schema=schema)))


@settings(max_examples=5, deadline=None)
@given(st.lists(OPERATIONS, min_size=4, max_size=30))
def test_postgres_gives_equal_answers_behind_a_pooler(pooler: Pooler, operations: list[Operation]) -> None:
    """Each transaction is on another connection, and no statement is kept prepared."""
    schema = f"differential_{next(_schemas)}"
    asyncio.run(
        compare(operations, lambda: PostgresStore(pooler.url, schema=schema, prepared_statements=False, listen=False))
    )
