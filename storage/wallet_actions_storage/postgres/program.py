"""What a unit does, apart from how it is run.

A program is a generator: it yields what is to be executed, gets the rows that came of it, and returns its answer. It
does no I/O, so the writer and an embedding app's own connection run the same description of each unit. Beside queries
of ours and statements of the app it yields `Note`s, for whoever runs it.

Any query but a SELECT is taken to have written; one that does so only sometimes is yielded as `Told`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

from wallet_actions.store import Statement

T = TypeVar("T")

Row: TypeAlias = Sequence[Any]
"""A row as the driver hands it out."""

Query: TypeAlias = tuple[str, tuple[Any, ...]]
"""SQL of ours and its parameters."""


class Told(NamedTuple):
    """A query of which a note tells whether it has written."""

    sql: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """What a unit that commits has to be remembered for.

    Attributes:
        at: the time of an action's write, in microseconds.
        wakes: whether something is due at once that others may drive.
        ended: the kind and status of an action that ended and is not counted yet.
        has_written: whether something was changed by a query that was `Told`.
    """

    at: int | None = None
    wakes: bool = False
    ended: tuple[str, str] | None = None
    has_written: bool = False


Program: TypeAlias = Generator[Query | Statement | Note, Sequence[Row], T]
