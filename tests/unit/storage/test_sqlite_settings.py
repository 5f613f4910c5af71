"""Arguments and URLs of the SQLite store."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from wallet_actions.errors import UsageError
from wallet_actions.store import Store, open_store
from wallet_actions_storage import SQLiteStore
from wallet_actions_storage.sqlite.settings import Settings


def settings(store: SQLiteStore) -> Settings:
    return store._settings


def test_the_store_is_a_store() -> None:
    """The port is implemented in full; mypy proves the types of this assignment."""
    store: Store = SQLiteStore("wallet.db")
    assert isinstance(store, Store)


def test_a_url_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings(SQLiteStore.from_url("sqlite:///wallet.db")).path == tmp_path / "wallet.db"
    assert settings(SQLiteStore.from_url("sqlite:////var/lib/wallet.db")).path == Path("/var/lib/wallet.db")
    assert settings(SQLiteStore.from_url("sqlite:///my%20wallet%3F.db")).path == tmp_path / "my wallet?.db"


def test_a_url_carries_options() -> None:
    url = "sqlite:///w.db?exclusive=true&history=False&durability=normal&busy_timeout=2.5&read_only=0"
    found = settings(SQLiteStore.from_url(url))
    assert (found.is_exclusive, found.has_history, found.durability) == (True, False, "normal")
    assert (found.patience_s, found.is_read_only) == (2.5, False)
    assert settings(SQLiteStore("w.db", busy_timeout=timedelta(milliseconds=20))).patience_s == 0.02


def test_a_url_is_found_by_its_scheme() -> None:
    assert isinstance(open_store("sqlite:///w.db"), SQLiteStore)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///:memory:?history=true"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    """The message says what to use instead."""
    with pytest.raises(UsageError, match="memory://"):
        SQLiteStore.from_url(url)


def test_a_path_in_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="memory://"):
        SQLiteStore(":memory:")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://wallet.db",
        "sqlite:wallet.db",
        "sqlite:///w.db?mode=ro",
        "sqlite:///w.db?exclusive",
        "sqlite:///w.db?exclusive=perhaps",
        "sqlite:///w.db?durability=off",
        "sqlite:///w.db?busy_timeout=soon",
        "sqlite:///w.db?busy_timeout=-1",
        "sqlite:///w.db?exclusive=1&read_only=1",
    ],
)
def test_what_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        SQLiteStore.from_url(url)
