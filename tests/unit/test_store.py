"""The port's own values, and finding a store by its URL. What stores do is in tests/contract."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime

import pytest

from tests.actions import SECRET, coin
from wallet_actions.checkpoint import CancelState, Checkpoint, Status
from wallet_actions.coins import ActionKey, Fact
from wallet_actions.errors import UsageError
from wallet_actions.store import Delta, NewAction, Statement, Store, Write, open_store
from wallet_actions_storage.memory import MemoryStore
from wallet_actions_storage.sqlite import SQLiteStore

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_a_store_is_found_by_its_scheme() -> None:
    store = open_store("memory://")

    assert isinstance(store, MemoryStore)
    assert isinstance(store, Store)


@pytest.mark.parametrize("url", ["", "wallet.db", "/wallet.db", "sqlite:wallet.db", "://wallet.db"])
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(UsageError, match="looks like sqlite:///"):
        open_store(url)


def test_a_scheme_that_nobody_installed_is_told_with_those_that_are_there() -> None:
    with pytest.raises(UsageError, match=r"no store is installed for oracle:// .*memory, postgres, postgresql, sqlite"):
        open_store("oracle://db")


@pytest.mark.parametrize("store", [MemoryStore, SQLiteStore])
def test_a_store_has_the_defaults_of_the_port(store: type) -> None:
    """L-B3: whoever leaves an argument out is given the same by each."""
    for name, method in inspect.getmembers(Store, inspect.isfunction):
        if not name.startswith("_"):
            theirs = inspect.signature(getattr(store, name)).parameters.values()
            assert {one.name: one.default for one in theirs} == {
                one.name: one.default for one in inspect.signature(method).parameters.values()
            }, name


def test_no_secret_is_in_a_repr() -> None:
    checkpoint = Checkpoint("job", "a", 0, 1, SECRET, "open", Status.DONE, NOW, NOW, result=SECRET)
    delta = Delta(
        add=(coin("c"),),
        facts=(Fact("f", "k", SECRET),),
        statements=(Statement("INSERT INTO t VALUES (?)", (SECRET,)),),
    )
    shown = repr((NewAction(checkpoint, delta), Write(0, checkpoint, "done", delta=delta)))

    assert SECRET not in shown
    assert "INSERT INTO t" in shown


def test_a_checkpoint_has_its_key_and_knows_whether_it_has_ended() -> None:
    checkpoint = Checkpoint("job", "a", 0, 1, "{}", "open", Status.RUNNING, NOW, NOW)

    assert checkpoint.key == ActionKey("job", "a")
    assert checkpoint.cancel is CancelState.NONE
    assert {status for status in Status if status.is_terminal} == {Status.DONE, Status.FAILED, Status.CANCELLED}
