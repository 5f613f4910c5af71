"""What a unit does, apart from how it is run.

A program is a generator: it yields what is to be executed, gets the reply, and returns its answer. It does no I/O, so
the writer's thread runs it synchronously and an embedding app's own connection asynchronously, and there is one
description of each unit. What a program yields is a `Query` of ours, or a `Statement` of the app, which may do less.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from wallet_actions.store import Statement
from wallet_actions_storage.sqlite.rows import Row

T = TypeVar("T")


class Reply:
    """What came of a query; the same object each time.

    Attributes:
        rows: all rows of a query that has any.
        count: how many rows a change touched.
    """

    __slots__ = ("count", "rows")

    def __init__(self) -> None:
        self.rows: Sequence[Row] = ()
        self.count = 0


Query: TypeAlias = tuple[str, tuple[Any, ...]]
"""SQL of ours and its parameters."""

Program: TypeAlias = Generator[Query | Statement, Reply, T]
