"""One transaction for all units that wait, in the writing connection's thread."""

from __future__ import annotations

import logging
import sqlite3
import time
from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Any

from wallet_actions.errors import StoreUnavailableError, WalletActionError
from wallet_actions_storage.sqlite.actions import stamp
from wallet_actions_storage.sqlite.failures import is_busy, is_fault, statement_error, unavailable, unit_error
from wallet_actions_storage.sqlite.guard import CommitLock
from wallet_actions_storage.sqlite.program import Program
from wallet_actions_storage.sqlite.session import Session, TransactionLostError

_LOG = logging.getLogger(__name__)
_PAUSE_S = 0.001


class Unit:
    """A unit that waits for its transaction.

    Args:
        start: makes the program, anew for each try.
        answer: where the caller waits.
        is_plain: whether the program fails, if it does, before it has written anything.
        at: the time of an action's write, in microseconds, to be noted with the batch; 0 for none.
    """

    __slots__ = ("answer", "at", "error", "is_plain", "result", "start")

    def __init__(
        self, start: Callable[[], Program[Any]], answer: Future[Any], *, is_plain: bool = False, at: int = 0
    ) -> None:
        self.start = start
        self.answer = answer
        self.is_plain = is_plain
        self.at = at
        self.result: Any = None
        self.error: Exception | None = None

    def resolve(self) -> None:
        """Tell the caller, in the event loop."""
        if self.answer.done():
            return
        if self.error is not None:
            self.answer.set_exception(self.error)
        else:
            self.answer.set_result(self.result)


class BatchWriter:
    """Commits batches. A unit that fails does so alone, as far as SQLite lets it.

    Args:
        name: the file, for messages.
        patience_s: how long a batch is tried again while the database is busy.
    """

    def __init__(self, session: Session, lock: CommitLock, name: str, patience_s: float) -> None:
        self._session = session
        self._lock = lock
        self._name = name
        self._patience_s = patience_s

    def write(self, units: Sequence[Unit]) -> None:
        """Commit a batch: afterwards each unit has its result or its error. Never raises."""
        try:
            self._write(units)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait have to be told
            self._fail(units, error)

    def _write(self, units: Sequence[Unit]) -> None:
        deadline = time.monotonic() + self._patience_s
        is_careful = False
        while units:
            try:
                with self._lock:
                    lost = self._try(units, is_careful)
            except Exception as error:
                if is_busy(error) and time.monotonic() < deadline:
                    time.sleep(_PAUSE_S)
                    continue
                if is_careful and isinstance(error, sqlite3.IntegrityError):
                    self._write_apart(units, error)
                    return
                if is_careful or is_fault(error) or isinstance(error, StoreUnavailableError):
                    raise
                is_careful = True
            else:
                if lost is None:
                    return
                units = [unit for unit in units if unit is not lost]

    def _write_apart(self, units: Sequence[Unit], error: sqlite3.IntegrityError) -> None:
        """Give each its own transaction: some unit's statement broke a constraint that is checked at COMMIT."""
        if len(units) == 1:
            units[0].error = statement_error(error)
            return
        for unit in units:
            self.write([unit])

    def _try(self, units: Sequence[Unit], is_careful: bool) -> Unit | None:
        """Try one transaction.

        Args:
            is_careful: guard each unit by itself, and take what it raises for its own error.

        Returns:
            The unit that made SQLite roll everything back, None once committed.
        """
        session = self._session
        session.begin()
        try:
            latest = 0
            for unit in units:
                unit.error = None
                try:
                    unit.result = (session.run if unit.is_plain and not is_careful else session.run_guarded)(
                        unit.start()
                    )
                    latest = max(latest, unit.at)
                except WalletActionError as error:
                    unit.error = error
                except TransactionLostError as lost:
                    unit.error = lost.error
                    return unit
                except Exception as error:
                    if not is_careful or is_fault(error):
                        raise
                    unit.error = unit_error(error)
            if latest:
                session.run(_note(latest))
            session.commit()
        finally:
            session.roll_back()
        return None

    def _fail(self, units: Sequence[Unit], error: Exception) -> None:
        if not isinstance(error, StoreUnavailableError | sqlite3.Error):
            _LOG.error("a batch could not be written", exc_info=error)
        for unit in units:
            if isinstance(error, StoreUnavailableError):
                unit.error = StoreUnavailableError(str(error))
            else:
                unit.error = unavailable(error, self._name)


def _note(at: int) -> Program[None]:
    yield stamp(at)
