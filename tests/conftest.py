"""Fixtures that every test may use."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from wallet_actions.testing.postgres import PostgresServer

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is where a shell runs the tests in the background; the processes that they start would inherit it, and
    # never hear of a Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    """The engine runs on asyncio alone."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of a run; those that kill it start one of their own."""
    with PostgresServer() as server:
        yield server
