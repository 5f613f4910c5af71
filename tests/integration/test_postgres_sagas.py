"""Sagas whose steps, children and rollbacks are driven by whichever of two workers on PostgreSQL is there."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta

import anyio
import pytest

from tests.unit.saga.kit import A, D, E, Job, Peer, Shop, Work
from tests.unit.saga.nested import Inner
from wallet_actions.checkpoint import Status
from wallet_actions.engine import Engine
from wallet_actions.errors import ActionFailedError
from wallet_actions.saga import Saga, list_sagas, start_reversal, start_saga
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.postgres import PostgresServer
from wallet_actions_storage.postgres import PostgresStore

pytestmark = pytest.mark.anyio


class Quick(Inner, name="quick"):
    poll = timedelta(milliseconds=20)


class Outer(Saga[Shop, Job], kind="outer", steps=[A, Quick, D, E]):
    """Makes a, has b and c made, and makes d and e at once."""


async def test_two_workers_drive_sagas_and_what_they_consist_of(postgres_server: PostgresServer) -> None:
    """G2, G3, L-D10: whoever begins a step, each is done once and undone once, all of a saga or nothing."""
    peer = Peer()
    async with AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(60))
        engines = []
        for _ in range(2):
            store = await stack.enter_async_context(PostgresStore(postgres_server.url, schema="sagas"))
            shop = Shop(peer, FakeClock(), store)
            engines.append(await stack.enter_async_context(Engine(store, shop, [Outer, Work])))
        one, two = engines
        jobs = {f"good {n}": Job() for n in range(4)} | {f"bad {n}": Job(fails=frozenset({"d"})) for n in range(4)}
        for place, (name, job) in enumerate(jobs.items()):
            await start_saga(engines[place % 2], Outer, name, job, ["a", "quick", ["d", "e"]])
        for name in jobs:
            if name.startswith("bad"):
                with pytest.raises(ActionFailedError):
                    await two.result(Outer, name)
            else:
                assert sorted((await one.result(Outer, name)).results) == ["a", "d", "e", "quick"]
        undone = await start_reversal(one, Outer, "good 0")
        await two.result(Outer, undone.key.id)
        infos = await list_sagas(one.store, limit=100)
        assert {info.status for info in infos} == {Status.DONE, Status.FAILED}
        assert {info.checkpoint.owner for info in infos} == {None}
        for name in jobs:
            there = {thing for thing in peer.things if thing.startswith((f"{name}/", f"{name}.inner/"))}
            assert len(there) == (5 if name in ("good 1", "good 2", "good 3") else 0)
        assert set(peer.counts.values()) == {1}
