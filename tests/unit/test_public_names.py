"""The names that the package offers: imported when they are used, and the same ones as in their homes."""

from __future__ import annotations

import subprocess
import sys

import pytest

import wallet_actions


@pytest.mark.parametrize("name", wallet_actions.__all__)
def test_each_public_name_is_the_one_of_its_home(name: str) -> None:
    value = getattr(wallet_actions, name)
    home = getattr(value, "__module__", "")
    assert home.startswith("wallet_actions.") or name == "Transition"
    assert name in dir(wallet_actions)


def test_the_type_checker_and_the_interpreter_find_the_same_names() -> None:
    assert sorted(wallet_actions._HOMES) == sorted(wallet_actions.__all__)


def test_another_name_is_refused_as_usual() -> None:
    with pytest.raises(AttributeError, match="module 'wallet_actions' has no attribute 'Acton'"):
        wallet_actions.Acton  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Acton'"):
        from wallet_actions import Acton  # noqa: F401


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, wallet_actions; print(*sorted({'asyncio', 'pydantic', 'anyio', 'grpc'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
