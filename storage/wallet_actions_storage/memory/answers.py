"""How the memory store answers."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def answered(method: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Let a call take effect at once, and others run before it answers."""

    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        finally:
            await sleep(0)

    return call
