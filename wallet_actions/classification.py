"""Turns what peers answer into errors of the tree, without knowing the phase of the action that asked.

Only what proves that the peer refused and changed nothing is a `RejectedError`; whatever leaves the outcome open is a
`TransientError` (L-P4, L-D6). What a rejection means for the action is for its `on_rejection` to say (L-D7). A delay
that the peer wants is taken over, clamped to `MAX_DELAY` (L-P5).

Messages hold no body, no address and no header: those may hold bearer money. Text of the peer's own is cut to one short
line. Neither grpc nor httpx is imported here; an error of theirs can only come up where they are imported already.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import anyio

from wallet_actions.errors import ActionError, ConfigurationError, InvariantError, RejectedError, TransientError

MAX_DELAY = timedelta(hours=1)
MAX_TEXT = 200

# Not before something else has happened, or not just now; the request itself was not judged.
HTTP_TRANSIENT = frozenset((408, 425, 429))
# The credentials, or a method, format or version that the peer does not have (any more): asking again cannot help.
HTTP_CONFIGURATION = frozenset((401, 403, 405, 406, 407, 410, 415, 426, 501))
HTTP_CLIENT_ERRORS = range(400, 500)

GRPC_REJECTED = frozenset(("INVALID_ARGUMENT", "NOT_FOUND"))
GRPC_CONFIGURATION = frozenset(("UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED"))

NETWORK_ERRNOS = frozenset(
    (
        errno.EADDRNOTAVAIL,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENOTCONN,
        errno.EPROTO,
        errno.ETIMEDOUT,
    )
)
TRANSPORT_ERRORS = (
    ConnectionError,
    TimeoutError,
    asyncio.IncompleteReadError,
    socket.gaierror,
    socket.herror,
    ssl.SSLError,
    anyio.BrokenResourceError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
)

# A delta above this is a moment: seconds since 1970, as some send in `ratelimit-reset`.
FIRST_MOMENT = 1_000_000_000


def classify(error: BaseException, *, now: datetime) -> ActionError | None:
    """What an exception that left a step means; errors of the tree stay as they are.

    An exception group is one error when all in it are known: a bug goes before a fault of configuration, that before an
    unknown outcome, and only if every part was refused is it a rejection.

    Args:
        now: the wall clock, for delays that the peer gives as a date.
    Returns:
        The error to treat it as; None when it tells nothing about a peer, and so is not classified.
    """
    match error:
        case ActionError():
            return error
        case BaseExceptionGroup():
            return _worst([classify(part, now=now) for part in error.exceptions])
    if isinstance(error, _class_of("httpx", "HTTPStatusError")):
        response = getattr(error, "response")  # noqa: B009 - typed only where httpx is imported
        return classify_http(response.status_code, response.headers, now=now)
    if isinstance(error, _class_of("grpc", "RpcError")):
        return classify_grpc(error, now=now)
    return classify_transport(error)


def classify_http(
    status: int,
    headers: Mapping[str, str],
    *,
    now: datetime,
    message: str | None = None,
    code: str | int | None = None,
) -> ActionError:
    """What an HTTP answer means that the caller cannot use.

    | status | error |
    |---|---|
    | 408, 425, 429, 5xx but 501 | `TransientError`, with the delay wanted by the peer |
    | 401, 403, 405, 406, 407, 410, 415, 426, 501 | `ConfigurationError` |
    | other 4xx | `RejectedError` |
    | all else, 2xx included | `TransientError`: the outcome is not known |

    Args:
        headers: `Retry-After` (seconds or a date), `RateLimit-Reset` and `X-RateLimit-Reset` (seconds, or seconds since
            1970) are read, in this order.
        now: the wall clock, for delays that are given as a date.
        message: the peer's own words, if they are fit to be shown; cut to one short line.
        code: the peer's own error code; default is the status.
    """
    text = f"the peer answered {status}" + (f": {_one_line(message)}" if message else "")
    if status in HTTP_CONFIGURATION:
        return ConfigurationError(text)
    if status in HTTP_CLIENT_ERRORS and status not in HTTP_TRANSIENT:
        return RejectedError(text, code=status if code is None else code)
    return TransientError(text, retry_after=_http_delay({name.lower(): value for name, value in headers.items()}, now))


def classify_grpc(error: BaseException, *, now: datetime) -> ActionError:
    """What a failed gRPC call means; takes `grpc.RpcError` and `grpc.aio.AioRpcError`.

    INVALID_ARGUMENT and NOT_FOUND alone are rejections: they name the offending coins in the trailing metadata
    `identifiers`, separated by commas. UNIMPLEMENTED, UNAUTHENTICATED and PERMISSION_DENIED want a person. All else
    leaves the outcome open, UNKNOWN and UNAVAILABLE above all.

    The delay is that of google.rpc.RetryInfo in `grpc-status-details-bin`, else `grpc-retry-pushback-ms`, of which a
    negative or unreadable one forbids to retry soon, else `retry-after`. What cannot be read is passed over.
    """
    status = getattr(_call(error, "code"), "name", "UNKNOWN")
    details = _call(error, "details")
    text = f"the peer answered {status}"
    wordy = f"{text}: {_one_line(details)}" if isinstance(details, str) and details.strip() else text
    metadata = _metadata(_call(error, "trailing_metadata"))
    if status in GRPC_REJECTED:
        named = (part.strip() for part in _text(metadata.get("identifiers", "")).split(","))
        return RejectedError(wordy, code=status, identifiers=[part for part in named if part])
    if status in GRPC_CONFIGURATION:
        return ConfigurationError(wordy)
    return TransientError(text, retry_after=_grpc_delay(metadata, now))


def classify_transport(error: BaseException) -> ActionError | None:
    """What a failed connection means: always that the outcome is not known.

    A certificate that does not verify is among them: on a phone that is the hotel's log-in page more often than a
    mistake in the settings. An address that cannot be one is a fault of configuration.

    Returns:
        None for what is no fault of a connection, such as a missing file, a full disk or a cancellation.
    """
    if isinstance(error, (_class_of("httpx", "UnsupportedProtocol"), _class_of("httpx", "InvalidURL"))):
        return ConfigurationError("the peer's address cannot be used")
    if isinstance(error, _class_of("httpx", "RequestError")):
        return TransientError(f"the connection to the peer failed ({type(error).__name__})")
    # asyncio raises a bare OSError, without a number, when it tried several addresses in vain.
    unreachable = isinstance(error, OSError) and (
        error.errno in NETWORK_ERRNOS or (type(error) is OSError and error.errno is None)
    )
    if unreachable or isinstance(error, TRANSPORT_ERRORS):
        return TransientError(f"the connection to the peer failed ({type(error).__name__})")
    return None


def _class_of(module: str, name: str) -> type[BaseException] | tuple[()]:
    """A class of a module that somebody imported, else nothing, to be asked with isinstance."""
    found: type[BaseException] | tuple[()] = getattr(sys.modules.get(module), name, ())
    return found


def _worst(parts: Sequence[ActionError | None]) -> ActionError | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    for kind in (InvariantError, ConfigurationError):
        for part in known:
            if isinstance(part, kind):
                return part
    open_ones = [part for part in known if isinstance(part, TransientError)]
    return max(open_ones, key=lambda part: part.retry_after or timedelta(0)) if open_ones else known[0]


def _http_delay(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    for name in ("retry-after", "ratelimit-reset", "x-ratelimit-reset"):
        if (delay := _delay_until(headers.get(name, ""), now)) is not None:
            return delay
    return None


def _delay_until(value: str, now: datetime) -> timedelta | None:
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,18}(\.[0-9]*)?", value):
        seconds = float(value)
        return _clamped_s(seconds - now.timestamp() if seconds > FIRST_MOMENT else seconds)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return _clamped_s(((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds())


def _grpc_delay(metadata: Mapping[str, str | bytes], now: datetime) -> timedelta | None:
    details = metadata.get("grpc-status-details-bin")
    if isinstance(details, bytes) and (wanted := _retry_info(details)) is not None:
        return wanted
    if "grpc-retry-pushback-ms" in metadata:
        pushback = _text(metadata["grpc-retry-pushback-ms"]).strip()
        readable = re.fullmatch(r"[0-9]{1,18}", pushback)
        return _clamped_s(int(pushback) / 1000) if readable else MAX_DELAY
    return _delay_until(_text(metadata.get("retry-after", "")), now)


def _clamped_s(seconds: float) -> timedelta:
    return timedelta(seconds=min(max(seconds, 0.0), MAX_DELAY.total_seconds()))


def _one_line(text: str) -> str:
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * MAX_TEXT]).split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _call(error: BaseException, name: str) -> object:
    # A bare grpc.RpcError has none of the methods of a call.
    method = getattr(error, name, None)
    return method() if callable(method) else None


def _metadata(pairs: object) -> dict[str, str | bytes]:
    if not isinstance(pairs, Iterable):
        return {}
    return {str(key).lower(): value for key, value in pairs if isinstance(value, str | bytes)}


# google.rpc.Status {3: details}, google.protobuf.Any {1: type_url, 2: value}, google.rpc.RetryInfo {1: retry_delay},
# google.protobuf.Duration {1: seconds, 2: nanos}: four messages do not warrant a dependency on protobuf.


def _retry_info(status: bytes) -> timedelta | None:
    try:
        for detail in _parts(status, 3):
            if b"".join(_parts(detail, 1)).endswith(b"/google.rpc.RetryInfo"):
                # Parts of one message, joined, are the message merged.
                delay = _parts(b"".join(_parts(detail, 2)), 1)
                return _duration(b"".join(delay)) if delay else None
    except ValueError:
        # Not what it says it is; then there is no delay in it.
        pass
    return None


def _duration(message: bytes) -> timedelta:
    parts = dict(_fields(message))
    seconds, nanos = (_signed(part) if isinstance(part := parts.get(number, 0), int) else 0 for number in (1, 2))
    return _clamped_s(seconds + nanos / 1e9)


def _parts(message: bytes, number: int) -> list[bytes]:
    return [value for found, value in _fields(message) if found == number and isinstance(value, bytes)]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message by number, whatever they mean. Raises ValueError when it is none."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value: int | bytes
                value, at = _varint(message, at)
            case 1 | 5 as wire:
                value, at = _take(message, at, 8 if wire == 1 else 4)
            case 2:
                length, at = _varint(message, at)
                value, at = _take(message, at, length)
            case _:
                raise ValueError("no such wire type")
        yield tag >> 3, value


def _take(message: bytes, at: int, length: int) -> tuple[bytes, int]:
    if at + length > len(message):
        raise ValueError("the message ends in the middle of a field")
    return message[at : at + length], at + length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("not a number")
