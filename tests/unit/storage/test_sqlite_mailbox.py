"""What a connection's thread tells the event loop: in order, once, and over whatever loop there is."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from typing import Any

import pytest

from wallet_actions_storage.sqlite.thread import Mailbox

pytestmark = pytest.mark.anyio

MANY = 2_000


@pytest.fixture(params=["pipe", "no reader", "no room"])
def loop_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A loop that reads pipes; one that does not, as on Windows; and a process that has too many files open."""

    def refuse(*_: Any) -> None:
        raise NotImplementedError

    def full() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "too many open files")

    if request.param == "no reader":
        for name in ("add_reader", "remove_reader"):
            monkeypatch.setattr(asyncio.SelectorEventLoop, name, refuse)
    if request.param == "no room":
        monkeypatch.setattr(os, "pipe", full)
    return str(request.param)


async def test_all_is_told_once_and_in_order(loop_kind: str) -> None:
    """Also what is put in while the loop is reading."""
    told: list[int] = []
    is_through = asyncio.Event()
    mailbox = Mailbox(asyncio.get_running_loop())

    def work() -> None:
        for number in range(MANY):
            mailbox.put(told.append, number)
        mailbox.put(is_through.set)

    thread = threading.Thread(target=work)
    thread.start()
    await is_through.wait()
    thread.join()
    mailbox.close()
    assert told == list(range(MANY))


async def test_what_fails_is_told_to_the_loop_and_holds_up_nothing(loop_kind: str) -> None:
    """As the loop does with a callback of its own."""
    loop, failures, is_through = asyncio.get_running_loop(), list[Any](), asyncio.Event()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    mailbox = Mailbox(loop)

    def fail() -> None:
        raise ValueError

    mailbox.put(fail)
    mailbox.put(is_through.set)
    await is_through.wait()
    mailbox.close()
    loop.set_exception_handler(None)
    assert [type(failure) for failure in failures] == [ValueError]


async def test_what_was_put_in_before_the_end_is_told() -> None:
    """And the pipe's two files are let go of."""
    told: list[int] = []
    mailbox = Mailbox(asyncio.get_running_loop())
    ends = mailbox._ends
    assert ends is not None
    mailbox.put(told.append, 1)
    mailbox.close()
    mailbox.close()
    assert told == [1]
    for end in ends:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)
