"""The names that outside readers import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import wallet_actions

ALL = [
    "Action",
    "Changes",
    "Checkpoint",
    "Coin",
    "ConfigurationError",
    "Done",
    "DriveMode",
    "DriveResult",
    "Engine",
    "Executor",
    "Fact",
    "Failed",
    "Next",
    "Park",
    "Phase",
    "RejectedError",
    "RetryPolicy",
    "Runner",
    "Statement",
    "Store",
    "TransientError",
    "Transition",
    "WalletActionError",
    "classify",
    "open_store",
]


def test_the_public_names_are_these() -> None:
    assert wallet_actions.__all__ == ALL
    assert len(ALL) <= 25
    assert sorted(ALL) == ALL


def test_every_public_name_is_there_and_explains_itself() -> None:
    for name in ALL:
        item = getattr(wallet_actions, name)
        assert name == "Transition" or item.__doc__, name


def test_the_module_defines_no_more_than_it_says() -> None:
    """What a type checker sees is what there is (`test_public_names.py` asks the interpreter)."""
    tree = ast.parse(Path(wallet_actions.__file__).read_text())
    (for_checkers,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.asname or alias.name
        for node in for_checkers.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert imported == set(ALL)


def test_neither_a_store_nor_a_network_client_comes_with_the_engine() -> None:
    program = "import sys; from wallet_actions import Action, Engine; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()

    assert {"wallet_actions", "wallet_actions.engine"} <= set(loaded)
    for module in ("aiosqlite", "sqlite3", "grpc", "httpx", "wallet_actions_storage", "wallet_actions.testing"):
        assert module not in loaded
