"""A channel for calls that move money."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType

import grpc
import grpc.aio

from wallet_actions.errors import UsageError
from wallet_actions.grpc.deadlines import deadline_interceptors
from wallet_actions.grpc.telemetry import telemetry_interceptors

CALL_DEADLINE = timedelta(seconds=20)

OPTIONS: Mapping[str, int | str] = MappingProxyType(
    {
        # The engine owns retry: a call that is repeated beneath it is an effect that nobody had written down (L-P3).
        "grpc.enable_retries": 0,
        # Nor may whoever answers for the name switch retries on again, by a record of the DNS.
        "grpc.service_config_disable_resolution": 1,
        # A connection that died in silence, behind a NAT or in a tunnel, is noticed while a stream is open.
        "grpc.keepalive_time_ms": 60_000,
        "grpc.keepalive_timeout_ms": 20_000,
        # The engine's back-off decides when to come back; then the channel has to try as well.
        "grpc.initial_reconnect_backoff_ms": 250,
        "grpc.min_reconnect_backoff_ms": 250,
        "grpc.max_reconnect_backoff_ms": 5_000,
    }
)


def channel_options(more: Mapping[str, int | str] = MappingProxyType({})) -> list[tuple[str, int | str]]:
    """The options of a channel, as grpc takes them.

    Args:
        more: put on top, or in place of ours.
    """
    return list({**OPTIONS, **more}.items())


def open_channel(
    target: str,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    deadline: timedelta = CALL_DEADLINE,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    options: Mapping[str, int | str] = MappingProxyType({}),
) -> grpc.aio.Channel:
    """Open a channel; close it with `await channel.close()`, or use it with `async with`. Nothing is connected yet.

    Args:
        target: `host:port`, or any name that grpc resolves.
        credentials: of TLS, with or without those of each call; None speaks in the clear, for loopback and tests.
        deadline: of each call that is made without a `timeout` of its own.
        interceptors: nearest to the wire, behind ours.
        options: see `channel_options`.
    Raises:
        UsageError: no event loop is running; a channel belongs to the one in which it was opened.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError("a channel belongs to an event loop: open it in the one that makes the calls") from None
    ours = [*deadline_interceptors(deadline), *telemetry_interceptors()]
    arguments = {"options": channel_options(options), "interceptors": [*ours, *interceptors]}
    if credentials is None:
        return grpc.aio.insecure_channel(target, **arguments)
    return grpc.aio.secure_channel(target, credentials, **arguments)
