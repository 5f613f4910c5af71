"""The page on the wallet runs as a reader would run it, one block after the other, against a real mint."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks_of, run
from wallet_actions.testing.nutshell import NutshellMint

pytestmark = pytest.mark.anyio


@pytest.mark.timeout(300)
async def test_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("WALLET_ACTIONS_MNEMONIC", "WALLET_ACTIONS_MINT", "WALLET_ACTIONS_CASHU_DB"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("WALLET_ACTIONS_CACHE", os.environ.get("WALLET_ACTIONS_CACHE", str(ROOT / ".cache")))
    async with NutshellMint() as mint:
        environment = {
            "HOME": str(tmp_path),
            "MINT_URL": mint.url,
            "INVOICE": await mint.invoice(30),
            "COLUMNS": "160",
        }
        outputs = [run(block, tmp_path, environment) for block in blocks_of(ROOT / "docs" / "cashu.md")]
        assert await mint.outstanding() == 48 + 21
    assert "received 21 sat\nmemo: for tea\n" in outputs[4]
    assert outputs[-1].splitlines()[0] == "received 8"
    assert "cashu_receive 8 sat done" in outputs[-1]
