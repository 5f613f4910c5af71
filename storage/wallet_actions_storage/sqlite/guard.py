"""File locks beside the database: who may open it, and who may commit.

Locks are the kernel's (`flock`), so a process that is killed leaves none behind. Each is on a small file of its own,
because a lock on the database itself would be in SQLite's way. The files stay; removing them would open a race.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from weakref import WeakSet

from wallet_actions.errors import StoreInUseError, StoreUnavailableError, UsageError

if sys.platform != "win32":
    import fcntl

HAS_FILE_LOCKS = sys.platform != "win32"
"""Whether the platform has `flock`."""

_PAUSE_S = 0.0001
_LONGEST_PAUSE_S = 0.001
_PID_LENGTH = 32


class _FileLock:
    """A file that is open for the sake of its lock."""

    def __init__(self, path: Path) -> None:
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        _OPEN.add(self)

    def try_lock(self, *, shared: bool = False) -> bool:
        """Take the lock if nobody is in the way."""
        if sys.platform == "win32":
            return True
        try:
            fcntl.flock(self.fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Let go."""
        if sys.platform != "win32":
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, and with it let go."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @property
    def fd(self) -> int:
        """The file's descriptor."""
        if self._fd is None:
            raise ValueError("the lock's file is closed")
        return self._fd


_OPEN: WeakSet[_FileLock] = WeakSet()


def _forget_in_child() -> None:
    """A forked child shares its parent's locks, and would keep them after the parent has died."""
    for lock in list(_OPEN):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


class ProcessGuard:
    """Whether this database is one process's own, or shared; held as long as the store is open."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._lock: _FileLock | None = None
        self._is_exclusive = False

    def take(self, *, exclusive: bool) -> None:
        """Take the place of the only process, or one among several.

        Raises:
            StoreInUseError: another store, in this process or another, is in the way.
            StoreUnavailableError: the lock's file cannot be made.
            UsageError: the platform has no such locks.
        """
        if not HAS_FILE_LOCKS:
            if exclusive:
                raise UsageError("exclusive=True needs file locks, which this platform does not have")
            return
        try:
            lock = _FileLock(sidecar(self._database, "lock"))
        except OSError as error:
            raise _no_lock(self._database, error) from error
        try:
            if not lock.try_lock(shared=not exclusive):
                raise self._in_use(lock)
            os.ftruncate(lock.fd, 0)
            if exclusive:
                os.pwrite(lock.fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            lock.close()
            raise _no_lock(self._database, error) from error
        except BaseException:
            lock.close()
            raise
        self._lock, self._is_exclusive = lock, exclusive

    def release(self) -> None:
        """Give the place up."""
        if self._lock is not None:
            if self._is_exclusive:
                os.ftruncate(self._lock.fd, 0)
            self._lock.close()
            self._lock = None

    def _in_use(self, lock: _FileLock) -> StoreInUseError:
        text = os.pread(lock.fd, _PID_LENGTH, 0).strip()
        if text.isdigit():
            pid = int(text)
            return StoreInUseError(f"process {pid} has {self._database} to itself", pid=pid)
        return StoreInUseError(f"{self._database} is open elsewhere, so that it cannot be had exclusively")


class CommitLock:
    """Keeps the commits and checkpoints of several processes apart. Used by one thread; see ADR 0002.

    Args:
        database: None where there is nobody to keep apart from.

    Attributes:
        before_waiting: called where the lock is not free, before it is waited for.
    """

    def __init__(self, database: Path | None, patience_s: float) -> None:
        self._database = database
        self._patience_s = patience_s
        self._lock: _FileLock | None = None
        self.before_waiting: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Open the lock's file.

        Raises:
            StoreUnavailableError: it cannot be made.
        """
        if self._database is not None and HAS_FILE_LOCKS:
            try:
                self._lock = _FileLock(sidecar(self._database, "commit-lock"))
            except OSError as error:
                raise _no_lock(self._database, error) from error

    def __enter__(self) -> Self:
        """Take the lock, waiting for it.

        Raises:
            StoreUnavailableError: another process has held it all the time.
        """
        if self._lock is None or self._lock.try_lock():
            return self
        self.before_waiting()
        deadline, pause_s = time.monotonic() + self._patience_s, _PAUSE_S
        while not self._lock.try_lock():
            if time.monotonic() >= deadline:
                raise StoreUnavailableError(
                    f"the database {self._database} is busy: another process is writing to it; try again"
                )
            # Short pauses: the other's gap between two commits may be no longer than a tenth of a millisecond.
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go."""
        if self._lock is not None:
            self._lock.unlock()

    def close(self) -> None:
        """Close the lock's file."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def sidecar(database: Path, name: str) -> Path:
    """A file beside the database."""
    return database.with_name(f"{database.name}.{name}")


def _no_lock(database: Path, error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(f"the lock beside {database} cannot be taken: {error.strerror}")
