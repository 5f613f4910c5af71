"""The step against the sandbox over real connections, through a proxy that loses answers at the worst moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest

from tests.unit.saga.snapshots import DROPLET, Account, CloudWorld, TakeBackup, backup
from wallet_actions.checkpoint import Status
from wallet_actions.engine import Engine
from wallet_actions.errors import ActionFailedError, ConfigurationError
from wallet_actions.executor import Executor
from wallet_actions.outcome import Outcome
from wallet_actions.registry import Registry
from wallet_actions.saga import start_reversal
from wallet_actions.saga.digitalocean import DigitalOcean, DropletSnapshot
from wallet_actions.saga.digitalocean.sandbox import TOKEN, Cloud, CloudServer
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.faults import LoseAnswer, Rule
from wallet_actions.testing.faults import Status as Answers
from wallet_actions.testing.life import Life
from wallet_actions.testing.proxy import FaultProxy
from wallet_actions_storage.memory import MemoryStore

pytestmark = pytest.mark.anyio

POST = r"/v2/droplets/\d+/actions$"


@asynccontextmanager
async def served(*rules: Rule, token: str = TOKEN) -> AsyncIterator[tuple[Engine, Cloud, FaultProxy]]:
    """An engine, the sandbox and a proxy between them; time goes by as soon as all wait."""
    clock = FakeClock(auto=True, patience=timedelta(milliseconds=50))
    cloud = Cloud(clock)
    async with (
        CloudServer(cloud) as server,
        FaultProxy(server.url, *rules) as proxy,
        DigitalOcean(token, clock, url=proxy.url) as client,
        MemoryStore() as store,
        Engine(store, Account(client, clock), kinds=[TakeBackup], clock=clock, poll=None) as engine,
    ):
        yield engine, cloud, proxy


def orders(proxy: FaultProxy) -> int:
    return sum(record.method == "POST" for record in proxy.records)


async def test_a_snapshot_is_taken_and_its_saga_reversed() -> None:
    async with served() as (engine, cloud, proxy):
        await engine.start(backup())
        taken = (await engine.result(TakeBackup, "s")).of(DropletSnapshot)
        assert cloud.there == {taken.name: 1}
        reversal = await start_reversal(engine, TakeBackup, "s")
        await engine.result(TakeBackup, reversal.key.id)
        assert not cloud.there
        assert orders(proxy) == 1


async def test_an_order_whose_answer_is_lost_is_adopted() -> None:
    """L-P2."""
    async with served(Rule(LoseAnswer(), method="POST", path=POST)) as (engine, cloud, proxy):
        await engine.start(backup())
        await engine.result(TakeBackup, "s")
        assert orders(proxy) == 1
        assert list(cloud.made.values()) == [1]


async def test_a_failure_later_deletes_it_also_where_the_deletion_is_not_heard_of() -> None:
    """L-P6: the second DELETE meets 404, which is success."""
    async with served(Rule(LoseAnswer(), method="DELETE")) as (engine, cloud, proxy):
        await engine.start(backup(breaks=True))
        with pytest.raises(ActionFailedError, match="the snapshot will not do"):
            await engine.result(TakeBackup, "s")
        assert not cloud.there
        assert sum(record.method == "DELETE" for record in proxy.records) == 2


async def test_a_droplet_that_is_not_there_fails_the_saga() -> None:
    async with served() as (engine, _, proxy):
        await engine.start(backup(droplet=7))
        with pytest.raises(ActionFailedError, match="could not be found"):
            await engine.result(TakeBackup, "s")
        assert orders(proxy) == 1


async def test_a_wrong_token_parks_and_orders_nothing() -> None:
    async with served(token="wrong") as (engine, _, proxy):
        await engine.start(backup())
        driven = await engine.drive(TakeBackup, "s")
        assert driven.outcome is Outcome.PARKED
        assert isinstance(driven.error, ConfigurationError)
        assert "Unable to authenticate you" in str(driven.error)
        assert orders(proxy) == 0


async def test_a_busy_api_is_asked_again_when_it_says() -> None:
    """L-P5."""
    busy = Answers(429, headers=(("retry-after", "90"),))
    async with served(Rule(busy, method="POST", path=POST)) as (engine, cloud, proxy):
        await engine.start(backup())
        await engine.result(TakeBackup, "s")
        assert orders(proxy) == 2
        assert cloud.clock.monotonic() >= 90
        assert list(cloud.made.values()) == [1]


class Books:
    """A world that is driven by hand."""

    def __init__(self) -> None:
        self.world = CloudWorld()
        self.cloud = self.world.cloud

    @asynccontextmanager
    async def executor(self) -> AsyncIterator[Executor]:
        async with self.world.store() as store:
            yield Executor(store, self.world.wallet(Life(), store), Registry([TakeBackup]), clock=self.world.clock)

    async def run(self) -> Status:
        async with self.executor() as executor:
            await executor.start(backup())
            await self.world.settle(executor)
            checkpoint = await executor.store.load(backup().key)
            assert checkpoint is not None
            return checkpoint.status

    def order(self, name: str) -> None:
        body = f'{{"type": "snapshot", "name": "{name}"}}'.encode()
        status, _ = self.cloud.answer("POST", f"/v2/droplets/{DROPLET}/actions", body, f"Bearer {TOKEN}")
        assert status == 201


async def name_of_backup() -> str:
    books = Books()
    await books.run()
    (name,) = books.cloud.there
    return name


async def test_a_snapshot_of_the_name_is_adopted_and_a_double_of_it_deleted() -> None:
    name = await name_of_backup()
    books = Books()
    for _ in range(2):
        books.order(name)
        await books.world.clock.sleep(timedelta(minutes=5))
    assert books.cloud.there == {name: 2}
    assert await books.run() is Status.DONE
    assert books.cloud.there == {name: 1}
    assert books.cloud.made == {name: 2}


async def test_an_order_of_somebody_else_is_waited_for_and_not_taken_for_ours() -> None:
    books = Books()
    books.order("theirs")
    assert await books.run() is Status.DONE
    assert sorted(books.cloud.there.values()) == [1, 1]


async def test_a_droplet_that_is_busy_with_something_else_is_waited_for() -> None:
    books = Books()
    books.cloud.occupy(DROPLET, "resize")
    assert await books.run() is Status.DONE
    assert list(books.cloud.made.values()) == [1]


async def test_a_snapshot_that_somebody_has_deleted_fails_the_saga() -> None:
    """It does not wait for ever for what will never be listed."""
    books = Books()
    name = await name_of_backup()
    listed = books.cloud._listed
    books.cloud._listed = lambda: [one for one in listed() if one.name != name]  # type: ignore[method-assign]
    assert await books.run() is Status.FAILED
    assert books.cloud.made == {name: 1}


async def test_an_action_that_was_adopted_wrongly_is_let_go_of() -> None:
    """Somebody orders one between our look and our order: it makes none of our name, so we look on."""
    books = Books()
    async with books.executor() as executor:
        wallet = books.world.wallet(Life(), executor.store)
        original = wallet.digitalocean.actions_of
        looks: list[int] = []

        async def look(droplet_id: int) -> Sequence[object]:
            found = await original(droplet_id)
            looks.append(len(found))
            if len(looks) == 1:
                books.order("theirs")
            return found

        wallet.digitalocean.actions_of = look  # type: ignore[method-assign, assignment]
        mine = Executor(executor.store, wallet, Registry([TakeBackup]), clock=books.world.clock)
        await mine.start(backup())
        await books.world.settle(mine)
        checkpoint = await executor.store.load(backup().key)
    assert checkpoint is not None
    assert checkpoint.status is Status.DONE
    assert sorted(books.cloud.there.values()) == [1, 1]


async def test_a_snapshot_that_cannot_be_taken_fails_the_saga() -> None:
    books = Books()
    books.cloud.is_failing = True
    assert await books.run() is Status.FAILED
    assert not books.cloud.there


async def test_snapshots_outlive_their_droplet_and_are_deleted_all_the_same() -> None:
    books = Books()
    assert await books.run() is Status.DONE
    books.cloud.droplets = frozenset()
    async with books.executor() as executor:
        reversal = await start_reversal(executor, TakeBackup, "s")
        await books.world.settle(executor)
        assert (await executor.drive(reversal.key)).outcome is Outcome.DONE
    assert not books.cloud.there


async def test_an_order_that_is_on_its_way_is_not_repeated() -> None:
    """L-P2: the answer is lost, and the order itself arrives 25 seconds later."""
    books = Books()
    inner = books.cloud.transport()
    late: list[tuple[float, httpx.Request]] = []
    is_first = True

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal is_first
        now_s = books.world.clock.monotonic()
        while late and late[0][0] <= now_s:
            await inner.handle_async_request(late.pop(0)[1])
        if request.method == "POST" and is_first:
            is_first = False
            late.append((now_s + 25, request))
            raise httpx.ReadTimeout("")
        return await inner.handle_async_request(request)

    async with books.world.store() as store:
        client = DigitalOcean(TOKEN, books.world.clock, url="http://cloud.test", transport=httpx.MockTransport(handle))
        executor = Executor(store, Account(client, books.world.clock), Registry([TakeBackup]), clock=books.world.clock)
        await executor.start(backup())
        await books.world.settle(executor)
        assert (await executor.drive(backup().key)).outcome is Outcome.DONE
        await client.__aexit__()
    assert not late
    assert list(books.cloud.made.values()) == [1]
