"""What waits to be written, and who waits for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Callable
from typing import Any

from wallet_actions_storage.sqlite.program import Program


class Unit(ABC):
    """A unit that waits for its transaction.

    Args:
        answer: where the caller waits.
        is_plain: whether it fails, if it does, before it has written anything.

    Attributes:
        at: the time of an action's write, in microseconds, to be noted with the batch; None for none.
        is_told: whether its row of the history tells that time, so that it need not be noted at once.
    """

    __slots__ = ("answer", "at", "error", "is_plain", "is_told", "result")

    def __init__(self, answer: Future[Any], *, is_plain: bool, at: int | None = None, is_told: bool = False) -> None:
        self.answer = answer
        self.is_plain = is_plain
        self.at = at
        self.is_told = is_told
        self.result: Any = None
        self.error: Exception | None = None

    @abstractmethod
    def start(self) -> Program[Any]:
        """Make the program that writes it, anew for each try."""

    def resolve(self) -> None:
        """Tell the caller, in the event loop."""
        answer = self.answer
        if answer.done():
            return
        if self.error is not None:
            answer.set_exception(self.error)
        else:
            answer.set_result(self.result)


class ProgramUnit(Unit):
    """A unit that is just a program.

    Args:
        answer, is_plain: see `Unit`.
        program: makes it.
    """

    __slots__ = ("_program",)

    def __init__(self, answer: Future[Any], program: Callable[[], Program[Any]], *, is_plain: bool) -> None:
        super().__init__(answer, is_plain=is_plain)
        self._program = program

    def start(self) -> Program[Any]:
        """See `Unit`."""
        return self._program()
