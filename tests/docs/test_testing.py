"""Every code block of the page on testing runs, one after the other, in one folder: from the bug to the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks_of, run


@pytest.mark.timeout(300)
def test_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("WALLET_ACTIONS_CASE", "WALLET_ACTIONS_DOUBLE_DRIVE", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(variable, raising=False)
    blocks = blocks_of(ROOT / "docs" / "testing.md")
    outputs = [run(block, tmp_path, {"COLUMNS": "160"}) for block in blocks]

    pages = list(tmp_path.glob(".pytest_cache/d/crash_sweep/*.html"))
    assert len(pages) == 1, "the sweep that fails has a page"
    assert any("0 failed" in output for output in outputs)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3
    files = {name for block in blocks if (name := block.text.partition("\n")[0]).startswith("# ")}
    tests = {f"# test_{name}.py" for name in ("payout", "killed", "fleet", "history", "store", "clock")}
    assert files == {"# payout.py", "# http_world.py", *tests}
