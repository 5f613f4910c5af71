"""Every code block of the page on gRPC actions runs, one after the other, in one folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks_of, run


@pytest.mark.timeout(120)
def test_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("WALLET_ACTIONS_CASE", "WALLET_ACTIONS_DOUBLE_DRIVE", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(variable, raising=False)
    blocks = blocks_of(ROOT / "docs" / "recipes" / "your-own-grpc-action.md")
    outputs = [run(block, tmp_path, {"COLUMNS": "160"}) for block in blocks]
    said = (
        "receipt for o-1\n"
        "payout o-2 failed: the peer answered INVALID_ARGUMENT: not an amount (at fault: o-2)\n"
        "receipt for t-1\n"
    )
    assert said in outputs
    files = {name for block in blocks if (name := block.text.partition("\n")[0]).startswith("# ")}
    assert files == {"# bank_client.py", "# payout.py", "# transfer.py", "# bank_server.py", "# test_payout.py"}
