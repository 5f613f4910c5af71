"""The executor and both stores against the model of `wallet_actions.testing.machine`, through crashes and faults.

L-S2, L-S9, L-C1, L-C10, G2, G4, G6, G8.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings

from wallet_actions.store import Store
from wallet_actions.testing.machine import ExecutorMachine
from wallet_actions_storage import SQLiteStore


class OnMemory(ExecutorMachine):
    """Another class, as a `TestCase` keeps its settings."""


class OnSQLite(ExecutorMachine):
    """On a file, with a store of its own for each process."""

    folder: Path | None = None

    def make_store(self) -> Store:
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="wallet_actions_machine_"))
        return SQLiteStore(self.folder / "wallet.db", durability="normal")

    def forget_store(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder)


SLOW = [HealthCheck.too_slow]
TestOnMemory: Callable[[], None] = OnMemory.TestCase  # type: ignore[assignment]
OnMemory.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=SLOW
)
TestOnSQLite: Callable[[], None] = OnSQLite.TestCase  # type: ignore[assignment]
OnSQLite.TestCase.settings = settings(max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=SLOW)
