# ruff: noqa: S101 - assertions are what a contract suite is made of
"""What the contract's tests share: the hooks of a store under test, and short ways to say what is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from wallet_actions.checkpoint import CancelState, Checkpoint, ErrorRecord, Status
from wallet_actions.coins import ActionKey, Coin, CoinState
from wallet_actions.store import EMPTY_DELTA, Created, Delta, NewAction, Saved, Store, Write

R = TypeVar("R")

KIND = "pay"
MINT = "https://mint.example"
SECRET = "the-payload-that-nobody-may-see"  # noqa: S105
T0 = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class StoreHooks:
    """What a store under test has to tell about itself; see `wallet_actions.testing.store_contract`."""

    pytestmark = pytest.mark.anyio

    def make_store(self, tmp_path: Path) -> Store:
        """Make a store, not open yet, on data that belongs to this folder.

        Called again with the same folder, also while the first store is still open, it answers with another store on
        the same data, as a second process or a restart would have it. (A store that one process has to itself
        overrides `test_two_stores_on_the_same_data`.)
        """
        raise NotImplementedError("a contract suite says how its store is made")

    def make_orphan(self, tmp_path: Path, coin_id: str, holder: ActionKey) -> None:
        """Edit the data behind the store's back: a coin is reserved by an action that is not there, or has ended.

        No store is open meanwhile.
        """
        raise NotImplementedError("a contract suite says how its store's data is edited")

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The engine runs on asyncio alone."""
        return "asyncio"

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        """An empty store, open."""
        async with self.make_store(tmp_path) as store:
            yield store


def at(seconds: float) -> datetime:
    """A time, in seconds after that of the first write."""
    return T0 + timedelta(seconds=seconds)


def key(id: str) -> ActionKey:
    """The key of an action of the usual kind."""
    return ActionKey(KIND, id)


def checkpoint(
    id: str,
    version: int = 0,
    *,
    kind: str = KIND,
    status: Status = Status.RUNNING,
    time: datetime = T0,
    wake_at: datetime | None = None,
    state: str | None = '{"phase":"unpaid"}',
    error: ErrorRecord | None = None,
    result: str | None = None,
) -> Checkpoint:
    """A row as a driver hands it over."""
    return Checkpoint(
        kind=kind,
        id=id,
        version=version,
        schema_version=1,
        state=state,
        phase=f"phase_{version}",
        status=status,
        created_at=time,
        updated_at=time,
        wake_at=wake_at,
        error=error,
        result=result,
    )


def new(
    id: str,
    delta: Delta = EMPTY_DELTA,
    *,
    kind: str = KIND,
    status: Status = Status.RUNNING,
    time: datetime = T0,
    wake_at: datetime | None = None,
    notes: tuple[str, ...] = (),
) -> NewAction:
    """An action to be started."""
    return NewAction(checkpoint(id, kind=kind, status=status, time=time, wake_at=wake_at), delta, notes)


def step(
    id: str,
    version: int,
    delta: Delta = EMPTY_DELTA,
    *,
    kind: str = KIND,
    status: Status = Status.RUNNING,
    time: datetime = T0,
    wake_at: datetime | None = None,
    event: str = "next",
    notes: tuple[str, ...] = (),
    cancel: CancelState | None = None,
    state: str | None = '{"phase":"unpaid"}',
    error: ErrorRecord | None = None,
    result: str | None = None,
) -> Write:
    """The write that makes this version of an action."""
    row = checkpoint(
        id, version, kind=kind, status=status, time=time, wake_at=wake_at, state=state, error=error, result=result
    )
    return Write(version - 1, row, event, notes, delta, cancel)


def coin(id: str, amount: int = 1, *, account: str = MINT, unit: str = "sat", payload: str = SECRET) -> Coin:
    """A coin as a peer hands it out."""
    return Coin(id, account, unit, amount, payload)


async def holding(store: Store, id: str, *coin_ids: str) -> Created:
    """Start an action that adds these coins and holds them."""
    delta = Delta(add=tuple(map(coin, coin_ids)), reserve=coin_ids)
    return await store.create(new(id, delta))


async def done(store: Store, id: str, version: int = 1, *, time: datetime = T0) -> Saved:
    """End an action with success."""
    return await store.finish(step(id, version, status=Status.DONE, time=time, event="done", result='"ok"'))


async def states(store: Store, *coin_ids: str) -> list[tuple[CoinState, ActionKey | None]]:
    """Where these coins stand, in the order given."""
    found = {coin.id: coin for coin in await store.coins_by_id(coin_ids)}
    return [(found[coin_id].state, found[coin_id].holder) for coin_id in coin_ids]


async def everything(store: Store) -> list[object]:
    """All that a store tells, to be compared before and after."""
    actions = await all_actions(store)
    return [
        actions,
        [await store.history(action.key) for action in actions],
        await store.coins(),
        await store.facts(),
        await store.counters(),
        await store.paused_kinds(),
        await store.last_write_at(),
    ]


async def all_actions(store: Store, *, limit: int = 100) -> Sequence[Checkpoint]:
    """Every action, read page by page."""

    async def read(last: Checkpoint | None) -> Sequence[Checkpoint]:
        return await store.list_actions(after=0 if last is None else last.row, limit=limit)

    return [action async for page in pages(read, limit) for action in page]


async def pages(read: Callable[[R | None], Awaitable[Sequence[R]]], limit: int) -> AsyncIterator[Sequence[R]]:
    """Read page by page, from behind the last record of the page before; a store that repeats one fails."""
    last: R | None = None
    while page := await read(last):
        assert len(page) <= limit
        assert last not in page
        yield page
        last = page[-1]


def joined(one: Delta, two: Delta) -> Delta:
    """Both deltas in one unit."""
    return Delta(
        one.add + two.add,
        one.release + two.release,
        one.reserve + two.reserve,
        one.spend + two.spend,
        one.counters + two.counters,
        one.facts + two.facts,
        one.statements + two.statements,
        one.start + two.start,
    )
