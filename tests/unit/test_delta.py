"""From `Changes` to what a store takes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.actions import SECRET, Job, Receipt, coin, job, key_of
from wallet_actions.checkpoint import Status
from wallet_actions.coins import MAX_AMOUNT, Coin, Fact
from wallet_actions.delta import notes_of, to_delta, to_new_action
from wallet_actions.errors import InvariantError, UsageError
from wallet_actions.registry import Registry
from wallet_actions.store import EMPTY_DELTA, Delta, Statement
from wallet_actions.transition import NO_CHANGES, Changes, Start

NOW = datetime(2030, 1, 1, tzinfo=UTC)
KEY = key_of("a")
REGISTRY = Registry([Job])


def delta_of(changes: Any) -> Delta:
    return to_delta(changes, KEY, REGISTRY, now=NOW)


def test_no_changes_cost_nothing() -> None:
    assert delta_of(NO_CHANGES) is EMPTY_DELTA
    assert delta_of(Changes()) == EMPTY_DELTA


def test_coins_are_named_by_themselves_or_by_id_once_and_sorted() -> None:
    """L-S8."""
    delta = delta_of(Changes(reserve=[coin("c"), "a", "b", "c"], spend=("b", coin("a")), release=["z", "y"]))

    assert delta.reserve == ("a", "b", "c")
    assert delta.spend == ("a", "b")
    assert delta.release == ("y", "z")


def test_what_is_written_is_taken_over() -> None:
    fact, statement = Fact("payment", "hash", '{"x":1}'), Statement("INSERT INTO t VALUES (?)", (1,))
    delta = delta_of(Changes(add=[coin("c")], counters={"b": 2, "a": MAX_AMOUNT}, facts=[fact], statements=[statement]))

    assert delta.add == (coin("c"),)
    assert delta.counters == (("a", MAX_AMOUNT), ("b", 2))
    assert delta.facts == (fact,)
    assert delta.statements == (statement,)


def test_children_come_with_what_is_theirs() -> None:
    grandchild = Start(job("c"), Changes(notes=["third"]))
    child = Start(job("b"), Changes(add=[coin("x")], start=[grandchild], notes=["second"]))

    (new,) = to_delta(Changes(start=[child]), KEY, REGISTRY, now=NOW, traceparent="00-1-2-01").start

    assert new.checkpoint.key == key_of("b")
    assert (new.checkpoint.version, new.checkpoint.status) == (0, Status.RUNNING)
    assert new.checkpoint.traceparent == "00-1-2-01"
    assert new.delta.start[0].checkpoint.traceparent == "00-1-2-01"
    assert new.notes == ("second",)
    assert new.delta.add == (coin("x"),)
    assert [(c.checkpoint.id, c.notes) for c in new.delta.start] == [("c", ("third",))]


def test_a_child_needs_no_changes() -> None:
    (new,) = delta_of(Changes(start=[job("b")])).start

    assert new.delta is EMPTY_DELTA


def changed(item: Any, **fields: Any) -> Any:
    """A value with fields that its class would not take."""
    for name, value in fields.items():
        object.__setattr__(item, name, value)
    return item


BAD = {
    "no Changes": {"add": [coin("c")]},
    "None": None,
    "a coin that is none": Changes(add=["c"]),  # type: ignore[list-item]
    "coins that are none": Changes(add=None),  # type: ignore[arg-type]
    "a coin instead of coins": Changes(add=coin("c")),  # type: ignore[arg-type]
    "a coin added twice": Changes(add=[coin("c"), coin("c")]),
    "a coin with a number for an id": Changes(add=[Coin(5, "bank", "sat", 1)]),  # type: ignore[arg-type]
    "a coin with a number for a unit": Changes(add=[Coin("c", "bank", 5, 1)]),  # type: ignore[arg-type]
    "a coin with bytes for a payload": Changes(add=[Coin("c", "bank", "sat", 1, b"x")]),  # type: ignore[arg-type]
    "a coin of no amount": Changes(add=[changed(coin("c"), amount=0)]),
    "a coin whose text is none": Changes(add=[Coin("c\ud800", "bank", "sat", 1)]),
    "an empty id": Changes(reserve=[""]),
    "an id that cannot be hashed": Changes(reserve=[["c"]]),  # type: ignore[list-item]
    "an id that is a number": Changes(reserve=[5]),  # type: ignore[list-item]
    "an id that is no text": Changes(reserve=["\ud800"]),
    "an id instead of ids": Changes(spend="c1"),
    "ids that are none": Changes(spend=5),  # type: ignore[arg-type]
    "released and spent": Changes(release=["c"], spend=["c"]),
    "released and reserved": Changes(release=["c"], reserve=[coin("c")]),
    "counters that are none": Changes(counters=[("a", 1)]),  # type: ignore[arg-type]
    "a negative counter": Changes(counters={"a": -1}),
    "a counter that is too large": Changes(counters={"a": MAX_AMOUNT + 1}),
    "a counter that is a truth": Changes(counters={"a": True}),
    "a counter without a name": Changes(counters={5: 1}),  # type: ignore[dict-item]
    "counters that cannot be sorted": Changes(counters={5: 1, "a": 1}),  # type: ignore[dict-item]
    "a fact that is none": Changes(facts=["paid"]),  # type: ignore[list-item]
    "a fact with a number for a key": Changes(facts=[Fact("payment", 5)]),  # type: ignore[arg-type]
    "a fact with a model for a body": Changes(facts=[Fact("payment", "k", Receipt(amount=1))]),  # type: ignore[arg-type]
    "a fact without a kind": Changes(facts=[Fact("", "k")]),
    "a note that is none": Changes(notes=[5]),  # type: ignore[list-item]
    "a note instead of notes": Changes(notes="done"),
    "notes that are none": Changes(notes=None),  # type: ignore[arg-type]
    "a statement that is none": Changes(statements=["DELETE"]),  # type: ignore[list-item]
    "a statement without SQL": Changes(statements=[Statement(None)]),  # type: ignore[arg-type]
    "a child that is none": Changes(start=["b"]),  # type: ignore[list-item]
    "a child instead of children": Changes(start=job("b")),  # type: ignore[arg-type]
    "itself as a child": Changes(start=[job("a")]),
    "a child with a bad id": Changes(start=[job("")]),
    "a child of an unknown kind": Changes(start=[Receipt(amount=1)]),  # type: ignore[list-item]
    "a child that changes badly": Changes(start=[Start(job("b"), Changes(counters={"a": -1}))]),
    "a child without changes": Changes(start=[Start(job("b"), None)]),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD)
def test_bad_changes_break_a_rule_that_is_named(changes: Any) -> None:
    def write() -> None:
        delta_of(changes)
        notes_of(changes, KEY)

    with pytest.raises(InvariantError, match=r"^job [ab]: ") as caught:
        write()

    assert caught.value.rule
    assert SECRET not in str(caught.value)


def test_a_child_of_a_class_that_is_not_registered_is_refused() -> None:
    with pytest.raises(InvariantError, match="not registered"):
        to_delta(Changes(start=[job("b")]), KEY, Registry([]), now=NOW)


@pytest.mark.parametrize("id", ["", "x" * 501, "a\nb", "a\x00", "\x1b[31m", "a\u2028b"])
def test_an_id_is_a_short_printable_text(id: str) -> None:
    with pytest.raises(UsageError, match="an action's id"):
        to_new_action(job(id), NO_CHANGES, REGISTRY, now=NOW, traceparent=None)


class Numbered(Job, kind="numbered"):
    @property
    def id(self) -> str:
        return self.amount  # type: ignore[return-value]


def test_an_id_that_is_no_text_is_refused() -> None:
    with pytest.raises(UsageError, match="an action's id"):
        to_new_action(
            Numbered(name="a", phase=job().phase), NO_CHANGES, Registry([Numbered]), now=NOW, traceparent=None
        )


def test_the_first_checkpoint_is_at_version_0_and_runs() -> None:
    new = to_new_action(job("x" * 500), Changes(notes=["n"]), REGISTRY, now=NOW, traceparent="t")
    checkpoint = new.checkpoint

    assert (checkpoint.version, checkpoint.schema_version, checkpoint.status) == (0, 1, Status.RUNNING)
    assert (checkpoint.created_at, checkpoint.updated_at, checkpoint.traceparent) == (NOW, NOW, "t")
    assert checkpoint.phase == "open"
    assert new.notes == ("n",)
