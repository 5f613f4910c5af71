"""Fixtures that every test may use."""

from __future__ import annotations

import signal

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is where a shell runs the tests in the background; the processes that they start would inherit it, and
    # never hear of a Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    """The engine runs on asyncio alone."""
    return "asyncio"
