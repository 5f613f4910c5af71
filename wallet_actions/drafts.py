"""Frozen records, made quickly.

A frozen dataclass sets each field through `object.__setattr__`, which takes several times as long as an assignment. So
for what runs in every transition the record is made as a mutable twin with the same slots, and then turned over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, make_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def maker(record: type[T]) -> Callable[..., T]:
    """What makes a record of all its fields, given in their order.

    Args:
        record: a frozen dataclass with slots, whose making checks nothing.
    """
    draft: Any = make_dataclass("draft", [(one.name, one.type) for one in fields(record)], slots=True)  # type: ignore[arg-type]

    def make(*values: Any) -> T:
        made: Any = draft(*values)
        made.__class__ = record  # the same slots, so the same object but for what may be done to it
        finished: T = made
        return finished

    return make
