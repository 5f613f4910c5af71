"""A plugin for pytest: ends a run that does not import the copy it lies in, and keeps property tests short."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import Phase, settings

WRONG_CODE = 77
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("wallet_actions", "wallet_actions_storage")


def pytest_configure() -> None:
    """A failing example is enough; it is neither made smaller nor kept for the next mutant."""
    settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], database=None)
    settings.load_profile("mutants")


def pytest_collection_finish() -> None:
    """Look before the first test runs."""
    _check()


def pytest_sessionfinish() -> None:
    """Look again at what the tests imported."""
    _check()


def _check() -> None:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in PACKAGES or not isinstance(module.__file__, str):
            continue
        if not Path(module.__file__).resolve().is_relative_to(ROOT):
            pytest.exit(f"{name} is imported from {module.__file__}, not from the copy", returncode=WRONG_CODE)
