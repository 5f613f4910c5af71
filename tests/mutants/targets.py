"""What is mutated, and which tests have to notice: the quick ones first, for a run ends at the first failure."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

_STEPS = ("tests/unit/test_step.py", "tests/unit/test_successor.py")
_EXECUTOR = ("tests/unit/test_executor*.py", "tests/unit/test_recovery.py", "tests/unit/test_operator.py")
_AROUND = ("tests/unit/test_engine.py", "tests/unit/test_runner_faults.py")
_MODEL = ("tests/property/*.py",)
_MEMORY = (
    "tests/unit/test_store.py",
    "tests/contract/test_memory_store.py",
    *_EXECUTOR,
    "tests/contract/test_differential.py",
    *_MODEL,
)
_SQLITE = (
    "tests/unit/test_store.py",
    "tests/contract/test_sqlite_store.py",
    "tests/unit/storage/test_*.py",
    "tests/contract/test_differential.py",
)

ENGINE = "wallet_actions"
STORES = "storage/wallet_actions_storage"

TARGETS: dict[str, tuple[str, ...]] = {
    f"{ENGINE}/executor.py": (*_EXECUTOR, *_STEPS, *_AROUND, *_MODEL),
    f"{ENGINE}/step.py": (*_STEPS, *_EXECUTOR, *_AROUND, *_MODEL),
    f"{ENGINE}/successor.py": (*_STEPS, *_EXECUTOR, *_AROUND, *_MODEL),
    f"{ENGINE}/outcome.py": (*_EXECUTOR, *_AROUND, *_MODEL),
    f"{ENGINE}/delta.py": ("tests/unit/test_delta.py", *_EXECUTOR, *_MODEL),
    f"{ENGINE}/locks.py": ("tests/unit/test_locks.py", *_EXECUTOR, *_AROUND, *_MODEL),
    **{f"{STORES}/memory/{name}.py": _MEMORY for name in ("ordered", "store", "tables", "unit")},
    **{
        f"{STORES}/sqlite/{name}.py": _SQLITE
        for name in ("actions", "batch", "commands", "delta", "many", "pack", "session", "starts", "writer")
    },
}


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A mutant that is no bug.

    Attributes:
        reason: the proof, in a sentence.
    """

    key: str
    reason: str


def equivalents() -> list[Equivalent]:
    """The mutants that are known not to be bugs."""
    rows = tomllib.loads((HERE / "equivalent.toml").read_text())["equivalent"]
    return [Equivalent(row["key"], row["reason"]) for row in rows]
