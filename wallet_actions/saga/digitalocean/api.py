"""The five calls of DigitalOcean's API that a snapshot takes, over httpx."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from wallet_actions.classification import classify_http, classify_transport
from wallet_actions.clock import Clock
from wallet_actions.errors import RejectedError, TransientError

URL = "https://api.digitalocean.com"
TIMEOUT = timedelta(seconds=30)
PER_PAGE = 200
NOT_FOUND = (404, "not_found")

T = TypeVar("T")


class _Answer(BaseModel):
    """What comes from outside: what is not known is passed over, as the API may grow."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class DropletAction(_Answer):
    """Something that DigitalOcean does to a droplet.

    Attributes:
        status: `in-progress`, `completed` or `errored`.
        type: `snapshot` and others.
    """

    id: int
    status: str
    type: str
    started_at: datetime | None = None
    completed_at: datetime | None = None


class Snapshot(_Answer):
    """A snapshot of a droplet, as its listing tells of it."""

    id: int
    name: str


class DigitalOcean:
    """A client that repeats nothing by itself: the engine owns retry (L-P3).

    Args:
        token: of the API; never shown.
        clock: for delays that are told as a date.
        url: another address: a sandbox, say.
        transport: carries the requests; by default httpx's own.
    """

    def __init__(
        self, token: str, clock: Clock, *, url: str = URL, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._clock = clock
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {token}"},
            timeout=TIMEOUT.total_seconds(),
            transport=transport,
            trust_env=False,
        )

    async def __aenter__(self) -> DigitalOcean:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.aclose()

    async def take_snapshot(self, droplet_id: int, name: str) -> DropletAction:
        """Begin a snapshot. NOT idempotent: a second one of the same name is another snapshot.

        Raises:
            RejectedError: no such droplet; or 422, also while the droplet is busy with something else.
            TransientError: busy, or the outcome is not known.
            ConfigurationError: the token will not do.
        Source: POST /v2/droplets/{id}/actions
        """
        answer = await self._ask("POST", f"/v2/droplets/{droplet_id}/actions", {"type": "snapshot", "name": name})
        return _read(answer, "action", DropletAction)

    async def action(self, action_id: int) -> DropletAction:
        """How an action stands.

        Raises:
            As `take_snapshot`.
        Source: GET /v2/actions/{id}
        """
        return _read(await self._ask("GET", f"/v2/actions/{action_id}"), "action", DropletAction)

    async def actions_of(self, droplet_id: int) -> list[DropletAction]:
        """All that was done to a droplet, whoever wanted it; nothing where the droplet is gone.

        Raises:
            As `take_snapshot`.
        Source: GET /v2/droplets/{id}/actions
        """
        try:
            return await self._pages(f"/v2/droplets/{droplet_id}/actions", "actions", list[DropletAction])
        except RejectedError as error:
            if error.code in NOT_FOUND:
                return []
            raise

    async def snapshots(self, droplet_id: int, name: str) -> list[Snapshot]:
        """The snapshots of a droplet that have a name, oldest id first. One just made, or deleted, shows seconds later.

        Snapshots outlive their droplet; where it is gone, all of the account are looked through.

        Raises:
            As `take_snapshot`.
        Source: GET /v2/droplets/{id}/snapshots, GET /v2/snapshots
        """
        try:
            listed = await self._pages(f"/v2/droplets/{droplet_id}/snapshots", "snapshots", list[Snapshot])
        except RejectedError as error:
            if error.code not in NOT_FOUND:
                raise
            listed = await self._pages("/v2/snapshots?resource_type=droplet", "snapshots", list[Snapshot])
        return sorted((one for one in listed if one.name == name), key=lambda one: one.id)

    async def delete_snapshot(self, snapshot_id: int) -> None:
        """Delete a snapshot; one that is not there is deleted (L-P6).

        Raises:
            As `take_snapshot`.
        Source: DELETE /v2/snapshots/{id}
        """
        answer = await self._send("DELETE", f"/v2/snapshots/{snapshot_id}")
        if answer.status_code not in (204, 404):
            self._check(answer)
            raise TransientError(f"DigitalOcean answered a deletion with {answer.status_code}")

    async def _pages(self, path: str, name: str, of: type[list[T]]) -> list[T]:
        found: list[T] = []
        page = 1
        while True:
            answer = await self._ask("GET", f"{path}{'&' if '?' in path else '?'}page={page}&per_page={PER_PAGE}")
            found += _read(answer, name, of)
            links = answer.get("links")
            pages = links.get("pages") if isinstance(links, Mapping) else None
            if not isinstance(pages, Mapping) or "next" not in pages:
                return found
            page += 1

    async def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Mapping[str, Any]:
        answer = await self._send(method, path, body)
        self._check(answer)
        try:
            read = answer.json()
        except ValueError:
            read = None
        if not isinstance(read, Mapping):
            raise TransientError("DigitalOcean answered with what is no JSON object")
        return read

    async def _send(self, method: str, path: str, body: Mapping[str, object] | None = None) -> httpx.Response:
        try:
            return await self._http.request(method, path, json=body)
        except httpx.RequestError as error:
            known = classify_transport(error)
            raise known if known is not None else TransientError("the connection failed") from error

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        try:
            told = answer.json()
        except ValueError:
            told = {}
        details = told if isinstance(told, Mapping) else {}
        code, message = details.get("id"), details.get("message")
        raise classify_http(
            answer.status_code,
            answer.headers,
            now=self._clock.now(),
            message=message if isinstance(message, str) else None,
            code=code if isinstance(code, str) else None,
        )


def _read(answer: Mapping[str, Any], name: str, of: type[T]) -> T:
    try:
        return TypeAdapter(of).validate_python(answer.get(name))
    except ValidationError:
        raise TransientError(f"DigitalOcean's answer has no {name} that can be read") from None
