"""Drive an action with every step taken twice (T6).

    report = await double_drive(lambda: TopUp(quote="q-1", amount=100, phase=Unpaid()), BankWorld)
    assert report.is_ok, str(report)

What that means, and what is granted to a step, is told in `twice`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from wallet_actions.testing.life import Life
from wallet_actions.testing.sweep import Makes
from wallet_actions.testing.trial import starts_in
from wallet_actions.testing.twice import VARIABLE, Difference, DoubleDriver, DoubleReport, install, is_switched_on
from wallet_actions.testing.world import Listener, World

__all__ = ["Difference", "DoubleReport", "double_drive", "install", "is_switched_on", "switched_off"]


async def double_drive(make: Makes, world: Callable[[], World[Any]]) -> DoubleReport:
    """Drive an action to its end in a fresh world, each step twice, and ask the oracles afterwards.

    Args:
        make, world: as for `sweep`.
    """
    report = DoubleReport()
    here = world()
    try:
        async with here.store() as store:
            await here.prepare(store)
        life = Life()
        with Listener() as listener, switched_off():
            async with here.process(life) as executor:
                DoubleDriver(executor, report)
                for start in await starts_in(make, here):
                    await executor.start(start.action, start.changes)
                await here.settle(executor)
        report.violations = await here.check(listener.said)
    finally:
        await here.close()
    return report


@contextmanager
def switched_off() -> Iterator[None]:
    """Without the environment's switch, for whoever drives twice by other means."""
    before = os.environ.pop(VARIABLE, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[VARIABLE] = before
