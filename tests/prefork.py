"""Forks what would be started by `python -m MODULE`, from a process that has imported the module already.

Tests that start a hundred processes spend nearly all of their time on the imports of each. A fork is a process too: it
has its own pipes and its own process id, runs the module as `__main__`, and dies of SIGKILL. Where there is no
`os.pidfd_open` the processes are started as ever.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from unittest import mock

import anyio

LONGEST_MESSAGE = 1 << 16


class Child:
    """What `asyncio.create_subprocess_exec` would give."""

    def __init__(
        self,
        pid: int,
        ended: asyncio.Future[int],
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
    ) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._ended = ended

    @property
    def returncode(self) -> int | None:
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        status = await asyncio.shield(self._ended)
        self.stdin.close()
        return status

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


class Prefork:
    """The process that forks, for as long as `async with` lasts.

    Args:
        modules: what it imports at first; others are imported by each fork.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._born: deque[asyncio.Future[int]] = deque()
        self._ends: dict[int, asyncio.Future[int]] = {}
        self._process: subprocess.Popen[bytes]
        self._link: socket.socket

    async def __aenter__(self) -> Prefork:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(  # noqa: ASYNC220 begun in a moment; it tells of itself over the link
            [sys.executable, "-m", "tests.prefork", str(theirs.fileno()), *self._modules],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            # A Ctrl-C in the terminal is for the parent, with whom it ends.
            start_new_session=True,
        )
        theirs.close()
        self._link.setblocking(False)
        asyncio.get_running_loop().add_reader(self._link, self._hear)
        return self

    async def __aexit__(self, *exc: object) -> None:
        asyncio.get_running_loop().remove_reader(self._link)
        self._link.close()  # which ends it
        await asyncio.to_thread(self._process.wait)

    async def start(self, module: str, arguments: Sequence[str] = ()) -> Child:
        """Start `python -m module arguments` with three pipes."""
        loop = asyncio.get_running_loop()
        (out, to_out), (err, to_err) = os.pipe(), os.pipe()
        stdin, from_stdin = socket.socketpair()
        born = loop.create_future()
        self._born.append(born)
        socket.send_fds(self._link, [json.dumps([module, *arguments]).encode()], [from_stdin.fileno(), to_out, to_err])
        from_stdin.close()
        os.close(to_out)
        os.close(to_err)
        _, writer = await asyncio.open_connection(sock=stdin)
        readers = [await _reader(fd) for fd in (out, err)]
        pid = await born
        return Child(pid, self._ends[pid], writer, *readers)

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            while message := self._link.recv(LONGEST_MESSAGE):
                told: dict[str, int] = json.loads(message)
                if "status" in told:
                    self._ends[told["pid"]].set_result(told["status"])
                else:
                    self._ends[told["pid"]] = asyncio.get_running_loop().create_future()
                    self._born.popleft().set_result(told["pid"])
            asyncio.get_running_loop().remove_reader(self._link)
            for waiting in (*self._born, *self._ends.values()):
                if not waiting.done():
                    waiting.set_exception(ChildProcessError("the process that forks has died"))


async def _reader(fd: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb")
    )
    return reader


@asynccontextmanager
async def preforked(run: str, *imported: str) -> AsyncIterator[None]:
    """While it lasts, `asyncio.create_subprocess_exec` forks where this module is to be run on three pipes.

    Args:
        run: the module.
        imported: what it imports only when it runs. Imported beforehand it costs each fork nothing; and all forks run
            the same code, also where somebody edits it meanwhile.
    """
    if not hasattr(os, "pidfd_open"):
        yield
        return
    spawn: Callable[..., Any] = asyncio.create_subprocess_exec
    pipe = asyncio.subprocess.PIPE

    async def fork(*command: Any, **options: Any) -> Any:
        match command:
            case (sys.executable, "-m", str() as module, *arguments) if module == run:
                assert options == {"stdin": pipe, "stdout": pipe, "stderr": pipe}
                return await prefork.start(module, arguments)
        return await spawn(*command, **options)

    async with Prefork(run, *imported) as prefork:
        with mock.patch.object(asyncio, "create_subprocess_exec", fork):
            yield


def _run(module: str, arguments: Sequence[str]) -> int:
    sys.argv[1:] = arguments
    sys.modules.pop(module, None)  # runpy wants to be the first
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # noqa: BLE001 of the fork nothing may return to the loop
        traceback.print_exc()
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
    return 0


async def _warm_up() -> None:
    """Have loaded what is loaded at first use."""
    with anyio.CancelScope():
        await asyncio.sleep(0)


def main() -> None:
    """Fork for each message, and tell of each birth and each end."""
    link = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    asyncio.run(_warm_up())
    gc.collect()
    gc.freeze()  # what a fork does not touch is not copied
    waiting = selectors.DefaultSelector()
    waiting.register(link, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.data is not None:
                _, status = os.waitpid(key.data, 0)
                waiting.unregister(key.fileobj)
                os.close(key.fd)
                link.send(json.dumps({"pid": key.data, "status": os.waitstatus_to_exitcode(status)}).encode())
                continue
            message, streams, _, _ = socket.recv_fds(link, LONGEST_MESSAGE, 3)
            if not message:
                return
            pid = os.fork()
            if not pid:
                waiting.close()
                link.close()
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                    os.close(stream)
                module, *arguments = json.loads(message)
                os._exit(_run(module, arguments))
            for stream in streams:
                os.close(stream)
            link.send(json.dumps({"pid": pid}).encode())
            waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)


if __name__ == "__main__":
    main()
