"""Every code block of the README runs as it stands, one after the other, in one folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from mnemonic import Mnemonic

from tests.docs.blocks import ROOT, blocks_of, run
from wallet_actions.testing.nutshell import NutshellMint

pytestmark = [pytest.mark.anyio]


async def test_blocks_of_the_readme_run(tmp_path: Path) -> None:
    async with NutshellMint() as mint:
        words = Mnemonic("english").generate()
        environment = {"MINT_URL": mint.url, "MNEMONIC": words}
        outputs = [run(block, tmp_path, environment) for block in blocks_of(ROOT / "README.md")]
        assert await mint.outstanding() == 100

    own_action, cashu, steering, inside = outputs
    assert own_action.startswith("100 ")
    assert "spendable=100" in cashu
    assert "top_up q-1 done ['start'" in steering
    assert "0 pruned" in steering
    assert "top_up" in inside
    two = " ".join(words.split()[:2])  # a single one may be a word of ours
    assert two not in own_action + cashu + steering + inside
