"""Every code block of the page on Lightning runs, one after the other, in one folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks_of, run


@pytest.mark.timeout(120)
def test_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("WALLET_ACTIONS_CASE", "WALLET_ACTIONS_DOUBLE_DRIVE", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(variable, raising=False)
    blocks = blocks_of(ROOT / "docs" / "lightning.md")
    outputs = [run(block, tmp_path, {"COLUMNS": "160"}) for block in blocks if block.language != "text"]
    (printed,) = (block.text for block in blocks if block.language == "text")
    _, first, _, refused, lost, *_ = outputs
    assert first == printed
    assert [line.partition(":")[0] for line in refused.splitlines()[:5]] == [
        "malformed",
        "amountless",
        "expired",
        "network",
        "own",
    ]
    assert refused.splitlines()[5:] == [
        "not enough funds: 22050 msat needed, 0 msat available",
        "the node refuses the macaroon that is in the settings, or it may not do this",
    ]
    assert lost.splitlines()[-3:] == ["killed: True", "the receipt is a fact: True", "paid 1 time"]
    files = {name for block in blocks if (name := block.text.partition("\n")[0]).startswith("# ")}
    assert files == {"# paying.py", "# address.py", "# test_paying.py"}
