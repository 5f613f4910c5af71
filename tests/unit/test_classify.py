"""What peers answer, and what it means (L-P4, L-P5, L-D6)."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import anyio
import grpc
import httpx
import pytest
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from hypothesis import strategies as st

from wallet_actions.classification import MAX_DELAY, classify, classify_grpc, classify_http, classify_transport
from wallet_actions.errors import (
    ActionError,
    ConfigurationError,
    InvariantError,
    RejectedError,
    TransientError,
    VersionConflictError,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())

# google.rpc.Status, as protobuf 6 writes it, with a RetryInfo of …
RETRY_7_5_S = (
    "080e1a320a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e4572726f72496e666f12060a01721201641a360a28747970"
    "652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e5265747279496e666f120a0a0808071080cab5ee01"
)  # … 7.5 s, behind an ErrorInfo
RETRY_MINUS_3_S = (
    "080e120562c3b673651a440a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e5265747279496e666f12180a1608fdff"
    "ffffffffffffff0110ffffffffffffffffff01"
)  # … −3.000000001 s
RETRY_3000_YEARS = (
    "080e120562c3b673651a350a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e5265747279496e666f12090a070880d0"
    "dbc3f402"
)  # … 10¹¹ s
RETRY_UNSAID = (
    "080e1a2a0a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e5265747279496e666f"  # … nothing
)


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def retry_after(error: ActionError | None) -> timedelta | None:
    assert isinstance(error, TransientError)
    return error.retry_after


def rpc_error(status: grpc.StatusCode, *metadata: tuple[str, str | bytes], details: str | None = None) -> AioRpcError:
    return AioRpcError(status, Metadata(), Metadata(*metadata), details)


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        (TransientError, [408, 425, 429, 500, 502, 503, 504, 520, 599]),
        (ConfigurationError, [401, 403, 405, 406, 407, 410, 415, 426, 501]),
        (RejectedError, [400, 402, 404, 409, 413, 422, 423, 451, 499]),
        # Not refused, and yet of no use to the caller: it may have happened.
        (TransientError, [0, 100, 200, 204, 302, 304, 600, 999]),
    ],
)
def test_http_statuses(kind: type[ActionError], statuses: list[int]) -> None:
    """L-P4: a status is a rejection only if it says that nothing happened."""
    for status in statuses:
        assert type(classify_http(status, {}, now=NOW)) is kind, status


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({}, None),
        ({"Retry-After": "7"}, seconds(7)),
        ({"retry-after": " 1.5 "}, seconds(1.5)),
        ({"RETRY-AFTER": "0"}, seconds(0)),
        ({"Retry-After": "86400"}, MAX_DELAY),
        ({"Retry-After": "9" * 18}, MAX_DELAY),
        ({"Retry-After": "Sun, 01 Mar 2026 12:00:30 GMT"}, seconds(30)),
        ({"Retry-After": "Sun, 01 Mar 2026 13:00:30 +0100"}, seconds(30)),
        ({"Retry-After": "Sun, 01 Mar 2026 12:00:30 -0000"}, seconds(30)),
        ({"Retry-After": "Sun, 01 Mar 2026 11:00:00 GMT"}, seconds(0)),
        ({"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}, MAX_DELAY),
        ({"ratelimit-reset": "12"}, seconds(12)),
        ({"X-RateLimit-Reset": str(NOW_S + 40)}, seconds(40)),
        ({"ratelimit-reset": str(NOW_S - 40)}, seconds(0)),
        ({"Retry-After": "soon", "ratelimit-reset": "12"}, seconds(12)),
        ({"Retry-After": "3", "ratelimit-reset": "12"}, seconds(3)),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "1e9"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": "Sun, 99 Mar 99999 12:00:30 GMT"}, None),
        ({"Retry-After": "٣"}, None),
    ],
)
def test_the_delay_that_an_http_peer_wants(headers: dict[str, str], delay: timedelta | None) -> None:
    """L-P5: honoured, clamped; what cannot be read is passed over."""
    assert retry_after(classify_http(503, headers, now=NOW)) == delay


@given(st.text())
def test_no_header_can_make_it_fail(value: str) -> None:
    delay = retry_after(classify_http(429, {"Retry-After": value}, now=NOW))
    assert delay is None or timedelta(0) <= delay <= MAX_DELAY


def test_words_and_code_of_an_http_peer() -> None:
    error = classify_http(400, {}, now=NOW, message="Token\nalready\x1b[31m spent. " + "x" * 5000, code=11001)
    assert isinstance(error, RejectedError)
    assert error.code == 11001
    assert str(error).startswith("the peer answered 400: Token already [31m spent. xxx")
    assert len(str(error)) < 240
    assert str(error).isprintable()
    plain = classify_http(404, {}, now=NOW)
    assert isinstance(plain, RejectedError)
    assert (plain.code, str(plain)) == (404, "the peer answered 404")


@pytest.mark.parametrize("status", list(grpc.StatusCode))
def test_grpc_statuses(status: grpc.StatusCode) -> None:
    """L-P4: UNAVAILABLE and DEADLINE_EXCEEDED are ambiguous, UNKNOWN is never a rejection."""
    expected: type[ActionError] = {
        "INVALID_ARGUMENT": RejectedError,
        "NOT_FOUND": RejectedError,
        "UNIMPLEMENTED": ConfigurationError,
        "UNAUTHENTICATED": ConfigurationError,
        "PERMISSION_DENIED": ConfigurationError,
    }.get(status.name, TransientError)
    assert type(classify_grpc(rpc_error(status), now=NOW)) is expected


def test_a_grpc_rejection_names_coins_and_says_why() -> None:
    error = classify_grpc(
        rpc_error(
            grpc.StatusCode.NOT_FOUND,
            ("identifiers", "vtxo-1, vtxo-2,,"),
            ("grpc-status-details-bin", b"\xff"),
            details="no such\r\ncoins " + "y" * 500,
        ),
        now=NOW,
    )
    assert isinstance(error, RejectedError)
    assert (error.code, error.identifiers) == ("NOT_FOUND", ("vtxo-1", "vtxo-2"))
    assert str(error).startswith("the peer answered NOT_FOUND: no such coins yyy")
    assert len(str(error)) < 240


def test_words_of_a_grpc_peer_are_left_out_where_nobody_needs_them() -> None:
    error = classify_grpc(rpc_error(grpc.StatusCode.UNKNOWN, details="panicked at coin 1234"), now=NOW)
    assert str(error) == "the peer answered UNKNOWN"


def test_a_bare_grpc_error_is_an_unknown_outcome() -> None:
    assert type(classify_grpc(grpc.RpcError(), now=NOW)) is TransientError


@pytest.mark.parametrize(
    ("metadata", "delay"),
    [
        ([], None),
        ([("grpc-status-details-bin", bytes.fromhex(RETRY_7_5_S))], seconds(7.5)),
        ([("grpc-status-details-bin", bytes.fromhex(RETRY_MINUS_3_S))], seconds(0)),
        ([("grpc-status-details-bin", bytes.fromhex(RETRY_3000_YEARS))], MAX_DELAY),
        ([("grpc-status-details-bin", bytes.fromhex(RETRY_UNSAID))], None),
        ([("grpc-status-details-bin", bytes.fromhex(RETRY_UNSAID)), ("retry-after", "4")], seconds(4)),
        ([("grpc-retry-pushback-ms", "250")], seconds(0.25)),
        # "Do not retry by yourself": as late as can be.
        ([("grpc-retry-pushback-ms", "-1")], MAX_DELAY),
        ([("grpc-retry-pushback-ms", "later")], MAX_DELAY),
        ([("grpc-retry-pushback-ms", b"250")], seconds(0.25)),
        ([("retry-after", "Sun, 01 Mar 2026 12:00:30 GMT")], seconds(30)),
        (
            [("retry-after", "1"), ("grpc-retry-pushback-ms", "2000"), ("grpc-status-details-bin", b"\x1a\x05\x0a")],
            seconds(2),
        ),
        (
            [("grpc-retry-pushback-ms", "2000"), ("grpc-status-details-bin", bytes.fromhex(RETRY_7_5_S))],
            seconds(7.5),
        ),
    ],
)
def test_the_delay_that_a_grpc_peer_wants(metadata: list[tuple[str, str | bytes]], delay: timedelta | None) -> None:
    """L-P5: RetryInfo, else the pushback, else Retry-After."""
    assert retry_after(classify_grpc(rpc_error(grpc.StatusCode.UNAVAILABLE, *metadata), now=NOW)) == delay


@pytest.mark.parametrize("whole", [RETRY_7_5_S, RETRY_MINUS_3_S, RETRY_3000_YEARS])
def test_truncated_details_never_raise(whole: str) -> None:
    message = bytes.fromhex(whole)
    for length in range(len(message)):
        error = rpc_error(grpc.StatusCode.UNAVAILABLE, ("grpc-status-details-bin", message[:length]))
        assert type(classify_grpc(error, now=NOW)) is TransientError


@given(st.binary(max_size=200))
def test_no_details_can_make_it_fail(noise: bytes) -> None:
    name = b"type.googleapis.com/google.rpc.RetryInfo"
    packed = b"\x0a" + bytes([len(name)]) + name + noise
    for details in (noise, b"\x1a" + bytes([len(packed) & 0x7F | 0x80, len(packed) >> 7]) + packed):
        error = rpc_error(grpc.StatusCode.UNAVAILABLE, ("grpc-status-details-bin", details))
        delay = retry_after(classify_grpc(error, now=NOW))
        assert delay is None or timedelta(0) <= delay <= MAX_DELAY


REQUEST = httpx.Request("POST", "https://user:password@mint.example/v1/swap?token=secret")


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("no route to mint.example", request=REQUEST),
        httpx.ConnectTimeout("", request=REQUEST),
        httpx.ReadTimeout("", request=REQUEST),
        httpx.PoolTimeout("", request=REQUEST),
        httpx.ReadError("", request=REQUEST),
        httpx.RemoteProtocolError("illegal status line: secret", request=REQUEST),
        httpx.ProxyError("407 for user:password", request=REQUEST),
        httpx.DecodingError("bad gzip", request=REQUEST),
        httpx.TooManyRedirects("", request=REQUEST),
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        ConnectionResetError(),
        BrokenPipeError(),
        TimeoutError(),
        asyncio.IncompleteReadError(b"secret", 100),
        socket.gaierror(socket.EAI_AGAIN, "try again"),
        ssl.SSLCertVerificationError("certificate has expired"),
        ssl.SSLZeroReturnError(),
        OSError(errno.EHOSTUNREACH, "no route"),
        OSError(errno.ENETUNREACH, "no network"),
        OSError("Multiple exceptions: [Errno 111] …, [Errno 111] …"),
        anyio.EndOfStream(),
        anyio.BrokenResourceError(),
        anyio.IncompleteRead(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failed_connection_leaves_the_outcome_open(error: Exception) -> None:
    """L-P4, L-C5: sent or not, done or not, it is not known."""
    found = classify_transport(error)
    assert type(found) is TransientError
    assert "secret" not in str(found)
    assert "password" not in str(found)
    assert "mint.example" not in str(found)
    assert type(classify(error, now=NOW)) is TransientError


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        KeyError("phase"),
        FileNotFoundError(errno.ENOENT, "no such file", "wallet.db"),
        PermissionError(errno.EACCES, "denied", "wallet.db"),
        OSError(errno.ENOSPC, "disk full"),
        OSError(errno.EMFILE, "too many open files"),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        anyio.ClosedResourceError(),
        VersionConflictError("melt", "q", 3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_tells_nothing_about_a_peer_is_not_classified(error: BaseException) -> None:
    """L-D6: an unclassified exception is not "the server said no"."""
    assert classify_transport(error) is None
    assert classify(error, now=NOW) is None


@pytest.mark.parametrize(
    "error",
    [httpx.UnsupportedProtocol("missing http://", request=REQUEST), httpx.InvalidURL("no host in user:password@")],
    ids=lambda error: type(error).__name__,
)
def test_an_address_that_cannot_be_one_wants_a_person(error: Exception) -> None:
    found = classify(error, now=NOW)
    assert type(found) is ConfigurationError
    assert "password" not in str(found)


def test_it_dispatches() -> None:
    rejected = RejectedError("no", code=1)
    assert classify(rejected, now=NOW) is rejected

    response = httpx.Response(429, headers={"Retry-After": "9"}, text="secret", request=REQUEST)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()
    found = classify(caught.value, now=NOW)
    assert retry_after(found) == seconds(9)
    assert str(found) == "the peer answered 429"

    assert type(classify(rpc_error(grpc.StatusCode.INVALID_ARGUMENT), now=NOW)) is RejectedError


def test_a_group_is_as_bad_as_its_worst_part() -> None:
    refused, late, later = RejectedError("no"), TransientError("a"), TransientError("b", retry_after=seconds(5))
    config, bug = ConfigurationError("c"), InvariantError("d")

    def worst(*errors: BaseException) -> ActionError | None:
        return classify(BaseExceptionGroup("in a task group", list(errors)), now=NOW)

    assert worst(refused) is refused
    assert worst(refused, late) is late
    assert worst(late, later, refused) is later
    assert worst(refused, later, config) is config
    assert worst(config, bug) is bug
    assert worst(BaseExceptionGroup("nested", [refused, late])) is late
    assert type(worst(refused, TimeoutError())) is TransientError
    assert worst(refused, ValueError()) is None
    assert worst(refused, asyncio.CancelledError()) is None


def test_neither_grpc_nor_httpx_is_imported() -> None:
    """An app that uses neither pays for neither; and errors are classified all the same."""
    program = """
import sys, datetime
from wallet_actions.classification import classify
assert type(classify(TimeoutError(), now=datetime.datetime.now(datetime.UTC))).__name__ == "TransientError"
assert classify(ValueError(), now=datetime.datetime.now(datetime.UTC)) is None
print(sorted({"grpc", "httpx"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
