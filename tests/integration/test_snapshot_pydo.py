"""The sandbox has DigitalOcean's shapes, by the word of its official client; and that client agrees with ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.saga.snapshots import DROPLET
from wallet_actions.clock import SystemClock
from wallet_actions.errors import RejectedError
from wallet_actions.saga.digitalocean import DigitalOcean
from wallet_actions.saga.digitalocean.sandbox import TOKEN, Cloud, CloudServer
from wallet_actions.testing.clock import FakeClock
from wallet_actions.testing.environments import ensure

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

FOLDER = Path(__file__).parent / "pydo"


@pytest.fixture
async def server() -> AsyncIterator[CloudServer]:
    async with CloudServer(Cloud(FakeClock())) as server:
        yield server


class Pydo:
    """The official client in a process of its own Python: what it is made of stays out of ours."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, call: str, *args: Any, **kwargs: Any) -> Any:
        """What a call of it returns, `droplets.list_snapshots` say."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([call, args, kwargs]).encode() + b"\n")
        await self._process.stdin.drain()
        return json.loads(await self._process.stdout.readline())


@pytest.fixture
async def pydo(server: CloudServer) -> AsyncIterator[Pydo]:
    python = await asyncio.to_thread(ensure, "pydo", FOLDER / "requirements.txt")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        python, "-I", FOLDER / "client.py", server.url, TOKEN, stdin=pipe, stdout=pipe
    )
    assert process.stdin is not None
    try:
        yield Pydo(process)
    finally:
        process.stdin.close()
        await process.wait()


async def move(server: CloudServer, seconds: int) -> None:
    clock = server.cloud.clock
    assert isinstance(clock, FakeClock)
    await clock.advance(timedelta(seconds=seconds))


async def test_the_official_client_takes_finds_and_deletes_a_snapshot(server: CloudServer, pydo: Pydo) -> None:
    ordered = await pydo.ask("droplet_actions.post", DROPLET, {"type": "snapshot", "name": "mine"})
    action = ordered["action"]
    assert (type(action["id"]), action["status"], action["type"]) == (int, "in-progress", "snapshot")
    assert (action["completed_at"], action["resource_id"]) == (None, DROPLET)
    assert (await pydo.ask("droplet_actions.list", DROPLET))["actions"] == [action]

    await move(server, 21)
    done = (await pydo.ask("actions.get", action["id"]))["action"]
    assert done["status"] == "completed"
    assert done["completed_at"] > done["started_at"]
    assert (await pydo.ask("droplets.list_snapshots", DROPLET))["snapshots"] == [], "the listing lags"

    await move(server, 12)
    (of_droplet,) = (await pydo.ask("droplets.list_snapshots", DROPLET))["snapshots"]
    (of_account,) = (await pydo.ask("snapshots.list", resource_type="droplet"))["snapshots"]
    assert (type(of_droplet["id"]), of_droplet["name"]) == (int, "mine")
    assert (type(of_account["id"]), of_account["resource_id"]) == (str, str(DROPLET))

    assert await pydo.ask("snapshots.delete", of_account["id"]) is None
    assert len((await pydo.ask("droplets.list_snapshots", DROPLET))["snapshots"]) == 1, "what is deleted lingers"
    again = await pydo.ask("snapshots.delete", of_account["id"])
    assert again["id"] == "not_found", "it returns a 404 like an answer"
    await move(server, 12)
    assert (await pydo.ask("droplets.list_snapshots", DROPLET))["snapshots"] == []


async def test_errors_have_the_shape_that_both_clients_read(server: CloudServer, pydo: Pydo) -> None:
    unknown = await pydo.ask("droplet_actions.post", 7, {"type": "snapshot", "name": "mine"})
    assert unknown.keys() >= {"id", "message"}
    async with DigitalOcean(TOKEN, SystemClock(), url=server.url) as ours:
        with pytest.raises(RejectedError) as raised:
            await ours.take_snapshot(7, "mine")
        assert raised.value.code == unknown["id"] == "not_found"


async def test_both_clients_read_the_same_books(server: CloudServer, pydo: Pydo) -> None:
    async with DigitalOcean(TOKEN, SystemClock(), url=server.url) as ours:
        for number in range(25):  # more than the server gives on a page
            action = await ours.take_snapshot(DROPLET, f"s-{number % 5}")
            await move(server, 33)
            theirs = (await pydo.ask("actions.get", action.id))["action"]
            assert (theirs["id"], theirs["status"]) == (action.id, "completed")
            assert (await ours.action(action.id)).status == "completed"
        pages = [(await pydo.ask("droplets.list_snapshots", DROPLET, page=page))["snapshots"] for page in (1, 2)]
        listed = sorted(one["id"] for page in pages for one in page if one["name"] == "s-3")
        assert [one.id for one in await ours.snapshots(DROPLET, "s-3")] == listed
        assert len(listed) == 5
        assert len(await ours.actions_of(DROPLET)) == 25


def misfits(answer: Any, shape: Any, place: str = "answer") -> list[str]:
    """Where an answer is of another shape: fields that are missing or too many, values of another type."""
    match shape, answer:
        case dict(), dict() if shape:
            names = [f"{place}.{name}" for name in shape.keys() ^ answer.keys()]
            names = [name for name in names if not name.endswith(OPTIONAL)]
            both = shape.keys() & answer.keys()
            return names + [found for name in both for found in misfits(answer[name], shape[name], f"{place}.{name}")]
        case [of], list():
            return [found for item in answer for found in misfits(item, of, f"{place}[]")]
        case _:
            is_same = type(answer) is type(shape) or (answer is None and place in NULLABLE)
            return [] if is_same else [f"{place} is of type {type(answer).__name__}"]


# The client does not tell of a snapshot's id; the first test looks at its type.
OPTIONAL = (".request_id", ".links.pages", ".snapshots[].id")
NULLABLE = {"answer.action.completed_at"}


async def test_the_sandbox_has_the_shapes_that_the_client_declares(server: CloudServer, pydo: Pydo) -> None:
    async def check(call: str, *args: Any, is_error: bool = False, **kwargs: Any) -> Any:
        declared = await pydo.ask("shapes", call)
        answer = await pydo.ask(call, *args, **kwargs)
        assert misfits(answer, declared[1 if len(declared) > 1 and is_error else 0]) == []
        return answer

    order = {"type": "snapshot", "name": "mine"}
    action = (await check("droplet_actions.post", DROPLET, order))["action"]
    await check("droplet_actions.post", 7, order, is_error=True)
    await check("actions.get", action["id"])
    await move(server, 40)
    await check("actions.get", action["id"])
    await check("actions.get", 7, is_error=True)
    await check("droplet_actions.list", DROPLET)
    (image,) = (await check("droplets.list_snapshots", DROPLET))["snapshots"]
    await check("droplets.list_snapshots", 7, is_error=True)
    await check("snapshots.list", resource_type="droplet")
    assert await pydo.ask("snapshots.delete", image["id"]) is None
    await check("snapshots.delete", image["id"], is_error=True)


def test_another_shape_is_noticed() -> None:
    shape = {"action": {"id": 0, "completed_at": "", "sizes": ["str"]}}
    assert misfits({"action": {"id": 1, "completed_at": None, "sizes": []}}, shape) == []
    wrong = {"action": {"id": "1", "name": "", "sizes": [1]}}
    assert sorted(misfits(wrong, shape)) == [
        "answer.action.completed_at",
        "answer.action.id is of type str",
        "answer.action.name",
        "answer.action.sizes[] is of type int",
    ]
