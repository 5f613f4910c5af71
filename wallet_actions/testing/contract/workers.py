# ruff: noqa: S101 - assertions are what a contract suite is made of
"""What the tests of a shared store have in common: two workers, and short ways to say what they want."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from wallet_actions.checkpoint import Checkpoint
from wallet_actions.coins import ActionKey
from wallet_actions.fleet import Claim, Limit, SharedStore, Worker
from wallet_actions.store import NewAction, Store
from wallet_actions.testing.contract.base import (
    KIND,
    T0,
    StoreHooks,
)

LEASE = timedelta(seconds=30)
ONE, TWO, THREE = "one", "two", "three"
KNOWN = {KIND: 1}
MANY = 2_000


def asks(
    owner: str,
    time: datetime = T0,
    *,
    limit: int = 100,
    keys: Sequence[ActionKey] | None = None,
    schemas: Mapping[str, int] | None = None,
    limits: Mapping[str, Limit] | None = None,
) -> Claim:
    """What a worker asks for."""
    known = KNOWN if schemas is None else schemas
    return Claim(owner, time, LEASE, known, limit, keys, limits or {})


def worker(owner: str, *, name: str = "host:1", started: datetime = T0) -> Worker:
    """A worker as it tells of itself."""
    return Worker(owner, name, started, started)


def ids(rows: Sequence[Checkpoint]) -> list[str]:
    """The ids of rows, sorted."""
    return sorted(row.id for row in rows)


def of(tenant: str, new_action: NewAction, **fields: object) -> NewAction:
    """The same for another tenant."""
    return replace(new_action, checkpoint=replace(new_action.checkpoint, tenant=tenant, **fields))  # type: ignore[arg-type]


class FleetHooks(StoreHooks):
    """A store under test, and another worker's on the same data. `make_store` makes one that is shared."""

    @pytest.fixture
    async def fleet(self, store: Store) -> SharedStore:
        """The store of a worker."""
        assert isinstance(store, SharedStore)
        assert store.is_shared
        return store

    @pytest.fixture
    async def other(self, tmp_path: Path, store: Store) -> AsyncIterator[SharedStore]:
        """The store of another worker, on the same data."""
        async with self.make_store(tmp_path) as other:
            assert isinstance(other, SharedStore)
            yield other
