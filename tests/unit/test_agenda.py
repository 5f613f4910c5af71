"""The nearest wake times."""

from __future__ import annotations

import math

from tests.actions import key_of
from wallet_actions.agenda import HEAP_SLACK, Agenda
from wallet_actions.coins import ActionKey


def keys(*names: str) -> list[ActionKey]:
    return [key_of(name) for name in names]


def test_what_is_due_comes_out_in_order_and_once() -> None:
    agenda = Agenda()
    for name, due_s in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        agenda.put(key_of(name), due_s)
    assert agenda.next_s == 1.0
    assert list(agenda.take_due(2.0)) == keys("a", "b")
    assert list(agenda.take_due(2.0)) == []
    assert len(agenda) == 1
    assert agenda.due_s(key_of("c")) == 3.0
    assert agenda.due_s(key_of("a")) == math.inf


def test_the_last_time_counts() -> None:
    agenda = Agenda()
    for due_s in (5.0, 1.0, 3.0):
        agenda.put(key_of("a"), due_s)
    assert list(agenda.take_due(2.9)) == []
    assert list(agenda.take_due(3.0)) == keys("a")
    assert list(agenda.take_due(9.0)) == []


def test_what_was_removed_does_not_come_out() -> None:
    agenda = Agenda()
    agenda.put(key_of("a"), 1.0)
    agenda.remove(key_of("a"))
    agenda.remove(key_of("a"))
    assert key_of("a") not in agenda
    assert list(agenda.take_due(9.0)) == []


def test_the_later_ones_are_let_go() -> None:
    agenda = Agenda(nearest=10)
    for number in range(20):
        agenda.put(key_of(f"a{number}"), 20.0 - number)
    assert len(agenda) == 20
    assert agenda.horizon_s == math.inf
    agenda.put(key_of("last"), 50.0)
    assert len(agenda) == agenda.heap_size == 10
    assert agenda.horizon_s == 10.0
    agenda.put(key_of("later"), 10.1)
    assert key_of("later") not in agenda
    agenda.put(key_of("sooner"), 9.9)
    assert key_of("sooner") in agenda


def test_what_is_put_off_beyond_the_horizon_is_left_to_the_store() -> None:
    agenda = Agenda()
    agenda.end_reading(10.0)
    agenda.put(key_of("a"), 5.0)
    agenda.put(key_of("a"), 15.0)
    assert key_of("a") not in agenda
    assert list(agenda.take_due(20.0)) == []


def test_what_the_store_does_not_know_of_is_never_let_go() -> None:
    agenda = Agenda(nearest=1)
    agenda.put(key_of("busy"), 99.0, is_stored=False)
    for number in range(3):
        agenda.put(key_of(f"a{number}"), float(number))
    assert agenda.horizon_s == 0.0
    assert sorted(agenda.take_due(99.0)) == keys("a0", "busy")
    agenda.put(key_of("busy"), 99.0, is_stored=False)
    agenda.put(key_of("busy"), 98.0)
    assert key_of("busy") not in agenda


def test_whatever_comes_while_the_store_is_read_is_kept_until_the_end() -> None:
    agenda = Agenda(nearest=2)
    agenda.end_reading(1.0)
    agenda.begin_reading()
    for number in range(9):
        agenda.put(key_of(f"a{number}"), float(number))
    assert len(agenda) == 9
    assert not agenda.has_room(0)
    agenda.end_reading(4.0)
    assert len(agenda) == 5
    assert not agenda.has_room(0)
    assert len(list(agenda.take_due(3.0))) == 4
    assert agenda.has_room(0)
    assert not agenda.has_room(1)


def test_what_the_store_does_not_know_of_takes_no_room() -> None:
    agenda = Agenda(nearest=2)
    for name in "abcde":
        agenda.put(key_of(name), 1.0, is_stored=False)
    assert agenda.has_room(1)


def test_entries_that_do_not_count_any_more_do_not_pile_up() -> None:
    agenda = Agenda()
    for number in range(10 * HEAP_SLACK):
        agenda.put(key_of("a"), float(number))
    assert agenda.heap_size <= HEAP_SLACK + 2
    assert list(agenda.take_due(1e9)) == keys("a")
