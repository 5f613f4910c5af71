"""What gRPC raises, as errors of the tree."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import grpc.aio

from wallet_actions.classification import classify_grpc
from wallet_actions.clock import Clock
from wallet_actions.grpc.deadlines import unavailable


@contextmanager
def translated(clock: Clock) -> Iterator[None]:
    """Around one call, or around reading a stream: what gRPC raises leaves as an error that the executor knows.

    | status | error |
    |---|---|
    | INVALID_ARGUMENT, NOT_FOUND | `RejectedError`, with the coins at fault in `identifiers` |
    | UNIMPLEMENTED, UNAUTHENTICATED, PERMISSION_DENIED | `ConfigurationError` |
    | all else | `TransientError`: the outcome is not known; with the delay that the peer asked for |

    Use it where a rejection proves that nothing has changed at the peer. A call for which NOT_FOUND is an answer looks
    at the status itself, inside of the block. The original error is not chained: its text may quote what was sent.

    Args:
        clock: for delays that the peer gives as a date.
    Raises:
        RejectedError, ConfigurationError, TransientError: see the table; `classify_grpc` has the details.
    """
    try:
        with closing_told():
            yield
    except grpc.RpcError as error:
        raise classify_grpc(error, now=clock.now()) from None


@contextmanager
def closing_told() -> Iterator[None]:
    """Around a call: that its channel was closed meanwhile is told as UNAVAILABLE, by a `grpc.aio.AioRpcError`.

    grpc.aio cancels the calls of a channel that is closed, and a `CancelledError` would end a task that nobody wants to
    end: the loop that drives all actions, say. A task that is cancelled itself is.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise unavailable("the channel was closed") from None
