"""Every code block of the recipe for a saga runs, one after the other, in one folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Block, blocks_of, run


@pytest.mark.timeout(300)
def test_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("WALLET_ACTIONS_CASE", "WALLET_ACTIONS_DOUBLE_DRIVE", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(variable, raising=False)
    blocks = blocks_of(ROOT / "docs" / "recipes" / "your-own-saga.md")
    outputs = [run(block, tmp_path, {"COLUMNS": "160"}) for block in blocks]

    files = {name for block in blocks if (name := block.text.partition("\n")[0]).startswith("# ")}
    assert files == {"# hosting.py", "# test_hosting.py", "# fleet.py", "# app.py"}
    run(Block("python", "import fleet\n"), tmp_path)
    running = next(output for output in outputs if "create_server 3" in output).splitlines()
    assert running == [
        "provision/ada-1/create_server 3",
        "provision bob-1 failed: the step add_address failed: no addresses are left; all that was begun is undone",
        "create_server compensated",
        "add_volume compensated",
        "add_address compensated",
        "provision ada-1 done provision {'done': 3}",
        "0",
    ]
    assert outputs[-1] == "True\n"
