"""One HTTP call to a mint: bounded in time and size, never repeated, its failure told by what it proves.

The engine owns retry (L-P3), so nothing here tries twice: no retry of the connection, no redirect, no authentication
round. There are no cookies, no proxies from the environment, and no log line, since a quote's id in a path is a
secret. The deadline covers the whole call, so that an answer which drips in for ever ends as well (L-P4).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Final

import anyio
import httpx
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from wallet_actions.cashu.errors import MintError, MintUnreachableError
from wallet_actions.classification import (
    HTTP_CLIENT_ERRORS,
    HTTP_CONFIGURATION,
    HTTP_TRANSIENT,
    classify_http,
    classify_transport,
)
from wallet_actions.clock import Clock
from wallet_actions.errors import ActionError, ConfigurationError, RejectedError, TransientError, UsageError

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""How long an answer may be; a full list of keysets with their keys takes some kilobytes."""

MAX_CALLS: Final = 100
"""How many calls to one mint are under way at a time; more wait for their turn."""

_HEADERS: Final = {
    "accept": "application/json",
    # A compressed answer can unpack to a thousand times what was counted.
    "accept-encoding": "identity",
    "user-agent": "wallet-actions",
}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[0-9a-z._-]+|[0-9a-f:.]+")
_MOVED_FOR_GOOD: Final = frozenset({301, 308})


class MintTransport:
    """Carries requests to one mint.

    Args:
        base_url: as `normalize_mint_url` gives it.
        transport: what carries the bytes, for a proxy or a test; it is closed with this object.
        clock: reads a `Retry-After` that is a date.
    """

    def __init__(self, base_url: str, *, transport: httpx.AsyncBaseTransport | None, clock: Clock) -> None:
        self._base_url = base_url
        # The queue for a connection is kept here and not in the pool: a call that is cancelled there just as it gets
        # its connection would leave that one behind, taken for ever.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=MAX_CALLS)
        self._slots = anyio.Semaphore(MAX_CALLS)
        # Reading the certificates takes 20 ms, and a plain address has no use for them: redirects are not followed.
        has_tls = base_url.startswith("https://")
        self._transport = transport or httpx.AsyncHTTPTransport(verify=has_tls, retries=0, limits=limits)
        self._clock = clock
        self.told_time: datetime | None = None
        """What time it was at the mint when it answered last; None where it did not say."""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def call(self, method: str, path: str, body: bytes | None, *, deadline: timedelta) -> bytes:
        """Make one request.

        Args:
            path: below the base URL, escaped.
            body: JSON, or None.
            deadline: for everything: waiting for its turn, connecting, sending, and the answer to its last byte.

        Returns:
            The body of an answer of 200 – 299, at most `MAX_BODY_BYTES`.

        Raises:
            MintUnreachableError: no connection; the request was not sent. TransientError: everything whose outcome is
            not known: the deadline, a broken connection, 5xx, 408, 429 (with
                `retry_after`), a redirect, an answer that is too long, a refusal that does not speak the protocol.
            MintError: the mint refused in the words of the protocol.
            ConfigurationError: 401, 403 and what else `classify_http` holds for one, or the mint has moved for good.
        Cancellation: safe; the request may have arrived. Source: NUT-00, errors.
        """
        headers = _HEADERS if body is None else {**_HEADERS, "content-type": "application/json"}
        request = httpx.Request(method, self._base_url + path, headers=headers, content=body)
        has_begun = False
        try:
            with anyio.fail_after(deadline.total_seconds()):
                async with self._slots:
                    has_begun = True
                    response = await self._transport.handle_async_request(request)
                    try:
                        answer = await _read(response)
                    finally:
                        await response.aclose()
        except TimeoutError:
            if not has_begun:
                raise MintUnreachableError("too many calls to the mint are under way; this one was not sent") from None
            raise TransientError(
                f"the mint did not answer within {deadline.total_seconds():g} seconds; it may have acted all the same"
            ) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            raise MintUnreachableError("the mint cannot be reached") from error
        except (httpx.HTTPError, OSError) as error:
            failure = classify_transport(error)
            raise failure or TransientError(
                "the connection to the mint broke; it may have acted all the same"
            ) from error
        self.told_time = _date(response)
        if response.is_success:
            return answer
        raise self._failure(response, answer)

    def _failure(self, response: httpx.Response, answer: bytes) -> ActionError:
        status = response.status_code
        if status in _MOVED_FOR_GOOD:
            return ConfigurationError("the mint has moved to another address; redirects are not followed")
        complaint = _complaint(answer)
        is_judged = status in HTTP_CLIENT_ERRORS and status not in HTTP_CONFIGURATION | HTTP_TRANSIENT
        if is_judged and complaint is not None:
            detail = complaint.detail if isinstance(complaint.detail, str) else ""
            return MintError(detail, code=complaint.code, status=status)
        failure = classify_http(status, response.headers, now=self._clock.now())
        if isinstance(failure, RejectedError):
            # A proxy's page is not the mint's word (L-D6).
            return TransientError(str(failure))
        return failure


class _Complaint(BaseModel):
    """An error of the protocol. Mints built on FastAPI give a list as detail, and no code, to a malformed request."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)

    detail: JsonValue = None
    code: Annotated[int, Field(ge=0, lt=2**31)] | None = None


def _complaint(answer: bytes) -> _Complaint | None:
    try:
        complaint = _Complaint.model_validate_json(answer)
    except ValidationError:
        return None
    return None if complaint.code is None and complaint.detail is None else complaint


async def _read(response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise TransientError("the mint's answer is compressed, which was not asked for")
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise UsageError("the transport does not give an asynchronous answer")
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.stream:
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise TransientError(f"the mint's answer is longer than {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _date(response: httpx.Response) -> datetime | None:
    try:
        date = parsedate_to_datetime(response.headers["date"])
    except (KeyError, ValueError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def normalize_mint_url(url: str) -> str:
    """The one way to write a mint's address: it names the account of the mint's coins.

    Scheme and host in lower case, no default port, no slash at the end.

    Raises:
        UsageError: not an http or https address, or one with a user, a query or a fragment.
    """
    try:
        parsed = httpx.URL(url.strip())
    except (httpx.InvalidURL, UnicodeError):
        parsed = httpx.URL()
    host = parsed.raw_host.decode()
    is_plain = not (parsed.userinfo or parsed.query or "?" in url or "#" in url)
    has_server = (
        parsed.scheme in _DEFAULT_PORTS and _HOST.fullmatch(host) and parsed.port != 0 and (parsed.port or 1) < 2**16
    )
    if not (is_plain and has_server):
        raise UsageError("a mint's address must look like https://mint.example, without a user, a query or a fragment")
    port = "" if parsed.port in {None, _DEFAULT_PORTS[parsed.scheme]} else f":{parsed.port}"
    return f"{parsed.scheme}://{f'[{host}]' if ':' in host else host}{port}{parsed.raw_path.decode().rstrip('/')}"
