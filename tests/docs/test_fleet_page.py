"""The page on fleets runs: two workers on a file, a process that only starts, and the list of workers."""

from __future__ import annotations

from pathlib import Path

from tests.docs.blocks import ROOT, blocks_of, run
from wallet_actions.fleet import LONGEST_LEASE


def test_blocks_of_the_page_run(tmp_path: Path) -> None:
    page = ROOT / "docs" / "fleet.md"
    worker, two, starter, workers = blocks_of(page)
    run(worker, tmp_path)
    assert set(run(two, tmp_path).splitlines()) == {"paid 2 of east", "paid 2 of west"}
    assert run(starter, tmp_path) == "paid 1 of north\n"
    run(workers, tmp_path)
    assert LONGEST_LEASE.total_seconds() == 600
    assert "at most ten minutes" in page.read_text()
