"""The sandbox has DigitalOcean's shapes, by the word of its official client; and that client agrees with ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pydo import Client

from tests.unit.saga.snapshots import DROPLET
from wallet_actions.clock import SystemClock
from wallet_actions.errors import RejectedError
from wallet_actions.saga.digitalocean import DigitalOcean
from wallet_actions.saga.digitalocean.sandbox import TOKEN, Cloud, CloudServer
from wallet_actions.testing.clock import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[CloudServer]:
    async with CloudServer(Cloud(FakeClock())) as server:
        yield server


@pytest.fixture
def pydo(server: CloudServer) -> Client:
    """Repeats nothing: by default it repeats a POST on 429, 500 and 503."""
    return Client(TOKEN, endpoint=server.url, retry_total=0)


async def move(server: CloudServer, seconds: int) -> None:
    clock = server.cloud.clock
    assert isinstance(clock, FakeClock)
    await clock.advance(timedelta(seconds=seconds))


async def ask(call: Any, *args: Any, **kwargs: Any) -> Any:
    """The client is a synchronous one, and wants to be told that this address needs no TLS."""
    return await asyncio.to_thread(call, *args, enforce_https=False, **kwargs)


async def test_the_official_client_takes_finds_and_deletes_a_snapshot(server: CloudServer, pydo: Client) -> None:
    ordered = await ask(pydo.droplet_actions.post, DROPLET, {"type": "snapshot", "name": "mine"})
    action = ordered["action"]
    assert (type(action["id"]), action["status"], action["type"]) == (int, "in-progress", "snapshot")
    assert (action["completed_at"], action["resource_id"]) == (None, DROPLET)
    assert (await ask(pydo.droplet_actions.list, DROPLET))["actions"] == [action]

    await move(server, 21)
    done = (await ask(pydo.actions.get, action["id"]))["action"]
    assert done["status"] == "completed"
    assert done["completed_at"] > done["started_at"]
    assert (await ask(pydo.droplets.list_snapshots, DROPLET))["snapshots"] == [], "the listing lags"

    await move(server, 12)
    (of_droplet,) = (await ask(pydo.droplets.list_snapshots, DROPLET))["snapshots"]
    (of_account,) = (await ask(pydo.snapshots.list, resource_type="droplet"))["snapshots"]
    assert (type(of_droplet["id"]), of_droplet["name"]) == (int, "mine")
    assert (type(of_account["id"]), of_account["resource_id"]) == (str, str(DROPLET))

    assert await ask(pydo.snapshots.delete, of_account["id"]) is None
    assert len((await ask(pydo.droplets.list_snapshots, DROPLET))["snapshots"]) == 1, "what is deleted lingers"
    again = await ask(pydo.snapshots.delete, of_account["id"])
    assert again["id"] == "not_found", "it returns a 404 like an answer"
    await move(server, 12)
    assert (await ask(pydo.droplets.list_snapshots, DROPLET))["snapshots"] == []


async def test_errors_have_the_shape_that_both_clients_read(server: CloudServer, pydo: Client) -> None:
    unknown = await ask(pydo.droplet_actions.post, 7, {"type": "snapshot", "name": "mine"})
    assert unknown.keys() >= {"id", "message"}
    async with DigitalOcean(TOKEN, SystemClock(), url=server.url) as ours:
        with pytest.raises(RejectedError) as raised:
            await ours.take_snapshot(7, "mine")
        assert raised.value.code == unknown["id"] == "not_found"


async def test_both_clients_read_the_same_books(server: CloudServer, pydo: Client) -> None:
    async with DigitalOcean(TOKEN, SystemClock(), url=server.url) as ours:
        for number in range(25):  # more than the server gives on a page
            action = await ours.take_snapshot(DROPLET, f"s-{number % 5}")
            await move(server, 33)
            theirs = (await ask(pydo.actions.get, action.id))["action"]
            assert (theirs["id"], theirs["status"]) == (action.id, "completed")
            assert (await ours.action(action.id)).status == "completed"
        pages = [(await ask(pydo.droplets.list_snapshots, DROPLET, page=page))["snapshots"] for page in (1, 2)]
        listed = sorted(one["id"] for page in pages for one in page if one["name"] == "s-3")
        assert [one.id for one in await ours.snapshots(DROPLET, "s-3")] == listed
        assert len(listed) == 5
        assert len(await ours.snapshot_actions(DROPLET)) == 25
