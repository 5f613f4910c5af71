"""The page on embedding runs, and keeps its promise: the app's row and the action's end are one."""

from __future__ import annotations

from pathlib import Path

from tests.docs.blocks import ROOT, blocks_of, run


def test_blocks_of_the_page_run(tmp_path: Path) -> None:
    """L-S1, L-S12."""
    (block,) = blocks_of(ROOT / "docs" / "embedding.md")
    assert run(block, tmp_path) == "[('o-1', 'paid')]\n"
