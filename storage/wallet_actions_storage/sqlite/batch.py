"""One transaction for all units that wait, in the writing connection's thread."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence

from wallet_actions.errors import StoreUnavailableError, WalletActionError
from wallet_actions_storage.sqlite import pack, starts
from wallet_actions_storage.sqlite.actions import StartUnit, WriteUnit, stamp
from wallet_actions_storage.sqlite.failures import is_busy, is_fault, statement_error, unavailable, unit_error
from wallet_actions_storage.sqlite.guard import CommitLock
from wallet_actions_storage.sqlite.session import Session, TransactionLostError
from wallet_actions_storage.sqlite.unit import Unit

_LOG = logging.getLogger(__name__)
_PAUSE_S = 0.001
_STAMP_EVERY = 100_000  # microseconds: a page less in most commits


class BatchWriter:
    """Commits batches. A unit that fails does so alone, as far as SQLite lets it.

    Args:
        name: the file, for messages.
        patience_s: how long a batch is tried again while the database is busy.
        before_waiting: called, maybe several times a batch, before its thread waits, for the disk or for others.
    """

    def __init__(
        self,
        session: Session,
        lock: CommitLock,
        name: str,
        patience_s: float,
        before_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        lock.before_waiting = self._before_waiting = before_waiting
        self._session = session
        self._lock = lock
        self._name = name
        self._patience_s = patience_s
        self._stamped_at: int | None = None

    def write(self, units: Sequence[Unit]) -> None:
        """Commit a batch: afterwards each unit has its result or its error. Never raises."""
        try:
            if not all(unit.is_plain for unit in units):
                self._before_waiting()  # who knows how long its statements take
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
                    self._before_waiting()
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
            latest: int | None = None
            is_told = True
            packed = frozenset() if is_careful else self._pack(units)
            for unit in units:
                unit.error = None
                try:
                    if unit in packed:
                        pass  # it is written
                    elif unit.is_plain and not is_careful:
                        unit.result = session.run(unit.start())
                    else:
                        unit.result = session.run_guarded(unit.start())
                    if unit.at is not None:
                        latest = unit.at if latest is None else max(latest, unit.at)
                        is_told = is_told and unit.is_told
                except WalletActionError as error:
                    unit.error = error
                except TransactionLostError as lost:
                    unit.error = lost.error
                    return unit
                except Exception as error:
                    if not is_careful or is_fault(error):
                        raise
                    unit.error = unit_error(error)
            stamped_at = self._stamped_at
            is_recent = latest is None or (stamped_at is not None and 0 <= latest - stamped_at < _STAMP_EVERY)
            if latest is not None and not (is_told and is_recent):
                session.execute(*stamp(latest))
                stamped_at = latest
            self._before_waiting()
            session.commit()
            self._stamped_at = stamped_at
        finally:
            session.roll_back()
        return None

    def _pack(self, units: Sequence[Unit]) -> frozenset[Unit]:
        """Write together what can be, before all others: none has an answer yet, so none comes before another.

        Returns:
            What is written; whatever else there is has to be written by itself, and refused maybe.
        """
        new = [unit for unit in units if isinstance(unit, StartUnit) and unit.is_packable]
        steps = [unit for unit in units if isinstance(unit, WriteUnit) and unit.is_packable]
        packed: list[Unit] = []
        if new:
            for row, started in starts.write(self._session, new, has_history=new[0].is_told):
                started.note_started(row)
                packed.append(started)
        if steps:
            for written in pack.write(self._session, steps, has_history=steps[0].is_told):
                written.note_written()
                packed.append(written)
        return frozenset(packed)

    def _fail(self, units: Sequence[Unit], error: Exception) -> None:
        if not isinstance(error, StoreUnavailableError | sqlite3.Error):
            _LOG.error("a batch could not be written", exc_info=error)
        for unit in units:
            if isinstance(error, StoreUnavailableError):
                unit.error = StoreUnavailableError(str(error))
            else:
                unit.error = unavailable(error, self._name)
