"""DigitalOcean's droplet snapshots for tests and demos: the real shapes, the real lag, and books to be audited by.

`Cloud` is the state and the answers; `transport` makes it an httpx transport, `CloudServer` a server on loopback.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import h11
import httpx

from wallet_actions.clock import Clock, SystemClock

TOKEN = "dop_v1_sandbox"  # noqa: S105 the sandbox's own; it opens nothing
READ_BYTES = 1 << 16
REGION = {"slug": "nyc3", "name": "New York 3", "available": True, "features": ["metadata"], "sizes": ["s-1vcpu-1gb"]}

Answer = tuple[int, Mapping[str, Any] | None]


@dataclass(slots=True)
class _Action:
    id: int
    droplet_id: int
    name: str
    started_at: datetime
    ready_at: datetime
    is_errored: bool = False
    type: str = "snapshot"


@dataclass(slots=True)
class _Image:
    id: int
    droplet_id: int
    name: str
    listed_at: datetime
    deleted_at: datetime | None = None


@dataclass
class Cloud:
    """The droplets of one account, and their snapshots.

    Attributes:
        droplets: the ids that exist.
        work: how long a snapshot takes.
        lag: how long a snapshot that is ready is not listed yet, and one that is deleted still is.
        page: how many entries a page has where the client does not say.
        is_failing: whether snapshots that are begun now end as errored.
        made: how often a snapshot of each name was ordered and begun.
    """

    clock: Clock = field(default_factory=SystemClock)
    droplets: frozenset[int] = frozenset({3164494})
    work: timedelta = timedelta(seconds=20)
    lag: timedelta = timedelta(seconds=12)
    page: int = 20
    is_failing: bool = False
    made: Counter[str] = field(default_factory=Counter)
    _actions: list[_Action] = field(default_factory=list)
    _images: list[_Image] = field(default_factory=list)

    @property
    def there(self) -> Counter[str]:
        """How many snapshots there are, or will be, of each name: the truth, whatever is listed."""
        now = self._now()
        coming = [one.name for one in self._snapshots() if one.ready_at > now and not one.is_errored]
        self._finish()
        return Counter([*(one.name for one in self._images if one.deleted_at is None), *coming])

    def answer(self, method: str, target: str, body: bytes = b"", authorization: str = "") -> Answer:
        """Answer a request as DigitalOcean does: status and JSON body, if any."""
        if authorization != f"Bearer {TOKEN}":
            return 401, {"id": "Unauthorized", "message": "Unable to authenticate you"}
        self._finish()
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        match method, parts.path.strip("/").split("/"):
            case "POST", ["v2", "droplets", droplet, "actions"] if self._has(droplet):
                return self._order(int(droplet), body)
            case "GET", ["v2", "droplets", droplet, "actions"] if self._has(droplet):
                mine = [self._action(one) for one in reversed(self._actions) if one.droplet_id == int(droplet)]
                return self._paged("actions", mine, parts.path, query)
            case "GET", ["v2", "droplets", droplet, "snapshots"] if self._has(droplet):
                images = [self._image(one) for one in self._listed() if one.droplet_id == int(droplet)]
                return self._paged("snapshots", images, parts.path, query)
            case "GET", ["v2", "snapshots"]:
                every = [self._in_account(one) for one in self._listed()]
                return self._paged("snapshots", every, parts.path, query)
            case "GET", ["v2", "actions", number]:
                found = [one for one in self._actions if str(one.id) == number]
                return (200, {"action": self._action(found[0])}) if found else _not_found()
            case "DELETE", ["v2", "snapshots", number]:
                there = [one for one in self._images if str(one.id) == number and one.deleted_at is None]
                for one in there:
                    one.deleted_at = self._now()
                return (204, None) if there else _not_found()
        return _not_found()

    def occupy(self, droplet_id: int, type: str) -> None:
        """Somebody does something else to a droplet: `reboot`, `resize`, …; it takes as long as a snapshot."""
        now = self._now()
        self._actions.append(_Action(self._next_id(), droplet_id, "", now, now + self.work, type=type))

    def transport(self) -> httpx.AsyncBaseTransport:
        """An httpx transport to it, without a network."""

        async def handle(request: httpx.Request) -> httpx.Response:
            target = request.url.raw_path.decode()
            status, body = self.answer(
                request.method, target, request.content, request.headers.get("authorization", "")
            )
            return httpx.Response(status) if body is None else httpx.Response(status, json=body)

        return httpx.MockTransport(handle)

    def __post_init__(self) -> None:
        self._began_at, self._began_s = self.clock.now(), self.clock.monotonic()

    def _now(self) -> datetime:
        """Its own time, which nobody sets back."""
        return self._began_at + timedelta(seconds=self.clock.monotonic() - self._began_s)

    def _has(self, droplet: str) -> bool:
        return re.fullmatch(r"\d+", droplet) is not None and int(droplet) in self.droplets

    def _finish(self) -> None:
        now = self._now()
        known = {one.id for one in self._images}
        for action in self._snapshots():
            if action.ready_at <= now and not action.is_errored and action.id + 1 not in known:
                self._images.append(_Image(action.id + 1, action.droplet_id, action.name, action.ready_at + self.lag))

    def _order(self, droplet_id: int, body: bytes) -> Answer:
        try:
            wanted = json.loads(body)
        except ValueError:
            return 400, {"id": "bad_request", "message": "The request body is not JSON"}
        name = wanted.get("name") if isinstance(wanted, dict) else None
        if not isinstance(wanted, dict) or wanted.get("type") != "snapshot" or not isinstance(name, str):
            return 422, {"id": "unprocessable_entity", "message": "type is not supported"}
        now = self._now()
        if any(one.droplet_id == droplet_id and one.ready_at > now for one in self._actions):
            return 422, {"id": "unprocessable_entity", "message": "Droplet already has a pending event."}
        action = _Action(self._next_id(), droplet_id, name, now, now + self.work, self.is_failing)
        self._actions.append(action)
        self.made[name] += 1
        return 201, {"action": self._action(action)}

    def _next_id(self) -> int:
        return 36804636 + 2 * len(self._actions)

    def _snapshots(self) -> list[_Action]:
        return [one for one in self._actions if one.type == "snapshot"]

    def _listed(self) -> list[_Image]:
        now = self._now()
        return [
            one
            for one in self._images
            if one.listed_at <= now and (one.deleted_at is None or one.deleted_at + self.lag > now)
        ]

    def _action(self, one: _Action) -> dict[str, Any]:
        is_over = one.ready_at <= self._now()
        return {
            "id": one.id,
            "status": "in-progress" if not is_over else "errored" if one.is_errored else "completed",
            "type": one.type,
            "started_at": _time(one.started_at),
            "completed_at": _time(one.ready_at) if is_over else None,
            "resource_id": one.droplet_id,
            "resource_type": "droplet",
            "region": REGION,
            "region_slug": "nyc3",
        }

    def _image(self, one: _Image) -> dict[str, Any]:
        return {
            "id": one.id,
            "name": one.name,
            "type": "snapshot",
            "regions": ["nyc3"],
            "created_at": _time(one.listed_at - self.lag),
            "min_disk_size": 25,
            "size_gigabytes": 2.34,
        }

    def _in_account(self, one: _Image) -> dict[str, Any]:
        fields = {name: value for name, value in self._image(one).items() if name != "type"}
        return {**fields, "id": str(one.id), "resource_id": str(one.droplet_id), "resource_type": "droplet", "tags": []}

    def _paged(self, name: str, items: list[dict[str, Any]], path: str, query: Mapping[str, str]) -> Answer:
        page, size = int(query.get("page", "1")), min(int(query.get("per_page", str(self.page))), self.page)
        first = (page - 1) * size
        links: dict[str, Any] = {}
        if first + size < len(items):
            links = {"pages": {"next": f"https://api.digitalocean.com{path}?page={page + 1}&per_page={size}"}}
        return 200, {name: items[first : first + size], "links": links, "meta": {"total": len(items)}}


class CloudServer:
    """A `Cloud` on loopback, for as long as `async with` lasts."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        connection = h11.Connection(h11.SERVER)
        try:
            with suppress(ConnectionError, h11.RemoteProtocolError):
                while await self._one(connection, reader, writer):
                    connection.start_next_cycle()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _one(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        request: h11.Request | None = None
        body = b""
        while True:
            match connection.next_event():
                case h11.NEED_DATA:
                    connection.receive_data(await reader.read(READ_BYTES))
                case h11.Request() as request:
                    pass
                case h11.Data(data=data):
                    body += data
                case h11.EndOfMessage():
                    break
                case _:
                    return False
        if request is None:
            return False
        headers = dict(request.headers)
        status, answer = self.cloud.answer(
            request.method.decode(), request.target.decode(), body, headers.get(b"authorization", b"").decode()
        )
        content = b"" if answer is None else json.dumps(answer).encode()
        own = [("content-type", "application/json")]
        own += [] if status == 204 else [("content-length", str(len(content)))]
        for event in (h11.Response(status_code=status, headers=own), h11.Data(data=content), h11.EndOfMessage()):
            writer.write(connection.send(event) or b"")
        await writer.drain()
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _not_found() -> Answer:
    return 404, {"id": "not_found", "message": "The resource you were accessing could not be found."}
