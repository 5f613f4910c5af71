"""A real wallet process at a real mint, killed with SIGKILL at every point of issuing and paying (G3, G4)."""

from __future__ import annotations

import pytest

from tests.prefork import preforked
from wallet_actions.demo.scenario import Demo
from wallet_actions.testing.nutshell import MintConfig

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

IMPORTED = ("wallet_actions_storage.sqlite", "httpcore", "h11", "certifi", "concurrent.futures.thread")
"""What the child imports only once it has something to do."""


async def test_no_kill_loses_a_sat_or_leaves_an_action() -> None:
    """L-S1, L-S6, L-C7, L-P2: at every write, at every lost answer, and then again at every write of the recovery.

    As `make demo` does it, where spending a coin costs something, and with processes that are forked and not started.
    `make crash-matrix` goes further.
    """
    async with preforked("wallet_actions.demo.child", *IMPORTED):
        report = await Demo(config=MintConfig(input_fee_ppk=100)).run()

    killed = [row for row in report.rows if row.kills]
    assert len(killed) == len(report.rows), "a point at which nothing died proves nothing"
    assert {row.point.operation for row in killed} == {"issue", "melt"}
    assert any(row.kills > 2 for row in killed), "no recovery was killed more than once"
    assert report.lost == 0
    assert report.unfinished == 0
    assert {name for name in report.operations if not name.endswith(" done")} == set()
